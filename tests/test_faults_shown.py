"""What is known against a recording is told: its damage, guesses about its clock, probabilities that look certain."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.video import Segment
from reports.diary.formats.jsonl import write_jsonl
from reports.diary.formats.markdown import write_markdown
from reports.diary.model import DiaryModel
from reports.diary.readings import METADATA, MODIFIED, NAME, ClockReading
from reports.diary.recording import Recording
from reports.diary.story import format_percent, format_probability
from reports.events import Event, EventRule, EventsFound
from tests.diaries import Page, day_html, stored

NAMES = {"c015": "Holding a phone"}
MODEL = DiaryModel("demo", "diary", "head", "a" * 64, "b" * 64, {"c015": EventRule(0.5, 0.4, 2.0, 1.0)})
EIGHT = datetime(2026, 3, 14, 8, tzinfo=UTC)
NOTHING = EventsFound((), {})
FAULT = "3 of 90 packets are damaged; it ends at 20.00 s, the file states 60.00 s"


def recording(source: str = METADATA, **facts: object) -> Recording:
    return Recording("a", "a.mp4", 20.0, EIGHT, source, (Segment(0, 20),), **facts)  # type: ignore[arg-type]


def markdown(tmp_path: Path, part: Recording, found: EventsFound = NOTHING) -> str:
    write_markdown(tmp_path / "diary.md", [(part, found)], NAMES, MODEL, min_quiet_s=10.0)
    return (tmp_path / "diary.md").read_text(encoding="utf-8")


def page(tmp_path: Path, part: Recording, found: EventsFound = NOTHING) -> str:
    """The page's text as people read it."""
    return Page(day_html(tmp_path, stored(part, found, NAMES, MODEL))).text


def rows(tmp_path: Path, part: Recording, found: EventsFound = NOTHING) -> list[dict[str, object]]:
    write_jsonl(tmp_path / "events.jsonl", part, found, NAMES, MODEL)
    return [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]


def test_a_file_cut_to_a_third_says_so(tmp_path: Path) -> None:
    """Near the top of the page, beside the recording in Markdown, and in JSON though there is no event."""
    cut = recording(stated_s=60.0, faults=(FAULT,))
    shown = page(tmp_path, cut)
    assert "It states a length of 1 min 00 s and ends at 20 s" in shown
    assert FAULT in shown
    assert shown.index("Something is wrong with a file") < shown.index("The story")
    text = markdown(tmp_path, cut)
    assert (
        "Observed: 20 s of 20 s (the file states 1 min 00 s), 0 events.\n  - **Wrong with this file:** 3 of 90" in text
    )
    (row,) = rows(tmp_path, cut)
    assert (row["type"], row["duration_s"], row["stated_s"]) == ("recording", 20.0, 60.0)
    assert row["faults"] == [FAULT]
    assert row["observed_s"] == [[0.0, 20.0]]


@pytest.mark.parametrize("stated_s", [None, 19.0, 20.0, 20.9])
def test_an_intact_file_has_no_such_words(stated_s: float | None, tmp_path: Path) -> None:
    """Rounding at the end is no fault."""
    intact = recording(stated_s=stated_s)
    assert "is wrong with" not in page(tmp_path, intact)
    text = markdown(tmp_path, intact)
    assert "wrong with this file" not in text.lower()
    assert "states" not in text
    assert rows(tmp_path, intact)[0]["faults"] == []


def test_a_guess_is_marked_as_one(tmp_path: Path) -> None:
    """On the page, in Markdown and in every row."""
    found = EventsFound((Event("a-001", "c015", Segment(5, 10), 0.9, 0.7),), {})
    guess = recording(MODIFIED, is_guess=True, clock_note="The file was last written then.")
    shown = page(tmp_path, guess, found)
    told = "The clock times of a.mp4 are a guess from the file modification time. The file was last written then."
    assert told in shown
    assert shown.index(told) < shown.index("The story")
    assert "(UTC+00:00; start from the file modification time, a guess). The file was last" in markdown(tmp_path, guess)
    assert [row["clock_is_guess"] for row in rows(tmp_path, guess, found)] == [True, True]
    sure = recording(METADATA)
    assert "a guess" not in page(tmp_path, sure, found)
    assert "a guess" not in markdown(tmp_path, sure, found)
    assert [row["clock_is_guess"] for row in rows(tmp_path, sure, found)] == [False, False]


def test_every_source_is_in_the_recordings_row(tmp_path: Path) -> None:
    """With its text, the start that it gives and why it is not believed."""
    readings = (
        ClockReading(METADATA, "creation_time=1904-01-01T00:00:00Z", None, "not believed"),
        ClockReading(NAME, "20260314_080000.mp4", EIGHT.replace(tzinfo=None)),
    )
    assert rows(tmp_path, recording(NAME, clock_readings=readings))[0]["clock_readings"] == [
        {"source": METADATA, "text": "creation_time=1904-01-01T00:00:00Z", "start": None, "note": "not believed"},
        {"source": NAME, "text": "20260314_080000.mp4", "start": "2026-03-14T08:00:00.000", "note": ""},
    ]


def test_no_probability_is_shown_as_certain(tmp_path: Path) -> None:
    """A sigmoid in float32 saturates at 1.0; 99.5% and more is "over 99%". A share of time may be all of it."""
    assert [format_probability(p) for p in (1.0, 0.99999, 0.995, 0.9949, 0.5, 0.005, 0.0049, 0.0)] == [
        *("over 99%", "over 99%", "over 99%", "99%", "50%", *["under 1%"] * 3)
    ]
    assert [format_percent(share) for share in (1.0, 0.9999, 0.5, 0.0001, 0.0)] == [
        *("100%", "over 99%", "50%", "under 1%", "0%")
    ]
    found = EventsFound((Event("a-001", "c015", Segment(0, 10), 1.0, 1.0),), {})
    assert "Holding a phone over 99% over 99%" in page(tmp_path, recording(), found)
    assert "| over 99% |" in markdown(tmp_path, recording(), found)

"""Local time: sums are made in UTC, a zone stays a zone, and a day and a time come of one rounding."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from features.decode.recorded_at import ClockTags
from features.video import Segment
from reports.diary.clock import UnknownZone, format_time, local_zone
from reports.diary.formats.jsonl import write_jsonl
from reports.diary.formats.markdown import write_markdown
from reports.diary.model import DiaryModel
from reports.diary.readings import VideoFile
from reports.diary.recording import Recording
from reports.diary.starts import recording_starts
from reports.events import Event, EventRule, EventsFound
from tests.diaries import Page, day_html, stored

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
NAMES = {"c015": "Holding a phone"}
MODEL = DiaryModel("demo", "diary", "head", "a" * 64, "b" * 64, {"c015": EventRule(0.5, 0.4, 2.0, 1.0)})
NOTHING = EventsFound((), {})


def two_files(given: datetime, duration_s: float = 90.0) -> list[tuple[Recording, EventsFound]]:
    """Two recordings of which only the first one's start is known, each with an event at 60 s."""
    files = [VideoFile(name, 0.0, ClockTags(), duration_s) for name in ("a.mp4", "b.mp4")]
    starts = recording_starts(files, given=given, zone=BERLIN, now=NOW)
    return [
        (
            Recording(
                *(file.name[0], file.name, duration_s, start.at, start.source, (Segment(0, duration_s),)),
                is_guess=start.is_guess,
                clock_note=start.note,
            ),
            event(60, 65, file.name[0]),
        )
        for file, start in zip(files, starts, strict=True)
    ]


def event(start_s: float, end_s: float, recording_id: str = "a") -> EventsFound:
    return EventsFound((Event(f"{recording_id}-001", "c015", Segment(start_s, end_s), 0.9, 0.7),), {})


def recording(start: datetime, duration_s: float = 120.0) -> Recording:
    return Recording("a", "a.mp4", duration_s, start, "file name", (Segment(0, duration_s),))


def markdown(tmp_path: Path, *parts: tuple[Recording, EventsFound]) -> str:
    write_markdown(tmp_path / "diary.md", parts, NAMES, MODEL, min_quiet_s=10.0)
    return (tmp_path / "diary.md").read_text(encoding="utf-8")


def page(tmp_path: Path, recording: Recording, found: EventsFound) -> str:
    return Page(day_html(tmp_path, stored(recording, found, NAMES, MODEL))).text


def test_no_hour_is_invented_when_clocks_are_put_back(tmp_path: Path) -> None:
    """Two files of 90 s from 02:59: the second begins 90 s later, at 02:00:30, an hour less ahead of UTC."""
    parts = two_files(datetime(2026, 10, 25, 2, 59))
    first, second = (recording.recorded_at for recording, _ in parts)
    assert first is not None
    assert second is not None
    assert first.isoformat() == "2026-10-25T02:59:00+02:00"
    assert second.isoformat() == "2026-10-25T02:00:30+01:00"
    assert second.astimezone(UTC) - first.astimezone(UTC) == timedelta(seconds=90)
    text = markdown(tmp_path, *parts)
    assert "| *not observed* |" not in text
    assert "02:59:00–02:00:30 (UTC+02:00, later UTC+01:00;" in text
    assert "| 02:00:00–02:00:05 |" in text  # 60 s after 02:59
    assert "showed 02:59:00 twice; the first is taken" in text
    assert "showed 02:59:00 twice" in page(tmp_path, *parts[0])


def test_nothing_runs_backwards_when_clocks_are_put_forward(tmp_path: Path) -> None:
    """Two files of 90 s from 01:59: the second begins at 03:00:30, an hour more ahead of UTC."""
    parts = two_files(datetime(2026, 3, 29, 1, 59))
    assert [str(recording.recorded_at) for recording, _ in parts] == [
        "2026-03-29 01:59:00+01:00",
        "2026-03-29 03:00:30+02:00",
    ]
    assert "| *not observed* |" not in markdown(tmp_path, *parts)


def test_an_hour_that_the_clock_skipped() -> None:
    """02:30 did not exist that night: it is told as 03:30, with a word on it."""
    (start,) = recording_starts([VideoFile("20260329_023000.mp4", None)], given=None, zone=BERLIN, now=NOW)
    assert str(start.at) == "2026-03-29 03:30:00+02:00"
    assert "put forward" in start.note


def test_a_time_that_came_twice_is_settled_by_the_metadata() -> None:
    """The name says 02:30 of the second time round; the metadata in UTC knows which."""
    files = [VideoFile("20261025_023000.mp4", None, ClockTags({"creation_time": "2026-10-25T01:30:00Z"}), 60.0)]
    (start,) = recording_starts(files, given=None, zone=BERLIN, now=NOW)
    assert str(start.at) == "2026-10-25 02:30:00+01:00"
    assert (start.is_guess, start.note) == (False, "")


def test_a_given_offset_stays() -> None:
    """What the user states with an offset is told with it, whatever the machine's zone does."""
    given = datetime.fromisoformat("2026-10-25T02:59:00+02:00")
    files = [VideoFile(name, None, ClockTags(), 90.0) for name in ("a.mp4", "b.mp4")]
    starts = recording_starts(files, given=given, zone=BERLIN, now=NOW)
    assert [str(start.at) for start in starts] == ["2026-10-25 02:59:00+02:00", "2026-10-25 03:00:30+02:00"]


@pytest.mark.parametrize("start_ms", [0, 400, 600])
def test_day_and_time_come_of_one_rounding(start_ms: int, tmp_path: Path) -> None:
    """An event at 23:59:59.6 is at 00:00:00 of the next day, in the table, under the heading and on the page."""
    midnight = datetime(2026, 3, 15, tzinfo=BERLIN)
    start = midnight - timedelta(seconds=60) + timedelta(milliseconds=start_ms)
    found = event(59.6 - start_ms / 1000, 70)
    text = markdown(tmp_path, (recording(start), found))
    heading = text.index("## Sunday, 15 March 2026")
    assert text.index("| 00:00:00–") > heading
    assert "00:00:00–" not in text[:heading]
    late = recording(midnight - timedelta(milliseconds=400))
    assert "`a.mp4`: Sunday, 15 March 2026, 00:00:00–" in markdown(tmp_path, (late, NOTHING))
    written = page(tmp_path, late, NOTHING)
    assert "Sunday, 15 March 2026 00:00–00:02 · " in written


def test_two_recordings_that_round_to_one_day_share_it(tmp_path: Path) -> None:
    """What no recording saw between them is told under that day."""
    midnight = datetime(2026, 3, 15, tzinfo=BERLIN)
    parts = [
        (recording(midnight - timedelta(milliseconds=400)), NOTHING),
        (recording(midnight + timedelta(hours=1)), NOTHING),
    ]
    text = markdown(tmp_path, *parts)
    assert "## Saturday" not in text
    assert "| 00:02:00–01:00:00 | 58 min 00 s | *not observed* |" in text


def test_clock_times_in_json_are_exact(tmp_path: Path) -> None:
    """Milliseconds are not rounded away, so day and time need no rounding."""
    start = datetime(2026, 3, 14, 23, 59, tzinfo=BERLIN)
    write_jsonl(tmp_path / "events.jsonl", recording(start), event(59.6, 70), NAMES, MODEL)
    row = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[1])
    assert row["start_clock"] == "2026-03-14T23:59:59.600+01:00"
    assert row["end_clock"] == "2026-03-15T00:00:10.000+01:00"


def test_the_machines_zone_is_a_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows its changes of the clock; a TZ that names none is refused in one sentence that says what to set."""
    monkeypatch.setattr("tzlocal.unix._cache_tz", None, raising=False)
    monkeypatch.setenv("TZ", "Europe/Berlin")
    zone = local_zone()
    offsets = {datetime(2026, month, 1, tzinfo=zone).utcoffset() for month in (1, 7)}
    assert offsets == {timedelta(hours=1), timedelta(hours=2)}
    assert format_time(0, datetime(2026, 7, 1, 8, tzinfo=zone)) == "08:00:00"
    monkeypatch.setattr("tzlocal.unix._cache_tz", None, raising=False)
    monkeypatch.setenv("TZ", "Nowhere/City")
    with pytest.raises(UnknownZone, match="TZ=Europe/Berlin"):
        local_zone()
    monkeypatch.setattr("tzlocal.unix._cache_tz", None, raising=False)

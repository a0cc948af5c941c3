"""Ids of corrected events, events that a diary did not tell, and times in the words of a shell."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from features.video import Segment
from pipeline.said_times import BadTime, seconds_said, stretch_said
from reports.corrections import Correction, Verdict, corrected, known_times
from reports.diary.recording import Recording
from reports.events import Event, EventsFound

STATED = EventsFound(
    (Event("day-001", "sit", Segment(0, 10), 0.9, 0.8), Event("day-002", "cup", Segment(2, 4), 0.9, 0.7)),
    {},
    (Event("day-less-001", "cup", Segment(12, 14), 0.4, 0.3),),
)


def say(verdict: Verdict, label: str, start_s: float, end_s: float) -> Correction:
    return Correction("1", verdict, "f" * 64, "ada", "2026-03-14T20:00:00+01:00", label, start_s, end_s)


def ids(*corrections: Correction) -> list[str]:
    return [event.id for event in corrected(STATED, known_times(corrections, ["sit", "cup"]), "day").events]


def test_ids_stay_what_the_page_has() -> None:
    """A known event has the id of the stated one; of two that one was split into, the first has it."""
    assert ids() == ["day-001", "day-002"]
    assert ids(say("wrong", "sit", 0, 10)) == ["day-002"]
    assert ids(say("right", "sit", 1, 9)) == ["day-001", "day-002"]
    assert ids(say("wrong", "sit", 4, 6)) == ["day-001", "day-002", "day-sit-6000"]
    assert ids(say("add", "cup", 6, 7)) == ["day-001", "day-002", "day-cup-6000"]


def test_a_less_certain_event_that_is_right_is_told() -> None:
    """With its own id and probability, and no longer among the others; one that is wrong goes from there."""
    after = corrected(STATED, known_times([say("right", "cup", 12, 14)], ["cup"]), "day")
    assert after.events[-1] == Event("day-less-001", "cup", Segment(12, 14), 0.4, 0.3, confirmed=True)
    assert after.less_certain == ()
    after = corrected(STATED, known_times([say("wrong", "cup", 12, 14)], ["cup"]), "day")
    assert len(after.events) == 2
    assert after.less_certain == ()


def test_times_by_the_clock_and_from_the_start() -> None:
    """A time behind midnight is on the next day; one at which the recording was not on is from its start."""
    late = Recording("day", "day.mp4", 60.0, datetime(2026, 3, 14, 23, 59, 50, tzinfo=UTC), "file name", ())
    unknown = Recording("day", "day.mp4", 60.0, None, "unknown", ())
    said = ("23:59:51.5", "00:00:05", "00:00:55", "0:07", "7", "7.25")
    assert [seconds_said(time, late) for time in said] == [1.5, 15, 55, 7, 7, 7.25]
    assert [seconds_said(time, unknown) for time in ("1:00:07", "02:07.5", "7")] == [3607, 127.5, 7]
    assert seconds_said("0:12:10") == 730
    assert seconds_said("12:00:00", late) == 43210  # by the clock, which whoever takes it can tell
    for words in (["0:05", "0:07.5"], ["5-7.5"], ["23:59:55 – 23:59:57.5"], ["5 7.5"]):
        assert stretch_said(words, late) == (5, 7.5)
    for words in (["5"], ["5", "6-7"], []):
        with pytest.raises(BadTime, match="a stretch is written START-END"):
            stretch_said(words)
    for time in ("", "1:2:3:4", "noon", "-", "5s"):
        with pytest.raises(BadTime, match="is no time"):
            seconds_said(time, late)

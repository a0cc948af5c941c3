"""Corrections: what is known of a video's time, what becomes of events, and a file that loses nothing."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from features.video import Segment
from reports.corrections import (
    BadCorrection,
    Correction,
    append_correction,
    corrected,
    known_times,
    read_corrections,
)
from reports.events import Event, EventsFound

LABELS = ("sit", "stand", "cup")
NUMBERS = itertools.count()


def say(verdict: Any, label: str = "", start_s: float = 0, end_s: float = 1, **others: Any) -> Correction:
    given = {"id": str(next(NUMBERS)), "video_sha256": "f" * 64, "who": "ada", "when": "2026-03-14T20:00:00+01:00"}
    return Correction(verdict=verdict, label=label, start_s=start_s, end_s=end_s, **{**given, **others})


def found(*stated: tuple[str, float, float]) -> EventsFound:
    events = [
        Event(f"day-{number:03d}", label, Segment(start_s, end_s), 0.9, 0.8)
        for number, (label, start_s, end_s) in enumerate(stated, start=1)
    ]
    return EventsFound(tuple(events), {})


def rows(events: EventsFound) -> list[tuple[str, float, float, bool]]:
    return [(event.label, event.segment.start_s, event.segment.end_s, event.confirmed) for event in events.events]


def test_a_right_event_stays_and_a_wrong_one_goes() -> None:
    known = known_times([say("right", "sit", 0, 5), say("wrong", "cup", 2, 4)], LABELS)
    after = corrected(found(("sit", 0, 5), ("cup", 2, 4), ("stand", 6, 7)), known, "day")
    assert rows(after) == [("sit", 0, 5, True), ("stand", 6, 7, False)]
    assert [event.id for event in after.events] == ["day-001", "day-003"]  # as the page had them
    assert after.events[0].mean_probability == 0.8


def test_they_hold_for_what_another_model_states() -> None:
    """Its ends differ, it misses one event and states a wrong one again, longer."""
    known = known_times([say("right", "sit", 1, 5), say("add", "cup", 8, 9), say("wrong", "stand", 2, 4)], LABELS)
    after = corrected(found(("sit", 0.4, 5.7), ("stand", 1, 4.1), ("sit", 7, 8)), known, "day")
    assert rows(after) == [("sit", 1, 5, True), ("stand", 1, 2, False), ("sit", 7, 8, False), ("cup", 8, 9, True)]
    assert after.events[-1].peak_probability == 1  # no model stated it


def test_a_change_moves_the_ends_and_the_label() -> None:
    known = known_times([say("change", "sit", 0, 10, new_label="sit", new_start_s=2, new_end_s=8)], LABELS)
    assert rows(corrected(found(("sit", 0, 10)), known, "day")) == [("sit", 2, 8, True)]
    assert known.off["sit"] == ((0, 2000), (8000, 10000))
    relabelled = known_times([say("change", "sit", 0, 10, new_label="stand", new_start_s=0, new_end_s=10)], LABELS)
    assert rows(corrected(found(("sit", 0, 10)), relabelled, "day")) == [("stand", 0, 10, True)]


def test_the_later_word_holds() -> None:
    first, second = say("right", "sit", 0, 10), say("wrong", "sit", 4, 6)
    assert rows(corrected(found(("sit", 0, 10)), known_times([first, second], LABELS), "day")) == [
        ("sit", 0, 4, True),
        ("sit", 6, 10, True),
    ]
    assert rows(corrected(found(("sit", 0, 10)), known_times([second, first], LABELS), "day")) == [("sit", 0, 10, True)]


def test_two_events_that_touch_stay_two() -> None:
    known = known_times([say("right", "cup", 0, 2), say("right", "cup", 2, 4)], LABELS)
    assert rows(corrected(found(("cup", 0, 2), ("cup", 2, 4)), known, "day")) == [
        ("cup", 0, 2, True),
        ("cup", 2, 4, True),
    ]


def test_in_a_complete_stretch_all_else_is_off_whenever_it_was_said() -> None:
    for order in itertools.permutations(
        [say("complete", "", 0, 10), say("add", "sit", 1, 3), say("right", "cup", 4, 5)]
    ):
        known = known_times(order, LABELS)
        after = corrected(found(("cup", 4, 5), ("stand", 2, 9), ("stand", 9, 12)), known, "day")
        assert rows(after) == [("sit", 1, 3, True), ("cup", 4, 5, True), ("stand", 10, 12, False)]
        assert known.off["stand"] == ((0, 10000),)
        assert known.off["sit"] == ((0, 1000), (3000, 10000))


def test_a_label_is_off_while_one_that_excludes_it_is_on() -> None:
    known = known_times([say("right", "sit", 0, 5)], LABELS, exclusions=[("stand", "sit")])
    assert rows(corrected(found(("sit", 0, 5), ("stand", 3, 8), ("cup", 3, 8)), known, "day")) == [
        ("sit", 0, 5, True),
        ("cup", 3, 8, False),
        ("stand", 5, 8, False),
    ]


def test_skips_and_notes_say_nothing_and_less_certain_events_are_judged_too() -> None:
    less = (Event("", "cup", Segment(5, 6), 0.3, 0.2), Event("", "cup", Segment(7, 8), 0.3, 0.2))
    before = EventsFound(found(("sit", 0, 5)).events, {}, less)
    nothing = known_times([say("skip", "sit", 0, 5), say("note", "sit", 0, 5, note="who is this?")], LABELS)
    assert corrected(before, nothing, "day") == before
    assert corrected(before, known_times([say("wrong", "cup", 5, 6)], LABELS), "day").less_certain == less[1:]


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"verdict": "maybe"}, "one of right"),
        ({"verdict": "right", "label": ""}, "needs a label"),
        ({"verdict": "right", "label": "sit", "start_s": 4, "end_s": 4}, "ends after it starts"),
        ({"verdict": "change", "label": "sit"}, "new label"),
        ({"verdict": "change", "label": "sit", "new_label": "cup", "new_start_s": 5, "new_end_s": 1}, "ends after"),
        ({"verdict": "undo"}, "names the correction"),
        ({"verdict": "skip", "when": "yesterday"}, "no time"),
        ({"verdict": "skip", "when": "2026-03-14T20:00:00"}, "no offset"),
        ({"verdict": "skip", "video_sha256": ""}, "hash of a video"),
    ],
)
def test_what_contradicts_itself_is_refused(broken: dict[str, Any], told: str) -> None:
    with pytest.raises(BadCorrection, match=told):
        say(**broken)


def test_the_file_gives_back_what_was_said_without_what_was_undone(tmp_path: Path) -> None:
    path = tmp_path / "corrections.jsonl"
    assert read_corrections(path) == []
    said = [say("right", "sit", 0.25, 5, who="Zoë\u2028\n"), say("wrong", "cup"), say("note", note='<b>"\\')]
    for correction in said:
        append_correction(path, correction)
    append_correction(path, say("undo", undoes=said[1].id))
    assert read_corrections(path) == [said[0], said[2]]


def test_an_unfinished_line_costs_itself_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "corrections.jsonl"
    first, second = say("right", "sit"), say("wrong", "cup")
    append_correction(path, first)
    with path.open("ab") as file:
        file.write(b'{"id": "7", "verdict": "ri')
    append_correction(path, second)
    assert read_corrections(path) == [first, second]
    assert "line 2 is passed over" in caplog.text


def _append_many(path: Path, who: str) -> None:
    for number in range(10_000):
        append_correction(path, say("right", "sit", id=f"{who}-{number}", who=who))


@pytest.mark.slow
def test_two_at_once_and_a_kill_lose_nothing(tmp_path: Path) -> None:
    """Each of two processes appends until it is killed: what stands there is whole and has no hole."""
    path = tmp_path / "corrections.jsonl"
    context = multiprocessing.get_context("spawn")
    reviewers = [context.Process(target=_append_many, args=(path, who)) for who in ("ada", "bob")]
    for reviewer in reviewers:
        reviewer.start()
    deadline = time.monotonic() + 60
    while len({c.who for c in read_corrections(path)}) < 2 or path.stat().st_size < 20_000:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for reviewer in reviewers:
        assert reviewer.pid is not None
        os.kill(reviewer.pid, signal.SIGKILL)
        reviewer.join()
    last = say("wrong", "cup")
    append_correction(path, last)
    corrections = read_corrections(path)
    assert corrections[-1] == last
    for who in ("ada", "bob"):
        numbers = [int(c.id.partition("-")[2]) for c in corrections if c.who == who and c != last]
        assert numbers == list(range(len(numbers)))
        assert numbers

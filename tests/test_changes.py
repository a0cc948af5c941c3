"""What is told of two models' statements of the same recording."""

from __future__ import annotations

from features.video import Segment
from reports.changes import Changes, changes
from reports.corrections import known_times
from reports.events import Event
from tests.test_corrections import say


def events(*stated: tuple[str, float, float]) -> list[Event]:
    return [Event("", label, Segment(start_s, end_s), 0.9, 0.8) for label, start_s, end_s in stated]


def test_entries_are_matched_by_label_and_time() -> None:
    """What only moved a little stays; another label is another entry; what nobody judged is neither right nor wrong."""
    before = events(("sit", 0, 10), ("cup", 20, 24), ("sit", 30, 40), ("door", 50, 52))
    after = events(("sit", 1, 10), ("stand", 20, 24), ("sit", 36, 46), ("door", 50, 52))
    corrections = [say("right", "sit", 0, 10), say("wrong", "cup", 20, 24), say("right", "stand", 20, 24)]
    known = known_times(corrections, ("sit", "cup", "stand", "door"))
    found = changes(before, after, known)
    # 30-40 and 36-46 share 4 of 16 seconds, less than 0.3.
    assert found == Changes(fewer=2, more=2, right_before=1, wrong_before=1, right_after=2, wrong_after=0, gone=1)
    assert found.lines() == [
        "2 entries fewer, 2 more.",
        "On what was reviewed, precision 0.50 -> 1.00. The model learned from just these answers: elsewhere it gains "
        "less.",
        "Of 1 wrong entry, 1 is gone.",
    ]


def test_an_entry_is_wrong_where_most_of_it_is_known_to_be() -> None:
    known = known_times([say("wrong", "sit", 0, 10), say("right", "sit", 10, 12)], ("sit",))
    assert changes(events(("sit", 4, 13)), [], known).wrong_before == 1
    assert changes(events(("sit", 9, 14)), [], known) == Changes(fewer=1, right_before=1)
    assert changes(events(("sit", 9, 30)), [], known) == Changes(fewer=1)


def test_counts_add_up_and_nothing_judged_is_said_as_such() -> None:
    total = Changes(fewer=1) + Changes(more=2, fewer=3)
    assert total.lines() == ["4 entries fewer, 2 more."]
    assert (Changes(fewer=1) + Changes()).lines() == ["1 entry fewer, 0 more."]

"""Events that only the less careful rules find: counted beside a diary's events, and none of them."""

from __future__ import annotations

import dataclasses

import numpy as np

from features.video import Segment
from reports.events import EventRule
from tests.test_decoding import cells, decoding

STRICT = EventRule(onset=0.9, offset=0.9, min_duration_s=0.0, merge_gap_s=0.0)


def test_what_only_the_less_careful_rules_find() -> None:
    """Events of the best rules that overlap no careful one of their label; other labels do not matter."""
    own = dataclasses.replace(decoding(exclusions=()), careful_rules=dict.fromkeys(("read", "sit", "stand"), STRICT))
    columns = np.array([[0.6, 0.95, 0], [0.6, 0.6, 0], [0, 0, 0.6], [0, 0.6, 0.6], [0.95, 0, 0], [0, 0, 0]])
    found = own.events("a", cells(6), columns, stride_s=1.0, careful=True)
    assert [(event.id, event.label, event.segment) for event in found.events] == [
        ("a-001", "sit", Segment(0, 1)),
        ("a-002", "read", Segment(4, 5)),
    ]
    # "sit" is on until 2 by the best rules: that overlaps what is stated, so it is no other event.
    assert [(event.id, event.label, event.segment) for event in found.less_certain] == [
        ("a-less-001", "read", Segment(0, 2)),
        ("a-less-002", "stand", Segment(2, 4)),
        ("a-less-003", "sit", Segment(3, 4)),
    ]


def test_touching_is_not_overlapping() -> None:
    """An event may begin where a stated one of its label ends."""
    own = dataclasses.replace(
        decoding(exclusions=()),
        careful_rules=dict.fromkeys(("read", "sit", "stand"), dataclasses.replace(STRICT, onset=0.95, offset=0.95)),
        rules=dict.fromkeys(("read", "sit", "stand"), dataclasses.replace(STRICT, onset=0.5, offset=0.5)),
    )
    columns = np.array([[0.6, 0, 0], [0, 0, 0], [0.96, 0, 0], [0, 0, 0], [0.7, 0, 0]])
    found = own.events("a", cells(5), columns, stride_s=1.0, careful=True)
    assert [event.segment for event in found.events] == [Segment(2, 3)]
    assert [event.segment for event in found.less_certain] == [Segment(0, 1), Segment(4, 5)]


def test_the_best_rules_alone_have_nothing_less_certain() -> None:
    """As do careful rules that find all that the others do."""
    columns = np.array([[0.95, 0, 0], [0, 0, 0], [0.6, 0, 0]])
    assert decoding().events("a", cells(3), columns, stride_s=1.0).less_certain == ()
    same = dataclasses.replace(decoding(), careful_rules=decoding().rules)
    assert same.events("a", cells(3), columns, stride_s=1.0, careful=True).less_certain == ()

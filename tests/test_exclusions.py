from __future__ import annotations

import pytest

from features.video import Segment
from reports.exclusions import Exclusion, find_exclusions

Video = tuple[float, list[tuple[str, Segment]]]

APART: Video = (20.0, [("sit", Segment(0, 9)), ("stand", Segment(10, 19))])
TOGETHER: Video = (20.0, [("sit", Segment(0, 9)), ("stand", Segment(7, 19))])


def pairs(videos: list[Video], labels: tuple[str, ...] = ("sit", "stand", "read")) -> list[tuple[str, str]]:
    return [(pair.first, pair.second) for pair in find_exclusions(videos, labels)]


def test_long_actions_that_never_meet_exclude_each_other() -> None:
    """Six videos, each with two actions that fill most of it apart: chance would have them meet in nearly all."""
    (pair,) = find_exclusions([APART] * 6, ["stand", "sit"])
    assert (pair.first, pair.second, pair.num_videos) == ("sit", "stand", 6)
    # 30 and 34 of 80 grid steps, of which each end lost one: apart in 80 - (34 + 34 - 1) = 13 of 80 shifts.
    assert pair.expected_videos == pytest.approx(6 * (1 - 13 / 80), abs=0.01)


def test_one_overlap_is_enough_to_keep_a_pair() -> None:
    """A pair seen together once can be together, however often it is apart."""
    assert pairs([APART] * 50 + [TOGETHER]) == []


def test_a_rare_pair_is_not_judged() -> None:
    """Four videos are too few whatever their odds; five are enough."""
    assert pairs([APART] * 4) == []
    assert pairs([APART] * 5) == [("sit", "stand")]


def test_short_actions_that_chance_keeps_apart_are_no_pair() -> None:
    """Two actions of two seconds in a minute rarely meet anyhow: five videos without a meeting say nothing."""
    short: Video = (60.0, [("sit", Segment(3, 5)), ("stand", Segment(30, 32))])
    assert pairs([short] * 5) == []
    assert pairs([short] * 100) == [("sit", "stand")]


def test_intervals_that_touch_do_not_overlap() -> None:
    """One ends where the other begins, or a rounded quarter of a second later: they still exclude each other."""
    touching: Video = (20.0, [("sit", Segment(0, 10)), ("stand", Segment(10, 19))])
    rounded: Video = (20.0, [("sit", Segment(0, 10.25)), ("stand", Segment(10, 19))])
    assert pairs([touching] * 6) == pairs([rounded] * 6) == [("sit", "stand")]


def test_labels_that_nobody_asked_for_are_left_out() -> None:
    """Only pairs of the given labels are judged, and a label with several intervals is one."""
    twice: Video = (20.0, [("sit", Segment(0, 4)), ("sit", Segment(5, 9)), ("stand", Segment(10, 19))])
    assert pairs([twice] * 8) == [("sit", "stand")]
    assert pairs([twice] * 8, ("sit", "read")) == []
    assert pairs([]) == []


def test_a_pair_is_in_order() -> None:
    """The same two labels are one pair and never two."""
    with pytest.raises(ValueError, match="in order"):
        Exclusion("stand", "sit", 5, 4.0)

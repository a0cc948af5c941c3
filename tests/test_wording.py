"""Durations, counts, shares and lists as people say them."""

from __future__ import annotations

import pytest

from reports.diary.wording import capitalised, listed, said_duration, said_in_ten, said_times, said_together


def test_durations_get_coarser() -> None:
    """Seconds, fives, half minutes, minutes, five minutes; nothing lasts no time, and no unit is full."""
    seconds = (
        0,
        0.4,
        1.5,
        9.4,
        9.5,
        12.4,
        12.5,
        57.4,
        57.6,
        74,
        75,
        105,
        570,
        584,
        586,
        3_569,
        3_570,
        3_600,
        3_750,
        36_000,
    )
    assert [said_duration(round(1000 * s)) for s in seconds] == [
        *("1 s", "1 s", "2 s", "9 s", "10 s", "10 s", "15 s", "55 s", "1 min", "1 min", "1½ min", "2 min"),
        *("9½ min", "9½ min", "10 min", "59 min", "1 h", "1 h", "1 h 05 min", "10 h"),
    ]


def test_counts_are_words_up_to_twelve() -> None:
    """Once is not said."""
    assert [said_times(count) for count in (0, 1, 2, 3, 12, 13)] == [
        *("", "", "twice", "three times", "twelve times", "13 times")
    ]


def test_a_share_is_never_all_or_none() -> None:
    """It was measured on some, and says something of others."""
    assert [said_in_ten(share) for share in (0.0, 0.04, 0.06, 0.5, 0.94, 0.96, 1.0)] == [
        *("fewer than 1 in 10", "fewer than 1 in 10", "about 1 in 10", "about 5 in 10"),
        *("about 9 in 10", "more than 9 in 10", "more than 9 in 10"),
    ]


def test_lists() -> None:
    """A clause with an "and" of its own is set off."""
    assert listed([]) == ""
    assert listed(["drank"]) == "drank"
    assert listed(["drank", "sat down", "read"]) == "drank, sat down and read"
    assert listed(["opened and closed the door", "read"]) == "opened and closed the door, and read"
    assert capitalised(listed(["iPhone"])) == "IPhone"
    assert capitalised("") == ""


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ("opened the door", "closed the door", "opened and closed the door"),
        ("turned the light on", "turned the light off", "turned the light on and off"),
        ("took hold of a doorknob", "fixed a doorknob", "took hold of and fixed a doorknob"),
        ("smiled", "sneezed", "smiled and sneezed"),
    ],
)
def test_opposites_share_their_words(first: str, second: str, both: str) -> None:
    """At the start, at the end, or nowhere."""
    assert said_together(first, second) == both

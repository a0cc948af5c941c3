"""Durations, counts and lists as people say them."""

from __future__ import annotations

from collections.abc import Sequence

_NUMBERS = ("three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TIMES = ("", "", "twice", *(f"{number} times" for number in _NUMBERS))


def said_duration(duration_ms: int) -> str:
    """To 1 s below ten seconds, to 5 s below a minute, then to half minutes, minutes, and from an hour on to 5 minutes.

    >>> [said_duration(1000 * s) for s in (0, 4, 14, 58, 80, 700, 4_000)]
    ['1 s', '4 s', '15 s', '1 min', '1½ min', '12 min', '1 h 05 min']
    """
    seconds = max(1, (duration_ms + 500) // 1000)
    if seconds < 10:
        return f"{seconds} s"
    fives = (seconds + 2) // 5 * 5
    if fives < 60:
        return f"{fives} s"
    halves = (seconds + 15) // 30
    if halves < 20:
        return f"{halves // 2}{'½' if halves % 2 else ''} min"
    minutes = (seconds + 30) // 60
    if minutes < 60:
        return f"{minutes} min"
    minutes = (seconds + 150) // 300 * 5
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes % 60 else f"{minutes // 60} h"


def said_times(count: int) -> str:
    """ "twice" to "twelve times", then "13 times"; nothing for once."""
    return _TIMES[count] if count < len(_TIMES) else f"{count} times"


def said_in_ten(share: float) -> str:
    """A share that was measured on a few hundred: "about 7 in 10", and never all or none.

    >>> [said_in_ten(share) for share in (0.02, 0.69, 0.95, 1.0)]
    ['fewer than 1 in 10', 'about 7 in 10', 'more than 9 in 10', 'more than 9 in 10']
    """
    tenths = round(10 * share)
    if 0 < tenths < 10:
        return f"about {tenths} in 10"
    return "more than 9 in 10" if tenths else "fewer than 1 in 10"


def listed(clauses: Sequence[str]) -> str:
    """Clauses as a list: "a", "a and b", "a, b and c"; one that has an "and" of its own is set off by a comma."""
    if len(clauses) < 2:
        return "".join(clauses)
    is_set_off = any(" and " in clause for clause in clauses)
    return f"{', '.join(clauses[:-1])}{',' if is_set_off else ''} and {clauses[-1]}"


def said_together(first: str, second: str) -> str:
    """Two phrases that share words: "opened the door" and "closed the door" are "opened and closed the door".

    Without words in common at both ends, all of both are said.
    """
    before, after = first.split(" "), second.split(" ")
    shortest = min(len(before), len(after))
    start = next((i for i in range(shortest) if before[i] != after[i]), shortest)
    end = next((i for i in range(shortest - start) if before[-1 - i] != after[-1 - i]), shortest - start)
    middle = [*before[start : len(before) - end], "and", *after[start : len(after) - end]]
    return " ".join([*before[:start], *middle, *before[len(before) - end :]])


def capitalised(text: str) -> str:
    """As the start of a sentence; the rest stays as it is."""
    return text[:1].upper() + text[1:]

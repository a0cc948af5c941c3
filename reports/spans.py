"""Intervals in whole milliseconds: union, difference, total. All in the time of a sort."""

from __future__ import annotations

from collections.abc import Iterable

from features.video import Segment

Span = tuple[int, int]
"""Milliseconds [start, end), from a recording's start or from 1970 in UTC."""


def to_ms(seconds: float) -> int:
    return round(seconds * 1000)


def segment_span(segment: Segment) -> Span:
    return (to_ms(segment.start_s), to_ms(segment.end_s))


def shifted(span: Span, by_ms: int) -> Span:
    return (span[0] + by_ms, span[1] + by_ms)


def clipped(span: Span, bounds: Span) -> Span | None:
    """What of the span lies inside `bounds`; None where that is nothing."""
    start, end = max(span[0], bounds[0]), min(span[1], bounds[1])
    return (start, end) if start < end else None


def union(spans: Iterable[Span], *, gap_ms: int = 0) -> list[Span]:
    """Spans in order; those that overlap, touch or lie at most `gap_ms` apart become one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1] + gap_ms:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def without(spans: Iterable[Span], taken: Iterable[Span]) -> list[Span]:
    """What is left of `spans` where `taken` is cut out."""
    cuts, first = union(taken), 0
    left = []
    for start, end in union(spans):
        while first < len(cuts) and cuts[first][1] <= start:
            first += 1
        at, i = start, first
        while i < len(cuts) and cuts[i][0] < end:
            if cuts[i][0] > at:
                left.append((at, cuts[i][0]))
            at = max(at, cuts[i][1])
            i += 1
        if at < end:
            left.append((at, end))
    return left


def total(spans: Iterable[Span]) -> int:
    """Milliseconds that the spans cover; what several cover counts once."""
    return sum(end - start for start, end in union(spans))

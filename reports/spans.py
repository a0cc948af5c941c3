"""Intervals in whole milliseconds: union, difference, total."""

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


def union(spans: Iterable[Span]) -> list[Span]:
    """Spans in order; those that overlap or touch become one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def without(spans: Iterable[Span], taken: Iterable[Span]) -> list[Span]:
    """What is left of `spans` where `taken` is cut out."""
    taken = union(taken)
    left = []
    for start, end in union(spans):
        at = start
        for taken_start, taken_end in taken:
            if taken_end <= at or taken_start >= end:
                continue
            if taken_start > at:
                left.append((at, taken_start))
            at = taken_end
        if at < end:
            left.append((at, end))
    return left


def total(spans: Iterable[Span]) -> int:
    """Milliseconds that the spans cover; what several cover counts once."""
    return sum(end - start for start, end in union(spans))

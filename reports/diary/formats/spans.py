"""When events are on, in whole milliseconds, as formats write it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from reports.events import Event
from reports.spans import Span, segment_span


def event_span(event: Event) -> Span:
    """The event's time; at least a millisecond, since formats refuse what ends where it starts."""
    start_ms, end_ms = segment_span(event.segment)
    return start_ms, max(end_ms, start_ms + 1)


def stretches(events: Sequence[Event]) -> list[tuple[Span, tuple[Event, ...]]]:
    """The time cut wherever an event starts or ends: each stretch with the events that are on, in their order.

    Stretches without an event are left out. They do not overlap, as events do.
    """
    changes: dict[int, tuple[list[int], list[int]]] = {}
    for number, event in enumerate(events):
        start_ms, end_ms = event_span(event)
        changes.setdefault(start_ms, ([], []))[0].append(number)
        changes.setdefault(end_ms, ([], []))[1].append(number)
    found: list[tuple[Span, tuple[Event, ...]]] = []
    active: set[int] = set()
    for start_ms, end_ms in pairwise(sorted(changes)):
        starting, ending = changes[start_ms]
        active = (active - set(ending)) | set(starting)
        if active:
            found.append(((start_ms, end_ms), tuple(events[number] for number in sorted(active))))
    return found

"""Recordings that follow each other, as one: `Chain`, `chains`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from features.video import Segment
from reports.diary.recording import Recording
from reports.events import Event, EventsFound
from reports.spans import shifted

TOUCH_MS = 1_000
"""Less between two recordings, or of both at once, is rounding: they follow each other."""

_CUT_S = 2.0  # what ends so shortly before a file's end goes on if it begins so shortly behind the next one's start


@dataclass(frozen=True)
class Chain:
    """Recordings of which each begins where the one before ends; one alone is a chain, too.

    `events` are those of all, in order, with times from the first recording's start. What goes on over the end of a
    file is one event, and `made_of` has the ids of its parts by its id.
    """

    recordings: tuple[Recording, ...]
    events: tuple[Event, ...]
    made_of: Mapping[str, tuple[str, ...]]

    @property
    def origin_ms(self) -> int:
        return self.recordings[0].origin_ms

    def at(self, time_ms: int) -> tuple[Recording, int]:
        """The recording in which a time of the chain lies, and when it begins on the chain's clock."""
        begun = [own for own in self.recordings if own.origin_ms - self.origin_ms <= time_ms]
        recording = begun[-1] if begun else self.recordings[0]
        return recording, recording.origin_ms - self.origin_ms

    def ids(self, event_ids: Iterable[str]) -> tuple[str, ...]:
        """With the ids of all parts of what goes on."""
        return tuple(part for event_id in event_ids for part in self.made_of.get(event_id, (event_id,)))


def chains(parts: Sequence[tuple[Recording, EventsFound]]) -> list[Chain]:
    """Recordings in order, those that follow each other joined; what runs at the same time as another is left alone."""
    apart = overlapping([recording for recording, _ in parts])
    groups: list[list[tuple[Recording, EventsFound]]] = []
    for part in sorted(parts, key=lambda part: part[0].origin_ms):
        recording = part[0]
        before = groups[-1][-1][0] if groups else None
        follows = (
            before is not None
            and before.recorded_at is not None
            and recording.recorded_at is not None
            and not {before.id, recording.id} & apart
            and abs(recording.origin_ms - before.origin_ms - before.span_ms[1]) < TOUCH_MS
        )
        if follows:
            groups[-1].append(part)
        else:
            groups.append([part])
    return [_chain(group) for group in groups]


def overlapping(recordings: Sequence[Recording]) -> set[str]:
    """Ids of the recordings that run at the same time as another one."""
    ids: set[str] = set()
    latest: tuple[int, str] | None = None  # the end that lies farthest ahead, and whose it is
    spans = {recording.id: shifted(recording.span_ms, recording.origin_ms) for recording in recordings}
    for own, (start, end) in sorted(spans.items(), key=lambda pair: pair[1]):
        if latest is not None and latest[0] - start >= TOUCH_MS:
            ids |= {own, latest[1]}
        if latest is None or end > latest[0]:
            latest = (end, own)
    return ids


def _chain(parts: Sequence[tuple[Recording, EventsFound]]) -> Chain:
    origin_ms = parts[0][0].origin_ms
    events: dict[str, Event] = {}
    made_of: dict[str, tuple[str, ...]] = {}
    going_on: dict[str, Event] = {}  # by label, what lasts until the end of the recording before
    for recording, found in parts:
        start_s = (recording.origin_ms - origin_ms) / 1000
        end_s = start_s + recording.span_ms[1] / 1000
        last = {}
        for own in found.events:
            segment = Segment(own.segment.start_s + start_s, own.segment.end_s + start_s)
            event = replace(own, segment=segment) if start_s else own
            before = going_on.pop(own.label, None)
            if before is not None and segment.start_s - start_s <= _CUT_S:
                made_of[before.id] = (*made_of.get(before.id, (before.id,)), own.id)
                event = _joined(before, event)
            events[event.id] = event
            if end_s - segment.end_s <= _CUT_S:
                last[own.label] = event
        going_on = last
    in_order = sorted(events.values(), key=lambda event: (event.segment.start_s, event.label))
    return Chain(tuple(recording for recording, _ in parts), tuple(in_order), made_of)


def _joined(before: Event, after: Event) -> Event:
    """One event of two parts; the mean is weighted by time."""
    seconds = (before.segment.duration_s, after.segment.duration_s)
    mean = (before.mean_probability * seconds[0] + after.mean_probability * seconds[1]) / sum(seconds)
    peak = max(before.peak_probability, after.peak_probability)
    segment = Segment(before.segment.start_s, after.segment.end_s)
    return replace(before, segment=segment, peak_probability=peak, mean_probability=min(mean, peak))

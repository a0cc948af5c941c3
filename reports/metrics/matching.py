"""True and stated events, and which of them are one and the same: `TrueEvent`, `StatedEvent`, `EventTruth`, `match`.

Times are compared in whole milliseconds, so that an intersection over union of exactly 0.3 is 0.3. Only observed time
counts: nobody can be asked for what no window covers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from features.video import Segment
from reports.events import observed as stretches
from reports.spans import Span, segment_span, total, union, without

Key = tuple[str, str]
"""Recording id, label."""

Kind = Literal["video", "recording"]
"""A short video of the data set, or a long recording."""


@dataclass(frozen=True)
class TrueEvent:
    """One label over one stretch of a recording, as annotated."""

    recording_id: str
    label: str
    segment: Segment


@dataclass(frozen=True, eq=False)
class AnnotatedRecording:
    """What a model says of a recording and what happened: `windows` (n,), raw `probabilities` (n, L), true events.

    `distances` (n,) are how far the windows are from what the model was trained on, where that is known.
    """

    id: str
    kind: Kind
    windows: Sequence[Segment]
    probabilities: npt.NDArray[np.floating]
    truth: Sequence[TrueEvent]
    distances: npt.NDArray[np.floating] | None = None


@dataclass(frozen=True)
class StatedEvent:
    """One label over one stretch of a recording, as the decoder states it; `probability` orders the matching."""

    recording_id: str
    label: str
    segment: Segment
    probability: float

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"{self.recording_id}: a probability lies in [0, 1], got {self}")


@dataclass(frozen=True)
class EventTruth:
    """What really happened in observed time: the ordered, disjoint true events of each recording and label.

    `observed` has each recording's covered time; a recording may have none. Make it with `event_truth`.
    """

    labels: tuple[str, ...]
    observed: Mapping[str, tuple[Span, ...]]
    events: Mapping[Key, tuple[Span, ...]]

    @property
    def observed_s(self) -> float:
        return sum(total(spans) for spans in self.observed.values()) / 1000

    def checked(self, stated: Iterable[StatedEvent]) -> dict[Key, list[StatedEvent]]:
        """Stated events by recording and label, the most probable first, then the earliest.

        An unknown recording or label raises `ValueError`, and so does an event that leaves one observed stretch.
        """
        groups: dict[Key, list[StatedEvent]] = defaultdict(list)
        for event in stated:
            if event.recording_id not in self.observed or event.label not in self.labels:
                raise ValueError(f"{event}: neither truth nor observed time is known of this recording and label")
            start, end = segment_span(event.segment)
            if not any(first <= start and end <= last for first, last in self.observed[event.recording_id]):
                raise ValueError(f"{event}: lies outside the observed time {self.observed[event.recording_id]} ms")
            groups[event.recording_id, event.label].append(event)
        return {
            key: sorted(group, key=lambda event: (-event.probability, event.segment)) for key, group in groups.items()
        }


def event_truth(
    events: Iterable[TrueEvent], observed: Mapping[str, Iterable[Segment]], labels: Sequence[str]
) -> EventTruth:
    """The truth that stated events are compared with.

    True events of one label that overlap or touch are one: the label is on throughout, and a decoder that names what
    is on cannot state two. Events are cut to `observed`, which has the observed stretches, or simply the windows, of
    every recording; one that goes on over unobserved time becomes one event on each side, as stated events do. Labels
    that are not in `labels` are ignored. A recording without an entry in `observed` raises `ValueError`.
    """
    if len(set(labels)) != len(labels):
        raise ValueError(f"labels must be unique, got {list(labels)}")
    covered = {
        recording: tuple(union(map(segment_span, stretches(list(segments)))))
        for recording, segments in observed.items()
    }
    spans: dict[Key, list[Span]] = defaultdict(list)
    for event in events:
        if event.recording_id not in covered:
            raise ValueError(f"{event}: observed time has no entry for this recording")
        if event.label in labels:
            spans[event.recording_id, event.label].append(segment_span(event.segment))
    cut = {key: tuple(intersection(own, covered[key[0]])) for key, own in spans.items()}
    return EventTruth(tuple(labels), covered, {key: own for key, own in cut.items() if own})


def match(true: Sequence[Span], stated: Sequence[Span], *, min_iou: float) -> list[tuple[Span, Span]]:
    """Pairs (true, stated) of one recording and label: greedy, one to one, in the order of `stated`.

    Each stated event takes, of the true ones still free, that of the highest intersection over union, the earlier one
    where two are equal, if it reaches `min_iou`.

    >>> match([(0, 10), (20, 30)], [(0, 8), (1, 10), (5, 25)], min_iou=0.2)
    [((0, 10), (0, 8)), ((20, 30), (5, 25))]
    """
    if not 0 < min_iou <= 1:
        raise ValueError(f"an intersection over union lies in (0, 1], got {min_iou}")
    free = sorted(true)
    pairs = []
    for span in stated:
        best = max(free, key=lambda candidate: _iou(candidate, span), default=None)
        if best is not None and _iou(best, span) >= min_iou:
            pairs.append((best, span))
            free.remove(best)
    return pairs


def intersection(first: Iterable[Span], second: Iterable[Span]) -> list[Span]:
    """The stretches, in order, that both cover; none where they only touch."""
    first = [(start, end) for start, end in union(first) if start < end]
    return without(first, without(first, second))


def _iou(first: Span, second: Span) -> float:
    both = max(0, min(first[1], second[1]) - max(first[0], second[0]))
    return both / ((first[1] - first[0]) + (second[1] - second[0]) - both)

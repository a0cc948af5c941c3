"""The surest hits, the worst misses and the worst false alarms of a model, for people to look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from features.video import Segment
from heads.targets import window_cells
from reports.decoding import Decoding
from reports.metrics.events import ONSET_IOU
from reports.metrics.matching import AnnotatedRecording, EventTruth, StatedEvent, match
from reports.spans import Span, segment_span

Kind = Literal["hit", "miss", "false_alarm"]


@dataclass(frozen=True)
class Example:
    """An event of the label in a test video: stated and true, true and not stated, or stated and not true.

    `probability` is calibrated, the mean over the event. `meanwhile` are the labels that are on during a false alarm,
    and those that are stated during a miss.
    """

    kind: Kind
    label: str
    video_id: str
    segment: Segment
    probability: float
    meanwhile: tuple[str, ...] = ()

    @property
    def times_s(self) -> tuple[float, float, float]:
        """When the pictures of its strip are shown."""
        start_s, length_s = self.segment.start_s, self.segment.duration_s
        return (start_s + length_s / 6, start_s + length_s / 2, start_s + length_s * 5 / 6)


def examples(
    decoding: Decoding,
    truth: EventTruth,
    stated: Sequence[StatedEvent],
    videos: Sequence[AnnotatedRecording],
    *,
    stride_s: float,
    at_most: int = 6,
) -> list[Example]:
    """`at_most` of each kind: hits and false alarms of the highest probability, misses of the lowest; the longer first.

    Events match at IoU 0.3. A kind shows each label and each video once, so that one odd video is not all there is.
    """
    groups = truth.checked(stated)
    means = {(event.recording_id, event.label, segment_span(event.segment)): event.probability for event in stated}
    hits: list[Example] = []
    alarms: list[Example] = []
    missed: list[Example] = []
    for key in sorted(groups.keys() | truth.events.keys()):
        video_id, label = key
        own, true = [segment_span(event.segment) for event in groups.get(key, [])], truth.events.get(key, ())
        pairs = match(true, own, min_iou=ONSET_IOU)
        found, matched = {span for span, _ in pairs}, {span for _, span in pairs}
        for span in own:
            hit = span in matched
            (hits if hit else alarms).append(
                Example("hit" if hit else "false_alarm", label, video_id, _segment(span), means[video_id, label, span])
            )
        missed += [Example("miss", label, video_id, _segment(span), 0.0) for span in true if span not in found]
    by_id = {video.id: video for video in videos}
    spans = {key: [segment_span(event.segment) for event in group] for key, group in groups.items()}
    return [
        *_varied(sorted(hits, key=_least_likely_last), at_most),
        *(
            _with_meanwhile(each, spans)
            for each in _varied(_by_probability(missed, decoding, by_id, stride_s=stride_s), at_most)
        ),
        *(_with_meanwhile(each, truth.events) for each in _varied(sorted(alarms, key=_least_likely_last), at_most)),
    ]


def _least_likely_last(example: Example) -> tuple[float, float]:
    return (-round(example.probability, 2), -example.segment.duration_s)


def _by_probability(
    missed: Sequence[Example], decoding: Decoding, videos: Mapping[str, AnnotatedRecording], *, stride_s: float
) -> list[Example]:
    """The misses with the mean probability of their cells, the lowest first."""
    known = {}
    for video_id in sorted({each.video_id for each in missed}):
        video = videos[video_id]
        cells = window_cells(video.windows, stride_s=stride_s)
        known[video_id] = (cells, decoding.probabilities(video.windows, video.probabilities, stride_s=stride_s))
    column = {label: k for k, label in enumerate(decoding.labels)}
    scored = []
    for each in missed:
        cells, probabilities = known[each.video_id]
        weights = np.array([cell.overlap_s(each.segment) for cell in cells])
        mean = float(np.average(probabilities[:, column[each.label]], weights=weights)) if weights.any() else 0.0
        scored.append(Example("miss", each.label, each.video_id, each.segment, mean))
    return sorted(scored, key=lambda each: (round(each.probability, 2), -each.segment.duration_s))


def _varied(ranked: Iterable[Example], at_most: int) -> list[Example]:
    """The first of each label and video."""
    labels: set[str] = set()
    videos: set[str] = set()
    kept: list[Example] = []
    for each in ranked:
        if len(kept) < at_most and each.label not in labels and each.video_id not in videos:
            kept.append(each)
            labels.add(each.label)
            videos.add(each.video_id)
    return kept


def _with_meanwhile(example: Example, spans: Mapping[tuple[str, str], Sequence[Span]]) -> Example:
    start, end = segment_span(example.segment)
    others = sorted(
        label
        for (video_id, label), own in spans.items()
        if video_id == example.video_id and any(max(start, first) < min(end, last) for first, last in own)
    )
    own_fields = (example.kind, example.label, example.video_id, example.segment, example.probability)
    return Example(*own_fields, tuple(others))


def _segment(span: Span) -> Segment:
    return Segment(span[0] / 1000, span[1] / 1000)

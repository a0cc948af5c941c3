"""How well stated events tell what happened: `Agreement`, `LabelEvents`, `EventScores`, `event_scores`.

Counts are summed over labels and recordings, then divided; they are shown beside every ratio. What nothing can be said
of is nan, and None in JSON.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.metrics.matching import EventTruth, StatedEvent, intersection, match
from reports.spans import segment_span, total

IOUS = (0.1, 0.3, 0.5)
ONSET_IOU = 0.3


@dataclass(frozen=True)
class Agreement:
    """How much is `stated`, how much is `true`, and how much of it is `both`: events matched one to one, or seconds."""

    both: float = 0
    stated: float = 0
    true: float = 0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.both + other.both, self.stated + other.stated, self.true + other.true)

    @property
    def precision(self) -> float:
        """nan where nothing is stated."""
        return _ratio(self.both, self.stated)

    @property
    def recall(self) -> float:
        """nan where nothing is true."""
        return _ratio(self.both, self.true)

    @property
    def f1(self) -> float:
        """0.0 where something is stated or true and nothing agrees; nan where there is neither."""
        return _ratio(2 * self.both, self.stated + self.true)

    def to_json(self) -> dict[str, float | None]:
        ratios = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return _rounded(ratios | {"both": self.both, "stated": self.stated, "true": self.true})


@dataclass(frozen=True)
class LabelEvents:
    """One label's row: its events at each IoU of `IOUS`, and its seconds."""

    label: str
    at_iou: Mapping[float, Agreement]
    seconds: Agreement

    @property
    def is_empty(self) -> bool:
        """Whether the label is neither stated nor true: all its ratios are nan."""
        return all(agreement.stated == agreement.true == 0 for agreement in self.at_iou.values())

    def to_json(self) -> dict[str, Any]:
        return {"label": self.label} | _ious_to_json(self.at_iou) | {"seconds": self.seconds.to_json()}


@dataclass(frozen=True)
class EventScores:
    """The event metrics of one model on some recordings, over all labels and for each.

    `onset_errors_s`, ascending, has stated minus true start of each match at IoU 0.3: negative is early. Contradictions
    are stretches in which both labels of an excluded pair are stated; time in which three labels exclude each other
    counts for each of their pairs. `of_recordings` has the events of each recording at IoU 0.3, over all labels.
    """

    labels: tuple[LabelEvents, ...]
    observed_s: float
    onset_errors_s: tuple[float, ...]
    num_excluded_pairs: int
    num_contradictions: int
    contradictions_s: float
    of_recordings: Mapping[str, Agreement]

    def at_iou(self, iou: float) -> Agreement:
        """Events over all labels, at an IoU of `IOUS`; another one raises `KeyError`."""
        return sum((row.at_iou[iou] for row in self.labels), Agreement())

    @property
    def seconds(self) -> Agreement:
        """Seconds of each label, summed over labels: a second counts for every label that has it."""
        return sum((row.seconds for row in self.labels), Agreement())

    @property
    def labels_without_events(self) -> tuple[str, ...]:
        """Labels neither stated nor true."""
        return tuple(row.label for row in self.labels if row.is_empty)

    def per_hour(self, amount: float) -> float:
        """An amount for each observed hour; nan where nothing is observed."""
        return _ratio(amount, self.observed_s / 3600)

    @property
    def median_abs_onset_error_s(self) -> float:
        """nan without matches."""
        return float(np.median(np.abs(self.onset_errors_s))) if self.onset_errors_s else math.nan

    @property
    def median_onset_error_s(self) -> float:
        """nan without matches; negative if events are stated too early."""
        return float(np.median(self.onset_errors_s)) if self.onset_errors_s else math.nan

    def totals_to_json(self) -> dict[str, Any]:
        """All that is said over all labels: nested dicts of numbers. Floats have 6 digits; None is nan."""
        events = {iou: self.at_iou(iou) for iou in IOUS}
        rates = {
            "observed_hours": self.observed_s / 3600,
            "stated_per_hour": self.per_hour(events[ONSET_IOU].stated),
            "true_per_hour": self.per_hour(events[ONSET_IOU].true),
        }
        onset = {
            "median_abs_error_s": self.median_abs_onset_error_s,
            "median_error_s": self.median_onset_error_s,
            "n_matches": len(self.onset_errors_s),
        }
        contradictions = {
            "per_hour": self.per_hour(self.num_contradictions),
            "seconds_per_hour": self.per_hour(self.contradictions_s),
            "n_stretches": self.num_contradictions,
            "seconds": self.contradictions_s,
            "n_excluded_pairs": self.num_excluded_pairs,
        }
        return (
            _rounded(rates)
            | _ious_to_json(events)
            | {
                "seconds": self.seconds.to_json(),
                "onset": _rounded(onset),
                "contradictions": _rounded(contradictions),
                "n_labels": len(self.labels),
                "n_labels_without_events": len(self.labels_without_events),
            }
        )

    def to_json(self) -> dict[str, Any]:
        """The totals, the labels without events, and a row for each label."""
        return self.totals_to_json() | {
            "labels_without_events": list(self.labels_without_events),
            "labels": [row.to_json() for row in self.labels],
        }


def event_scores(
    truth: EventTruth, stated: Iterable[StatedEvent], *, excluded: Collection[tuple[str, str]] = ()
) -> EventScores:
    """Compare what is stated with the truth of the same recordings.

    `excluded` has the pairs of labels that cannot be on at once, in either order; a pair given twice counts once. A
    label that the truth does not know, and a pair of one label with itself, raise `ValueError`.
    """
    pairs = {tuple(sorted(pair)) for pair in excluded}
    if odd := sorted(pair for pair in pairs if pair[0] == pair[1] or not set(pair) <= set(truth.labels)):
        raise ValueError(f"an excluded pair is two of the labels {', '.join(truth.labels)}, got {odd}")
    groups = truth.checked(stated)
    spans = {key: [segment_span(event.segment) for event in group] for key, group in groups.items()}
    at_iou = {label: dict.fromkeys(IOUS, Agreement()) for label in truth.labels}
    seconds = dict.fromkeys(truth.labels, Agreement())
    of_recordings = dict.fromkeys(truth.observed, Agreement())
    onset_errors_s: list[float] = []
    for key in sorted(spans.keys() | truth.events.keys()):
        label, own, true = key[1], spans.get(key, []), truth.events.get(key, ())
        for iou in IOUS:
            matches = match(true, own, min_iou=iou)
            at_iou[label][iou] += Agreement(len(matches), len(own), len(true))
            if iou == ONSET_IOU:
                of_recordings[key[0]] += Agreement(len(matches), len(own), len(true))
                onset_errors_s += [(found[0] - real[0]) / 1000 for real, found in matches]
        stated_ms, true_ms = total(own), total(true)
        both_ms = stated_ms + true_ms - total([*own, *true])
        seconds[label] += Agreement(both_ms / 1000, stated_ms / 1000, true_ms / 1000)
    stretches = [
        stretch
        for recording in truth.observed
        for first, second in pairs
        if (recording, first) in spans and (recording, second) in spans
        for stretch in intersection(spans[recording, first], spans[recording, second])
    ]
    return EventScores(
        labels=tuple(LabelEvents(label, at_iou[label], seconds[label]) for label in truth.labels),
        observed_s=truth.observed_s,
        onset_errors_s=tuple(sorted(onset_errors_s)),
        num_excluded_pairs=len(pairs),
        num_contradictions=len(stretches),
        contradictions_s=sum(end - start for start, end in stretches) / 1000,
        of_recordings=of_recordings,
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _rounded(values: Mapping[str, float]) -> dict[str, float | None]:
    return {key: round(value, 6) if math.isfinite(value) else None for key, value in values.items()}


def _ious_to_json(agreements: Mapping[float, Agreement]) -> dict[str, Any]:
    """Keys are percent, `iou_30`: DVC takes a dot for nesting."""
    return {f"iou_{round(100 * iou)}": agreement.to_json() for iou, agreement in agreements.items()}

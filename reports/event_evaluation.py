"""What a decoding gets right on recordings that chose nothing of it: events and calibration, on test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heads.targets import cell_targets
from reports.calibration import expected_calibration_error, label_calibration_errors, reliability
from reports.decoding import Decoding
from reports.evaluation.event_tables import Reliability
from reports.metrics.events import EventScores, event_scores
from reports.metrics.matching import AnnotatedRecording, EventTruth, StatedEvent, event_truth
from reports.recognisable import Limits, recognisable_events, unrecognisable


@dataclass(frozen=True)
class EventEvaluation:
    """Scores on one kind of recording: at the point of the `best` F1 on val, and at the diary's `careful` one.

    `truth` is what both were compared with, `stated` what the decoding states at the best point.
    """

    best: EventScores
    careful: EventScores
    truth: EventTruth
    stated: tuple[StatedEvent, ...]

    def headline(self) -> dict[str, Any]:
        """The few numbers that stand in the metrics file; None is nan."""
        return _headline(self.best) | {"careful": _headline(self.careful)}


def evaluate_events(
    decoding: Decoding, recordings: Sequence[AnnotatedRecording], *, stride_s: float, limits: Limits | None = None
) -> EventEvaluation:
    """Decode each recording at both points, as diaries do, and compare with its true events.

    With `limits` what lies beyond their distance holds no event, and what is true there is missed.
    """
    truth = event_truth(
        [event for recording in recordings for event in recording.truth],
        {recording.id: recording.windows for recording in recordings},
        decoding.labels,
    )
    pairs = [(pair.first, pair.second) for pair in decoding.exclusions]

    stretches = {
        recording.id: unrecognisable(recording.windows, recording.distances, None, limits, stride_s=stride_s)
        for recording in recordings
        if limits is not None and recording.distances is not None
    }

    def stated(*, careful: bool) -> tuple[StatedEvent, ...]:
        return tuple(
            StatedEvent(recording.id, event.label, event.segment, event.mean_probability)
            for recording in recordings
            for event in recognisable_events(
                decoding,
                recording.id,
                recording.windows,
                recording.probabilities,
                stretches.get(recording.id, ()),
                stride_s=stride_s,
                careful=careful,
            ).events
        )

    best, careful = stated(careful=False), stated(careful=True)
    return EventEvaluation(
        event_scores(truth, best, excluded=pairs), event_scores(truth, careful, excluded=pairs), truth, best
    )


def evaluate_calibration(
    decoding: Decoding, recordings: Sequence[AnnotatedRecording], *, stride_s: float
) -> Reliability:
    """Reliability of the cells' probabilities, before and after calibration, over all labels and for each."""
    raw = np.concatenate([recording.probabilities for recording in recordings])
    targets = np.concatenate(
        [
            cell_targets(
                recording.windows,
                [(event.label, event.segment) for event in recording.truth],
                decoding.labels,
                stride_s=stride_s,
            )
            for recording in recordings
        ]
    )
    calibrated = decoding.calibration.apply(raw)
    return Reliability(
        reliability(raw, targets),
        reliability(calibrated, targets),
        expected_calibration_error(raw, targets),
        expected_calibration_error(calibrated, targets),
        label_calibration_errors(decoding.labels, raw, calibrated, targets),
    )


def _headline(scores: EventScores) -> dict[str, Any]:
    totals = scores.totals_to_json()
    return {
        "f1_iou_10": totals["iou_10"]["f1"],
        "f1": totals["iou_30"]["f1"],
        "f1_iou_50": totals["iou_50"]["f1"],
        "precision": totals["iou_30"]["precision"],
        "recall": totals["iou_30"]["recall"],
        "precision_by_seconds": totals["seconds"]["precision"],
        "recall_by_seconds": totals["seconds"]["recall"],
        "stated_per_hour": totals["stated_per_hour"],
        "true_per_hour": totals["true_per_hour"],
        "median_abs_onset_error_s": totals["onset"]["median_abs_error_s"],
        "contradictions_per_hour": totals["contradictions"]["per_hour"],
    }

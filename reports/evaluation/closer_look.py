"""What the report shows of one model beyond its scores."""

from __future__ import annotations

from collections.abc import Sequence

from heads.predictions import Predictions
from reports.decoding import Decoding
from reports.evaluation.examples import examples
from reports.evaluation.pairs import confusions, found_together
from reports.evaluation.results import CloserLook
from reports.event_evaluation import EventEvaluation
from reports.metrics.matching import AnnotatedRecording
from reports.metrics.precision_recall import precision_recall
from reports.thresholds import decide


def closer_look(
    test: Predictions,
    threshold: float,
    decoding: Decoding,
    events: EventEvaluation | None,
    videos: Sequence[AnnotatedRecording],
    *,
    stride_s: float,
) -> CloserLook:
    """Curves of each label and pairs of labels on `test` windows; examples of the `events` of test `videos`."""
    named, ids = decide(test.probabilities, threshold), test.video_ids.tolist()
    return CloserLook(
        curves={
            label: precision_recall(test.probabilities[:, k], test.targets[:, k], max_points=40)
            for k, label in enumerate(test.labels)
        },
        confusions=confusions(named, test.targets, labels=test.labels, video_ids=ids),
        together=found_together(named, test.targets, labels=test.labels, video_ids=ids),
        examples=examples(decoding, events.truth, events.stated, videos, stride_s=stride_s) if events else (),
    )


def chosen_point(test: Predictions, threshold: float) -> tuple[float, float] | None:
    """(recall, precision) of all label decisions at the threshold; None where nothing is named, or nothing is on."""
    named = decide(test.probabilities, threshold)
    hits, num_named, num_true = int((named & test.targets).sum()), int(named.sum()), int(test.targets.sum())
    return (hits / num_true, hits / num_named) if num_named and num_true else None

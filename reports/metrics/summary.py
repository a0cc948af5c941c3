"""A model's reported metrics, over all labels and for each label. Thresholds come from val, scores from test.

A label without positives has no F1, recall or average precision: they are nan and in no mean; the label is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heads.predictions import Predictions
from reports.metrics.average_precision import average_precisions
from reports.metrics.f1 import label_ratios, micro_f1, micro_f1_prior
from reports.thresholds import Bools, Floats, Sweep, decide, sweep

_HEADLINE = (
    "micro_f1",
    "micro_f1_prior",
    "map",
    "video.micro_f1",
    "events.recordings.f1",
    "events.recordings.careful.precision",
    "events.recordings.careful.recall",
    "events.videos.f1",
    "charades.localisation_map",
    "charades.classification_map",
    "n_videos",
)
"""What `dvc metrics show` has columns of: a dot is a key inside another."""


@dataclass(frozen=True)
class LabelScore:
    """One label's row of a report. `precision` is nan where the label is never recognised."""

    label: str
    n_positives: int
    average_precision: float
    f1: float
    precision: float
    recall: float
    threshold: float


def label_scores(
    probabilities: Floats, targets: Bools, *, labels: Sequence[str], thresholds: float | Sequence[float] | Floats
) -> list[LabelScore]:
    """A row for each label, in their order; without positives everything but the threshold is nan."""
    ratios = label_ratios(decide(probabilities, thresholds), targets)
    label_thresholds = np.broadcast_to(np.asarray(thresholds, dtype=np.float64), (len(labels),))
    aps = average_precisions(probabilities, targets)
    return [
        LabelScore(
            label=label,
            n_positives=int(targets[:, k].sum()),
            average_precision=float(aps[k]),
            f1=float(ratios.f1[k]),
            precision=float(ratios.precision[k]),
            recall=float(ratios.recall[k]),
            threshold=float(label_thresholds[k]),
        )
        for k, label in enumerate(labels)
    ]


def summary(
    val: Predictions,
    test: Predictions,
    *,
    sweep_on_val: Sweep,
    train_frequencies: Floats,
    train_video_frequencies: Floats,
) -> dict[str, Any]:
    """A model's metrics on test windows, and under `video` on test videos.

    `sweep_on_val` is the sweep over val's windows; the same sweep over val's videos is made here, since a maximum over
    windows needs a higher threshold. `train_frequencies` and `train_video_frequencies` (L,) are the shares of train
    windows and of train videos that carry each label. Floats have 6 digits; None stands for nan.
    """
    if not val.labels == test.labels == sweep_on_val.labels:
        raise ValueError(f"labels differ: val {val.labels}, test {test.labels}, sweep {sweep_on_val.labels}")
    val_videos, test_videos = val.by_video(), test.by_video()
    video_sweep = sweep(
        *val_videos, labels=val.labels, grid=sweep_on_val.grid, half_way_positives=sweep_on_val.half_way_positives
    )
    counts = {"n_windows": len(test.video_ids), "n_videos": len(test.videos)}
    windows = _scores(test.probabilities, test.targets, val.targets, sweep_on_val, train_frequencies)
    videos = _scores(*test_videos, val_videos[1], video_sweep, train_video_frequencies)
    return windows | counts | {"video": videos | counts}


def headline(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The few scores that models are compared by, nested as they are; what a model has no score of is left out."""
    picked: dict[str, Any] = {}
    for name in _HEADLINE:
        *outer, key = name.split(".")
        own, target = scores, picked
        for part in outer:
            own = own.get(part, {})
        if key in own:
            for part in outer:
                target = target.setdefault(part, {})
            target[key] = own[key]
    return picked


def _scores(
    probabilities: Floats, targets: Bools, val_targets: Bools, val_sweep: Sweep, train_frequencies: Floats
) -> dict[str, float | int | None]:
    threshold, own_thresholds = val_sweep.threshold, val_sweep.label_thresholds
    at_threshold = label_scores(probabilities, targets, labels=val_sweep.labels, thresholds=threshold)
    at_own_thresholds = label_ratios(decide(probabilities, own_thresholds), targets)
    scores = {
        "micro_f1": micro_f1(probabilities, targets, thresholds=threshold),
        "micro_f1_at_half": micro_f1(probabilities, targets, thresholds=0.5),
        "micro_f1_at_label_thresholds": micro_f1(probabilities, targets, thresholds=own_thresholds),
        "micro_f1_prior": micro_f1_prior(
            train_frequencies=train_frequencies, val_targets=val_targets, test_targets=targets
        ),
        "macro_f1": _mean(score.f1 for score in at_threshold),
        "macro_f1_at_label_thresholds": _mean(at_own_thresholds.f1.tolist()),
        "map": _mean(score.average_precision for score in at_threshold),
        "threshold": threshold,
    }
    return {key: round(value, 6) if math.isfinite(value) else None for key, value in scores.items()} | {
        "n_labels": len(at_threshold),
        "n_labels_without_positives": sum(score.n_positives == 0 for score in at_threshold),
    }


def _mean(values: Iterable[float]) -> float:
    known = [float(value) for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan

"""Precision over recall at every threshold, by scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports.thresholds import Bools, Floats


@dataclass(frozen=True)
class PrecisionRecall:
    """Points of a curve, (n,) each, from the highest threshold to the lowest: recall ascends."""

    recall: tuple[float, ...]
    precision: tuple[float, ...]


def precision_recall(probabilities: Floats, targets: Bools, *, max_points: int = 100) -> PrecisionRecall:
    """The curve of rows (n,), or of all cells of (n, L); without positives it is empty.

    Of more points than `max_points`, those nearest to evenly spaced recalls are kept; none is made up.
    """
    from sklearn.metrics import precision_recall_curve

    if not targets.any():
        return PrecisionRecall((), ())
    precision, recall, _ = precision_recall_curve(targets.ravel(), probabilities.ravel(), drop_intermediate=True)
    precision, recall = precision[-2::-1], recall[-2::-1]  # its last point, recall 0, is of no threshold
    if len(recall) > max_points:
        kept = np.unique(np.searchsorted(recall, np.linspace(recall[0], 1.0, max_points)))
        precision, recall = precision[kept], recall[kept]
    return PrecisionRecall(
        tuple(round(float(value), 4) for value in recall), tuple(round(float(value), 4) for value in precision)
    )

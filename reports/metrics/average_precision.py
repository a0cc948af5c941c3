"""Average precision of each label, by scikit-learn."""

from __future__ import annotations

import math

import numpy as np

from reports.thresholds import Bools, Floats


def average_precisions(probabilities: Floats, targets: Bools) -> Floats:
    """Average precision of each label, (L,); equal probabilities share one rank; nan without positives."""
    from sklearn.metrics import average_precision_score

    return np.array(
        [
            average_precision_score(targets[:, k], probabilities[:, k]) if targets[:, k].any() else math.nan
            for k in range(targets.shape[1])
        ]
    )

"""Micro-F1 of probabilities, by scikit-learn, and of the prior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reports.thresholds import Bools, Floats, best_threshold, decide


def micro_f1(probabilities: Floats, targets: Bools, *, thresholds: float | Sequence[float] | Floats) -> float:
    """F1 over all cells of (n, L), at one threshold or one for each label; 0.0 if no positive is recognised."""
    from sklearn.metrics import f1_score

    # Flat, so that scikit-learn sees "recognised or not" for a single label too; (n, 1) would also score the "not".
    return float(f1_score(targets.ravel(), decide(probabilities, thresholds).ravel(), zero_division=0.0))


def micro_f1_prior(*, train_frequencies: Floats, val_targets: Bools, test_targets: Bools) -> float:
    """Micro-F1 on test of the prior, which gives every row each label's frequency in train as its probability.

    The threshold is the one of `train_frequencies` (L,) with the best micro-F1 on val.
    """
    on_val = np.broadcast_to(train_frequencies, val_targets.shape)
    threshold = best_threshold(on_val.ravel(), val_targets.ravel())
    constant = np.broadcast_to(train_frequencies, test_targets.shape)
    return micro_f1(constant, test_targets, thresholds=threshold)

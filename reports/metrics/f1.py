"""F1 of decisions, over all labels and for each, and of the prior. Counted, so that millions of cells take no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.thresholds import Bools, Floats, best_threshold, decide


@dataclass(frozen=True, eq=False)
class LabelRatios:
    """Each label's ratios, (L,): nan without positives, and the precision also where nothing is named."""

    precision: Floats
    recall: Floats
    f1: Floats


def micro_f1(probabilities: Floats, targets: Bools, *, thresholds: float | Sequence[float] | Floats) -> float:
    """F1 over all cells of (n, L), at one threshold or one for each label; 0.0 if no positive is recognised."""
    named = decide(probabilities, thresholds)
    num_cells = int(named.sum()) + int(targets.sum())
    return 2 * int((named & targets).sum()) / num_cells if num_cells else 0.0


def label_ratios(decisions: Bools, targets: Bools) -> LabelRatios:
    """Of decisions and targets (n, L)."""
    hits, named, true = ((each).sum(axis=0).astype(np.float64) for each in (decisions & targets, decisions, targets))
    has_positives = true > 0
    nothing = np.full(len(true), np.nan)
    return LabelRatios(
        np.divide(hits, named, out=nothing.copy(), where=has_positives & (named > 0)),
        np.divide(hits, true, out=nothing.copy(), where=has_positives),
        np.divide(2 * hits, named + true, out=nothing.copy(), where=has_positives),
    )


def micro_f1_prior(*, train_frequencies: Floats, val_targets: Bools, test_targets: Bools) -> float:
    """Micro-F1 on test of the prior, which gives every row each label's frequency in train as its probability.

    The threshold is the one of `train_frequencies` (L,) with the best micro-F1 on val.
    """
    on_val = np.broadcast_to(train_frequencies, val_targets.shape)
    threshold = best_threshold(on_val.ravel(), val_targets.ravel())
    constant = np.broadcast_to(train_frequencies, test_targets.shape)
    return micro_f1(constant, test_targets, thresholds=threshold)

"""How a model does on val while it trains: loss and mAP. Knows tensors; chooses nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from heads.losses import Loss, bce

Evaluate = Callable[[nn.Module], Mapping[str, Any]]
"""Of a model: val's "loss" and "map", numbers, or (C,) of C candidates."""


def scores(logits: Tensor, targets: Tensor, *, loss: Loss = bce) -> dict[str, float]:
    """The `loss` and mAP ("map") of logits (n, L) against targets (n, L)."""
    found = _scores_of_each(logits[None], targets, [loss])
    return {name: values[0] for name, values in found.items()}


def on_features(features: Tensor, targets: Tensor, losses: Sequence[Loss]) -> Evaluate:
    """Evaluate a head, or C at once, on features (n, D), all in one batch; `losses` (C,) are what each trains on."""

    def evaluate(model: nn.Module) -> Mapping[str, list[float]]:
        logits = model(features.to(next(model.parameters()).device)).reshape(len(losses), *targets.shape)
        return _scores_of_each(logits, targets, losses)

    return evaluate


def average_precisions(
    probabilities: npt.NDArray[np.floating], targets: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Average precision of each label of C candidates, (C, L), of probabilities (C, n, L) and targets (n, L).

    The mean over the positives of the precision at their rank, equal probabilities taken as one rank; nan without
    positives. It is what `reports.metrics.windows.average_precisions` gives, in a small part of its time.
    """
    count, num_rows, num_labels = probabilities.shape
    found = np.full((count, num_labels), np.nan)
    for label in np.flatnonzero(targets.any(axis=0)):
        own = np.ascontiguousarray(probabilities[:, :, label])
        own.sort()
        positives = np.ascontiguousarray(probabilities[:, targets[:, label], label])
        positives.sort()
        at_least = num_rows - _num_below(own, positives)
        positives_at_least = positives.shape[1] - _num_below(positives, positives)
        found[:, label] = (positives_at_least / at_least).mean(axis=1)
    return found


def _scores_of_each(logits: Tensor, targets: Tensor, losses: Sequence[Loss]) -> dict[str, list[float]]:
    logits, targets = logits.float().cpu(), targets.float().cpu()
    found = average_precisions(logits.sigmoid().numpy(), targets.bool().numpy())
    known = ~np.isnan(found[0])
    return {
        "loss": [loss(own, targets).item() for own, loss in zip(logits, losses, strict=True)],
        "map": found[:, known].mean(axis=1).tolist() if known.any() else [math.nan] * len(losses),
    }


def _num_below(ascending: npt.NDArray[np.floating], values: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """How many of each row of `ascending` (C, n) are less than each of the same row of `values` (C, m): (C, m)."""
    return torch.searchsorted(torch.from_numpy(ascending), torch.from_numpy(values)).numpy()

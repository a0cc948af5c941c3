"""What a model has to beat, as predictions like a model's: answers that do not look, and such that mean nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from heads.predictions import Predictions
from reports.thresholds import Floats


def prior(predictions: Predictions, train_frequencies: Floats) -> Predictions:
    """Every window has each label's share of train's windows, (L,), as its probability."""
    same = np.broadcast_to(np.asarray(train_frequencies, dtype=np.float32), predictions.probabilities.shape)
    return replace(predictions, probabilities=same, model_sha256="")


def random(predictions: Predictions, *, seed: int) -> Predictions:
    """Every probability is drawn evenly from [0, 1), once: the scores are those of one draw, and its interval."""
    drawn = np.random.default_rng(seed).random(predictions.probabilities.shape, dtype=np.float32)
    return replace(predictions, probabilities=drawn, model_sha256="")

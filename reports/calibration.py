"""Calibration: probabilities that hold what they say. Fitted on val, measured on test. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

_EPSILON = 1e-6
"""Probabilities are kept this far from 0 and 1, where the logit is infinite."""

MIN_POSITIVES = 30
"""True rows that a label needs for a calibration error of its own."""

_STEPS = 50


@dataclass(frozen=True)
class Calibration:
    """p -> sigmoid(slope · logit(p) + offset) for each label: `slopes` (L,) above 0, `offsets` (L,).

    Platt scaling (Platt 1999, "Probabilistic outputs for support vector machines") on the model's own logit.
    """

    slopes: tuple[float, ...]
    offsets: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.slopes) != len(self.offsets) or not all(slope > 0 for slope in self.slopes):
            raise ValueError(f"each label needs a positive slope and an offset, got {self.slopes} and {self.offsets}")

    @classmethod
    def identity(cls, num_labels: int) -> Calibration:
        """Leaves every probability as it is."""
        return cls((1.0,) * num_labels, (0.0,) * num_labels)

    def apply(self, probabilities: Floats) -> npt.NDArray[np.float64]:
        """Calibrated probabilities (n, L) of (n, L). The order of one label's probabilities stays."""
        return _sigmoid(_logit(probabilities) * np.array(self.slopes) + np.array(self.offsets))


def fit_calibration(probabilities: Floats, targets: Bools, *, strength: float = 10.0) -> Calibration:
    """Platt scaling of each label on val rows (n, L), shrunk towards one that all labels share.

    `strength` is about how many positives weigh as much as the shared scaling: a label with none takes the shared one.
    """
    logits, truth = _logit(probabilities), targets.astype(np.float64)
    shared = _fit(logits.ravel(), truth.ravel(), prior=np.array([1.0, 0.0]), strength=1.0)
    labels = [
        _fit(logits[:, k], truth[:, k], prior=shared, strength=strength) if targets[:, k].any() else shared
        for k in range(targets.shape[1])
    ]
    return Calibration(tuple(float(slope) for slope, _ in labels), tuple(float(offset) for _, offset in labels))


def _fit(logits: Floats, truth: Floats, *, prior: Floats, strength: float) -> Floats:
    """(slope, offset) with the least cross-entropy plus strength/2 · |parameters - prior|², by Newton's method."""
    parameters = prior.copy()
    inputs = np.stack([logits, np.ones_like(logits)], axis=1)
    for _ in range(_STEPS):
        found = _sigmoid(inputs @ parameters)
        gradient = inputs.T @ (found - truth) + strength * (parameters - prior)
        weights = np.maximum(found * (1 - found), _EPSILON)
        step = np.linalg.solve((inputs * weights[:, None]).T @ inputs + strength * np.eye(2), gradient)
        parameters = parameters - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-9:
            break
    parameters[0] = max(parameters[0], 0.05)  # a label whose probabilities say nothing on val keeps their order
    return parameters


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose probability lies in [low, high): how many, their mean probability, and the share that is true."""

    low: float
    high: float
    count: int
    mean_probability: float
    share_true: float


def reliability(probabilities: Floats, targets: Bools, *, num_bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """The bins of a reliability diagram, of equal width; empty ones are left out."""
    values, truth = probabilities.ravel(), targets.ravel()
    numbers = np.minimum((values * num_bins).astype(int), num_bins - 1)
    counts = np.bincount(numbers, minlength=num_bins)
    sums, true = (np.bincount(numbers, weights=weights, minlength=num_bins) for weights in (values, truth))
    return tuple(
        ReliabilityBin(
            low=number / num_bins,
            high=(number + 1) / num_bins,
            count=int(counts[number]),
            mean_probability=float(sums[number] / counts[number]),
            share_true=float(true[number] / counts[number]),
        )
        for number in np.flatnonzero(counts).tolist()
    )


def expected_calibration_error(probabilities: Floats, targets: Bools, *, num_bins: int = 10) -> float:
    """Mean distance between probability and share that is true, over bins weighted by their rows (Guo et al. 2017)."""
    bins = reliability(probabilities, targets, num_bins=num_bins)
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.mean_probability - each.share_true) for each in bins) / total


@dataclass(frozen=True)
class LabelCalibration:
    """A label's true rows, and its expected calibration error before and after calibration; None with few of them."""

    label: str
    n_positives: int
    ece_before: float | None
    ece_after: float | None


def label_calibration_errors(
    labels: Sequence[str], before: Floats, after: Floats, targets: Bools
) -> tuple[LabelCalibration, ...]:
    """Each label's expected calibration error on rows (n, L), in the order of `labels`.

    A label with fewer than `MIN_POSITIVES` true rows has none: it would be of its negatives alone.
    """
    of_labels = []
    for k, label in enumerate(labels):
        num_positives = int(targets[:, k].sum())
        errors = (
            [expected_calibration_error(own[:, k], targets[:, k]) for own in (before, after)]
            if num_positives >= MIN_POSITIVES
            else [None, None]
        )
        of_labels.append(LabelCalibration(label, num_positives, *errors))
    return tuple(of_labels)


def _logit(probabilities: Floats) -> npt.NDArray[np.float64]:
    clipped = np.clip(probabilities.astype(np.float64), _EPSILON, 1 - _EPSILON)
    return np.log(clipped) - np.log1p(-clipped)


def _sigmoid(logits: Floats) -> npt.NDArray[np.float64]:
    return 0.5 * (1 + np.tanh(0.5 * logits))

"""A label that no data set has, learned from a handful of stretches: `OwnLabel`. Knows vectors and times, no file.

A window is seen in parts: what temporal heads know of it, which learned from other labels what tells actions apart; in
what it and its neighbours differ from all of their video; and what the backbone's pooler, if it has one, makes of them.
In each part a linear discriminant: the direction from the mean of all of a person's windows to that of the examples,
where directions in which windows differ anyway count less. The parts' scores are added, each with the same spread. The
covariance is shrunk towards the identity (Ledoit and Wolf, 2004), since a few recordings hardly show it. LOG.md has
what else was tried on held-out classes of the demo.

All other windows are unlabelled, and some may show the same: so the threshold is the one that maximises
recall² / share of stated windows, which needs no negatives (Lee and Liu, "Learning with positive and unlabeled examples
using weighted logistic regression", ICML 2003).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.video import Segment

Floats = npt.NDArray[np.float64]
Vectors = Mapping[str, npt.NDArray[np.floating]]

_SHRINKAGE = 0.7
_MAX_WINDOWS = 20_000
_MIN_STRETCHES = 3
"""Fewer say nothing of how well a label is recognised."""
_SLOPE = 4.0
"""Of the probability, in standard deviations of the score: one above the threshold is 0.98."""
_MIN_OVERLAP_S = 0.5


class CannotLearn(Exception):
    """There is nothing to learn a label from."""


@dataclass(frozen=True, eq=False)
class Windows:
    """A video's `windows` (n,) in order, and the `rows` (n, F) that they are seen as, in parts of these `sizes`."""

    windows: Sequence[Segment]
    rows: npt.NDArray[np.float32]
    sizes: tuple[int, ...]

    @classmethod
    def of(
        cls, windows: Sequence[Segment], vectors: Vectors, hidden: npt.NDArray[np.float32], *, stride_s: float
    ) -> Windows:
        """From a backbone's `vectors` by pooling (n, D) and what heads see of them, `hidden` (n, H), where H may be 0.

        Beside a pause and at the ends a window stands for its neighbour.
        """
        mean = vectors["mean"].astype(np.float32)
        with_neighbours = [mean - mean.sum(axis=0) / max(1, len(mean))]
        if "pooler" in vectors:
            with_neighbours.append(vectors["pooler"].astype(np.float32))
        starts = np.array([window.start_s for window in windows])
        numbers = np.arange(len(windows))
        follows = np.diff(starts) < 1.5 * stride_s
        before = np.where(np.r_[False, follows], numbers - 1, numbers) if len(numbers) else numbers
        after = np.where(np.r_[follows, False], numbers + 1, numbers) if len(numbers) else numbers
        parts = [hidden, *(np.concatenate([own[before], own, own[after]], axis=1) for own in with_neighbours)]
        return cls(windows, np.concatenate(parts, axis=1), tuple(part.shape[1] for part in parts))

    def shows(self, stretch: Segment) -> npt.NDArray[np.bool_]:
        """Which windows share half a second with the stretch, or half of a shorter one, (n,)."""
        least_s = min(_MIN_OVERLAP_S, stretch.duration_s / 2)
        return np.array([window.overlap_s(stretch) >= least_s - 1e-6 for window in self.windows], dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class OwnLabel:
    """A trained label: `weights` (F,) and the `threshold` of their sum, at which the probability is a half."""

    weights: npt.NDArray[np.float32]
    threshold: float

    def probabilities(self, windows: Windows) -> npt.NDArray[np.float32]:
        """(n,); raises `CannotLearn` for vectors of another backbone."""
        if windows.rows.shape[1] != len(self.weights):
            raise CannotLearn(f"vectors of {len(self.weights)} numbers are wanted, found {windows.rows.shape[1]}")
        logits = _SLOPE * (windows.rows @ self.weights - self.threshold)
        return (1 / (1 + np.exp(-np.clip(logits, -30, 30)))).astype(np.float32)


@dataclass(frozen=True)
class Certainty:
    """How well a label is recognised in stretches that it was not learned from: each is left out in turn.

    `recall` is the share of their windows that are recognised, `stated` that of all others. `average_precision` takes
    all others for wrong ones, though some may show the same: it is the least to expect. All are None where the
    stretches are too few to say.
    """

    num_stretches: int
    recall: float | None = None
    stated: float | None = None
    average_precision: float | None = None


def learn(examples: Sequence[tuple[Windows, Segment]], others: Sequence[Windows]) -> tuple[OwnLabel, Certainty]:
    """Learn a label from stretches that show it, in windows of their video, and all of a person's `others`.

    The videos of the examples may be among the others. Raises `CannotLearn` where no window shows an example, or where
    there is nothing else.
    """
    stretches = [(video, video.shows(stretch)) for video, stretch in examples]
    stretches = [(video, shown) for video, shown in stretches if shown.any()]
    if not stretches:
        raise CannotLearn("no window of these videos lies in the stretches: were they observed?")
    known: dict[int, npt.NDArray[np.bool_]] = {}
    for video, shown in stretches:
        known[id(video)] = known.get(id(video), np.zeros(len(shown), dtype=np.bool_)) | shown
    videos = {id(video): video for video in [*(video for video, _ in stretches), *others]}
    rows = np.concatenate([video.rows for video in videos.values()]).astype(np.float64)
    is_other = ~np.concatenate(
        [known.get(key, np.zeros(len(video.rows), dtype=np.bool_)) for key, video in videos.items()]
    )
    if is_other.sum() < 2:
        raise CannotLearn("the stretches are all there is: recordings that show something else are needed")
    kept = np.linspace(0, len(rows) - 1, min(len(rows), _MAX_WINDOWS)).round().astype(np.int64)
    rows, is_other = rows[kept], is_other[kept]
    middle, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    standardised = (rows - middle) / spread
    own = [(video.rows[shown].astype(np.float64) - middle) / spread for video, shown in stretches]
    means = np.stack([each.mean(axis=0) for each in own])
    ends = np.cumsum(stretches[0][0].sizes)[:-1]
    # The direction of each stretch; that of several is their mean.
    parts = zip(np.split(standardised, ends, axis=1), np.split(means, ends, axis=1), strict=True)
    directions = np.concatenate([_directions(*part) for part in parts], axis=1)

    def scaled(direction: Floats) -> Floats:
        return direction / max(float((standardised @ direction).std()), 1e-9)

    weights = scaled(directions.mean(axis=0))
    unlabelled = standardised[is_other] @ weights
    if len(own) < _MIN_STRETCHES:  # half way between the examples and the mean of everything
        threshold = float(np.mean([(each @ weights).mean() for each in own])) / 2
        certainty = Certainty(len(own))
    else:
        without = [scaled(np.delete(directions, number, axis=0).mean(axis=0)) for number in range(len(own))]
        positives = np.concatenate([each @ direction for each, direction in zip(own, without, strict=True)])
        threshold = _threshold(positives, unlabelled)
        certainty = Certainty(
            len(own),
            recall=float((positives >= threshold).mean()),
            stated=float((unlabelled >= threshold).mean()),
            average_precision=_average_precision(positives, unlabelled),
        )
    return OwnLabel((weights / spread).astype(np.float32), threshold + float(middle @ (weights / spread))), certainty


def _directions(windows: Floats, stretches: Floats) -> Floats:
    """From the mean of standardised windows (n, F) to each stretch (k, F): (k, F), whose mean spreads windows by 1."""
    if not windows.shape[1]:
        return stretches
    covariance = windows.T @ windows / len(windows)
    variance = float(np.trace(covariance)) / len(covariance)
    shrunk = (1 - _SHRINKAGE) * covariance + (_SHRINKAGE * variance + 1e-6) * np.eye(len(covariance))
    directions = np.asarray(np.linalg.solve(shrunk, stretches.T).T, dtype=np.float64)
    return directions / max(float((windows @ directions.mean(axis=0)).std()), 1e-9)


def _threshold(positives: Floats, unlabelled: Floats) -> float:
    candidates = np.unique(positives)
    recall = np.array([(positives >= score).mean() for score in candidates])
    everything = np.concatenate([positives, unlabelled])
    stated = np.array([(everything >= score).mean() for score in candidates])
    return float(candidates[np.argmax(recall**2 / stated)])


def _average_precision(positives: Floats, others: Floats) -> float:
    """Mean over the positives of the share of positives among what scores at least as much."""
    ranked = [
        (positives >= score).sum() / ((positives >= score).sum() + (others >= score).sum()) for score in positives
    ]
    return float(np.mean(ranked))

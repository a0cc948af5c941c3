"""Which probability counts as "recognised". Knows probabilities and targets; knows no model.

Tuning on the rows that are reported afterwards makes any model look better than it is: sweep on val, report on test.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Lt

from features.files import write_csv
from features.sealed import damage_told, read_sealed_json, write_sealed_json

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Threshold = Annotated[float, Gt(0), Lt(1)]
_REMEDY = "run `dvc repro sweep`"


class NoThresholds(Exception):
    """No thresholds can be chosen by these rows, or those at hand are another model's."""


@dataclass(frozen=True)
class ThresholdGrid:
    """The curve's thresholds, from `low` to `high`, both included, every `step`: 0.05, 0.95, 0.05 gives 19.

    A label with `half_way_positives` positives has a threshold half way between the best for all labels and its own.
    """

    low: Threshold
    high: Threshold
    step: Threshold
    half_way_positives: Annotated[int, Ge(1)]

    def __post_init__(self) -> None:
        steps = (self.high - self.low) / self.step if self.step > 0 else 0.0
        if not 0 < self.low < self.high < 1 or steps < 0.5 or abs(steps - round(steps)) > 1e-6:
            raise ValueError(
                f"low + a whole number of steps must give high, within (0, 1), got {self.low:g} … {self.high:g} by "
                f"{self.step:g}"
            )
        if steps > 10_000:
            raise ValueError(f"at most 10,000 steps lead from low to high, got {steps:.0f}")

    def values(self) -> Floats:
        """The thresholds, ascending."""
        count = round((self.high - self.low) / self.step) + 1
        return np.round(self.low + self.step * np.arange(count), 9)


@dataclass(frozen=True)
class CurvePoint:
    """Scores when every label has the same `threshold`.

    `micro_f1`, `precision` and `recall` are over all rows and labels; `precision` is None where nothing is recognised.
    `macro_f1` is the mean over the labels that have positives.
    """

    threshold: float
    micro_f1: float
    macro_f1: float
    precision: float | None
    recall: float


@dataclass(frozen=True)
class Sweep:
    """What a sweep found: the `curve` over all labels, the best global `threshold`, and one for each label.

    The global threshold is the best of all, and a point of the curve. `label_thresholds` (L,) stand in the order of
    `labels`; `fallback_labels` had no positive to choose by, and carry the global threshold. `half_way_positives` are
    those of `sweep`. `model_sha256` is that of the model whose probabilities were swept.
    """

    labels: tuple[str, ...]
    curve: tuple[CurvePoint, ...]
    threshold: float
    label_thresholds: tuple[float, ...]
    fallback_labels: tuple[str, ...]
    half_way_positives: int
    model_sha256: str = ""

    def __post_init__(self) -> None:
        if len(self.label_thresholds) != len(self.labels) or not set(self.fallback_labels) <= set(self.labels):
            raise ValueError(f"{len(self.label_thresholds)} thresholds do not fit {len(self.labels)} labels")
        if self.threshold not in self.grid:
            raise ValueError(f"the threshold {self.threshold} was not swept")

    @property
    def grid(self) -> Floats:
        return np.array([point.threshold for point in self.curve])

    def save(self, path: Path) -> None:
        """Write everything as JSON, with its hash."""
        write_sealed_json(path, dataclasses.asdict(self))

    def require_model(self, sha256: str, path: Path) -> None:
        """Raise `NoThresholds` unless this sweep, read from `path`, is of the model with this hash."""
        if self.model_sha256 != sha256:
            raise NoThresholds(
                f"{path} has the thresholds of another model: wanted {sha256[:16]}…, found "
                f"{self.model_sha256[:16]}…; {_REMEDY}"
            )

    @property
    def best(self) -> CurvePoint:
        """The point of the curve at `threshold`."""
        return next(point for point in self.curve if point.threshold == self.threshold)

    @classmethod
    def load(cls, path: Path) -> Sweep:
        """Read what `save` wrote. Raises `DamagedFile`, or `FileNotFoundError`."""
        with damage_told(path, remedy=_REMEDY):
            found = read_sealed_json(path, remedy=_REMEDY)
            return cls(
                labels=tuple(found["labels"]),
                curve=tuple(CurvePoint(**point) for point in found["curve"]),
                threshold=found["threshold"],
                label_thresholds=tuple(found["label_thresholds"]),
                fallback_labels=tuple(found["fallback_labels"]),
                half_way_positives=found["half_way_positives"],
                model_sha256=found["model_sha256"],
            )

    def save_curve(self, path: Path) -> None:
        """Write the curve as CSV, a row for each threshold, for plots."""
        header = [field.name for field in dataclasses.fields(CurvePoint)]
        write_csv(path, header, [dataclasses.astuple(point) for point in self.curve])


def decide(probabilities: Floats, thresholds: float | Sequence[float] | Floats) -> Bools:
    """Where a probability reaches its threshold, equality included.

    `thresholds` are one number or (L,), and are rounded to the precision of `probabilities`: float32's 0.35 is below
    float64's, and yet reaches 0.35.
    """
    return probabilities >= np.asarray(thresholds, dtype=probabilities.dtype)


def sweep(
    probabilities: Floats, targets: Bools, *, labels: Sequence[str], grid: Floats, half_way_positives: int
) -> Sweep:
    """Find the threshold with the best micro-F1 of all, and each label's, on (n, L) rows; the curve is of `grid`.

    Every probability of the rows is tried as a threshold. Ties go to the lower one, which recognises more. A label's
    threshold lies between the global one and its own best, in logits: the way from the first to the second is
    p / (p + `half_way_positives`) for a label with p positives, for what few rows say is mostly chance.

    Warning: scores on these rows are biased. Sweep on val and report on other rows.
    """
    if probabilities.shape != targets.shape or probabilities.shape[1:] != (len(labels),):
        raise ValueError(f"{probabilities.shape} probabilities, {targets.shape} targets, {len(labels)} labels")
    positives = targets.sum(axis=0)
    if not positives.any():
        raise NoThresholds(
            f"no threshold can be chosen: none of {len(targets)} rows has a positive label; "
            "take labels that val shows, as results/<profile>/facts.json counts them"
        )
    best = best_threshold(probabilities.ravel(), targets.ravel())
    own = np.array(
        [best_threshold(probabilities[:, k], targets[:, k]) if positives[k] else best for k in range(len(labels))]
    )
    way = positives / (positives + half_way_positives)
    shrunk = _sigmoid((1 - way) * _logit(best) + way * _logit(own))
    thresholds = np.unique([*grid.tolist(), best])
    hits, recognised = _counts(probabilities, targets, thresholds)
    label_f1 = 2 * hits / np.maximum(recognised + positives, 1)
    micro_f1 = 2 * hits.sum(axis=1) / (recognised.sum(axis=1) + positives.sum())
    curve = tuple(
        CurvePoint(
            threshold=float(thresholds[k]),
            micro_f1=float(micro_f1[k]),
            macro_f1=float(label_f1[k, positives > 0].mean()),
            precision=float(hits[k].sum() / recognised[k].sum()) if recognised[k].any() else None,
            recall=float(hits[k].sum() / positives.sum()),
        )
        for k in range(len(thresholds))
    )
    return Sweep(
        labels=tuple(labels),
        curve=curve,
        threshold=best,
        label_thresholds=tuple(np.where(positives > 0, shrunk, best).tolist()),
        fallback_labels=tuple(label for label, count in zip(labels, positives, strict=True) if not count),
        half_way_positives=half_way_positives,
    )


def best_threshold(probabilities: Floats, targets: Bools) -> float:
    """The threshold with the best F1 on rows (n,) of which at least one is positive: the lowest such probability.

    All of them are tried in one sort.
    """
    order = np.argsort(-probabilities, kind="stable")
    descending = probabilities[order]
    is_end = np.append(descending[1:] != descending[:-1], True)  # of each run of equal probabilities
    hits = np.cumsum(targets[order])[is_end]
    f1 = 2 * hits / (np.flatnonzero(is_end) + 1 + targets.sum())
    return float(descending[is_end][len(f1) - 1 - np.argmax(f1[::-1])])


def _logit(probability: npt.ArrayLike) -> Floats:
    """Finite for 0 and 1, too."""
    inside = np.clip(np.asarray(probability, dtype=np.float64), 1e-9, 1 - 1e-9)
    return np.log(inside / (1 - inside))


def _sigmoid(logit: Floats) -> Floats:
    return 1 / (1 + np.exp(-logit))


def _counts(probabilities: Floats, targets: Bools, grid: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """At each threshold and label, (G, L): the number of true recognised rows and of all recognised rows.

    Each probability is read once and counted in the bin of the highest threshold that it reaches.
    """
    edges = grid.astype(probabilities.dtype)
    hits = np.zeros((len(grid), targets.shape[1]), dtype=np.int64)
    recognised = np.zeros_like(hits)
    for column in range(targets.shape[1]):
        bins = np.searchsorted(edges, probabilities[:, column], side="right")
        for counts, row_bins in ((recognised, bins), (hits, bins[targets[:, column]])):
            in_bin = np.bincount(row_bins, minlength=len(grid) + 1)
            counts[:, column] = in_bin[::-1].cumsum()[::-1][1:]
    return hits, recognised

"""Pairs of labels: what is taken for what, and what is found together. Knows decisions and targets of windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reports.thresholds import Bools

_FEWEST = 3
"""Windows that a pair needs to be shown."""


@dataclass(frozen=True)
class Confusion:
    """In `count` windows of `num_videos` videos, `missed` is on and not named, and `named` is named and not on.

    `num_missed` windows miss the first in all; by chance `expected` of them would have the second.
    """

    missed: str
    named: str
    count: int
    num_videos: int
    num_missed: int
    expected: float


@dataclass(frozen=True)
class Together:
    """Two labels are both named in `named` windows of `num_videos` videos, and both on in `true`.

    If one said nothing of the other, `expected` windows would have both named.
    """

    first: str
    second: str
    named: int
    num_videos: int
    true: int
    expected: float


def confusions(
    decisions: Bools, targets: Bools, *, labels: Sequence[str], video_ids: Sequence[str], at_most: int = 12
) -> list[Confusion]:
    """Pairs of decisions and targets (n, L), by how many windows more than by chance have them."""
    missed, wrong = targets & ~decisions, decisions & ~targets
    counts = _joint(missed, wrong)
    expected = np.outer(missed.sum(axis=0), wrong.sum(axis=0)) / max(1, len(targets))
    pairs = _largest(counts, counts - expected, at_most)
    ids = np.asarray(video_ids)
    return [
        Confusion(
            missed=labels[i],
            named=labels[j],
            count=int(counts[i, j]),
            num_videos=len(np.unique(ids[missed[:, i] & wrong[:, j]])),
            num_missed=int(missed[:, i].sum()),
            expected=round(float(expected[i, j]), 1),
        )
        for i, j in pairs
    ]


def found_together(
    decisions: Bools, targets: Bools, *, labels: Sequence[str], video_ids: Sequence[str], at_most: int = 12
) -> list[Together]:
    """Pairs of decisions (n, L), by how many windows more than by chance have both; each pair once."""
    counts, true = np.triu(_joint(decisions, decisions), 1), _joint(targets, targets)
    named = decisions.sum(axis=0)
    expected = np.outer(named, named) / max(1, len(decisions))
    ids = np.asarray(video_ids)
    return [
        Together(
            first=labels[i],
            second=labels[j],
            named=int(counts[i, j]),
            num_videos=len(np.unique(ids[decisions[:, i] & decisions[:, j]])),
            true=int(true[i, j]),
            expected=round(float(expected[i, j]), 1),
        )
        for i, j in _largest(counts, counts - expected, at_most)
    ]


def _joint(first: Bools, second: Bools) -> npt.NDArray[np.int64]:
    """How many rows have each label of `first` with each of `second`, (L, L)."""
    return (first.T.astype(np.float64) @ second.astype(np.float64)).astype(np.int64)


def _largest(counts: npt.NDArray[np.int64], excess: npt.NDArray[Any], at_most: int) -> list[tuple[int, int]]:
    """Positions of the pairs that are in enough windows, the largest excess first, then in the order of the labels."""
    order = np.argsort(-excess, axis=None, kind="stable")
    pairs = [divmod(int(place), counts.shape[1]) for place in order]
    return [(i, j) for i, j in pairs if counts[i, j] >= _FEWEST and excess[i, j] > 0][:at_most]

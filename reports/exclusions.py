"""Labels that exclude each other, found in the training data. Knows intervals; no clock and no model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from features.video import Segment

_MAX_P = 0.01
"""A pair is taken for exclusive where chance alone would keep it apart less often than this."""

_MIN_VIDEOS = 5
"""A pair that fewer videos have is too rare to judge, whatever chance says."""

_STEP_S = 0.25
"""Grid on which times are compared."""


@dataclass(frozen=True)
class Exclusion:
    """Two labels, `first` < `second`, that train never shows at once.

    `num_videos` have both of them at some time; by chance they would be seen together in `expected_videos`.
    """

    first: str
    second: str
    num_videos: int
    expected_videos: float

    def __post_init__(self) -> None:
        if not self.first < self.second:
            raise ValueError(f"a pair is in order, got {self.first} and {self.second}")


def find_exclusions(
    videos: Iterable[tuple[float, Sequence[tuple[str, Segment]]]], labels: Sequence[str]
) -> tuple[Exclusion, ...]:
    """Pairs of `labels` whose intervals never overlap in train although chance would have them overlap.

    `videos` are (duration_s, actions). The test of independence: in a video that has both labels, their intervals are
    placed at random by shifting one label's around the video's end; the share of shifts without an overlap is the
    chance that this video shows none. A pair excludes itself where at least 5 videos have both, none shows an overlap,
    and the product of these chances over the videos is below 1%. Intervals that only touch do not overlap; annotators'
    ends are rounded, so one grid step (0.25 s) at each end does not count either.
    """
    apart: dict[tuple[str, str], list[float]] = {}
    together: set[tuple[str, str]] = set()
    for duration_s, actions in videos:
        masks = _masks(duration_s, actions, set(labels))
        for pair in combinations(sorted(masks), 2):
            one, other = (masks[label] for label in pair)
            if (one & other).any():
                together.add(pair)
            else:
                apart.setdefault(pair, []).append(_share_of_shifts_apart(one, other))
    return tuple(
        Exclusion(first, second, len(shares), round(sum(1 - share for share in shares), 2))
        for (first, second), shares in sorted(apart.items())
        if (first, second) not in together and len(shares) >= _MIN_VIDEOS and math.prod(shares) < _MAX_P
    )


def _masks(
    duration_s: float, actions: Sequence[tuple[str, Segment]], labels: set[str]
) -> Mapping[str, npt.NDArray[np.bool_]]:
    """Which grid steps each label fills, its intervals shortened by a step at each end but never to nothing."""
    steps = max(1, round(duration_s / _STEP_S))
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    for label, segment in actions:
        if label not in labels:
            continue
        first, end = round(segment.start_s / _STEP_S) + 1, round(segment.end_s / _STEP_S) - 1
        if end <= first:
            first = round((segment.start_s + segment.end_s) / 2 / _STEP_S)
            end = first + 1
        masks.setdefault(label, np.zeros(steps, dtype=np.bool_))[min(first, steps - 1) : end] = True
    return masks


def _share_of_shifts_apart(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Of all circular shifts of `other`, the share in which it nowhere meets `one`."""
    overlaps = np.fft.irfft(np.fft.rfft(one.astype(float)).conj() * np.fft.rfft(other.astype(float)), n=len(one))
    return float((np.round(overlaps) == 0).mean())

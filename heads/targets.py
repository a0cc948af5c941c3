"""What a window or a video is to be recognised as. Knows times and labels; knows no annotation file and no model."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from features.video import Segment

_ROUNDING_S = 1e-6
"""Annotated times are decimals: 1.4 - 0.4 falls short of 1.0 by 1e-16."""


def window_targets(
    windows: Sequence[Segment],
    actions: Sequence[tuple[str, Segment]],
    labels: Sequence[str],
    *,
    min_overlap_s: float,
) -> npt.NDArray[np.bool_]:
    """Which labels each window of one video carries, (n_windows, n_labels).

    A window carries an action that overlaps it by at least `min_overlap_s`, or by half the action where that is
    shorter, and by more than nothing. Each interval is judged alone: two short ones of one label do not add up. Actions
    whose label is not in `labels` are ignored.
    """
    column = {label: i for i, label in enumerate(labels)}
    targets = np.zeros((len(windows), len(labels)), dtype=np.bool_)
    for label, action in actions:
        if label not in column:
            continue
        wanted_s = min(min_overlap_s, action.duration_s / 2) - _ROUNDING_S
        for row, window in enumerate(windows):
            overlap_s = window.overlap_s(action)
            if overlap_s > 0 and overlap_s >= wanted_s:
                targets[row, column[label]] = True
    return targets


def video_targets(present: Collection[str], labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which labels a video carries, (n_labels,): those `present` anywhere in it, with or without a usable time."""
    return np.array([label in present for label in labels], dtype=np.bool_)

"""What a window, its cell or a video is to be recognised as. Knows times and labels; no annotation file, no model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from features.video import Segment

_ROUNDING_S = 1e-6
"""Times that differ by less are the same time: annotated ones are decimals, windows' are sums of strides."""


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


def cell_targets(
    windows: Sequence[Segment],
    actions: Sequence[tuple[str, Segment]],
    labels: Sequence[str],
    *,
    stride_s: float,
) -> npt.NDArray[np.bool_]:
    """Which labels are on in the cell of each window of one video, (n_windows, n_labels).

    A label is on where one of its actions covers at least half of the cell, or where half of the action lies in the
    cell if the action is shorter. So an action that lies within an observed stretch is on in at least one cell. Windows
    are sorted. Actions whose label is not in `labels` are ignored.
    """
    column = {label: i for i, label in enumerate(labels)}
    targets = np.zeros((len(windows), len(labels)), dtype=np.bool_)
    cells = window_cells(windows, stride_s=stride_s)
    for label, action in actions:
        if label in column:
            for row, cell in enumerate(cells):
                wanted_s = min(cell.duration_s, action.duration_s) / 2 - _ROUNDING_S
                overlap_s = cell.overlap_s(action)
                targets[row, column[label]] |= overlap_s > 0 and overlap_s >= wanted_s
    return targets


def known_targets(
    segments: Sequence[Segment],
    is_on: npt.NDArray[np.bool_],
    judged: Sequence[tuple[str, Segment]],
    labels: Sequence[str],
) -> npt.NDArray[np.float16]:
    """Targets (n, L) of windows or cells that somebody judged in part: 1, 0, or nan where it is not known.

    A label that `is_on` (n, L) in a segment is known to be; else it is known to be off where the stretches in which it
    was `judged`, on or off, cover the whole segment. Labels that are not in `labels` are ignored.
    """
    targets = np.where(is_on, np.float16(1), np.float16(np.nan))
    for column, label in enumerate(labels):
        own = sorted(stretch for name, stretch in judged if name == label)
        for row, segment in enumerate(segments):
            if not is_on[row, column] and _covers(own, segment):
                targets[row, column] = 0
    return targets


def _covers(stretches: Sequence[Segment], segment: Segment) -> bool:
    """Whether the sorted stretches together cover all of the segment."""
    covered_s = segment.start_s
    for stretch in stretches:
        if stretch.start_s <= covered_s + _ROUNDING_S:
            covered_s = max(covered_s, stretch.end_s)
    return covered_s >= segment.end_s - _ROUNDING_S


def window_cells(windows: Sequence[Segment], *, stride_s: float) -> list[Segment]:
    """The time that each of the sorted windows speaks for: the stride around its centre. Cells never overlap.

    Cells of one observed stretch touch exactly, and tile it: the first one begins with its first window, the last one
    ends with its last. Two cells meet half a stride after the earlier window's centre, but never outside of what both
    windows cover: so a last, shorter window keeps the end to itself, and a missing window's time goes to its
    neighbours. A window inside another raises `ValueError`.
    """
    cells = []
    start_s: float | None = None
    for window, following in zip_longest(windows, windows[1:]):
        if start_s is None:
            start_s = window.start_s
        if following is not None and (following.start_s <= window.start_s or following.end_s <= window.end_s):
            raise ValueError(f"a window must not lie inside another, got {window} and {following}")
        if following is None or following.start_s > window.end_s + _ROUNDING_S:
            cells.append(Segment(start_s, window.end_s))
            start_s = None
        else:
            centre_s = (window.start_s + window.end_s) / 2
            meet_s = max(min(centre_s + stride_s / 2, window.end_s), following.start_s)
            cells.append(Segment(start_s, meet_s))
            start_s = meet_s
    return cells


def video_targets(present: Collection[str], labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which labels a video carries, (n_labels,): those `present` anywhere in it, with or without a usable time."""
    return np.array([label in present for label in labels], dtype=np.bool_)

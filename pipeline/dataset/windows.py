"""Subsets of windows, where there is no room for all of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from features.video import WindowPlan
from pipeline.dataset.manifest import SPLITS, Manifest


def spread_windows(num_windows: Mapping[str, int], count: int) -> dict[str, frozenset[int]]:
    """Up to `count` windows, evenly over videos (sorted by id) and their times; by video id, numbered from 0.

    Videos without a selected window are left out. All windows are selected where there are at most `count`.
    """
    video_ids = sorted(num_windows)
    ends = np.cumsum([num_windows[video_id] for video_id in video_ids], dtype=np.int64)
    total = int(ends[-1]) if video_ids else 0
    rows = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
    selected: dict[str, set[int]] = {}
    for row, position in zip(rows.tolist(), np.searchsorted(ends, rows, side="right").tolist(), strict=True):
        video_id = video_ids[position]
        selected.setdefault(video_id, set()).add(row - int(ends[position]) + num_windows[video_id])
    return {video_id: frozenset(numbers) for video_id, numbers in selected.items()}


def block_input_windows(
    videos: Manifest, plan: WindowPlan, *, num_clips: int, evaluate_windows: int
) -> dict[str, frozenset[int]]:
    """Up to `num_clips` windows whose block inputs are stored, by video id; stated lengths give the windows there are.

    Those of them that turn out to lie in a pause, or past the end, are not stored.

    First come the val windows that stage 2 is evaluated on, then train, then the rest of val and test: each evenly
    over videos and times. A video that is far longer than most counts as ten of them.
    """
    counts = {
        split: {video.video_id: plan.num_windows(video.length_s) for video in videos.split(split)} for split in SPLITS
    }
    selected: dict[str, frozenset[int]] = {}
    for candidates, limit in (
        (counts["val"], evaluate_windows),
        (counts["train"], num_clips),
        (counts["val"] | counts["test"], num_clips),
    ):
        room = num_clips - sum(map(len, selected.values()))
        added = _spread_fairly(candidates, min(limit, room)) if room > 0 else {}
        selected |= {video_id: selected.get(video_id, frozenset()) | windows for video_id, windows in added.items()}
    return selected


def _spread_fairly(num_windows: Mapping[str, int], count: int) -> dict[str, frozenset[int]]:
    """`spread_windows`, but that a video counts for at most ten of the median length where there is no room for all."""
    count = min(count, sum(num_windows.values()))
    most = 10 * sorted(num_windows.values())[len(num_windows) // 2] if num_windows else 0
    while sum(min(number, most) for number in num_windows.values()) < count:
        most = 2 * most + 1
    shares = {video_id: min(number, most) for video_id, number in num_windows.items()}
    return {
        video_id: frozenset(place * num_windows[video_id] // shares[video_id] for place in places)
        for video_id, places in spread_windows(shares, count).items()
    }

"""Which of many windows are taken where there is no room for all. Knows how many each video has; knows no label."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from features.video import WindowPlan
from pipeline.dataset.manifest import SPLITS, Manifest


def spread_windows(num_windows: Mapping[str, int], count: int) -> dict[str, frozenset[int]]:
    """Up to `count` of the windows that videos have, evenly over all videos, sorted by id, and over their times.

    Numbers are within each video, from 0; a video of which none is chosen is left out. All are chosen where they are
    no more than `count`.
    """
    video_ids = sorted(num_windows)
    ends = np.cumsum([num_windows[video_id] for video_id in video_ids], dtype=np.int64)
    total = int(ends[-1]) if video_ids else 0
    rows = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
    chosen: dict[str, set[int]] = {}
    for row, position in zip(rows.tolist(), np.searchsorted(ends, rows, side="right").tolist(), strict=True):
        video_id = video_ids[position]
        chosen.setdefault(video_id, set()).add(row - int(ends[position]) + num_windows[video_id])
    return {video_id: frozenset(numbers) for video_id, numbers in chosen.items()}


def windows_to_keep(
    videos: Manifest, plan: WindowPlan, *, num_clips: int, evaluate_windows: int
) -> dict[str, frozenset[int]]:
    """Up to `num_clips` windows whose tokens are kept, by video and number, going by the lengths that are stated.

    First those of val that stage 2 is evaluated on, then train's, then what is left of val and test: each evenly over
    videos and times.
    """
    stated = {split: {v.video_id: plan.num_windows(v.length_s) for v in videos.split(split)} for split in SPLITS}
    chosen: dict[str, frozenset[int]] = {}
    for counts, most in (
        (stated["val"], evaluate_windows),
        (stated["train"], num_clips),
        (stated["val"] | stated["test"], num_clips),
    ):
        room = num_clips - sum(map(len, chosen.values()))
        some = spread_windows(counts, min(most, room)) if room > 0 else {}
        chosen |= {video_id: chosen.get(video_id, frozenset()) | numbers for video_id, numbers in some.items()}
    return chosen

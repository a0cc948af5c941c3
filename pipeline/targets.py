"""Targets for stored windows: the manifest's actions joined with the store's rows, by video id and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from features.store import Embeddings
from features.video import Segment
from heads.targets import video_targets, window_targets
from pipeline.manifest import Manifest


@dataclass(frozen=True)
class SplitTargets:
    """A split's windows that were embedded, and what is true of them.

    `windows` (n, L) in the order of `embeddings`, `videos` (n_videos, L) in the order of `video_ids`, sorted.
    """

    embeddings: Embeddings
    windows: npt.NDArray[np.bool_]
    video_ids: tuple[str, ...]
    videos: npt.NDArray[np.bool_]

    @cached_property
    def num_windows(self) -> dict[str, int]:
        """How many windows each video has."""
        return {video_id: int((self.embeddings.video_ids == video_id).sum()) for video_id in self.video_ids}

    @cached_property
    def _row_of(self) -> dict[tuple[str, float], int]:
        return {key: row for row, key in enumerate(self.embeddings.keys)}

    def target_of(self, video_id: str, start_s: float) -> npt.NDArray[np.bool_]:
        """A window's targets (L,); a window that is not among the embedded ones raises `KeyError`."""
        return self.windows[self._row_of[video_id, start_s]]

    def spread(self, count: int) -> dict[str, frozenset[int]]:
        """Up to `count` windows, evenly over all videos and times: their numbers within each video, from 0."""
        rows = np.unique(np.linspace(0, len(self.windows) - 1, min(count, len(self.windows))).round().astype(int))
        first = {video_id: self._row_of[video_id, 0.0] for video_id in self.video_ids}
        chosen: dict[str, set[int]] = {}
        for row in rows.tolist():
            video_id = str(self.embeddings.video_ids[row])
            chosen.setdefault(video_id, set()).add(row - first[video_id])
        return {video_id: frozenset(numbers) for video_id, numbers in chosen.items()}


def split_targets(
    embeddings: Embeddings, manifest: Manifest, split: str, labels: Sequence[str], *, min_overlap_s: float
) -> SplitTargets:
    """The split's videos that are in the store, with their targets; those that failed in `extract` are left out."""
    stored = set(embeddings.video_ids.tolist())
    video_ids = tuple(video.video_id for video in manifest.split(split) if video.video_id in stored)
    rows = embeddings.select(video_ids)
    windows = np.zeros((len(rows), len(labels)), dtype=np.bool_)
    for video_id in video_ids:
        mine = np.flatnonzero(rows.video_ids == video_id)
        segments = [Segment(rows.start_s[k], rows.end_s[k]) for k in mine]
        actions = manifest.by_id[video_id].actions
        windows[mine] = window_targets(segments, actions, labels, min_overlap_s=min_overlap_s)
    videos = [video_targets(manifest.by_id[video_id].classes, labels) for video_id in video_ids]
    return SplitTargets(rows, windows, video_ids, np.array(videos, dtype=np.bool_).reshape(-1, len(labels)))

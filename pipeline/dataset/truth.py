"""Targets for stored windows: the manifest's actions joined with the store's rows, by video id and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from features.store.embeddings import Embeddings
from features.video import Segment
from heads.targets import video_targets, window_targets
from pipeline.dataset.manifest import Action, Manifest
from pipeline.dataset.windows import spread_windows


@dataclass(frozen=True)
class SplitTargets:
    """The windows of the split `name` that were embedded, and what is true of them.

    `windows` (n, L) in the order of `embeddings`, `videos` (n_videos, L) in the order of `video_ids`, sorted. `actions`
    by video, `labels` (L,) and `min_overlap_s` are what any other stretch of these videos is judged by.
    """

    name: str
    embeddings: Embeddings
    windows: npt.NDArray[np.bool_]
    video_ids: tuple[str, ...]
    videos: npt.NDArray[np.bool_]
    actions: Mapping[str, Sequence[Action]]
    labels: tuple[str, ...]
    min_overlap_s: float

    @cached_property
    def num_windows(self) -> dict[str, int]:
        """How many windows each video has."""
        found = np.unique(self.embeddings.video_ids, return_counts=True)
        return dict(zip(*(each.tolist() for each in found), strict=True))

    @cached_property
    def _first_row(self) -> dict[str, int]:
        return dict(zip(self.video_ids, np.cumsum([0, *self.num_windows.values()])[:-1].tolist(), strict=True))

    def target_at(self, video_id: str, window: int) -> npt.NDArray[np.bool_]:
        """The targets (L,) of a video's embedded window by its number, from 0; one that there is not: `KeyError`."""
        if not 0 <= window < self.num_windows[video_id]:
            raise KeyError(f"video {video_id} has {self.num_windows[video_id]} windows, and none with number {window}")
        return self.windows[self._first_row[video_id] + window]

    def target_of(self, video_id: str, segment: Segment) -> npt.NDArray[np.bool_]:
        """The targets (L,) of a stretch of a video, whether or not it is one of the embedded windows."""
        actions = self.actions[video_id]
        return window_targets([segment], actions, self.labels, min_overlap_s=self.min_overlap_s)[0]

    def spread(self, count: int, *, among: Mapping[str, Sequence[int]]) -> dict[str, frozenset[int]]:
        """Up to `count` windows, evenly over this split's videos and their times, by the rule of `spread_windows`.

        `among` says by video id the numbers, ascending, of those that may be chosen; it may name other videos as well.
        """
        mine = {video_id: among[video_id] for video_id in self.video_ids if video_id in among}
        places = spread_windows({video_id: len(numbers) for video_id, numbers in mine.items()}, count)
        return {video_id: frozenset(mine[video_id][k] for k in chosen) for video_id, chosen in places.items()}


def split_targets(
    embeddings: Embeddings, manifest: Manifest, split: str, labels: Sequence[str], *, min_overlap_s: float
) -> SplitTargets:
    """The split's videos that are in the store, with their targets; those that failed in `extract` are left out."""
    stored = set(embeddings.video_ids.tolist())
    video_ids = tuple(video.video_id for video in manifest.split(split) if video.video_id in stored)
    rows = embeddings.select(video_ids)
    actions = {video_id: manifest.by_id[video_id].actions for video_id in video_ids}
    windows = np.zeros((len(rows), len(labels)), dtype=np.bool_)
    for video_id in video_ids:
        mine = np.flatnonzero(rows.video_ids == video_id)
        segments = [Segment(rows.start_s[k], rows.end_s[k]) for k in mine]
        windows[mine] = window_targets(segments, actions[video_id], labels, min_overlap_s=min_overlap_s)
    videos = np.array(
        [video_targets(manifest.by_id[video_id].classes, labels) for video_id in video_ids], dtype=np.bool_
    ).reshape(-1, len(labels))
    return SplitTargets(split, rows, windows, video_ids, videos, actions, tuple(labels), min_overlap_s)

"""What is true of stored windows: the manifest's actions joined with the rows of the store, by video id."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.store.embeddings import Embeddings, read_embeddings
from features.video import Segment
from heads.predictions import rows_by_video
from heads.targets import cell_targets, video_targets, window_targets
from pipeline.dataset.manifest import Action, Manifest
from pipeline.dataset.windows import spread_windows


class NothingToLearn(Exception):
    """A split has no embedded video, train or val no window with a label of the label set, or no correction teaches."""


@dataclass(frozen=True)
class SplitTruth:
    """The embedded windows of the split `name` and their targets.

    `windows` (n, L) is in the order of `embeddings`, `videos` (n_videos, L) in the order of `video_ids`, sorted.
    `actions`, by video id, with `labels` (L,) and `min_overlap_s` give the targets of any other segment.
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
    def windows_of(self) -> dict[str, tuple[int, ...]]:
        """The numbers of each video's embedded windows, ascending."""
        windows: dict[str, list[int]] = {video_id: [] for video_id in self.video_ids}
        for video_id, window in self.embeddings.keys:
            windows[video_id].append(window)
        return {video_id: tuple(numbers) for video_id, numbers in windows.items()}

    @cached_property
    def _row_of(self) -> dict[tuple[str, int], int]:
        return {key: row for row, key in enumerate(self.embeddings.keys)}

    def cells(self, *, stride_s: float) -> npt.NDArray[np.bool_]:
        """Which labels are on in each embedded window's cell, (n, L), in the order of `embeddings`."""
        cells = np.zeros_like(self.windows)
        for video_id, own, segments in _segments_by_video(self.embeddings):
            cells[own] = cell_targets(segments, self.actions[video_id], self.labels, stride_s=stride_s)
        return cells

    def target_at(self, video_id: str, window: int) -> npt.NDArray[np.bool_]:
        """The targets (L,) of an embedded window; `KeyError` for any other."""
        return self.windows[self._row_of[video_id, window]]

    def target_of(self, video_id: str, segment: Segment) -> npt.NDArray[np.bool_]:
        """The targets (L,) of a segment of a video, whether or not it is an embedded window."""
        actions = self.actions[video_id]
        return window_targets([segment], actions, self.labels, min_overlap_s=self.min_overlap_s)[0]

    def spread(self, count: int, *, among: Mapping[str, Sequence[int]]) -> dict[str, frozenset[int]]:
        """Up to `count` windows of this split, by video id, evenly over videos and times (`spread_windows`).

        `among` has the candidates, by video id and ascending; other splits' videos in it are ignored.
        """
        candidates = {video_id: among[video_id] for video_id in self.video_ids if video_id in among}
        places = spread_windows({video_id: len(windows) for video_id, windows in candidates.items()}, count)
        return {
            video_id: frozenset(candidates[video_id][place] for place in selected)
            for video_id, selected in places.items()
        }


def read_splits(
    store: Path,
    manifest: Manifest,
    splits: Sequence[str],
    labels: Sequence[str],
    *,
    poolings: Sequence[str],
    min_overlap_s: float,
) -> tuple[list[SplitTruth], dict[str, Any]]:
    """`split_truth` of each split of the embeddings in `store`, of which only their rows of `poolings` are in memory.

    With them the store's provenance. Raises `NothingToLearn` or `StoreError`.
    """
    truths: list[SplitTruth] = []
    provenance: dict[str, Any] = {}
    for split in splits:
        video_ids = [video.video_id for video in manifest.split(split)]
        embeddings, provenance = read_embeddings(store, poolings=poolings, video_ids=video_ids)
        truths.append(split_truth(embeddings, manifest, split, labels, min_overlap_s=min_overlap_s))
    return truths, provenance


def split_truth(
    embeddings: Embeddings, manifest: Manifest, split: str, labels: Sequence[str], *, min_overlap_s: float
) -> SplitTruth:
    """The targets of the split's embedded videos; videos that failed in `extract` are left out.

    Raises `NothingToLearn`, since without windows or without positives neither a model nor a threshold can be chosen.
    """
    stored = set(embeddings.video_ids.tolist())
    video_ids = [video.video_id for video in manifest.split(split) if video.video_id in stored]
    if not video_ids:
        raise NothingToLearn(f"no video of {split} has been embedded: failed.csv beside the embeddings says why")
    actions = {video_id: manifest.by_id[video_id].actions for video_id in video_ids}
    classes = {video_id: manifest.by_id[video_id].classes for video_id in video_ids}
    truth = _truth(split, embeddings, actions, classes, labels, min_overlap_s=min_overlap_s)
    if split != "test" and not truth.windows.any():
        raise NothingToLearn(
            f"none of {len(truth.windows)} windows of {split} has one of the {len(labels)} labels of the label set: "
            f"take labels that {split} shows, as facts.json counts them"
        )
    return truth


def recording_truth(
    embeddings: Embeddings,
    actions: Mapping[str, Sequence[Action]],
    split: str,
    labels: Sequence[str],
    *,
    min_overlap_s: float,
) -> SplitTruth:
    """The targets of recordings with these actions, by id, sorted; there may be none."""
    classes = {recording_id: {action.label for action in own} for recording_id, own in actions.items()}
    return _truth(f"{split} recordings", embeddings, actions, classes, labels, min_overlap_s=min_overlap_s)


def _truth(
    name: str,
    embeddings: Embeddings,
    actions: Mapping[str, Sequence[Action]],
    classes: Mapping[str, Collection[str]],
    labels: Sequence[str],
    *,
    min_overlap_s: float,
) -> SplitTruth:
    video_ids = tuple(actions)
    rows = embeddings.select(video_ids)
    windows = np.zeros((len(rows), len(labels)), dtype=np.bool_)
    for video_id, own, segments in _segments_by_video(rows):
        windows[own] = window_targets(segments, actions[video_id], labels, min_overlap_s=min_overlap_s)
    videos = np.array([video_targets(classes[video_id], labels) for video_id in video_ids], dtype=np.bool_).reshape(
        -1, len(labels)
    )
    return SplitTruth(name, rows, windows, video_ids, videos, actions, tuple(labels), min_overlap_s)


def _segments_by_video(embeddings: Embeddings) -> Iterator[tuple[str, slice, list[Segment]]]:
    """Each video's id, its rows and their times."""
    for video_id, own in rows_by_video(embeddings.video_ids).items():
        times = zip(embeddings.start_s[own], embeddings.end_s[own], strict=True)
        yield video_id, own, [Segment(start_s, end_s) for start_s, end_s in times]

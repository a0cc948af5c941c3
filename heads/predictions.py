"""A model's probabilities for every window, and the targets. Knows keys and arrays, no model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.files import atomic_file
from features.sealed import damage_told


def rows_by_video(video_ids: npt.NDArray[np.str_]) -> dict[str, slice]:
    """The rows of each video, of the sorted `video_ids` (n,) of all rows."""
    names, firsts, counts = np.unique(video_ids, return_index=True, return_counts=True)
    return {
        name: slice(first, first + count)
        for name, first, count in zip(names.tolist(), firsts.tolist(), counts.tolist(), strict=True)
    }


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities and targets of n windows of n_videos videos, for L labels.

    Rows are keyed by `video_ids` (n,) and `window` (n,), unique and sorted; [`start_s`, `end_s`) (n,) are the windows'
    times. `probabilities` (n, L) lie in [0, 1], `targets` are (n, L). `videos` (n_videos,), unique and sorted, names
    exactly the videos that have windows and keys `video_targets` (n_videos, L): a label may count for a video and for
    none of its windows, never the reverse. `model_sha256` is the model's, where it is known. `distances` (n,) are how
    far the windows are from what it was trained on; (0,) where nobody knows.
    """

    labels: tuple[str, ...]
    video_ids: npt.NDArray[np.str_]
    window: npt.NDArray[np.int32]
    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float32]
    targets: npt.NDArray[np.bool_]
    videos: npt.NDArray[np.str_]
    video_targets: npt.NDArray[np.bool_]
    model_sha256: str = ""
    distances: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty(0, dtype=np.float32))

    def __post_init__(self) -> None:
        n, n_videos, n_labels = len(self.video_ids), len(self.videos), len(self.labels)
        expected: dict[str, tuple[str, tuple[int, ...]]] = {
            "video_ids": ("U", (n,)),
            "window": ("i", (n,)),
            "start_s": ("f", (n,)),
            "end_s": ("f", (n,)),
            "probabilities": ("f", (n, n_labels)),
            "targets": ("b", (n, n_labels)),
            "videos": ("U", (n_videos,)),
            "video_targets": ("b", (n_videos, n_labels)),
            "distances": ("f", (n if len(self.distances) else 0,)),
        }
        for name, (kind, shape) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype.kind != kind:
                raise ValueError(f"{name} must be {shape} of kind {kind!r}, got {array.shape} {array.dtype}")
        if n_labels == 0 or len(set(self.labels)) != n_labels:
            raise ValueError(f"predictions need unique labels, got {self.labels}")
        if not (np.isfinite(self.start_s).all() and (self.start_s < self.end_s).all()):
            raise ValueError("every window must end after it starts")
        same_video = self.video_ids[1:] == self.video_ids[:-1]
        ascending = (self.video_ids[1:] > self.video_ids[:-1]) | (same_video & (self.window[1:] > self.window[:-1]))
        if not ascending.all():
            row = int(np.argmin(ascending)) + 1
            raise ValueError(
                f"keys must be unique and sorted by (video_id, window); row {row} is {self._key(row)} "
                f"after {self._key(row - 1)}"
            )
        if not np.array_equal(self.videos, np.unique(self.video_ids)):
            in_one_only = sorted(set(self.videos.tolist()) ^ set(self.video_ids.tolist()))
            raise ValueError(
                f"videos must name, sorted, exactly the videos that have windows; not in both: {in_one_only}"
            )
        if not ((self.probabilities >= 0) & (self.probabilities <= 1)).all():  # nan fails both
            row = int(np.argmin(((self.probabilities >= 0) & (self.probabilities <= 1)).all(axis=1)))
            raise ValueError(f"probabilities must lie in [0, 1]; row {row}, {self._key(row)}, does not")
        if n and (self._maximum_by_video(self.targets) & ~self.video_targets).any():
            raise ValueError("a window carries a label that its video does not")

    def __repr__(self) -> str:
        return f"Predictions({len(self.video_ids)} windows, {len(self.videos)} videos, {len(self.labels)} labels)"

    def _key(self, row: int) -> tuple[str, int]:
        return str(self.video_ids[row]), int(self.window[row])

    def _maximum_by_video(self, rows: npt.NDArray) -> npt.NDArray:
        return np.maximum.reduceat(rows, np.unique(self.video_ids, return_index=True)[1], axis=0)

    def by_video(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Probabilities and targets (n_videos, L), in the order of `videos`.

        A video's probability for a label is the maximum over its windows.
        """
        return self._maximum_by_video(self.probabilities), self.video_targets

    def save(self, path: Path) -> None:
        """Write an .npz; the same predictions give the same bytes."""
        # None of these arrays can hold objects, so none is pickled: __post_init__ checked their kinds.
        arrays: dict[str, Any] = {
            column.name: np.asarray(getattr(self, column.name)) for column in dataclasses.fields(self)
        }
        with atomic_file(path, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what `save` wrote and check it again. Raises `DamagedFile`, or `FileNotFoundError`."""
        with damage_told(path, remedy="run `dvc repro predict`"):
            with np.load(path, allow_pickle=False) as file:
                arrays = {column.name: file[column.name] for column in dataclasses.fields(cls)}
            labels, model_sha256 = tuple(arrays["labels"].tolist()), str(arrays["model_sha256"])
            return cls(**arrays | {"labels": labels, "model_sha256": model_sha256})

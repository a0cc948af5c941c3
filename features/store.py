"""Embeddings on disk. Knows video ids and times; knows nothing of labels.

A store is one Zarr v3 group, complete or not there: it is written beside its place, its attributes last, and then
renamed. The same rows give the same bytes, in whatever order they arrive.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from features.video import Segment

Vector = npt.NDArray[np.float16]

_CHUNK_ROWS = 8192  # whole-array reads at 1.1-1.4 times a plain memory copy; one-row chunks are 400 times slower
_VIDEO_IDS, _NUM_ROWS, _METADATA = "video_ids", "num_rows", "metadata"
_DESCRIPTION = (
    "Embeddings of video windows, one row a window, rows sorted by (video id, start_s), which is unique. "
    "`video` is a row's index into the attribute `video_ids`. [start_s, end_s) is the stretch of the video that the "
    "window really covers, in seconds from the first shown frame; its last `num_padded` frames repeat the frame "
    "before. `vectors/<pooling>` is float16 (num_rows, D). `metadata` is the writer's: what made these embeddings. "
    "The attributes are written last: a group without `num_rows` is incomplete."
)


class StoreError(Exception):
    """A store is missing, incomplete, or does not hold what was asked of it."""


@dataclass(frozen=True, eq=False)
class Row:
    """One window's embeddings: a vector (D,) float16 for each pooling; never with a nan or an infinity in it."""

    video_id: str
    segment: Segment
    num_padded: int
    vectors: Mapping[str, Vector]

    def __post_init__(self) -> None:
        for pooling, vector in self.vectors.items():
            if vector.ndim != 1 or vector.dtype != np.float16:
                raise ValueError(f"{self} {pooling}: a vector is (D,) float16, got {vector.shape} {vector.dtype}")
            num_bad = int(np.count_nonzero(~np.isfinite(vector)))
            if num_bad:
                raise ValueError(f"{self} {pooling}: {num_bad} of {vector.size} values are not finite in float16")

    def __str__(self) -> str:
        return f"video {self.video_id}, window at {self.segment.start_s:g} s"

    @property
    def key(self) -> tuple[str, float]:
        return self.video_id, self.segment.start_s


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Windows and their embeddings, in memory, sorted by their key (video id, start_s), which is unique.

    `video_ids` (n,) str; `start_s`, `end_s` (n,) float64; `num_padded` (n,) int32; `vectors` by pooling (n, D) float16.
    """

    video_ids: npt.NDArray[np.str_]
    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    num_padded: npt.NDArray[np.int32]
    vectors: Mapping[str, npt.NDArray[np.float16]]

    def __post_init__(self) -> None:
        n = len(self.video_ids)
        lengths = {name: len(getattr(self, name)) for name in ("start_s", "end_s", "num_padded")}
        lengths |= {name: len(vectors) for name, vectors in self.vectors.items()}
        wrong = {name: length for name, length in lengths.items() if length != n}
        if wrong:
            raise ValueError(f"{n} video ids do not fit {wrong}")
        before, after = self.video_ids[:-1], self.video_ids[1:]
        rising = (before < after) | ((before == after) & (self.start_s[:-1] < self.start_s[1:]))
        if not rising.all():
            i = int(np.argmin(rising))
            raise ValueError(f"keys are unique and sorted, got {self.keys[i]} before {self.keys[i + 1]}")

    def __len__(self) -> int:
        return len(self.video_ids)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {vectors.shape}" for name, vectors in self.vectors.items())
        return f"Embeddings({len(self)} windows of {len(np.unique(self.video_ids))} videos; {shapes})"

    @property
    def keys(self) -> list[tuple[str, float]]:
        return list(zip(self.video_ids.tolist(), self.start_s.tolist(), strict=True))

    def select(self, video_ids: Collection[str]) -> Embeddings:
        """All windows of these videos; a video without any raises, so leave the failed ones out by name."""
        missing = sorted(set(video_ids) - set(self.video_ids.tolist()))
        if missing:
            shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            raise StoreError(f"{len(missing)} of {len(set(video_ids))} videos have no embeddings: {shown}")
        chosen = np.isin(self.video_ids, np.array(sorted(video_ids), dtype=np.str_))
        return Embeddings(
            video_ids=self.video_ids[chosen],
            start_s=self.start_s[chosen],
            end_s=self.end_s[chosen],
            num_padded=self.num_padded[chosen],
            vectors={pooling: vectors[chosen] for pooling, vectors in self.vectors.items()},
        )

    def features(self, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """The named poolings side by side in the order asked for, (n, D * len(names)) float32."""
        unknown = [name for name in names if name not in self.vectors]
        if unknown or not names:
            raise StoreError(f"no pooling {', '.join(unknown) or 'was named'}; stored are {', '.join(self.vectors)}")
        return np.concatenate([self.vectors[name] for name in names], axis=1, dtype=np.float32)


def write(path: Path, rows: Iterable[Row], *, attributes: Mapping[str, Any]) -> int:
    """Write all rows as the store at `path`, in place of any that is there, and return how many they were.

    `attributes` says what made the embeddings, in JSON's types. A double key, rows with unlike vectors, and no rows
    at all raise; whatever raises, also among `rows`, leaves an earlier store as it was.
    """
    ordered = sorted(rows, key=lambda row: row.key)
    _check_alike(ordered)
    metadata = json.loads(json.dumps(dict(attributes), sort_keys=True, allow_nan=False))
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)

    group = zarr.create_group(store=partial, zarr_format=3)
    video_ids, video = np.unique(np.array([row.video_id for row in ordered], dtype=np.str_), return_inverse=True)
    columns: dict[str, npt.NDArray[Any]] = {
        "video": video.astype(np.int32),
        "start_s": np.array([row.segment.start_s for row in ordered], dtype=np.float64),
        "end_s": np.array([row.segment.end_s for row in ordered], dtype=np.float64),
        "num_padded": np.array([row.num_padded for row in ordered], dtype=np.int32),
    }
    for name, values in columns.items():
        _create(group, name, shape=values.shape, dtype=values.dtype)[:] = values
    for pooling, vector in sorted(ordered[0].vectors.items()):
        array = _create(group, f"vectors/{pooling}", shape=(len(ordered), len(vector)), dtype=vector.dtype)
        for start in range(0, len(ordered), _CHUNK_ROWS):
            some = ordered[start : start + _CHUNK_ROWS]
            array[start : start + len(some)] = np.stack([row.vectors[pooling] for row in some])
    group.update_attributes(
        {
            "description": _DESCRIPTION,
            _METADATA: metadata,
            _VIDEO_IDS: video_ids.tolist(),
            _NUM_ROWS: len(ordered),
        }
    )

    if path.exists():
        shutil.rmtree(path)
    partial.rename(path)
    return len(ordered)


def read(path: Path) -> tuple[Embeddings, dict[str, Any]]:
    """All of a store, loaded into memory once, and the attributes that its writer gave."""
    if not path.is_dir():
        raise StoreError(f"there are no embeddings at {path}: run the stage that writes them")
    try:
        group = zarr.open_group(store=path, mode="r", zarr_format=3)
        stored = dict(group.attrs)
        if _NUM_ROWS not in stored:
            raise StoreError(f"the embeddings at {path} are incomplete: their attributes were never written")
        num_rows = int(stored[_NUM_ROWS])
        embeddings = Embeddings(
            video_ids=np.array(stored[_VIDEO_IDS], dtype=np.str_)[_load(group["video"], num_rows)],
            start_s=_load(group["start_s"], num_rows),
            end_s=_load(group["end_s"], num_rows),
            num_padded=_load(group["num_padded"], num_rows),
            vectors={name: _load(array, num_rows) for name, array in sorted(group["vectors"].arrays())},
        )
    except (OSError, KeyError, IndexError, ValueError) as error:
        raise StoreError(f"the embeddings at {path} are incomplete or damaged: {error}") from error
    return embeddings, stored[_METADATA]


def _create(group: zarr.Group, name: str, *, shape: tuple[int, ...], dtype: npt.DTypeLike) -> zarr.Array:
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(min(_CHUNK_ROWS, shape[0]), *shape[1:]),
        filters=None,
        compressors=None,
        # Zarr leaves a chunk of zeros out by default, and then nobody can tell it from one that was lost.
        config={"write_empty_chunks": True},
    )


def _load(array: zarr.Array, num_rows: int) -> npt.NDArray[Any]:
    if array.shape[0] != num_rows:
        raise ValueError(f"{array.name} has {array.shape[0]} rows, not {num_rows}")
    if array.nchunks_initialized != array.nchunks:
        raise ValueError(f"{array.name} has {array.nchunks_initialized} of its {array.nchunks} chunks")
    return np.asarray(array[:])


def _check_alike(ordered: Sequence[Row]) -> None:
    if not ordered:
        raise StoreError("no window was embedded, so there is nothing to store")
    first = {pooling: len(vector) for pooling, vector in ordered[0].vectors.items()}
    for before, row in pairwise(ordered):
        if row.key == before.key:
            raise StoreError(f"{row}: embedded twice")
        sizes = {pooling: len(vector) for pooling, vector in row.vectors.items()}
        if sizes != first:
            raise StoreError(f"{row}: vectors of sizes {sizes}, but {first} in {ordered[0]}")

"""Embeddings on disk. Knows video ids and times; knows nothing of labels.

A store is one Zarr v3 group, complete or not there: it is written beside its place, its attributes last, and then
renamed. The same windows give the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

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
class VideoEmbeddings:
    """One video's windows and their embeddings, in order of time, without saying which video it is.

    `start_s`, `end_s` (n,) float64; `num_padded` (n,) int32; `vectors` by pooling (n, D) float16. n may be 0.
    """

    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    num_padded: npt.NDArray[np.int32]
    vectors: Mapping[str, npt.NDArray[np.float16]]

    def __post_init__(self) -> None:
        columns: dict[str, npt.NDArray[Any]] = {
            "start_s": self.start_s,
            "end_s": self.end_s,
            "num_padded": self.num_padded,
        }
        n = len(self.start_s)
        wrong = {name: column.shape for name, column in columns.items() if column.shape != (n,)}
        wrong |= {name: each.shape for name, each in self.vectors.items() if each.ndim != 2 or len(each) != n}
        if wrong:
            raise ValueError(f"{n} windows do not fit {wrong}")
        if not (self.start_s[:-1] < self.start_s[1:]).all() or not (self.start_s < self.end_s).all():
            raise ValueError(f"windows ascend and are not empty, got {self.start_s.tolist()} to {self.end_s.tolist()}")
        for pooling, each in self.vectors.items():
            if each.dtype != np.float16:
                raise ValueError(f"{pooling}: vectors are float16, got {each.dtype}")

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def sizes(self) -> dict[str, int]:
        """How long the vectors of each pooling are."""
        return {pooling: each.shape[1] for pooling, each in sorted(self.vectors.items())}

    def not_finite(self) -> str | None:
        """Where the first nan or infinity stands, in words; None where there is none, as in all that is stored."""
        for pooling, each in sorted(self.vectors.items()):
            num_bad = np.count_nonzero(~np.isfinite(each), axis=1)
            if num_bad.any():
                row = int(np.argmax(num_bad > 0))
                at_s = self.start_s[row]
                return f"window at {at_s:g} s, {pooling}: {num_bad[row]} of {each.shape[1]} values in float16"
        return None


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


def write(
    path: Path, num_windows: Mapping[str, int], load: Callable[[str], VideoEmbeddings], *, attributes: Mapping[str, Any]
) -> None:
    """Write the store at `path`, in place of any that is there: of each video as many windows as `num_windows` says.

    `load` gives one video's, and is called once for each in the order of their ids; a chunk of rows and one video are
    in memory at a time. `attributes` says what made the embeddings, in JSON's types. Videos with unlike vectors, and
    no window at all raise; whatever raises, also in `load`, leaves an earlier store as it was.
    """
    video_ids = sorted(video_id for video_id, count in num_windows.items() if count)
    num_rows = sum(num_windows.values())
    if not num_rows:
        raise StoreError("no window was embedded, so there is nothing to store")
    metadata = json.loads(json.dumps(dict(attributes), sort_keys=True, allow_nan=False))
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)

    group = zarr.create_group(store=partial, zarr_format=3)
    written = _Columns(group, num_rows)
    first: VideoEmbeddings | None = None
    for number, video_id in enumerate(video_ids):
        video = load(video_id)
        first = first or video
        fault = video.not_finite()
        if fault or video.sizes != first.sizes or len(video) != num_windows[video_id]:
            raise StoreError(
                f"video {video_id}: " + (fault or f"{len(video)} windows with vectors of sizes {video.sizes}, where "
                f"{num_windows[video_id]} and {first.sizes} are wanted")
            )  # fmt: skip
        written.append(
            {
                "video": np.full(len(video), number, dtype=np.int32),
                "start_s": video.start_s,
                "end_s": video.end_s,
                "num_padded": video.num_padded,
                **{f"vectors/{pooling}": each for pooling, each in sorted(video.vectors.items())},
            }
        )
    written.flush()
    group.update_attributes(
        {"description": _DESCRIPTION, _METADATA: metadata, _VIDEO_IDS: video_ids, _NUM_ROWS: num_rows}
    )
    put_in_place(partial, path)


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


class _Columns:
    """Arrays of a group that grow together, `num_rows` long in the end; written a chunk at a time."""

    def __init__(self, group: zarr.Group, num_rows: int) -> None:
        self._group, self._num_rows = group, num_rows
        self._held: dict[str, list[npt.NDArray[Any]]] = {}
        self._num_held = self._num_written = 0
        self._arrays: dict[str, zarr.Array] = {}

    def append(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        for name, values in columns.items():
            self._held.setdefault(name, []).append(values)
        self._num_held += len(next(iter(columns.values())))
        while self._num_held >= _CHUNK_ROWS:
            self._write(_CHUNK_ROWS)

    def flush(self) -> None:
        self._write(self._num_held)

    def _write(self, count: int) -> None:
        for name, parts in self._held.items():
            values = np.concatenate(parts)
            if name not in self._arrays:
                shape = (self._num_rows, *values.shape[1:])
                self._arrays[name] = _create(self._group, name, shape=shape, dtype=values.dtype)
            self._arrays[name][self._num_written : self._num_written + count] = values[:count]
            self._held[name] = [values[count:]]
        self._num_written += count
        self._num_held -= count


def put_in_place(partial: Path, path: Path) -> None:
    """Make what is written completely the folder at `path`. A kill in between leaves neither, and `partial` whole."""
    if path.exists():
        shutil.rmtree(path)
    partial.rename(path)


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

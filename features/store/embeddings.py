"""Embeddings on disk and in memory, keyed by (video id, window).

Stores know video ids, windows and times, and no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.pictures import WindowPictures
from features.store.rows import StoreError, is_finite, loaded, loaded_chunks, opened_rows, written_rows

_CHUNK_BYTES = 16 * 1024**2  # whole arrays read at 1.1-1.4 times a plain memory copy; one-row chunks at 400 times
_DESCRIPTION = (
    "Embeddings of video windows, one row a window, rows sorted by (video id, window), which is unique. "
    "`video` is a row's index into the attribute `video_ids`, `window` the window's number within its video, from 0. "
    "[start_s, end_s) is the part of the video that the window covers, in seconds from the first shown frame; its last "
    "`num_padded` frames repeat the frame before. `vectors/<pooling>` is float16 (num_rows, D). `provenance` is what "
    "made these embeddings. The attributes are written last: a group without `num_rows` is incomplete."
)


@dataclass(frozen=True, eq=False)
class VideoEmbeddings:
    """One video's windows and their embeddings, in order.

    `window` (n,) int32 are the windows' numbers, of which some are missing where the video has pauses; `start_s`,
    `end_s` (n,) float64; `num_padded` (n,) int32; `vectors` by pooling (n, D) float16. n may be 0. `pictures` are what
    the windows' pixels show, None where nobody looked; stores leave them out.
    """

    window: npt.NDArray[np.int32]
    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    num_padded: npt.NDArray[np.int32]
    vectors: Mapping[str, npt.NDArray[np.float16]]
    pictures: WindowPictures | None = None

    def __post_init__(self) -> None:
        columns: dict[str, npt.NDArray[Any]] = {
            "window": self.window,
            "start_s": self.start_s,
            "end_s": self.end_s,
            "num_padded": self.num_padded,
        }
        if self.pictures is not None:
            columns["pictures"] = self.pictures.brightness
        n = len(self.start_s)
        wrong = {name: column.shape for name, column in columns.items() if column.shape != (n,)}
        wrong |= {name: each.shape for name, each in self.vectors.items() if each.ndim != 2 or len(each) != n}
        if wrong:
            raise ValueError(f"{n} windows do not fit {wrong}")
        if not (self.window[:-1] < self.window[1:]).all() or (self.window < 0).any():
            raise ValueError(f"window numbers ascend from 0 on, got {self.window.tolist()}")
        if not (self.start_s[:-1] < self.start_s[1:]).all() or not (self.start_s < self.end_s).all():
            raise ValueError(f"windows ascend and are not empty, got {self.start_s.tolist()} to {self.end_s.tolist()}")
        for pooling, each in self.vectors.items():
            if each.dtype != np.float16:
                raise ValueError(f"{pooling}: vectors are float16, got {each.dtype}")

    @classmethod
    def joined(cls, parts: Sequence[VideoEmbeddings]) -> VideoEmbeddings:
        """One video of its parts, of which there is one at least, in order; all have `pictures`, or none count."""
        columns = ("window", "start_s", "end_s", "num_padded")
        pictures = [part.pictures for part in parts if part.pictures is not None]
        return cls(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns},
            vectors={name: np.concatenate([part.vectors[name] for part in parts]) for name in parts[0].vectors},
            pictures=WindowPictures.joined(pictures) if len(pictures) == len(parts) else None,
        )

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
    """Windows and their embeddings in memory, sorted by their unique key (video id, window).

    `video_ids` (n,) str; `window` (n,) int32; `start_s`, `end_s` (n,) float64; `num_padded` (n,) int32; `vectors` by
    pooling (n, D) float16.
    """

    video_ids: npt.NDArray[np.str_]
    window: npt.NDArray[np.int32]
    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    num_padded: npt.NDArray[np.int32]
    vectors: Mapping[str, npt.NDArray[np.float16]]

    def __post_init__(self) -> None:
        n = len(self.video_ids)
        lengths = {name: len(getattr(self, name)) for name in ("window", "start_s", "end_s", "num_padded")}
        lengths |= {name: len(vectors) for name, vectors in self.vectors.items()}
        wrong = {name: length for name, length in lengths.items() if length != n}
        if wrong:
            raise ValueError(f"{n} video ids do not fit {wrong}")
        before, after = self.video_ids[:-1], self.video_ids[1:]
        rising = (before < after) | ((before == after) & (self.window[:-1] < self.window[1:]))
        if not rising.all():
            i = int(np.argmin(rising))
            raise ValueError(f"keys are unique and sorted, got {self.keys[i]} before {self.keys[i + 1]}")

    def __len__(self) -> int:
        return len(self.video_ids)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {vectors.shape}" for name, vectors in self.vectors.items())
        return f"Embeddings({len(self)} windows of {len(np.unique(self.video_ids))} videos; {shapes})"

    @property
    def keys(self) -> list[tuple[str, int]]:
        return list(zip(self.video_ids.tolist(), self.window.tolist(), strict=True))

    def select(self, video_ids: Collection[str]) -> Embeddings:
        """All windows of these videos; a video without any raises, so leave the failed ones out by name."""
        missing = sorted(set(video_ids) - set(self.video_ids.tolist()))
        if missing:
            shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            raise StoreError(f"{len(missing)} of {len(set(video_ids))} videos have no embeddings: {shown}")
        rows = np.isin(self.video_ids, np.array(sorted(video_ids), dtype=np.str_))
        if rows.all():
            return self
        return Embeddings(
            video_ids=self.video_ids[rows],
            window=self.window[rows],
            start_s=self.start_s[rows],
            end_s=self.end_s[rows],
            num_padded=self.num_padded[rows],
            vectors={pooling: vectors[rows] for pooling, vectors in self.vectors.items()},
        )

    def features(self, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """The named poolings side by side in the order asked for, (n, D * len(names)) float32."""
        return self.side_by_side(names).astype(np.float32)

    def side_by_side(self, names: Sequence[str]) -> npt.NDArray[np.float16]:
        """The named poolings as stored, side by side in the order asked for: a view where they lie so in memory."""
        _require_poolings(names, self.vectors)
        if not names:
            raise StoreError(f"no pooling was named; stored are {', '.join(self.vectors)}")
        parts = [self.vectors[name] for name in names]
        together = parts[0].base
        if together is not None and together.ndim == 2 and all(part.base is together for part in parts):
            firsts = [(_address(part) - _address(together)) // together.itemsize for part in parts]
            ends = [first + part.shape[1] for first, part in zip(firsts, parts, strict=True)]
            is_whole = all(len(part) == len(together) and part.strides == together.strides for part in parts)
            if is_whole and firsts[1:] == ends[:-1]:
                return together[:, firsts[0] : ends[-1]]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def embeddings_of(videos: Mapping[str, VideoEmbeddings]) -> Embeddings:
    """All windows of these videos, by video id. Without a video raises `StoreError`."""
    if not videos:
        raise StoreError("no video has embeddings")
    parts = [videos[video_id] for video_id in sorted(videos)]
    return Embeddings(
        video_ids=np.repeat(np.array(sorted(videos), dtype=np.str_), [len(part) for part in parts]),
        window=np.concatenate([part.window for part in parts]),
        start_s=np.concatenate([part.start_s for part in parts]),
        end_s=np.concatenate([part.end_s for part in parts]),
        num_padded=np.concatenate([part.num_padded for part in parts]),
        vectors={name: np.concatenate([part.vectors[name] for part in parts]) for name in parts[0].vectors},
    )


def write_embeddings(
    path: Path,
    num_windows: Mapping[str, int],
    load: Callable[[str], VideoEmbeddings],
    *,
    provenance: Mapping[str, Any],
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Write the store at `path`, in place of any that is there, with `num_windows` windows of each video.

    `load` gives one video's embeddings and is called once for each, in the order of ids; a chunk of rows and one video
    are in memory at a time. Videos with unlike vectors raise `StoreError`, and so does no window at all, unless `sizes`
    says how long the vectors of each pooling would be. Whatever raises, also in `load`, leaves an earlier store as it
    was.
    """
    video_ids = sorted(video_id for video_id, count in num_windows.items() if count)
    num_rows = sum(num_windows.values())
    if not num_rows and sizes is None:
        raise StoreError("no window was embedded, so there is nothing to store")
    first: VideoEmbeddings | None = None
    with written_rows(
        path,
        video_ids,
        num_rows,
        chunk_bytes=_CHUNK_BYTES,
        description=_DESCRIPTION,
        provenance=provenance,
        attributes={},
    ) as rows:
        if not video_ids:
            rows.append(_columns(0, _no_windows(sizes or {})))
        for number, video_id in enumerate(video_ids):
            video = load(video_id)
            first = first or video
            fault = video.not_finite()
            if not fault and (video.sizes != first.sizes or len(video) != num_windows[video_id]):
                fault = (
                    f"{len(video)} windows with vectors of sizes {video.sizes}, where {num_windows[video_id]} and "
                    f"{first.sizes} are wanted"
                )
            if fault:
                raise StoreError(f"video {video_id}: {fault}")
            rows.append(_columns(number, video))


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _columns(number: int, video: VideoEmbeddings) -> dict[str, npt.NDArray[Any]]:
    return {
        "video": np.full(len(video), number, dtype=np.int32),
        "window": video.window,
        "start_s": video.start_s,
        "end_s": video.end_s,
        "num_padded": video.num_padded,
        **{f"vectors/{pooling}": vectors for pooling, vectors in sorted(video.vectors.items())},
    }


def _no_windows(sizes: Mapping[str, int]) -> VideoEmbeddings:
    numbers, times = np.empty(0, dtype=np.int32), np.empty(0)
    vectors = {name: np.empty((0, size), dtype=np.float16) for name, size in sizes.items()}
    return VideoEmbeddings(numbers, times, times, numbers, vectors)


def read_embeddings(
    path: Path, *, poolings: Sequence[str] | None = None, video_ids: Collection[str] | None = None
) -> tuple[Embeddings, dict[str, Any]]:
    """The store in memory, and its provenance: all of it, or the windows of those of `video_ids` that it has.

    The vectors of `poolings`, all where None, lie side by side in that order, as `Embeddings.side_by_side` wants them.
    Raises `StoreError`.
    """
    with opened_rows(path, "embeddings") as (group, attributes, num_rows):
        arrays = dict(sorted(group["vectors"].arrays()))
        _require_poolings(arrays if poolings is None else poolings, arrays)
        stored = np.array(attributes["video_ids"], dtype=np.str_)
        video = loaded(group["video"], num_rows)
        is_wanted = np.ones(len(stored), dtype=np.bool_)
        if video_ids is not None:
            is_wanted = np.isin(stored, np.array(sorted(video_ids), dtype=np.str_))
        rows = is_wanted[video]
        times = {name: loaded(group[name], num_rows) for name in ("start_s", "end_s")}
        if bad := [name for name, values in times.items() if not is_finite(values)]:
            raise ValueError(f"nan or infinity in {', '.join(bad)}")
        return Embeddings(
            video_ids=stored[video[rows]],
            window=loaded(group["window"], num_rows)[rows],
            start_s=times["start_s"][rows],
            end_s=times["end_s"][rows],
            num_padded=loaded(group["num_padded"], num_rows)[rows],
            vectors=_read_vectors({name: arrays[name] for name in (arrays if poolings is None else poolings)}, rows),
        ), attributes["provenance"]


def _read_vectors(arrays: Mapping[str, Any], rows: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[np.float16]]:
    """The vectors of these rows as parts of one array, in which they lie side by side."""
    ends = np.cumsum([0, *(array.shape[1] for array in arrays.values())]).tolist()
    together = np.empty((np.count_nonzero(rows), ends[-1]), dtype=np.float16)
    vectors = {name: together[:, first:end] for name, (first, end) in zip(arrays, pairwise(ends), strict=True)}
    for name, array in arrays.items():
        num_read = 0
        for own, values in loaded_chunks(array, len(rows)):
            if not is_finite(values):
                raise ValueError(f"nan or infinity in {name}")
            wanted = values[rows[own]]
            vectors[name][num_read : num_read + len(wanted)] = wanted
            num_read += len(wanted)
    return vectors


def _require_poolings(names: Collection[str], stored: Collection[str]) -> None:
    unknown = [name for name in names if name not in stored]
    if unknown:
        why = "; the checkpoint has no attentive pooler" if unknown == ["pooler"] else ""
        raise StoreError(
            f"no pooling {', '.join(unknown)}; stored are {', '.join(stored)}{why}: name some of them under features "
            "of train and temporal in the params"
        )

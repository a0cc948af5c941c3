"""Tokens on disk: what enters the encoder's last block, for chosen windows. Knows video ids and window numbers.

A Zarr v3 group, complete or not there, like the embeddings'. Its chunks are uncompressed, so that training reads rows
by memory map: the operating system keeps in memory what there is room for.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import zarr

from features.store.embeddings import StoreError, put_in_place

_CHUNK_BYTES = 64 * 1024**2
_VIDEO_IDS, _NUM_ROWS, _METADATA, _DTYPE = "video_ids", "num_rows", "metadata", "dtype"
# Zarr has no bfloat16: its bits are stored as uint16, and the attribute says so.
_STORED: dict[str, np.dtype[Any]] = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2"), "bf16": np.dtype("<u2")}
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_DESCRIPTION = (
    "What enters the last encoder block, `tokens` (num_rows, N, D), one row a window, sorted by (video id, window). "
    "`video` is a row's index into the attribute `video_ids`, `window` the window's number within its video, from 0. "
    "`dtype` bf16 means that the uint16 numbers are bfloat16's bits. Chunks are uncompressed and in C order. "
    "`metadata` is the writer's: what made these tokens. A group without `num_rows` is incomplete."
)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Stored windows' tokens, `shape` (n, N, D), on disk until they are read.

    `windows` gives by video id the numbers of its windows that are stored, ascending. With none, `shape` is (0, 0, 0).
    """

    folder: Path
    windows: Mapping[str, tuple[int, ...]]
    shape: tuple[int, int, int]
    dtype: torch.dtype

    def row(self, video_id: str, window: int) -> int:
        """Where a window is stored; `KeyError` where it is not."""
        return self._rows[video_id, window]

    def read(self, rows: Sequence[int]) -> torch.Tensor:
        """The rows asked for, in that order, (len(rows), N, D) of `dtype`: a copy in memory."""
        if not rows:
            return torch.empty(0, *self.shape[1:], dtype=self.dtype)
        size = self._chunk_rows
        picked = np.stack([self._chunk(row // size)[row % size] for row in rows])
        return torch.from_numpy(picked).view(self.dtype)

    @cached_property
    def _rows(self) -> dict[tuple[str, int], int]:
        keys = ((video_id, window) for video_id, windows in sorted(self.windows.items()) for window in windows)
        return {key: row for row, key in enumerate(keys)}

    @cached_property
    def _chunk_rows(self) -> int:
        return _chunk_rows(self.shape[0], self.shape[1] * self.shape[2] * self.dtype.itemsize)

    @cached_property
    def _maps(self) -> dict[int, npt.NDArray[Any]]:
        return {}

    def _chunk(self, number: int) -> npt.NDArray[Any]:
        if number not in self._maps:
            name = next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)
            shape = (self._chunk_rows, *self.shape[1:])
            path = self.folder / "tokens" / "c" / str(number) / "0" / "0"
            self._maps[number] = np.memmap(path, dtype=_STORED[name], mode="r", shape=shape)
        return self._maps[number]


def write(
    path: Path, windows: Mapping[str, Sequence[int]], load: Callable[[str], torch.Tensor], *, precision: str,
    attributes: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write the tokens at `path`, in place of any that are there: of each video the `windows` with these numbers.

    `load` gives one video's, (len(windows), N, D) of the dtype that `precision` names; it is called once for each
    video, in the order of ids. A chunk and one video are in memory at a time. No windows at all is a store, too.
    Whatever raises leaves what was there before.
    """
    video_ids = sorted(video_id for video_id, numbers in windows.items() if numbers)
    num_rows = sum(len(numbers) for numbers in windows.values())
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    group = zarr.create_group(store=partial, zarr_format=3)
    counts = [len(windows[video_id]) for video_id in video_ids]
    numbers = [number for video_id in video_ids for number in windows[video_id]]
    for name, values in (("video", np.repeat(np.arange(len(video_ids)), counts)), ("window", np.array(numbers))):
        _create(group, name, (num_rows,), np.dtype("<i4"), chunk_rows=max(1, num_rows))[:] = values.astype(np.int32)
    if num_rows:
        _write_tokens(group, video_ids, {each: len(windows[each]) for each in video_ids}, load, precision)
    group.update_attributes(
        {
            "description": _DESCRIPTION,
            _DTYPE: precision,
            _METADATA: json.loads(json.dumps(dict(attributes), sort_keys=True, allow_nan=False)),
            _VIDEO_IDS: video_ids,
            _NUM_ROWS: num_rows,
        }
    )
    put_in_place(partial, path)


def open_tokens(path: Path) -> tuple[Tokens, dict[str, Any]]:
    """The tokens at `path`, none of them read yet, and the attributes that their writer gave. Raises `StoreError`."""
    if not path.is_dir():
        raise StoreError(f"there are no tokens at {path}: run the stage that writes them")
    try:
        group = zarr.open_group(store=path, mode="r", zarr_format=3)
        stored = dict(group.attrs)
        if _NUM_ROWS not in stored:
            raise StoreError(f"the tokens at {path} are incomplete: their attributes were never written")
        video_ids, num_rows = stored[_VIDEO_IDS], int(stored[_NUM_ROWS])
        windows: dict[str, list[int]] = {video_id: [] for video_id in video_ids}
        for video, window in zip(group["video"][:].tolist(), group["window"][:].tolist(), strict=True):
            windows[video_ids[video]].append(window)
        shape = (0, 0, 0) if num_rows == 0 else tuple(group["tokens"].shape)
        if shape[0] != num_rows or sum(map(len, windows.values())) != num_rows:
            raise ValueError(f"{num_rows} rows are stated, and tokens are {shape}")
        if num_rows and group["tokens"].nchunks_initialized != group["tokens"].nchunks:
            raise ValueError(f"{group['tokens'].nchunks_initialized} of {group['tokens'].nchunks} chunks are there")
    except (OSError, KeyError, IndexError, ValueError) as error:
        raise StoreError(f"the tokens at {path} are incomplete or damaged: {error}") from error
    chosen = {video_id: tuple(numbers) for video_id, numbers in windows.items()}
    return Tokens(path, chosen, shape, _DTYPES[stored[_DTYPE]]), stored[_METADATA]


def _write_tokens(
    group: zarr.Group, video_ids: Sequence[str], counts: Mapping[str, int], load: Callable[[str], torch.Tensor],
    precision: str,
) -> None:  # fmt: skip
    array: zarr.Array | None = None
    num_written = num_held = 0
    held: npt.NDArray[Any] = np.empty(0)
    for video_id in video_ids:
        tokens = load(video_id)
        if tokens.dtype != _DTYPES[precision] or len(tokens) != counts[video_id]:
            raise StoreError(
                f"video {video_id}: {tuple(tokens.shape)} {tokens.dtype} tokens, where {counts[video_id]} windows "
                f"in {precision} are wanted"
            )
        values = tokens.contiguous().view(torch.uint8).numpy().view(_STORED[precision])
        if array is None:
            shape = (sum(counts.values()), *values.shape[1:])
            chunk_rows = _chunk_rows(shape[0], values[0].nbytes)
            array = _create(group, "tokens", shape, values.dtype, chunk_rows=chunk_rows)
            held = np.empty((chunk_rows, *shape[1:]), values.dtype)
        while len(values):
            some = values[: len(held) - num_held]
            held[num_held : num_held + len(some)] = some
            num_held, values = num_held + len(some), values[len(some) :]
            if num_held == len(held) or num_written + num_held == array.shape[0]:
                array[num_written : num_written + num_held] = held[:num_held]
                num_written, num_held = num_written + num_held, 0


def _chunk_rows(num_rows: int, row_bytes: int) -> int:
    return max(1, min(num_rows, _CHUNK_BYTES // row_bytes))


def _create(
    group: zarr.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, chunk_rows: int
) -> zarr.Array:
    return group.create_array(
        name, shape=shape, dtype=dtype, chunks=(chunk_rows, *shape[1:]), filters=None, compressors=None,
        config={"write_empty_chunks": True},
    )  # fmt: skip

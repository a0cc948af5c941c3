"""Block inputs on disk: what enters the encoder's last block, for selected windows, keyed by (video id, window)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import zarr

from features.store.rows import StoreError, is_finite, loaded, opened_rows, require_whole, written_rows

_CHUNK_BYTES = 64 * 1024**2
_BLOCK_INPUT, _DTYPE = "block_input", "dtype"
# Zarr has no bfloat16: its bits are stored as uint16, and the attribute says so.
_STORED: dict[str, np.dtype[Any]] = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2"), "bf16": np.dtype("<u2")}
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_DESCRIPTION = (
    "What enters the last encoder block, `block_input` (num_rows, N, D), one row a window, sorted by (video id, "
    "window). `video` is a row's index into the attribute `video_ids`, `window` the window's number within its video, "
    "from 0. `dtype` bf16 means that the uint16 numbers are bfloat16's bits. Chunks are uncompressed and in C order. "
    "`provenance` is what made these block inputs. A group without `num_rows` is incomplete."
)


@dataclass(frozen=True, eq=False)
class BlockInputs:
    """Block inputs of stored windows, `shape` (n, N, D), on disk until they are read by memory map.

    `windows` has each video's stored windows, by id and ascending. With none, `shape` is (0, 0, 0). Each file
    on disk holds `chunk_rows` rows. A file is read through and checked when the first of its rows is read.
    """

    folder: Path
    windows: Mapping[str, tuple[int, ...]]
    shape: tuple[int, int, int]
    dtype: torch.dtype
    chunk_rows: int

    def row(self, video_id: str, window: int) -> int:
        """The row of a stored window; `KeyError` for any other."""
        return self._rows[video_id, window]

    def read(self, rows: Sequence[int]) -> torch.Tensor:
        """These rows in this order, (len(rows), N, D) of `dtype`, copied into memory. Raises `StoreError`."""
        if not rows:
            return torch.empty(0, *self.shape[1:], dtype=self.dtype)
        size = self.chunk_rows
        picked = np.stack([self._chunk(row // size)[row % size] for row in rows])
        return torch.from_numpy(picked).view(self.dtype)

    @cached_property
    def _rows(self) -> dict[tuple[str, int], int]:
        keys = ((video_id, window) for video_id, windows in sorted(self.windows.items()) for window in windows)
        return {key: row for row, key in enumerate(keys)}

    @cached_property
    def _maps(self) -> dict[int, npt.NDArray[Any]]:
        return {}

    def _chunk(self, number: int) -> npt.NDArray[Any]:
        if number not in self._maps:
            self._require_sound(number)
            name = next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)
            shape = (self.chunk_rows, *self.shape[1:])
            path = self.folder / _BLOCK_INPUT / "c" / str(number) / "0" / "0"
            self._maps[number] = np.memmap(path, dtype=_STORED[name], mode="r", shape=shape)
        return self._maps[number]

    def _require_sound(self, number: int) -> None:
        # Zarr checks the crc32c that a memory map passes over.
        with opened_rows(self.folder, "block inputs") as (group, _, _):
            if not is_finite(np.asarray(_array(group).blocks[number])):
                raise ValueError(f"nan or infinity in chunk {number}")


def write_block_inputs(
    path: Path,
    windows: Mapping[str, Sequence[int]],
    load: Callable[[str], torch.Tensor],
    *,
    precision: str,
    provenance: Mapping[str, Any],
) -> None:
    """Write the store at `path`, in place of any that is there, with these `windows` of each video, ascending.

    `load` gives one video's, (len(windows), N, D) of the dtype that `precision` names; it is called once for each
    video, in the order of ids. A chunk and one video are in memory at a time. No windows at all make a
    store, too. Whatever raises leaves an earlier store as it was.
    """
    video_ids = sorted(video_id for video_id, numbers in windows.items() if numbers)
    num_rows = sum(len(numbers) for numbers in windows.values())
    with written_rows(
        path,
        video_ids,
        num_rows,
        chunk_bytes=_CHUNK_BYTES,
        description=_DESCRIPTION,
        provenance=provenance,
        attributes={_DTYPE: precision},
    ) as rows:
        for number, video_id in enumerate(video_ids):
            block_input = load(video_id)
            if block_input.dtype != _DTYPES[precision] or len(block_input) != len(windows[video_id]):
                raise StoreError(
                    f"video {video_id}: {tuple(block_input.shape)} {block_input.dtype} block inputs, where "
                    f"{len(windows[video_id])} windows in {precision} are wanted"
                )
            stored = block_input.contiguous().view(torch.uint8).numpy().view(_STORED[precision])
            if not is_finite(stored):
                raise StoreError(
                    f"video {video_id}: a block input is nan or infinite in {precision}; with "
                    "finetune.block_inputs_precision bf16 or fp32 larger numbers can be stored"
                )
            rows.append(
                {
                    "video": np.full(len(block_input), number, dtype=np.int32),
                    "window": np.array(windows[video_id], dtype=np.int32),
                    _BLOCK_INPUT: stored,
                }
            )


def open_block_inputs(path: Path) -> tuple[BlockInputs, dict[str, Any]]:
    """The block inputs at `path`, none of them read yet, and their provenance. Raises `StoreError`."""
    with opened_rows(path, "block inputs") as (group, attributes, num_rows):
        video_ids = attributes["video_ids"]
        windows: dict[str, list[int]] = {video_id: [] for video_id in video_ids}
        shape: tuple[int, int, int] = (0, 0, 0)
        chunk_rows = 1
        if num_rows:
            keys = (loaded(group[name], num_rows).tolist() for name in ("video", "window"))
            for video, window in zip(*keys, strict=True):
                windows[video_ids[video]].append(window)
            array = _array(group)
            require_whole(array, num_rows)
            shape, chunk_rows = array.shape, array.chunks[0]
        numbers = {video_id: tuple(own) for video_id, own in windows.items()}
        return BlockInputs(path, numbers, shape, _DTYPES[attributes[_DTYPE]], chunk_rows), attributes["provenance"]


def _array(group: zarr.Group) -> zarr.Array:
    array = group[_BLOCK_INPUT]
    if not isinstance(array, zarr.Array):
        raise ValueError(f"{_BLOCK_INPUT} is no array")
    return array

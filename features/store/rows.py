"""The layout that both stores share: a Zarr v3 group with one row a window, complete or not there.

Rows are sorted by their key: `video`, an index into the attribute `video_ids`, and `window`, the window's number within
its video. Attributes are written last. The same rows give the same bytes.

A chunk is one uncompressed file, without shards: whole arrays then load as fast as memory is copied, and rows can be
read by memory map. Its last four bytes are the crc32c of those before, which Zarr checks as it reads. Attributes have
the hash of each array's own zarr.json, and their own. Chunks grow with the store: a few thousand files at any size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec

from features.files import atomic_folder, sha256_of
from features.sealed import sealed, unsealed

_MAX_CHUNKS = 1000  # of an array, of which a store has fewer than ten
_VIDEO_IDS, _NUM_ROWS, _PROVENANCE, _ARRAYS = "video_ids", "num_rows", "provenance", "arrays"


class StoreError(Exception):
    """A store is missing or incomplete, or does not hold what was asked of it."""


class RowWriter:
    """Columns of a group that grow together to `num_rows` rows; one chunk is in memory at a time."""

    def __init__(self, group: zarr.Group, num_rows: int, *, chunk_bytes: int) -> None:
        self._group, self._num_rows, self._chunk_bytes = group, num_rows, chunk_bytes
        self._columns: dict[str, _Column] = {}

    def append(self, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Add rows; all calls name the same columns, each (n, …)."""
        for name, values in columns.items():
            if name not in self._columns:
                self._columns[name] = _Column(self._group, name, self._num_rows, values, self._chunk_bytes)
            self._columns[name].append(values)


class _Column:
    """One array, written whole chunks at a time."""

    def __init__(self, group: zarr.Group, name: str, num_rows: int, first: npt.NDArray[Any], chunk_bytes: int) -> None:
        shape = (num_rows, *first.shape[1:])
        size = chunk_rows(num_rows, first.dtype.itemsize * int(np.prod(first.shape[1:])), chunk_bytes)
        self._array = group.create_array(
            name,
            shape=shape,
            dtype=first.dtype,
            chunks=(size, *shape[1:]),
            filters=None,
            compressors=[Crc32cCodec()],
            # Zarr leaves a chunk of zeros out by default, and then nobody can tell it from a lost one.
            config={"write_empty_chunks": True},
        )
        self._held = np.empty((size, *shape[1:]), first.dtype)
        self._num_written = self._num_held = 0

    def append(self, values: npt.NDArray[Any]) -> None:
        while len(values):
            part = values[: len(self._held) - self._num_held]
            self._held[self._num_held : self._num_held + len(part)] = part
            self._num_held, values = self._num_held + len(part), values[len(part) :]
            if self._num_held == len(self._held) or self._num_written + self._num_held == self._array.shape[0]:
                self._array[self._num_written : self._num_written + self._num_held] = self._held[: self._num_held]
                self._num_written, self._num_held = self._num_written + self._num_held, 0


def chunk_rows(num_rows: int, row_bytes: int, chunk_bytes: int) -> int:
    """Rows of a chunk: about `chunk_bytes`, and more where an array would have too many chunks."""
    return max(1, min(num_rows, max(chunk_bytes // max(row_bytes, 1), -(-num_rows // _MAX_CHUNKS))))


@contextmanager
def written_rows(
    path: Path,
    video_ids: Sequence[str],
    num_rows: int,
    *,
    chunk_bytes: int,
    description: str,
    provenance: Mapping[str, Any],
    attributes: Mapping[str, Any],
) -> Iterator[RowWriter]:
    """Write a store of `num_rows` rows, in place of any at `path`; on an error the earlier store stays."""
    with atomic_folder(path) as partial:
        group = zarr.create_group(store=partial, zarr_format=3)
        yield RowWriter(group, num_rows, chunk_bytes=chunk_bytes)
        group.update_attributes(
            sealed(
                {
                    "description": description,
                    **attributes,
                    _PROVENANCE: json.loads(json.dumps(dict(provenance), sort_keys=True, allow_nan=False)),
                    _ARRAYS: _array_hashes(partial),
                    _VIDEO_IDS: list(video_ids),
                    _NUM_ROWS: num_rows,
                }
            )
        )


@contextmanager
def opened_rows(path: Path, what: str) -> Iterator[tuple[zarr.Group, dict[str, Any], int]]:
    """The group at `path`, its attributes and its number of rows; faults of reading become `StoreError`."""
    if not path.is_dir():
        raise StoreError(f"there are no {what} at {path}: run the stage that writes them")
    try:
        group = zarr.open_group(store=path, mode="r", zarr_format=3)
        attributes = dict(group.attrs)
        if _NUM_ROWS not in attributes:
            raise StoreError(f"the {what} at {path} are incomplete: their attributes were never written")
        if unsealed(attributes)[_ARRAYS] != _array_hashes(path):
            raise ValueError("the arrays are not those that were written")
        yield group, attributes, int(attributes[_NUM_ROWS])
    except (StoreError, MemoryError):
        raise
    except Exception as error:  # damaged files may raise anything in zarr
        raise StoreError(
            f"the {what} at {path} are incomplete or damaged: {error}; run the stage that writes them again"
        ) from error


def _array_hashes(path: Path) -> dict[str, str]:
    """The hash of each array's shape, type and chunks, as its zarr.json states them."""
    files = sorted(file for file in path.rglob("zarr.json") if file.parent != path)
    return {file.parent.relative_to(path).as_posix(): sha256_of(file) for file in files}


def require_whole(array: zarr.Array, num_rows: int) -> None:
    """Raise `ValueError` unless the array has `num_rows` rows and all of its chunks."""
    if array.shape[0] != num_rows:
        raise ValueError(f"{array.name} has {array.shape[0]} rows, not {num_rows}")
    if array.nchunks_initialized != array.nchunks:
        raise ValueError(f"{array.name} has {array.nchunks_initialized} of its {array.nchunks} chunks")


def loaded(array: zarr.Array, num_rows: int) -> npt.NDArray[Any]:
    """A whole column in memory."""
    require_whole(array, num_rows)
    return np.asarray(array[:])


def loaded_chunks(array: zarr.Array, num_rows: int) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """A column in parts of whole chunks, each with its rows; one part is in memory at a time."""
    require_whole(array, num_rows)
    for first in range(0, num_rows, array.chunks[0]):
        rows = slice(first, min(first + array.chunks[0], num_rows))
        yield rows, np.asarray(array[rows])


def is_finite(values: npt.NDArray[Any]) -> bool:
    """Whether all numbers are finite; uint16 holds bfloat16's bits."""
    exponent = {np.dtype(np.float16): 0x7C00, np.dtype(np.uint16): 0x7F80}.get(values.dtype)
    if exponent is None:
        return bool(np.isfinite(values).all())
    return bool(((values.view(np.uint16) & exponent) != exponent).all())  # several times faster than isfinite

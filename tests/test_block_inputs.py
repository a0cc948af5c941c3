"""Block inputs on disk. Each row's numbers encode its video and window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from features.store import block_inputs
from features.store.block_inputs import open_block_inputs, write_block_inputs
from features.store.embeddings import StoreError

WINDOWS = {"b": (0, 3, 4), "a": (2,), "none": (), "c": (0, 1)}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def of(video_id: str, windows: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """(len(windows), 5, 4): hundreds are the video, units the window, the last value is the position."""
    mark = torch.tensor(windows, dtype=torch.float32)[:, None, None] + 10 * ord(video_id[0])
    return (mark + torch.arange(20).reshape(1, 5, 4) / 32).to(dtype)


def write(path: Path, precision: str = "fp16", windows: dict[str, tuple[int, ...]] = WINDOWS) -> None:
    write_block_inputs(
        path,
        windows,
        lambda video_id: of(video_id, windows[video_id], DTYPES[precision]),
        precision=precision,
        provenance={"made": "so"},
    )


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("rows_a_chunk", [1, 4, 100])
def test_every_window_comes_back(
    precision: str, rows_a_chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows come back bit for bit in the requested order, with repeats, for any chunk size and dtype."""
    monkeypatch.setattr(block_inputs, "_CHUNK_BYTES", rows_a_chunk * 20 * DTYPES[precision].itemsize)
    write(tmp_path / "t", precision)
    monkeypatch.undo()  # a reader goes by the chunks that are on disk
    stored, made_by = open_block_inputs(tmp_path / "t")
    assert made_by == {"made": "so"}
    assert stored.windows == {"a": (2,), "b": (0, 3, 4), "c": (0, 1)}
    assert (stored.shape, stored.dtype) == ((6, 5, 4), DTYPES[precision])
    asked = [("c", 1), ("b", 0), ("a", 2), ("c", 1), ("b", 4)]
    read = stored.read([stored.row(*key) for key in asked])
    assert torch.equal(read, torch.cat([of(video_id, (window,), DTYPES[precision]) for video_id, window in asked]))
    assert stored.read([]).shape == (0, 5, 4)
    with pytest.raises(KeyError):
        stored.row("b", 1)


def test_others_read_it_with_zarr_alone(tmp_path: Path) -> None:
    """The memory map has the values that `zarr.open` reads."""
    write(tmp_path / "t")
    group = zarr.open(tmp_path / "t", mode="r")
    assert np.array_equal(group["block_input"][:], open_block_inputs(tmp_path / "t")[0].read(range(6)).numpy())
    assert [group.attrs["video_ids"][k] for k in group["video"][:]] == ["a", "b", "b", "b", "c", "c"]
    assert group["window"][:].tolist() == [2, 0, 3, 4, 0, 1]


def test_none_at_all_is_a_store_too(tmp_path: Path) -> None:
    """Without windows there are no rows, and nothing is missing."""
    write(tmp_path / "t", windows={})
    stored, _ = open_block_inputs(tmp_path / "t")
    assert (stored.shape, dict(stored.windows)) == ((0, 0, 0), {})


def test_missing_and_damaged_block_inputs_say_so(tmp_path: Path) -> None:
    """No folder, no attributes, a lost chunk, or block inputs that do not fit: an error with the path or the video."""
    with pytest.raises(StoreError, match="no block inputs at"):
        open_block_inputs(tmp_path / "none")
    write(tmp_path / "t")
    (chunk,) = (tmp_path / "t" / "block_input" / "c").rglob("0/0/0")
    chunk.unlink()
    with pytest.raises(StoreError, match="0 of its 1 chunks"):
        open_block_inputs(tmp_path / "t")
    (tmp_path / "t" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(StoreError, match="incomplete: their attributes were never written"):
        open_block_inputs(tmp_path / "t")
    with pytest.raises(StoreError, match=r"video a: .* where 1 windows in fp16 are wanted"):
        write_block_inputs(tmp_path / "t", {"a": (2,)}, lambda _: torch.zeros(1, 5, 4), precision="fp16", provenance={})

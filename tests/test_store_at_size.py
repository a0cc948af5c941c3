"""A part of a store is read as what it is of the whole, and heads of it are the same whatever its types in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from features.store import embeddings as store
from features.store.embeddings import Embeddings, VideoEmbeddings, read_embeddings
from features.store.rows import StoreError
from heads.linear import LinearHead
from heads.training.sequences import sequences_of

SIZES = {"max": 3, "mean": 2, "pooler": 4}
VIDEOS = {"a": 3, "b": 2, "c": 5, "d": 1}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of four videos in chunks of a few rows, since what is read spans several."""
    rng = np.random.default_rng(0)

    def load(video_id: str) -> VideoEmbeddings:
        n = VIDEOS[video_id]
        return VideoEmbeddings(
            window=np.arange(n, dtype=np.int32) * 2,
            start_s=np.arange(n, dtype=np.float64) * 2,
            end_s=np.arange(n, dtype=np.float64) * 2 + 1.5,
            num_padded=np.arange(n, dtype=np.int32) % 2,
            vectors={name: rng.standard_normal((n, size)).astype(np.float16) for name, size in SIZES.items()},
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_CHUNK_BYTES", 16)
        store.write_embeddings(tmp_path / "e.zarr", VIDEOS, load, provenance={"x": 1})
    return tmp_path / "e.zarr"


def same(one: Embeddings, other: Embeddings) -> bool:
    columns = ("window", "start_s", "end_s", "num_padded")
    return one.keys == other.keys and all(np.array_equal(getattr(one, c), getattr(other, c)) for c in columns)


def test_the_videos_and_poolings_that_are_wanted_are_read(path: Path) -> None:
    """They have the rows and vectors that they have in the whole store; videos that are not stored are passed over."""
    whole, provenance = read_embeddings(path)
    part, own = read_embeddings(path, poolings=["pooler", "max"], video_ids=["c", "a", "gone"])
    assert own == provenance == {"x": 1}
    assert same(part, whole.select(["a", "c"]))
    assert list(part.vectors) == ["pooler", "max"]
    for name, vectors in part.vectors.items():
        assert np.array_equal(vectors, whole.select(["a", "c"]).vectors[name])


def test_keys_are_read_without_any_vector(path: Path) -> None:
    """No pooling at all is a store of keys and times; a pooling that is not there says which are."""
    keys, _ = read_embeddings(path, poolings=())
    assert same(keys, read_embeddings(path)[0])
    assert not keys.vectors
    with pytest.raises(StoreError, match="no pooling median; stored are max, mean, pooler"):
        read_embeddings(path, poolings=["median"])


def test_a_nan_in_what_is_read_is_found(path: Path) -> None:
    """In any chunk of a pooling that is wanted, and only there."""
    import zarr

    array = zarr.open_group(store=path, mode="a", zarr_format=3)["vectors/mean"]
    array[9:10] = np.full((1, 2), np.nan, dtype=np.float16)
    with pytest.raises(StoreError, match="nan or infinity in mean"):
        read_embeddings(path, poolings=["mean"], video_ids=["c"])
    read_embeddings(path, poolings=["max"])


@pytest.mark.parametrize("names", [["pooler", "max", "mean"], ["max", "mean"], ["mean"], ["mean", "pooler"]])
def test_poolings_lie_side_by_side(path: Path, names: list[str]) -> None:
    """In the order in which they were read they are a view of what is in memory, in any other a copy of it."""
    embeddings, _ = read_embeddings(path, poolings=["pooler", "max", "mean"])
    together = embeddings.side_by_side(names)
    assert np.array_equal(together, np.concatenate([embeddings.vectors[name] for name in names], axis=1))
    assert together.dtype == np.float16
    assert np.shares_memory(together, embeddings.vectors["mean"]) == (names != ["mean", "pooler"])
    sequences = sequences_of(embeddings, np.zeros((11, 1), dtype=np.bool_), features=names, stride_s=2.0)
    assert np.array_equal(sequences.features.numpy(), together)


def test_rows_of_a_view_are_not_taken_for_the_whole(path: Path) -> None:
    """Poolings that are views of some rows are put together from these rows."""
    embeddings, _ = read_embeddings(path, poolings=["max", "mean"])
    rows = slice(3, 5)
    part = Embeddings(
        embeddings.video_ids[rows],
        embeddings.window[rows],
        embeddings.start_s[rows],
        embeddings.end_s[rows],
        embeddings.num_padded[rows],
        vectors={name: vectors[rows] for name, vectors in embeddings.vectors.items()},
    )
    assert np.array_equal(part.side_by_side(["max", "mean"]), embeddings.side_by_side(["max", "mean"])[rows])


def test_a_head_starts_the_same_from_float16_as_from_float32() -> None:
    """To the last bit, and as from all columns at once."""
    features = (torch.randn(3000, 200, generator=torch.Generator().manual_seed(0)) * 30 + 500).half()
    targets = torch.rand(3000, 2, generator=torch.Generator().manual_seed(1)) < 0.1
    half, full = LinearHead(200, 2), LinearHead(200, 2)
    half.start_from(features, targets)
    full.start_from(features.float(), targets)
    for name, tensor in full.state_dict().items():
        assert torch.equal(half.state_dict()[name], tensor), name
    assert torch.equal(full.mean, features.float().mean(0))
    assert torch.equal(full.inverse_std, 1 / features.float().std(0))

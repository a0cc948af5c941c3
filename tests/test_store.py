"""Stores of small vectors whose numbers encode their window and pooling."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from features.store import embeddings as store
from features.store.embeddings import Embeddings, VideoEmbeddings, read_embeddings
from features.store.rows import StoreError

VIDEOS = ("0A8CF", "ZZ9ZZ", "B", "AA")
STARTS_S = (0.0, 0.5, 2.0, 10.0)


def video(video_id: str, starts_s: Sequence[float] = STARTS_S) -> VideoEmbeddings:
    starts = np.array(starts_s)
    marks = VIDEOS.index(video_id) * 100 + starts
    ones = np.ones_like(marks)
    return VideoEmbeddings(
        window=np.arange(len(starts), dtype=np.int32),
        start_s=starts,
        end_s=starts + 3.5,
        num_padded=starts.astype(np.int32) % 3,
        vectors={
            "pooler": np.stack([marks, ones, 0 * ones], axis=1).astype(np.float16),
            "mean": np.stack([marks, -2 * ones], axis=1).astype(np.float16),
        },
    )


def world() -> dict[str, VideoEmbeddings]:
    return {video_id: video(video_id) for video_id in VIDEOS}


def write(path: Path, videos: Mapping[str, VideoEmbeddings], *, provenance: Mapping[str, Any] | None = None) -> None:
    counts = {video_id: len(embeddings) for video_id, embeddings in videos.items()}
    store.write_embeddings(path, counts, videos.__getitem__, provenance=provenance or {})


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_window_comes_back_with_its_own_vectors(tmp_path: Path) -> None:
    """Rows are sorted by (video id, start), and each key still has the times, padding and vectors it was given."""
    path = tmp_path / "data" / "embeddings.zarr"
    write(path, world(), provenance={"backbone": "x", "poolings": ("a", "b")})
    embeddings, attributes = read_embeddings(path)
    assert attributes == {"backbone": "x", "poolings": ["a", "b"]}
    assert embeddings.keys == [(video_id, k) for video_id in sorted(VIDEOS) for k in range(len(STARTS_S))]
    for video_id, wanted in world().items():
        mine = embeddings.video_ids == video_id
        assert np.array_equal(embeddings.end_s[mine], wanted.end_s)
        assert np.array_equal(embeddings.num_padded[mine], wanted.num_padded)
        for pooling in ("pooler", "mean"):
            assert embeddings.vectors[pooling].dtype == np.float16
            assert np.array_equal(embeddings.vectors[pooling][mine], wanted.vectors[pooling])


def test_the_same_videos_are_the_same_bytes(tmp_path: Path) -> None:
    """The order of videos or attributes and an earlier store at the path change no byte."""
    first, second = tmp_path / "first", tmp_path / "second"
    write(first, world(), provenance={"a": 1, "b": {"c": 2, "d": 3}})
    write(second, {"B": video("B", [4.0])})
    write(second, dict(reversed(world().items())), provenance={"b": {"d": 3, "c": 2}, "a": 1})
    assert contents(first) == contents(second)
    assert len(contents(first)) > 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_others_read_it_with_zarr_alone(tmp_path: Path) -> None:
    """`zarr.open` and the attributes are enough to find a window's vector by its video and time."""
    write(tmp_path / "s", world(), provenance={"made": "so"})
    group = zarr.open(tmp_path / "s", mode="r")
    assert "sorted by (video id, window)" in group.attrs["description"]
    names = np.array(group.attrs["video_ids"])[group["video"][:]]
    (row,) = np.flatnonzero((names == "B") & (group["start_s"][:] == 2.0))
    assert group["vectors/mean"][row].tolist() == [202, -2]
    assert [codec.to_dict() for codec in group["vectors/mean"].compressors] == [{"name": "crc32c"}]


def test_more_rows_than_a_chunk(tmp_path: Path) -> None:
    """A store of several chunks gives back every row, also of a video in two chunks."""
    marks = np.arange(20000)
    videos = {
        f"v{k:04d}": VideoEmbeddings(
            np.arange(50, dtype=np.int32),
            np.arange(50.0),
            np.arange(1, 51.0),
            np.zeros(50, np.int32),
            {"mean": np.stack([np.full(50, k), np.arange(50)], axis=1).astype(np.float16)},
        )
        for k in range(400)
    }
    write(tmp_path / "s", videos)
    vectors = read_embeddings(tmp_path / "s")[0].vectors["mean"]
    assert np.array_equal(vectors, np.stack([marks // 50, marks % 50], axis=1))


def test_what_raises_leaves_the_old_store(tmp_path: Path) -> None:
    """A video that cannot be loaded, or does not fit, is an error that names it; what was there is untouched."""
    write(tmp_path / "s", world())
    before = contents(tmp_path / "s")
    with pytest.raises(KeyError, match="nobody"):
        store.write_embeddings(tmp_path / "s", {"B": 4, "nobody": 1}, world().__getitem__, provenance={})
    with pytest.raises(StoreError, match=r"video B: 4 windows with vectors of sizes .* where 3"):
        store.write_embeddings(tmp_path / "s", {"B": 3}, world().__getitem__, provenance={})
    thin = VideoEmbeddings(
        *(np.zeros(1, np.int32), np.zeros(1), np.ones(1), np.zeros(1, np.int32)),
        {"mean": np.zeros((1, 1), np.float16)},
    )
    with pytest.raises(StoreError, match=r"video B: .* sizes \{'mean': 1\}, where 1 and \{'mean': 2, 'pooler': 3\}"):
        write(tmp_path / "s", {"AA": video("AA"), "B": thin})
    with pytest.raises(StoreError, match="nothing to store"):
        write(tmp_path / "s", {})
    assert contents(tmp_path / "s") == before


def test_leftovers_of_a_killed_run_do_no_harm(tmp_path: Path) -> None:
    """A partial folder that a killed run left is not mixed into the next store."""
    write(tmp_path / "s.partial", {"ZZ9ZZ": video("ZZ9ZZ", [7.0])}, provenance={"stale": True})
    (tmp_path / "s.partial" / "stray").write_text("x")
    write(tmp_path / "s", world())
    write(tmp_path / "clean", world())
    assert contents(tmp_path / "s") == contents(tmp_path / "clean")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_never_stored(bad: float, tmp_path: Path) -> None:
    """A nan or an infinity is found with its window and pooling, and no store is written with one."""
    one = video("B")
    one.vectors["mean"][2, 1] = bad
    assert one.not_finite() == "window at 2 s, mean: 1 of 2 values in float16"
    assert video("B").not_finite() is None
    with pytest.raises(StoreError, match="video B: window at 2 s, mean"):
        write(tmp_path / "s", {"B": one})
    assert not (tmp_path / "s").exists()


def test_missing_and_damaged_stores_say_so(tmp_path: Path) -> None:
    """No store, no attributes, a lost chunk or a short one: an error with the path, never zeros."""
    with pytest.raises(StoreError, match=f"no embeddings at {tmp_path / 'none'}"):
        read_embeddings(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="incomplete or damaged"):
        read_embeddings(tmp_path / "empty")
    good = tmp_path / "good"
    write(good, world())
    chunks = sorted(path.relative_to(good) for path in good.rglob("c/*") if path.is_file() or path.is_dir())
    # Some columns hold zeros alone: their chunks are there too, so that a lost one is seen.
    assert {chunk.parts[0] for chunk in chunks} == {"video", "window", "start_s", "end_s", "num_padded", "vectors"}
    for name in ("num_padded", "vectors/mean"):
        lost = tmp_path / "lost"
        shutil.copytree(good, lost)
        shutil.rmtree(lost / name / "c")
        with pytest.raises(StoreError, match="has 0 of its 1 chunks"):
            read_embeddings(lost)
        shutil.rmtree(lost)
    short = tmp_path / "short"
    shutil.copytree(good, short)
    (chunk,) = [path for path in (short / "start_s" / "c").rglob("*") if path.is_file()]
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(StoreError, match="incomplete or damaged"):
        read_embeddings(short)
    unmarked = tmp_path / "unmarked"
    shutil.copytree(good, unmarked)
    (unmarked / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(StoreError, match="incomplete: their attributes were never written"):
        read_embeddings(unmarked)


def test_a_column_of_zeros_is_read_back(tmp_path: Path) -> None:
    """One video without padding, all zeros on disk, is a complete store."""
    zeros = VideoEmbeddings(
        *(np.zeros(1, np.int32), np.zeros(1), np.ones(1), np.zeros(1, np.int32)),
        {"mean": np.zeros((1, 4), np.float16)},
    )
    write(tmp_path / "s", {"B": zeros})
    assert np.array_equal(read_embeddings(tmp_path / "s")[0].vectors["mean"], np.zeros((1, 4)))


@pytest.fixture
def embeddings(tmp_path: Path) -> Embeddings:
    write(tmp_path / "s", world())
    return read_embeddings(tmp_path / "s")[0]


def test_select_takes_whole_videos(embeddings: Embeddings) -> None:
    """All windows of the named videos in the store's order, whatever the order of asking; an unknown one is named."""
    selected = embeddings.select(["ZZ9ZZ", "AA"])
    assert selected.keys == [(video, start) for video in ("AA", "ZZ9ZZ") for start in range(4)]
    assert selected.vectors["mean"][:, 0].tolist() == [300, 300.5, 302, 310, 100, 100.5, 102, 110]
    assert len(embeddings.select([])) == 0
    with pytest.raises(StoreError, match="1 of 2 videos have no embeddings: nobody"):
        embeddings.select(["AA", "nobody"])


def test_features_stand_in_the_order_asked_for(embeddings: Embeddings) -> None:
    """Poolings are concatenated as named, in float32; an unknown or no name raises and lists what there is."""
    both = embeddings.features(["mean", "pooler"])
    assert (both.shape, both.dtype) == ((16, 5), np.float32)
    assert both[0].tolist() == [0, -2, 0, 1, 0]
    assert np.array_equal(embeddings.features(["pooler", "mean"]), both[:, [2, 3, 4, 0, 1]])
    with pytest.raises(StoreError, match="no pooling median; stored are mean, pooler"):
        embeddings.features(["mean", "median"])
    with pytest.raises(StoreError, match="no pooling was named"):
        embeddings.features([])


def test_one_videos_windows_fit_together() -> None:
    """Columns of unlike length, windows that do not ascend and vectors that are not float16 cannot be made."""
    good = video("B")
    for change, message in (
        ({"end_s": good.end_s[:3]}, "4 windows do not fit"),
        ({"start_s": good.start_s[::-1]}, "windows ascend"),
        ({"vectors": {"mean": np.zeros((4, 2), np.float32)}}, "mean: vectors are float16, got float32"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(good, **change)


def test_embeddings_refuse_rows_that_do_not_fit() -> None:
    """Unsorted or double keys and columns of unlike length cannot be made."""

    def made(window: list[int], n: int) -> Embeddings:
        return Embeddings(
            video_ids=np.array(["v", "v"]),
            window=np.array(window, dtype=np.int32),
            start_s=np.array([0.0, 1.0]),
            end_s=np.array([5.0, 6.0]),
            num_padded=np.zeros(2, np.int32),
            vectors={"mean": np.zeros((n, 3), np.float16)},
        )

    assert repr(made([0, 1], 2)) == "Embeddings(2 windows of 1 videos; mean (2, 3))"
    with pytest.raises(ValueError, match="keys are unique and sorted"):
        made([1, 1], 2)
    with pytest.raises(ValueError, match="keys are unique and sorted"):
        made([1, 0], 2)
    with pytest.raises(ValueError, match=r"2 video ids do not fit \{'mean': 3\}"):
        made([0, 1], 3)


def test_a_store_without_a_window_says_what_its_vectors_would_be(tmp_path: Path) -> None:
    """A person may have no recordings: an empty store is read like any other, and selects nothing."""
    path = tmp_path / "recordings.zarr"
    store.write_embeddings(path, {}, world().__getitem__, provenance={}, sizes={"mean": 3})
    embeddings, _ = read_embeddings(path)
    assert len(embeddings) == 0
    assert embeddings.select([]).features(["mean"]).shape == (0, 3)
    with pytest.raises(StoreError, match="no window was embedded"):
        store.write_embeddings(path, {}, world().__getitem__, provenance={})

"""Stores of small vectors whose numbers tell which window and which pooling they are."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from features.store import Embeddings, Row, StoreError, read, write
from features.video import Segment

VIDEOS = ("0A8CF", "ZZ9ZZ", "B", "AA")


def row(video_id: str, start_s: float) -> Row:
    mark = VIDEOS.index(video_id) * 100 + start_s
    return Row(
        video_id=video_id,
        segment=Segment(start_s, start_s + 3.5),
        num_padded=int(start_s) % 3,
        vectors={"pooler": np.array([mark, 1, 0], np.float16), "mean": np.array([mark, -2], np.float16)},
    )


def world() -> list[Row]:
    return [row(video_id, start_s) for video_id in VIDEOS for start_s in (0.0, 0.5, 10.0, 2.0)]


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_row_comes_back_with_its_own_vectors(tmp_path: Path) -> None:
    """Rows are sorted by (video id, start), and each key still has the times, padding and vectors it was given."""
    path = tmp_path / "data" / "embeddings.zarr"
    assert write(path, iter(world()), attributes={"backbone": "x", "poolings": ("a", "b")}) == 16
    embeddings, attributes = read(path)
    assert attributes == {"backbone": "x", "poolings": ["a", "b"]}
    wanted = {one.key: one for one in world()}
    assert embeddings.keys == sorted(wanted)
    for i, key in enumerate(embeddings.keys):
        assert Segment(embeddings.start_s[i], embeddings.end_s[i]) == wanted[key].segment
        assert embeddings.num_padded[i] == wanted[key].num_padded
        for pooling in ("pooler", "mean"):
            assert embeddings.vectors[pooling].dtype == np.float16
            assert np.array_equal(embeddings.vectors[pooling][i], wanted[key].vectors[pooling])


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    """Neither the order of arrival, nor that of the attributes, nor what lay there before changes a byte."""
    first, second = tmp_path / "first", tmp_path / "second"
    write(first, world(), attributes={"a": 1, "b": {"c": 2, "d": 3}})
    write(second, [row("B", 4.0)], attributes={})
    shuffled = world()
    random.Random(0).shuffle(shuffled)
    write(second, shuffled, attributes={"b": {"d": 3, "c": 2}, "a": 1})
    assert contents(first) == contents(second)
    assert len(contents(first)) > 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_more_rows_than_a_chunk(tmp_path: Path) -> None:
    """A store of several chunks gives back every row at its place."""
    marks = np.arange(9000)
    rows = (
        Row(f"v{k // 50:04d}", Segment(k % 50, k % 50 + 1.0), 0, {"mean": np.array([k // 50, k % 50], np.float16)})
        for k in marks[::-1].tolist()
    )
    write(tmp_path / "s", rows, attributes={})
    vectors = read(tmp_path / "s")[0].vectors["mean"]
    assert np.array_equal(vectors, np.stack([marks // 50, marks % 50], axis=1))


def test_a_double_key_raises_and_the_old_store_stays(tmp_path: Path) -> None:
    """Two rows for one window are an error that names it, and what was there before is untouched."""
    write(tmp_path / "s", world(), attributes={})
    before = contents(tmp_path)
    with pytest.raises(StoreError, match=r"video B, window at 2 s: embedded twice"):
        write(tmp_path / "s", [*world(), row("B", 2.0)], attributes={})
    assert contents(tmp_path) == before


def test_a_failure_among_the_rows_leaves_no_store(tmp_path: Path) -> None:
    """When the rows' own source raises, nothing is written, not half."""

    def rows() -> Iterator[Row]:
        yield row("B", 0.0)
        raise OSError("unreadable")

    with pytest.raises(OSError, match="unreadable"):
        write(tmp_path / "s", rows(), attributes={})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="nothing to store"):
        write(tmp_path / "s", [], attributes={})
    with pytest.raises(StoreError, match=r"sizes \{'mean': 1\}, but \{'pooler': 3, 'mean': 2\}"):
        write(
            tmp_path / "s",
            [row("B", 0.0), Row("B", Segment(1, 2), 0, {"mean": np.zeros(1, np.float16)})],
            attributes={},
        )


def test_leftovers_of_a_killed_run_do_no_harm(tmp_path: Path) -> None:
    """A partial folder that a killed run left is not mixed into the next store."""
    write(tmp_path / "s.partial", [row("ZZ9ZZ", 7.0)], attributes={"stale": True})
    (tmp_path / "s.partial" / "stray").write_text("x")
    write(tmp_path / "s", world(), attributes={})
    write(tmp_path / "clean", world(), attributes={})
    assert contents(tmp_path / "s") == contents(tmp_path / "clean")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_never_a_row(bad: float) -> None:
    """A nan or an infinity raises where the row is made, and says whose window and which pooling it is."""
    with pytest.raises(ValueError, match=r"video B, window at 1\.5 s max: 1 of 2 values are not finite"):
        Row("B", Segment(1.5, 3.0), 0, {"max": np.array([0, bad], np.float16)})
    with pytest.raises(ValueError, match=r"float16, got \(2,\) float32"):
        Row("B", Segment(1.5, 3.0), 0, {"max": np.zeros(2, np.float32)})


def test_missing_and_damaged_stores_say_so(tmp_path: Path) -> None:
    """No store, no attributes, a lost chunk or a short one: an error with the path, never zeros."""
    with pytest.raises(StoreError, match=f"no embeddings at {tmp_path / 'none'}"):
        read(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="incomplete or damaged"):
        read(tmp_path / "empty")
    good = tmp_path / "good"
    write(good, world(), attributes={})
    chunks = sorted(path.relative_to(good) for path in good.rglob("c/*") if path.is_file() or path.is_dir())
    # Some columns hold zeros alone: their chunks are there too, so that a lost one is seen.
    assert {chunk.parts[0] for chunk in chunks} == {"video", "start_s", "end_s", "num_padded", "vectors"}
    for name in ("num_padded", "vectors/mean"):
        lost = tmp_path / "lost"
        shutil.copytree(good, lost)
        shutil.rmtree(lost / name / "c")
        with pytest.raises(StoreError, match="has 0 of its 1 chunks"):
            read(lost)
        shutil.rmtree(lost)
    short = tmp_path / "short"
    shutil.copytree(good, short)
    (chunk,) = [path for path in (short / "start_s" / "c").rglob("*") if path.is_file()]
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(StoreError, match="incomplete or damaged"):
        read(short)
    unmarked = tmp_path / "unmarked"
    shutil.copytree(good, unmarked)
    (unmarked / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(StoreError, match="incomplete: their attributes were never written"):
        read(unmarked)


def test_a_column_of_zeros_is_read_back(tmp_path: Path) -> None:
    """One video without padding, all zeros on disk, is a complete store."""
    zeros = [Row("B", Segment(0, 1), 0, {"mean": np.zeros(4, np.float16)})]
    write(tmp_path / "s", zeros, attributes={})
    assert np.array_equal(read(tmp_path / "s")[0].vectors["mean"], np.zeros((1, 4)))


@pytest.fixture
def embeddings(tmp_path: Path) -> Embeddings:
    write(tmp_path / "s", world(), attributes={})
    return read(tmp_path / "s")[0]


def test_select_takes_whole_videos(embeddings: Embeddings) -> None:
    """All windows of the named videos in the store's order, whatever the order of asking; an unknown one is named."""
    chosen = embeddings.select(["ZZ9ZZ", "AA"])
    assert chosen.keys == [(video, start) for video in ("AA", "ZZ9ZZ") for start in (0.0, 0.5, 2.0, 10.0)]
    assert chosen.vectors["mean"][:, 0].tolist() == [300, 300.5, 302, 310, 100, 100.5, 102, 110]
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


def test_embeddings_refuse_rows_that_do_not_fit() -> None:
    """Unsorted or double keys and columns of unlike length cannot be made."""

    def made(start_s: list[float], n: int) -> Embeddings:
        return Embeddings(
            video_ids=np.array(["v", "v"]),
            start_s=np.array(start_s),
            end_s=np.array([5.0, 6.0]),
            num_padded=np.zeros(2, np.int32),
            vectors={"mean": np.zeros((n, 3), np.float16)},
        )

    assert repr(made([0.0, 1.0], 2)) == "Embeddings(2 windows of 1 videos; mean (2, 3))"
    with pytest.raises(ValueError, match="keys are unique and sorted"):
        made([1.0, 1.0], 2)
    with pytest.raises(ValueError, match="keys are unique and sorted"):
        made([1.0, 0.0], 2)
    with pytest.raises(ValueError, match=r"2 video ids do not fit \{'mean': 3\}"):
        made([0.0, 1.0], 3)

"""What is unlike the training data lies far from it, and what was kept of it is as it was written, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from features.sealed import DamagedFile
from heads.typicality import Typicality


def train(n: int = 4000) -> np.ndarray:
    """Windows (n, 3): wide along the first axis, narrow along the second, which leans with the third."""
    rng = np.random.default_rng(0)
    wide, narrow, third = rng.normal(size=(3, n)) * [[5.0], [0.5], [1.0]]
    return np.stack([10 + wide, narrow + third, third], axis=1).astype(np.float16)


@pytest.mark.parametrize("n", [4000, 120_000])
def test_train_windows_lie_at_the_distance_that_their_number_of_dimensions_says(n: int) -> None:
    """The mean square is about 3, a little less for the shrunk covariance, of any number of windows; the mean's 0."""
    typicality = Typicality.fit(train(n))
    squares = typicality.distances(train(n)) ** 2
    assert 1.5 < squares.mean() <= 3.0
    assert typicality.distances(typicality.mean[None])[0] == pytest.approx(0.0, abs=1e-6)


def test_what_train_never_does_is_far() -> None:
    """As far from the mean in space: along the wide direction it is typical, across it is not."""
    typicality = Typicality.fit(train())
    along, across = typicality.distances(typicality.mean + np.array([[5.0, 0, 0], [0, 5.0, 0]], dtype=np.float32))
    assert along < 1.5
    assert across > 2 * along


def test_a_direction_that_train_does_not_have_at_all_counts_and_does_not_decide_alone() -> None:
    """Its variance is 0; the distance along it is finite."""
    flat = train()
    flat[:, 2] = 1.0
    typicality = Typicality.fit(flat)
    shifted = typicality.mean + np.array([[0, 0, 0.1], [0, 0, 10.0]], dtype=np.float32)
    near, far = typicality.distances(shifted)
    assert near < 0.2
    assert 2 < far < 20


def test_windows_that_are_all_alike_teach_nothing() -> None:
    """No window, one, or a thousand times the same."""
    for vectors in (train()[:0], train()[:1], np.repeat(train()[:1], 1000, axis=0)):
        with pytest.raises(ValueError, match="no two of them differ"):
            Typicality.fit(vectors)


def test_it_is_read_as_it_was_written_and_for_its_own_backbone_alone(tmp_path: Path) -> None:
    """The same distances to the last bit; another backbone, a turned bit and a missing file are told."""
    path = tmp_path / "typicality.safetensors"
    typicality = Typicality.fit(train())
    typicality.save(path, backbone_sha256="ab")
    found = Typicality.load(path, backbone_sha256="ab", remedy="train again")
    assert np.array_equal(found.distances(train()), typicality.distances(train()))
    with pytest.raises(DamagedFile, match=r"typicality\.safetensors.*other vectors.*'ab'.*train again"):
        Typicality.load(path, backbone_sha256="cd", remedy="train again")
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"typicality\.safetensors.*train again"):
        Typicality.load(path, backbone_sha256="ab", remedy="train again")
    with pytest.raises(FileNotFoundError):
        Typicality.load(tmp_path / "none", backbone_sha256="ab", remedy="train again")


def test_vectors_of_another_length_are_refused() -> None:
    """A pooling of another backbone, or one vector alone."""
    typicality = Typicality.fit(train())
    for wrong in (train()[:, :2], train()[0]):
        with pytest.raises(ValueError, match="vectors of 3 numbers are wanted"):
            typicality.distances(wrong)

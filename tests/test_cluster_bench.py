"""The benchmark of several workers runs on small inputs."""

from __future__ import annotations

import pytest

from bench import cluster

pytestmark = pytest.mark.slow


def test_shares_and_stores_are_measured() -> None:
    """Two processes do what one does, and an object store is compared with the folder."""
    shares = cluster.measure_shares(6, 0.01)
    store = cluster.measure_object_store(3, 0.001, rounds=1)
    assert [(row.goal, row.better) for row in (shares, store)] == [(0.9, "higher"), (1.1, "lower")]
    assert shares.measured is not None
    assert store.measured is not None
    assert 6 <= shares.details["computed_by_two"] <= 12


def test_workers_of_ray_are_measured() -> None:
    """As many workers as are asked for compute each video once."""
    seconds, num_computed = cluster.run_on_ray(1, 6, 0.01)
    assert seconds > 6 * 0.01
    assert num_computed == 6

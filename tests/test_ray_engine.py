"""An extraction on a Ray cluster of two nodes: killed workers and nodes, and workers that may not take part."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from features.cache import EmbeddingCache
from features.pieces.places import PiecesError
from features.ray_engine import RayError, extract_on_ray
from pipeline.frozen import Extractor
from tests.shared_world import NAMES, NUM_VIDEOS, SELECTION, Trouble, assemble, loader, sources, whole, world

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

__all__ = ["whole", "world"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with a core each."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
        made = cluster_utils.Cluster(initialize_head=True, head_node_args=node)
        made.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        yield made
        made.shutdown()


def fill(trouble: Trouble, cache: EmbeddingCache, cluster: Any) -> Counter[str]:
    """Extract all videos on the cluster; how often each was begun, by name."""
    videos = sources(trouble.loads.checkpoint.parent)
    with cache.locked():
        extract_on_ray(trouble, videos, cache=cache, selection=SELECTION, cores_a_worker=3, address=cluster.address)
    return Counter(trouble.diary.read_text().split())


def reused(extractor: Extractor, world: Path, whole: dict[str, str], root: Path) -> bool:
    """Whether all videos are in the cache, and the stores assembled from there are the single process's."""
    extraction = extractor.extract(sources(world), SELECTION)
    return extraction.num_reused == NUM_VIDEOS and assemble(extractor, extraction, root) == whole


def test_a_killed_worker_costs_what_it_was_at(world: Path, whole: dict[str, str], cluster: Any, tmp_path: Path) -> None:
    """A video that kills once is tried again; one that kills alone twice is kept as failed; no other begins twice."""
    loads = loader(world, tmp_path / "cache")
    extractor = loads()
    cache = extractor.encoder.cache
    trouble = Trouble(loads, tmp_path / "diary", kills={"v03": 1, "v07": 99})
    begun = fill(trouble, cache, cluster)
    assert begun.keys() == set(NAMES)
    assert begun["v03"] == 2
    assert begun["v07"] in (2, 3)  # the first time perhaps beside others
    assert all(count == 1 for name, count in begun.items() if name not in ("v03", "v07"))
    extraction = extractor.extract(sources(world), SELECTION)
    assert (extraction.num_embedded, extraction.num_known) == (0, 1)
    assert extraction.failures["v07"].found == "2 workers died at it"
    cache.forget_failures([path.name[:64] for path in cache.folder.glob("*.failed.json")])
    assert extractor.extract(sources(world), SELECTION).num_embedded == 1
    assert reused(extractor, world, whole, tmp_path)


def test_a_killed_node_costs_what_it_was_at(world: Path, whole: dict[str, str], cluster: Any, tmp_path: Path) -> None:
    """The other node does the rest; only the video that was under way is begun twice."""
    loads = loader(world, tmp_path / "cache")
    extractor = loads()
    trouble = Trouble(loads, tmp_path / "diary", kills={}, video_s=0.5)
    lost = next(node for node in cluster.list_all_nodes() if not node.head)

    def kill_when_both_work() -> None:
        while not trouble.diary.exists() or len(trouble.diary.read_text().split()) < 6:
            time.sleep(0.05)
        cluster.remove_node(lost, allow_graceful=False)

    killer = threading.Thread(target=kill_when_both_work)
    killer.start()
    begun = fill(trouble, extractor.encoder.cache, cluster)
    killer.join()
    assert sum(begun.values()) - NUM_VIDEOS in (0, 1)
    assert reused(extractor, world, whole, tmp_path)


def test_a_worker_of_another_provenance_is_left_out(world: Path, cluster: Any, tmp_path: Path) -> None:
    """Where none is left, a sentence says what differs, and nothing is in the cache."""
    loads = loader(world, tmp_path / "cache")
    cache = loads().encoder.cache
    trouble = Trouble(loads, tmp_path / "diary", kills={}, other_provenance=True)
    with pytest.raises(RayError, match=r"no Ray worker can be used: .*precision: wanted 'fp32', found 'fp64'"):
        fill(trouble, cache, cluster)
    assert not list(cache.folder.glob("*.safetensors"))


def test_what_a_worker_cannot_reach_is_told_here(world: Path, cluster: Any, tmp_path: Path) -> None:
    """In the worker's own sentence."""
    cache = loader(world, tmp_path / "cache")().encoder.cache
    trouble = Trouble(loader(world, tmp_path / "cache", "s3://nobody-has-this/x"), tmp_path / "diary", kills={})
    with pytest.raises(PiecesError, match=r"s3://nobody-has-this/x cannot be reached .* check extract\.cache"):
        fill(trouble, cache, cluster)


def test_a_cluster_that_is_not_there_is_a_sentence(world: Path, tmp_path: Path) -> None:
    """At once, with the address and the param."""
    pytest.importorskip("ray")
    cache = EmbeddingCache(tmp_path / "cache", {})
    wanted = r"cluster at 127\.0\.0\.1:1 cannot be used: .* check extract\.ray_address"
    with cache.locked(), pytest.raises(RayError, match=wanted):
        extract_on_ray(
            loader(world, tmp_path / "cache"),
            sources(world),
            cache=cache,
            selection=SELECTION,
            cores_a_worker=1,
            address="127.0.0.1:1",
        )

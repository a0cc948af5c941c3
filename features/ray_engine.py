"""An extraction spread over a Ray cluster. The only module that imports Ray.

Workers fill the cache, which is all that they and the driver have in common; the driver then finds everything there.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from tqdm import tqdm

from features.cache import EmbeddingCache
from features.clips import Source
from features.extraction import BlockInputSelection, by_hash
from features.provenance import differences

log = logging.getLogger(__name__)

_MOST_VIDEOS, _TASKS_A_WORKER = 64, 4
_IN_FLIGHT = 2
_DEATHS_OF_A_VIDEO = 2
_PATIENCE_S = 60.0
_CONNECT_S = 10.0
_STORE_BYTES = 100 * 2**20  # tasks are names, results are counts


class RayError(Exception):
    """A cluster cannot be used; the message says why and what to do."""


class Extractor(Protocol):
    """What a worker does: it brings videos into the cache that its `provenance` is the key of."""

    @property
    def provenance(self) -> Mapping[str, Any]: ...

    def extract(self, sources: Sequence[Source], selection: BlockInputSelection) -> object: ...

    def shrink(self) -> int:
        """Keep the worker's machine within its quota."""


def extract_on_ray(
    load: Callable[[], Extractor],
    sources: Sequence[Source],
    *,
    cache: EmbeddingCache,
    selection: BlockInputSelection,
    cores_a_worker: int,
    address: str | None,
) -> None:
    """Bring all videos into the cache, or why they failed, on the cluster at `address`; None starts one here.

    Each worker has a GPU, or `cores_a_worker` cores where there is none; `load` is pickled and called there, and the
    videos' files have the same paths on all machines. A worker of another provenance than the cache's is left out. A
    dead worker is replaced; its videos are tried again in halves, and one that dies twice alone is kept as failed. Call
    it inside `cache.locked()`. Raises `RayError`, and what a worker raises.
    """
    absolute = [replace(source, path=source.path.absolute()) for source in sources]
    videos, wanted = by_hash(absolute, cache, selection)
    lacking = cache.lacking(wanted, selection.precision)
    if not lacking:
        return
    with _cluster(address) as ray:
        _Run(ray, load, videos, wanted, cache, selection.precision, _worker_options(ray, cores_a_worker)).run(lacking)
    missing = cache.lacking(wanted, selection.precision)
    if missing:
        raise RayError(
            f"workers have embedded {len(missing)} videos that are not in the cache here, such as "
            f"{videos[missing[0]].path}: name a place that all machines reach in extract.cache"
        )


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ModuleNotFoundError as error:
        raise RayError("extract.engine ray: Ray is not installed: pip install 'video-diary-logger[ray]'") from error
    options: dict[str, Any] = {} if address else {"object_store_memory": _STORE_BYTES, "include_dashboard": False}
    try:
        _require_listener(address or "")
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.WARNING, **options)
    except Exception as error:  # Ray raises anything here
        cause = " ".join(str(error).split())[:300]
        raise RayError(
            f"the Ray cluster at {address or 'this machine'} cannot be used: {cause}; check extract.ray_address"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Raise `OSError` where nobody listens at `host:port`: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()


def _worker_options(ray: Any, cores_a_worker: int) -> list[dict[str, Any]]:
    """What Ray is to give each worker: a GPU each, else a share of the cores."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    num_gpus = int(sum(node.get("GPU", 0) for node in nodes))
    options = {"max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}
    if num_gpus:
        return [{**options, "num_cpus": 1, "num_gpus": 1}] * num_gpus
    cores = max(1, min(cores_a_worker, int(max(node.get("CPU", 0) for node in nodes))))
    num_workers = int(sum(node.get("CPU", 0) // cores for node in nodes))
    if not num_workers:
        raise RayError("the Ray cluster has neither a GPU nor a core for a worker")
    return [{**options, "num_cpus": cores}] * num_workers


class _Worker:
    """Runs in a process of its own, one call after the other."""

    def __init__(self) -> None:
        self._extractor: Extractor | None = None

    def load(self, load: Callable[[], Extractor], expected: Mapping[str, Any]) -> list[str]:
        """Get ready; returns in what the provenance differs, which is to be nothing."""
        self._extractor = load()
        found = dict(self._extractor.provenance)
        extra = [f"{name}: wanted nothing, found {found[name]!r}" for name in sorted(found.keys() - expected.keys())]
        return [f"on {socket.gethostname()}: {line}" for line in [*differences(found, expected=expected), *extra]]

    def extract(self, sources: Sequence[Source], selection: BlockInputSelection) -> int:
        assert self._extractor is not None
        self._extractor.extract(sources, selection)
        self._extractor.shrink()
        return len(sources)


@dataclass
class _Seat:
    """A place for a worker: its handle, whether it is loaded, and its tasks in order, by their references."""

    options: dict[str, Any]
    handle: Any
    loading: Any
    is_ready: bool = False
    tasks: dict[Any, list[str]] = field(default_factory=dict)


@dataclass
class _Run:
    """The state of a run: what waits, who works, which videos were alone with a worker that died."""

    ray: Any
    load: Callable[[], Extractor]
    videos: Mapping[str, Source]
    wanted: Mapping[str, frozenset[int]]
    cache: EmbeddingCache
    precision: str
    options: list[dict[str, Any]]
    waiting: deque[list[str]] = field(default_factory=deque)
    seats: list[_Seat] = field(default_factory=list)
    deaths: Counter[str] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)

    def run(self, lacking: Sequence[str]) -> None:
        size = max(1, min(_MOST_VIDEOS, -(-len(lacking) // (_TASKS_A_WORKER * len(self.options)))))
        self.waiting.extend(list(lacking[first : first + size]) for first in range(0, len(lacking), size))
        self.seats = [self._seat(options) for options in self.options]
        with tqdm(total=len(lacking), desc="extract", unit="video", file=sys.stderr) as bar:
            while self.waiting or any(seat.tasks for seat in self.seats):
                if not self.seats:
                    raise RayError(f"no Ray worker can be used: {'; '.join(self.refusals)}")
                for seat in self.seats:
                    self._fill(seat)
                self._take(bar)

    def _seat(self, options: dict[str, Any]) -> _Seat:
        handle = self.ray.remote(_Worker).options(**options).remote()
        return _Seat(options, handle, handle.load.remote(self.load, dict(self.cache.provenance)))

    def _fill(self, seat: _Seat) -> None:
        while seat.is_ready and self.waiting and len(seat.tasks) < _IN_FLIGHT:
            task = self.waiting.popleft()
            sources = [self.videos[digest] for digest in task]
            windows = {self.videos[digest].video_id: self.wanted[digest] for digest in task if self.wanted[digest]}
            reference = seat.handle.extract.remote(sources, BlockInputSelection(windows, self.precision))
            seat.tasks[reference] = task

    def _take(self, bar: Any) -> None:
        """Wait until something has come, and act on it."""
        seat_of = {reference: seat for seat in self.seats for reference in seat.tasks}
        seat_of |= {seat.loading: seat for seat in self.seats if not seat.is_ready}
        done, _ = self.ray.wait(list(seat_of), num_returns=1, timeout=_PATIENCE_S)
        if not done and not any(seat.is_ready for seat in self.seats):
            log.warning("no Ray worker has begun for %g s; waiting for the cluster to have room", _PATIENCE_S)
        for reference in done:
            seat = seat_of[reference]
            try:
                answer = self.ray.get(reference)
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, Exception) else error from None
            except self.ray.exceptions.RayError as error:
                self._replace(seat, error)
                continue
            if seat.is_ready:
                bar.update(len(seat.tasks.pop(reference)))
            elif answer:
                self._dismiss(seat, "; ".join(answer))
            else:
                seat.is_ready = True

    def _dismiss(self, seat: _Seat, why: str) -> None:
        log.warning("a Ray worker is left out: %s", why)
        self.refusals.append(why)
        self.seats.remove(seat)
        self.ray.kill(seat.handle)

    def _replace(self, seat: _Seat, error: Exception) -> None:
        """Put another worker in the place of one that died; what it was at is tried again."""
        cause = str(error).partition("\n")[0].strip()
        if not seat.is_ready:
            self._dismiss(seat, f"it died while it was loading: {cause}")
            return
        at_work, *untouched = seat.tasks.values()
        self.waiting.extendleft(reversed(untouched))
        left = self.cache.lacking({digest: self.wanted[digest] for digest in at_work}, self.precision)
        log.warning("a Ray worker died with %d videos left of its task: %s", len(left), cause)
        if len(left) == 1:
            self._try_alone(left[0])
        elif left:
            middle = len(left) // 2
            self.waiting.extendleft([left[middle:], left[:middle]])
        self.seats[self.seats.index(seat)] = self._seat(seat.options)

    def _try_alone(self, digest: str) -> None:
        self.deaths[digest] += 1
        if self.deaths[digest] < _DEATHS_OF_A_VIDEO:
            self.waiting.appendleft([digest])
        else:
            found = f"{self.deaths[digest]} workers died at it"
            self.cache.put_failure(digest, "extracting it ends the process", found)

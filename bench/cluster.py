"""What spreading `extract` costs: two workers over one, by shares and by Ray, and an object store over a folder.

The backbone is a stub that sleeps, as a core does while an accelerator works, and then keeps embeddings of real size.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import Row, interleaved
from bench.worlds import ROOT
from features.cache import EmbeddingCache
from features.clips import Source
from features.decode.damage import VideoEnd
from features.extraction import BlockInputSelection, Extraction
from features.files import sha256_of
from features.pictures import WindowPictures
from features.pieces.objects import ObjectPieces
from features.ray_engine import extract_on_ray
from features.sharing import Share, extract_share
from features.store.embeddings import VideoEmbeddings, write_embeddings

NOTHING = BlockInputSelection({}, "fp16")
_PROVENANCE = {"made": "by a stub"}
_NUM_WINDOWS, _SIZE = 28, 1024  # of a video of Charades, of ViT-L


@dataclass(frozen=True)
class Stub:
    """Loads, and is, an extractor that takes `video_s` a video; it begins when `num_workers` of its kind have loaded.

    When each video begins and ends it writes into `folder`, which has the cache as well.
    """

    folder: str
    video_s: float
    num_workers: int

    def __call__(self) -> Stub:
        ready = Path(self.folder) / "ready"
        ready.mkdir(parents=True, exist_ok=True)
        (ready / secrets.token_hex(4)).touch()
        while len(list(ready.iterdir())) < self.num_workers:
            time.sleep(0.005)
        return self

    @property
    def cache(self) -> EmbeddingCache:
        return EmbeddingCache(Path(self.folder) / "cache", _PROVENANCE)

    @property
    def provenance(self) -> Mapping[str, Any]:
        return _PROVENANCE

    def extract(self, sources: Sequence[Source], selection: BlockInputSelection) -> Extraction:
        """Sleep and keep, one video after the other."""
        times = []
        for source in sources:
            begin_s = time.time()
            time.sleep(self.video_s)
            self.cache.put(sha256_of(source.path), video_of_charades(), VideoEnd(30.0))
            times.append((begin_s, time.time()))
        text = "".join(f"{begin_s} {end_s}\n" for begin_s, end_s in times)
        (Path(self.folder) / f"times-{secrets.token_hex(4)}").write_text(text)
        return Extraction({}, {}, {}, {}, num_embedded=len(sources), num_reused=0)

    def shrink(self) -> int:
        return 0

    def took(self) -> tuple[float, int]:
        """Seconds from when the first video began until the last one ended, and how many were computed."""
        files = Path(self.folder).glob("times-*")
        times = np.array([line.split() for file in files for line in file.read_text().splitlines()], dtype=float)
        return float(times[:, 1].max() - times[:, 0].min()), len(times)


def measure(*, num_videos: int = 160, video_s: float = 0.1) -> list[Row]:
    """Both ways of two workers, then the object store."""
    return [
        measure_shares(num_videos, video_s),
        measure_ray(num_videos, video_s),
        measure_object_store(num_videos // 2, video_s / 5, rounds=5),
    ]


def measure_shares(num_videos: int, video_s: float) -> Row:
    """Processes of `--share`, which know nothing of each other but the cache."""
    taken = {}
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            stub = Stub(folder, video_s, count)
            make_videos(Path(folder), num_videos)
            code = "import json, sys; from bench.cluster import run_share; run_share(**json.loads(sys.argv[1]))"
            started = [
                subprocess.Popen(
                    [sys.executable, "-c", code, json.dumps({**asdict(stub), "share": f"{number}/{count}"})], cwd=ROOT
                )
                for number in range(1, count + 1)
            ]
            statuses = [process.wait() for process in started]
            if any(statuses):
                raise RuntimeError("a share failed")
            taken[count] = stub.took()
    return _row("two processes of extract --share", taken, num_videos, video_s)


def run_share(*, folder: str, video_s: float, num_workers: int, share: str) -> None:
    """One share, when all have loaded."""
    stub = Stub(folder, video_s, num_workers)()
    with stub.cache.locked():
        extract_share(
            Share.parse(share), videos_in(Path(folder)), cache=stub.cache, selection=NOTHING, extract=stub.extract
        )


def measure_ray(num_videos: int, video_s: float) -> Row:
    """Workers of a Ray cluster on this machine, which has a core for each."""
    taken = {count: run_on_ray(count, num_videos, video_s) for count in (1, 2)}
    return _row("two workers of Ray", taken, num_videos, video_s)


def run_on_ray(num_workers: int, num_videos: int, video_s: float) -> tuple[float, int]:
    """What `Stub.took` says of so many workers."""
    with tempfile.TemporaryDirectory() as folder:
        stub = Stub(folder, video_s, num_workers)
        make_videos(Path(folder), num_videos)
        with stub.cache.locked():
            extract_on_ray(
                stub,
                videos_in(Path(folder)),
                cache=stub.cache,
                selection=NOTHING,
                cores_a_worker=max(1, (os.cpu_count() or 1) // num_workers),
                address=None,
            )
        return stub.took()


def _row(name: str, taken: Mapping[int, tuple[float, int]], num_videos: int, video_s: float) -> Row:
    return Row(
        f"extract on {name}, with a backbone that sleeps",
        "speed of two / twice the speed of one",
        taken[1][0] / (2 * taken[2][0]),
        goal=0.9,
        details={
            "videos": num_videos,
            "video_s": video_s,
            "one_s": taken[1][0],
            "two_s": taken[2][0],
            "computed_by_two": taken[2][1],
        },
    )


def measure_object_store(num_videos: int, video_s: float, *, rounds: int) -> Row:
    """Fill a cache and assemble the store, with the folder alone and with an object store on this disk behind it."""
    from obstore.store import LocalStore

    video = video_of_charades()
    digests = [f"{number:064x}" for number in range(num_videos)]

    def fill_and_assemble(*, is_shared: bool) -> None:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as objects:
            shared = ObjectPieces(LocalStore(objects), objects) if is_shared else None
            cache = EmbeddingCache(Path(folder) / "cache", _PROVENANCE, shared)
            with cache.locked():
                for digest in digests:
                    time.sleep(video_s)
                    cache.put(digest, video, VideoEnd(30.0))
                sound = cache.sound(digests)
                write_embeddings(
                    Path(folder) / "store", dict.fromkeys(sound, _NUM_WINDOWS), cache.load, provenance=_PROVENANCE
                )

    taken = interleaved(
        {
            "folder": lambda: fill_and_assemble(is_shared=False),
            "objects": lambda: fill_and_assemble(is_shared=True),
        },
        rounds=rounds,
    )
    return Row(
        f"extract with an object store on this disk, {1000 * video_s:g} ms of accelerator a video",
        "time with the object store / with the folder",
        taken["objects"].wall.over(taken["folder"].wall),
        goal=1.1,
        better="lower",
        details={
            "videos": num_videos,
            "folder_s": taken["folder"].wall.median_s,
            "objects_s": taken["objects"].wall.median_s,
        },
    )


def make_videos(folder: Path, count: int) -> None:
    """Files that differ, which is all that a stub asks of a video."""
    for number in range(count):
        (folder / f"{number:05}.mp4").write_text(str(number))


def videos_in(folder: Path) -> list[Source]:
    return [Source(path.stem, path) for path in sorted(folder.glob("*.mp4"))]


def video_of_charades() -> VideoEmbeddings:
    """Made-up embeddings of a video of 30 s, in the size that ViT-L gives."""
    numbers = np.arange(_NUM_WINDOWS, dtype=np.int32)
    starts_s = numbers.astype(np.float64)
    rng = np.random.default_rng(0)
    vectors = {
        name: rng.standard_normal((_NUM_WINDOWS, _SIZE)).astype(np.float16) for name in ("max", "mean", "pooler")
    }
    pictures = WindowPictures(*rng.random((3, _NUM_WINDOWS), dtype=np.float32))
    return VideoEmbeddings(numbers, starts_s, starts_s + 2.0, numbers * 0, vectors, pictures)

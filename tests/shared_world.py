"""Short videos, a tiny backbone, and what several processes or machines need to extract them into one cache."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.clips import Source
from features.extraction import BlockInputSelection, Extraction
from features.pictures import WindowPictures
from features.store.block_inputs import write_block_inputs
from features.store.embeddings import VideoEmbeddings, write_embeddings
from features.video import WindowPlan
from pipeline.frozen import Extractor, ExtractorLoader
from tests.tiny_backbone import write_backbone
from tests.videos import evenly, write_video

PLAN = WindowPlan(num_frames=4, sample_fps=4, stride_s=0.5, max_still_s=1.0)
NUM_VIDEOS = 12
NAMES = [f"v{number:02}" for number in range(NUM_VIDEOS)]
SELECTION = BlockInputSelection({"v00": frozenset({0, 1}), "v05": frozenset({0, 500})}, "fp16")


def make_world(folder: Path) -> Path:
    """Twelve videos of 1 to 2 s and a backbone."""
    for number, name in enumerate(NAMES):
        write_video(folder / f"{name}.mp4", evenly(12 + number, 12), size=(64, 48), options={"g": "12"})
    write_backbone(folder / "backbone")
    return folder


def sources(world: Path) -> list[Source]:
    return [Source(name, world / f"{name}.mp4") for name in NAMES]


def loader(world: Path, cache: Path, shared: str | None = None) -> ExtractorLoader:
    return ExtractorLoader(
        world / "backbone",
        cache,
        shared,
        PLAN,
        decoder="pyav",
        precision="fp32",
        attention="sdpa",
        views="center",
        batch_size=3,
        num_workers=0,
        max_cache_gb=1.0,
    )


def assemble(extractor: Extractor, extraction: Extraction, root: Path) -> dict[str, str]:
    """Write the stores as stage `extract` does; the hash of every file of them, by its path."""
    cache, made_by = extractor.encoder.cache, extractor.provenance
    sha256s, windows = extraction.sha256s, extraction.block_input_windows
    write_embeddings(
        root / "embeddings", extraction.num_windows, lambda name: cache.load(sha256s[name]), provenance=made_by
    )
    write_block_inputs(
        root / "block_inputs",
        windows,
        lambda name: cache.load_block_inputs(sha256s[name], "fp16", windows[name]),
        precision="fp16",
        provenance=made_by,
    )
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for store in ("embeddings", "block_inputs")
        for path in sorted((root / store).rglob("*"))
        if path.is_file()
    }


@dataclass(frozen=True)
class Trouble:
    """What goes wrong in a worker: on which videos, by name, it is killed, and how often each.

    Each video that is begun leaves a line with its name in `diary`. `loads` is the worker that has none of this.
    """

    loads: ExtractorLoader
    diary: Path
    kills: Mapping[str, int]
    other_provenance: bool = False
    video_s: float = 0.0

    def __call__(self) -> TroubledExtractor:
        return TroubledExtractor(self, self.loads())


@dataclass(frozen=True)
class TroubledExtractor:
    trouble: Trouble
    extractor: Extractor

    @property
    def provenance(self) -> Mapping[str, Any]:
        return {**self.extractor.provenance, **({"precision": "fp64"} if self.trouble.other_provenance else {})}

    def extract(self, videos: Sequence[Source], selection: BlockInputSelection) -> Extraction:
        """One video after the other, each with a line in the diary."""
        for video in videos:
            with self.trouble.diary.open("a") as diary:
                diary.write(f"{video.video_id}\n")
            time.sleep(self.trouble.video_s)
            begun = self.trouble.diary.read_text().split().count(video.video_id)
            if begun <= self.trouble.kills.get(video.video_id, 0):
                os.kill(os.getpid(), signal.SIGKILL)
            done = self.extractor.extract([video], selection)
        return replace(done, num_embedded=len(videos))

    def shrink(self) -> int:
        return 0


def made_up(num_windows: int, size: int = 8) -> VideoEmbeddings:
    """Embeddings of a video that nobody has seen."""
    numbers = np.arange(num_windows, dtype=np.int32)
    starts_s = (numbers * 0.5).astype(np.float64)
    vectors = np.random.default_rng(num_windows).standard_normal((num_windows, size)).astype(np.float16)
    brightness, contrast, motion = np.zeros((3, num_windows), dtype=np.float32)
    pictures = WindowPictures(brightness.copy(), contrast.copy(), motion.copy())
    return VideoEmbeddings(numbers, starts_s, starts_s + 1.0, numbers * 0, {"mean": vectors}, pictures)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The stores of a single process with a cache of its own."""
    root = tmp_path_factory.mktemp("whole")
    extractor = loader(world, root / "cache")()
    extraction = extractor.extract(sources(world), SELECTION)
    assert (extraction.num_embedded, extraction.num_reused, dict(extraction.failures)) == (NUM_VIDEOS, 0, {})
    return assemble(extractor, extraction, root)

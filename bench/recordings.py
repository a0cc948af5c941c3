"""Speed and peak memory of embedding recordings of unlike length, with and without the motion gate. On a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import cycle
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import torch

from bench import Row
from bench.worlds import DEMO_WINDOWS, ROOT, TINY_BACKBONE, demo_videos
from features.backbone import load_backbone
from features.cache import EmbeddingCache
from features.clips import ClipReader, Source
from features.extraction import BlockInputSelection, extract, provenance
from features.gate import MotionGate
from features.preprocess import Preprocessing
from features.video import WindowPlan

_GATE = MotionGate(max_change=0.02, max_s=10.0)
_STILL_SHARE = 0.75
_LENGTHS_S = (600.0, 3600.0, 10_800.0)
_RATE = 10


def measure(
    *,
    folder: Path = TINY_BACKBONE,
    plan: WindowPlan = DEMO_WINDOWS,
    videos: Sequence[Path] | None = None,
    lengths_s: Sequence[float] = _LENGTHS_S,
) -> list[Row]:
    """Rows of long recordings beside the first, a short one; all are of `videos` with still stretches between.

    Speed and the gate are measured on the second.
    """
    videos = demo_videos(24) if videos is None else videos
    with tempfile.TemporaryDirectory() as made:
        paths = {length_s: Path(made) / f"{length_s:g}.mp4" for length_s in lengths_s}
        for length_s, path in paths.items():
            write_recording(path, videos, length_s=length_s, still_share=_STILL_SHARE)
        of_length = {length_s: embedded_apart(folder, plan, path, None) for length_s, path in paths.items()}
        gated = embedded_apart(folder, plan, paths[lengths_s[1]], _GATE)
    of_short, of_long = (of_length[length_s] for length_s in lengths_s[:2])
    by_length_s = {f"{length_s:g}": measured for length_s, measured in of_length.items()}
    details = {"by_length_s": by_length_s, "long_with_gate": gated, "still_share": _STILL_SHARE}
    name = _name(lengths_s[1])
    saved = 1 - gated["num_embedded"] / gated["num_windows"]
    return [
        *(
            Row(
                f"{_name(length_s)}: memory compared with one of {lengths_s[0] / 60:g} minutes",
                "peak of all processes / the short one's",
                own["peak_mib"] / of_short["peak_mib"],
                goal=1.05,
                better="lower",
                note=f"{own['peak_mib']:.0f} and {of_short['peak_mib']:.0f} MiB",
                details=details,
            )
            for length_s, own in of_length.items()
            if length_s != lengths_s[0]
        ),
        Row(
            f"{name}: speed",
            "seconds of video / of work",
            lengths_s[1] / of_long["work_s"],
            note=f"the short one {lengths_s[0] / of_short['work_s']:.3g}",
            details=details,
        ),
        Row(
            f"{name}, {_STILL_SHARE:.0%} of it still: the motion gate",
            "time without / with the gate",
            of_long["work_s"] / gated["work_s"],
            note=f"{saved:.0%} of the windows are not embedded; all are decoded",
            details=details,
        ),
    ]


def _name(length_s: float) -> str:
    return f"Recording of {length_s / 60:g} minutes, tiny backbone"


def write_recording(path: Path, videos: Sequence[Path], *, length_s: float, still_share: float) -> None:
    """Write a recording of a camera that stands still: videos in turn, each followed by its last picture with noise."""
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE, options={"preset": "veryfast"})
        number = 0
        for video in cycle(videos):
            pictures = list(_pictures(video))
            num_still = round(len(pictures) * still_share / (1 - still_share))
            still = pictures[-1].astype(np.int16)
            noise = generator.integers(-2, 3, (8, *still.shape), dtype=np.int16)
            noisy = [np.clip(still + each, 0, 255).astype(np.uint8) for each in noise]
            for picture in [*pictures, *(noisy[k % len(noisy)] for k in range(num_still))]:
                if number == 0:
                    stream.height, stream.width = picture.shape[:2]
                    stream.pix_fmt = "yuv420p"
                    stream.codec_context.time_base = Fraction(1, _RATE)
                if number == round(length_s * _RATE):
                    container.mux(stream.encode())
                    return
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
                number += 1


def _pictures(video: Path) -> Iterator[np.ndarray]:
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def embedded_apart(folder: Path, plan: WindowPlan, video: Path, gate: MotionGate | None) -> dict[str, Any]:
    """What `embed_recording` measures, in a process that has done nothing else."""
    arguments = {
        "folder": str(folder),
        "video": str(video),
        "plan": vars(plan),
        "gate": None if gate is None else vars(gate),
    }
    code = "import json, sys; from bench.recordings import embed_recording; embed_recording(**json.loads(sys.argv[1]))"
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def embed_recording(*, folder: str, video: str, plan: Mapping[str, Any], gate: Mapping[str, Any] | None) -> None:
    """Embed a recording into an empty cache, and print what that took as JSON."""
    preprocessing = Preprocessing.from_checkpoint(Path(folder))
    reader = ClipReader(WindowPlan(**plan), preprocessing, "pyav", None if gate is None else MotionGate(**gate))
    backbone = load_backbone(Path(folder), dtype=torch.float32)
    with tempfile.TemporaryDirectory() as root, _peak_mib() as peak:
        cache = EmbeddingCache(Path(root), provenance(backbone, reader))
        start_s = time.perf_counter()
        with cache.locked():
            extraction = extract(
                backbone,
                [Source("recording", Path(video))],
                reader,
                cache=cache,
                selection=BlockInputSelection({}, "fp32"),
                batch_size=16,
                num_workers=1,
                device=torch.device("cpu"),
                thumbnails=True,
            )
            work_s = time.perf_counter() - start_s
            vectors = cache.load(extraction.sha256s["recording"]).vectors["mean"]
    changes = np.any(vectors[1:] != vectors[:-1], axis=1)
    print(
        json.dumps(
            {
                "work_s": work_s,
                "peak_mib": max(peak),
                "num_windows": len(vectors),
                "num_embedded": 1 + int(changes.sum()) if gate is not None else len(vectors),
            }
        )
    )


@contextmanager
def _peak_mib() -> Iterator[list[float]]:
    """MiB that this process and those below it hold, several times a second."""
    process, stop = psutil.Process(), threading.Event()
    found: list[float] = []

    def watch() -> None:
        while not stop.wait(0.1):
            total = 0
            for each in [process, *process.children(recursive=True)]:
                try:
                    total += each.memory_info().rss
                except psutil.Error:
                    continue
            found.append(total / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        stop.set()
        watcher.join()

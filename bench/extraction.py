"""Speed of `extract` compared with the forward pass alone, a plain decode, and one window at a time. On a CPU."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import numpy as np
import torch
from transformers import VJEPA2ForVideoClassification

from bench import Row, interleaved
from bench.worlds import (
    CHARADES_WINDOWS,
    DEMO_WINDOWS,
    TINY_BACKBONE,
    VIT_L,
    ModelSize,
    demo_videos,
    write_footage,
)
from features.backbone import Backbone, load_backbone
from features.clips import ClipReader, Source
from features.embed import embed_videos
from features.pooling import POOLINGS
from features.preprocess import Preprocessing


@dataclass(frozen=True)
class Work:
    """Videos to embed, and how."""

    sources: Sequence[Source]
    reader: ClipReader
    batch_size: int
    num_workers: int


def measure() -> list[Row]:
    """All rows: the tiny backbone on the demo's videos, ViT-L on footage, and decoding alone on both."""
    tiny_preprocessing = Preprocessing.from_checkpoint(TINY_BACKBONE)
    demo = demo_videos(48)
    with tempfile.TemporaryDirectory() as folder:
        footage = [write_footage(Path(folder) / f"{k}.mp4", duration_s=10, seed=k) for k in range(2)]
        large = Work(
            [Source("footage", footage[0], frozenset({1, 2, 3, 4}))],
            ClipReader(CHARADES_WINDOWS, VIT_L.preprocessing, "pyav"),
            batch_size=4,
            num_workers=1,
        )
        small = Work(
            [Source(path.stem, path) for path in demo],
            ClipReader(DEMO_WINDOWS, tiny_preprocessing, "pyav"),
            batch_size=16,
            num_workers=num_cores(),
        )
        return [
            *measure_tiny(TINY_BACKBONE, small, rounds=5, num_prototype_videos=4),
            *measure_large(VIT_L, large, rounds=3),
            measure_decoding("footage at 480p, 256 pixels", footage, large.reader, rounds=5),
            measure_decoding("the demo's videos", demo, small.reader, rounds=5),
        ]


def measure_large(size: ModelSize, work: Work, *, rounds: int) -> list[Row]:
    """Extraction in bf16, compared with the forward pass on the same batches and with the prototype's way in fp32."""
    model = size.model()
    backbone = size.backbone(torch.bfloat16)
    batches = pixel_batches(backbone, work)
    num_windows = sum(len(batch) for batch in batches)
    first = work.sources[0]
    one_window = min(first.windows or {0})
    taken = interleaved(
        {
            "end_to_end": lambda: embed_all(backbone, work),
            "forward": lambda: forward_all(backbone, batches),
            "prototype": lambda: embed_as_the_prototype(model, first.path, work.reader, [one_window]),
        },
        rounds=rounds,
    )
    end_to_end, forward, prototype = (taken[name].wall for name in ("end_to_end", "forward", "prototype"))
    details = {
        "windows": num_windows,
        "batch_size": work.batch_size,
        "rounds": rounds,
        **end_to_end.details("end_to_end"),
        **forward.details("forward"),
        **prototype.details("prototype_one_window"),
    }
    return [
        Row(
            "ViT-L in bf16: extraction compared with the forward pass",
            "forward pass alone / end to end",
            forward.over(end_to_end),
            goal=0.95,
            details=details,
        ),
        Row(
            "ViT-L: extraction in bf16 compared with the prototype's way in fp32",
            "prototype's time per window / extraction's",
            prototype.over(end_to_end / num_windows),
            goal=1.8,
            details=details,
        ),
    ]


def measure_tiny(folder: Path, work: Work, *, rounds: int, num_prototype_videos: int) -> list[Row]:
    """Extraction in fp32 with a backbone that takes about as long as decoding: how busy it keeps the cores."""
    backbone = load_backbone(folder, dtype=torch.float32)
    model = VJEPA2ForVideoClassification.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    batches = pixel_batches(backbone, work)
    num_windows = sum(len(batch) for batch in batches)
    prototype_windows = {
        source: range(sum(1 for _ in work.reader.clips(source))) for source in work.sources[:num_prototype_videos]
    }
    num_prototype_windows = sum(map(len, prototype_windows.values()))
    start_s = first_start_s(backbone, work)
    taken = interleaved(
        {
            "end_to_end": lambda: embed_all(backbone, work),
            "decoding": in_one_thread(lambda: decode_all(work.sources, work.reader)),
            "forward": in_one_thread(lambda: forward_all(backbone, batches)),
            "prototype": lambda: [
                embed_as_the_prototype(model, source.path, work.reader, windows)
                for source, windows in prototype_windows.items()
            ],
        },
        rounds=rounds,
    )
    end_to_end = taken["end_to_end"].wall
    prototype = taken["prototype"].wall
    work_cpu = taken["decoding"].cpu + taken["forward"].cpu
    details = {
        "windows": num_windows,
        "videos": len(work.sources),
        "batch_size": work.batch_size,
        "num_workers": work.num_workers,
        "cores": num_cores(),
        "rounds": rounds,
        "first_start_s": start_s,
        "with_first_start": (end_to_end.median_s + start_s) / (work_cpu.median_s / num_cores()),
        "prototype_windows": num_prototype_windows,
        **end_to_end.details("end_to_end"),
        **taken["decoding"].cpu.details("decoding_cpu"),
        **taken["forward"].cpu.details("forward_cpu"),
        **prototype.details("prototype"),
    }
    return [
        Row(
            "Tiny backbone: extraction compared with the work of its parts",
            "wall time x cores / CPU time of decoding and the forward pass",
            end_to_end.over(work_cpu / num_cores()),
            goal=1.15,
            better="lower",
            details=details,
        ),
        Row(
            "Tiny backbone: extraction compared with the prototype's way",
            "prototype's time per window / extraction's",
            (prototype / num_prototype_windows).over(end_to_end / num_windows),
            goal=5.0,
            details=details,
        ),
    ]


def measure_decoding(what: str, paths: Sequence[Path], reader: ClipReader, *, rounds: int) -> Row:
    """Decoding, choosing, resizing and cropping frames, compared with a decode of every frame without conversion."""
    sources = [Source(path.stem, path) for path in paths]
    taken = interleaved(
        {
            "clips": in_one_thread(lambda: decode_all(sources, reader)),
            "plain": lambda: decode_plainly(paths),
        },
        rounds=rounds,
    )
    clips, plain = taken["clips"].cpu, taken["plain"].cpu
    return Row(
        f"Decoding and preprocessing, {what}",
        "CPU time of a plain sequential decode / of ours",
        plain.over(clips),
        goal=0.8,
        details={"videos": len(paths), "rounds": rounds, **clips.details("ours_cpu"), **plain.details("plain_cpu")},
    )


def embed_all(backbone: Backbone, work: Work) -> None:
    """Extraction as the stage does it, without writing."""
    device = next(backbone.parameters()).device
    for _, video in embed_videos(
        backbone,
        work.sources,
        work.reader,
        block_input_windows={},
        batch_size=work.batch_size,
        num_workers=work.num_workers,
        device=device,
    ):
        video.result()


def pixel_batches(backbone: Backbone, work: Work) -> list[torch.Tensor]:
    """The batches that `embed_all` puts through the backbone: normalised pixels (B, T, 3, H, W) on its device.

    Sources that are the same windows of the same file are decoded once.
    """
    device = next(backbone.parameters()).device

    @cache
    def of(path: Path, windows: frozenset[int] | None) -> list[torch.Tensor]:
        frames = torch.from_numpy(np.stack([clip.frames for clip in work.reader.clips(Source("", path, windows))]))
        normalise = work.reader.preprocessing.normalise
        return [normalise(batch.to(device), backbone.dtype) for batch in frames.split(work.batch_size)]

    return [batch for source in work.sources for batch in of(source.path, source.windows)]


@torch.inference_mode()
def forward_all(backbone: Backbone, batches: Sequence[torch.Tensor]) -> None:
    """The forward pass alone; waits until the device has finished."""
    for pixels in batches:
        pooled = backbone.pool_each(backbone.tokens(pixels), POOLINGS)
    if pixels.device.type == "cuda":
        torch.cuda.synchronize(pixels.device)
    del pooled


@torch.inference_mode()
def embed_as_the_prototype(
    model: VJEPA2ForVideoClassification, path: Path, reader: ClipReader, windows: Sequence[int]
) -> None:
    """Open a decoder for each window, seek, decode to the window's end, then run the whole model on it.

    PyAV decodes: decord takes a third longer to open, which would make our ratio look better.
    """
    for number in windows:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            start_s = number * reader.plan.stride_s
            assert stream.time_base is not None
            container.seek(round(start_s / stream.time_base), stream=stream)
            times_s = [start_s + k / reader.plan.sample_fps for k in range(reader.plan.num_frames)]
            pictures = shown_at(container.decode(stream), times_s)
            images = [reader.preprocessing.resize_crop(picture) for picture in pictures]
        images += images[-1:] * (reader.plan.num_frames - len(images))
        pixels = reader.preprocessing.normalise(torch.from_numpy(np.stack(images))[None], torch.float32)
        model(pixel_values_videos=pixels)


def shown_at(frames: Iterator[av.VideoFrame], times_s: Sequence[float]) -> Iterator[np.ndarray]:
    """The first frame at or after each time, as RGB; fewer if the video ends before the last time."""
    remaining_s = iter(times_s)
    next_s = next(remaining_s)
    for frame in frames:
        if frame.time is None or frame.time < next_s - 1e-3:
            continue
        yield frame.to_ndarray(format="rgb24")
        following_s = next(remaining_s, None)
        if following_s is None:
            return
        next_s = following_s


def decode_all(sources: Sequence[Source], reader: ClipReader) -> None:
    """Decode all clips as a worker does."""
    for source in sources:
        for _ in reader.clips(source):
            pass


def decode_plainly(paths: Sequence[Path]) -> None:
    """Decode every frame in one thread, without conversion."""
    for path in paths:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            for _ in container.decode(stream):
                pass


def first_start_s(backbone: Backbone, work: Work) -> float:
    """Extra seconds of the first extraction in this process, which starts the decoding workers.

    Measured on one window. Call it before anything else has started workers.
    """
    one = Work([Source("first", work.sources[0].path, frozenset({0}))], work.reader, 1, work.num_workers)
    first_s, second_s = (_wall_s(lambda: embed_all(backbone, one)) for _ in range(2))
    return max(0.0, first_s - second_s)


def _wall_s(run: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    run()
    return time.perf_counter() - start_s


def in_one_thread(run: Callable[[], object]) -> Callable[[], None]:
    """The same work with torch in one thread, so that its CPU time has no threads that wait for each other."""

    def once() -> None:
        with _one_thread():
            run()

    return once


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

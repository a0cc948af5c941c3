"""What share of an accelerator's peak the forward pass reaches, and what share of that extraction reaches."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from bench import Row, Taken, interleaved
from bench.extraction import Work, embed_all, forward_all, num_cores, pixel_batches
from bench.worlds import CHARADES_WINDOWS, VIT_L, ModelSize, write_footage
from features.backbone import Backbone, best_device
from features.clips import ClipReader, Source, read_videos

_BATCH_SIZES = (1, 4, 16, 64)
_USUAL_BATCH_SIZE = 16
"""The batch size in params/charades.yaml; the goals hold for it."""

_SHARE = "FLOPs per second of the forward pass / measured peak of a bf16 matrix product"
_END_TO_END = "ViT-L in bf16 on CUDA: extraction compared with the forward pass"


def measure() -> list[Row]:
    """All rows on the first CUDA device; without one, rows that are not measured."""
    if not torch.cuda.is_available():
        reason = "no CUDA device"
        return [
            *(Row(_name(size), _SHARE, None, goal=_goal(size), note=reason) for size in _BATCH_SIZES),
            Row(_END_TO_END, "forward pass alone / end to end", None, goal=0.9, note=reason),
        ]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as threads:
        paths = [Path(folder) / f"{k}.mp4" for k in range(2)]
        footage = list(threads.map(lambda path: write_footage(path, duration_s=30, seed=int(path.stem)), paths))
        work = Work(
            [Source(str(k), footage[k % len(footage)]) for k in range(32)],
            ClipReader(CHARADES_WINDOWS, VIT_L.preprocessing, "pyav"),
            batch_size=_USUAL_BATCH_SIZE,
            num_workers=num_cores(),
        )
        return measure_on(best_device(), VIT_L, work, _BATCH_SIZES, matrix_side=8192, rounds=3, num_windows=128)


def measure_on(
    device: torch.device,
    size: ModelSize,
    work: Work,
    batch_sizes: Sequence[int],
    *,
    matrix_side: int,
    rounds: int,
    num_windows: int,
) -> list[Row]:
    """A row for each batch size, with at least `num_windows` windows a round, and one for extraction end to end."""
    peak = matmul_flops(device, matrix_side, rounds)
    backbone = size.backbone(torch.bfloat16).to(device)
    pixels = torch.randn(max(batch_sizes), size.num_frames, 3, size.crop_size, size.crop_size, device=device)
    pixels = pixels.bfloat16()
    rows = []
    for batch_size in batch_sizes:
        batches = [pixels[:batch_size]] * max(1, num_windows // batch_size)
        taken = _warm({"forward": _forward(backbone, batches)}, rounds)["forward"].wall
        windows_per_s = batch_size * len(batches) / taken.median_s
        rows.append(
            Row(
                _name(batch_size),
                _SHARE,
                size.clip_flops * windows_per_s / peak,
                goal=_goal(batch_size),
                note=f"{windows_per_s:.3g} windows/s",
                details={**taken.details("forward"), "peak_flops_per_s": peak, "rounds": rounds},
            )
        )
    batches = pixel_batches(backbone, work)
    ways = {
        "end_to_end": lambda: embed_all(backbone, work),
        "forward": _forward(backbone, batches),
        "decoding": lambda: decode_beside(work),
    }
    walls = {name: taken.wall for name, taken in _warm(ways, rounds).items()}
    windows = sum(map(len, batches))
    details = {key: value for name, wall in walls.items() for key, value in wall.details(name).items()}
    alone = ", ".join(f"{name} alone {windows / walls[name].median_s:.3g}" for name in ("forward", "decoding"))
    rows.append(
        Row(
            _END_TO_END,
            "forward pass alone / end to end",
            walls["forward"].over(walls["end_to_end"]),
            goal=0.9,
            note=f"windows/s with {work.num_workers} decoding workers: {alone}",
            details={**details, "windows": windows, "rounds": rounds},
        )
    )
    return rows


def decode_beside(work: Work) -> None:
    """Take all clips as they come from the decoding workers."""
    for _, clips in read_videos(work.sources, work.reader, num_workers=work.num_workers):
        for _ in clips:
            pass


def matmul_flops(device: torch.device, side: int, rounds: int) -> float:
    """FLOPs per second of a product of two square bf16 matrices, the best of several rounds."""
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    repeats = 10

    def multiply() -> None:
        for _ in range(repeats):
            torch.mm(a, b)
        _synchronize(device)

    taken = _warm({"multiply": multiply}, rounds)
    return 2 * side**3 * repeats / min(taken["multiply"].wall.rounds)


def _forward(backbone: Backbone, batches: Sequence[torch.Tensor]) -> Callable[[], None]:
    return lambda: forward_all(backbone, batches)


def _warm(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, Taken]:
    """Time all ways after one call of each, which chooses and compiles kernels and starts workers."""
    for run in ways.values():
        run()
    return interleaved(ways, rounds=rounds)


def _name(batch_size: int) -> str:
    return f"ViT-L in bf16 on CUDA: forward pass, batch size {batch_size}"


def _goal(batch_size: int) -> float | None:
    return 0.55 if batch_size == _USUAL_BATCH_SIZE else None


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""What share of an accelerator's peak the forward pass reaches, and what share of that extraction reaches."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from bench import Row, Taken, interleaved
from bench.extraction import Work, embed_all, forward_all, num_cores, pixel_batches
from bench.worlds import CHARADES_WINDOWS, VIT_L, ModelSize, write_footage
from features.backbone import Backbone, VJepa2Backbone
from features.clips import ClipReader, Source

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
    with tempfile.TemporaryDirectory() as folder:
        with ThreadPoolExecutor() as threads:
            footage = list(
                threads.map(lambda k: write_footage(Path(folder) / f"{k}.mp4", duration_s=30, seed=k), range(4))
            )
        work = Work(
            [Source(str(k), footage[k % len(footage)]) for k in range(32)],
            ClipReader(CHARADES_WINDOWS, VIT_L.preprocessing, "auto"),
            batch_size=_USUAL_BATCH_SIZE,
            num_workers=num_cores(),
        )
        return measure_on(torch.device("cuda"), VIT_L, work, _BATCH_SIZES, matrix_side=8192, rounds=5, num_windows=128)


def measure_on(
    device: torch.device,
    size: ModelSize,
    work: Work,
    batch_sizes: Sequence[int],
    *,
    matrix_side: int,
    rounds: int,
    num_windows: int,
    compiler: str = "inductor",
) -> list[Row]:
    """A row for each batch size, with at least `num_windows` windows a round, and one for extraction end to end."""
    peak = matmul_flops(device, matrix_side, rounds)
    plain = size.backbone(torch.bfloat16).to(device)
    backbones = {"plain": plain, "compiled": compiled(plain, compiler)}
    pixels = torch.randn(max(batch_sizes), size.num_frames, 3, size.crop_size, size.crop_size, device=device)
    pixels = pixels.bfloat16()
    rows = []
    for batch_size in batch_sizes:
        torch.compiler.reset()  # the compiler gives up on code that it has compiled for eight shapes
        batches = [pixels[:batch_size]] * max(1, num_windows // batch_size)
        taken = _warm({name: _forward(backbone, batches) for name, backbone in backbones.items()}, rounds)
        flops = size.clip_flops * batch_size * len(batches)
        medians_s = {name: times.wall.median_s for name, times in taken.items()}
        shares = {name: flops / median_s / peak for name, median_s in medians_s.items()}
        windows_per_s = {name: batch_size * len(batches) / median_s for name, median_s in medians_s.items()}
        variants = [f"{name} {share:.2f}" for name, share in shares.items() if name != "plain"]
        rows.append(
            Row(
                _name(batch_size),
                _SHARE,
                shares["plain"],
                goal=_goal(batch_size),
                note=f"{windows_per_s['plain']:.3g} windows/s; " + ", ".join(variants),
                details={"shares": shares, "windows_per_s": windows_per_s, "peak_flops_per_s": peak, "rounds": rounds},
            )
        )
    batches = pixel_batches(plain, work)
    taken = _warm({"end_to_end": lambda: embed_all(plain, work), "forward": _forward(plain, batches)}, rounds)
    end_to_end, forward = taken["end_to_end"].wall, taken["forward"].wall
    details = {**end_to_end.details("end_to_end"), **forward.details("forward"), "windows": sum(map(len, batches))}
    rows.append(
        Row(
            _END_TO_END,
            "forward pass alone / end to end",
            forward.over(end_to_end),
            goal=0.9,
            note=f"{work.num_workers} decoding workers",
            details={**details, "rounds": rounds},
        )
    )
    return rows


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


def compiled(backbone: VJepa2Backbone, compiler: str) -> VJepa2Backbone:
    """A copy with compiled blocks. They have the same code and shapes, so one compilation serves all of them."""
    changed = copy.deepcopy(backbone)
    for block in (*changed.blocks, changed.last):
        block.compile(backend=compiler, dynamic=False)
    return changed


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

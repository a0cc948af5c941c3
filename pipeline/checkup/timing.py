"""How long embedding takes on this machine: a few windows are timed, and the rest is estimated from them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from features.backbone import DTYPES, Backbone, best_device, choose_precision, load_backbone
from features.clips import ClipReader, Source
from features.decode.container import UnreadableVideo
from features.preprocess import Preprocessing
from pipeline.checkup.findings import Finding, duration
from pipeline.params import Params

MAX_ERROR = 1e-3
"""1 - cosine similarity of an embedding to that in fp32, which `auto` may cost on a CPU."""

_ENOUGH_S = 10.0
_MOST_WINDOWS = 8
_TRIED_VIDEOS = 3


@dataclass(frozen=True)
class Rates:
    """Seconds of a window: `decode_s` of one core, None where no video could be read; `encode_s`; of the last block,
    `tail_s`, which is in `encode_s`.
    """

    encode_s: float
    tail_s: float
    decode_s: float | None
    is_cpu: bool

    def window_s(self, num_workers: int) -> float:
        """Seconds from video to embedding: on a CPU decoding takes its share of the cores, else it goes on beside."""
        decode_s = self.decode_s or 0.0
        if self.is_cpu:
            return self.encode_s + decode_s / (os.cpu_count() or 1)
        return max(self.encode_s, decode_s / max(1, num_workers))


def made_up_clip(num_frames: int, side: int) -> torch.Tensor:
    """Frames (1, T, side, side, 3) uint8 of soft shapes that move, always the same."""
    coarse = torch.rand(1, 3, num_frames + 2, 9, 9, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, (num_frames, side, side), mode="trilinear", align_corners=True)
    return (smooth * 255).to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()


def time_backbone(params: Params, folder: Path, videos: Iterable[Path]) -> tuple[Rates, list[Finding]]:
    """Time a few windows of the backbone in `folder`, and of the first of the `videos` that can be read."""
    device = best_device()
    precision = choose_precision(params.extract.precision, device)
    preprocessing = Preprocessing.from_checkpoint(folder)
    backbone = load_backbone(folder, dtype=DTYPES[precision], attention=params.extract.attention)
    backbone.require_fit(num_frames=params.windows.num_frames, crop_size=preprocessing.crop_size)
    backbone.to(device)
    frames = made_up_clip(params.windows.num_frames, preprocessing.crop_size)
    count = 1 if device.type == "cpu" else params.extract.batch_size
    encode_s, tail_s = _time_windows(backbone, preprocessing, frames.expand(count, -1, -1, -1, -1), device)
    decode_s, decoding_findings = _time_decoding(
        ClipReader(params.windows, preprocessing, params.extract.decoder), videos
    )
    rates = Rates(encode_s, tail_s, decode_s, device.type == "cpu")
    text = f"{encode_s:.3g} s a window in {precision} on {device.type}, {tail_s / encode_s:.0%} of it in the last block"
    findings = [Finding("backbone", "ok", f"{backbone.id}: {text}"), *decoding_findings]
    if device.type == "cpu" and precision == "bf16":
        findings.append(_compare(params, folder, backbone, preprocessing, frames, encode_s))
    return rates, findings


def estimates(params: Params, rates: Rates, num_windows: dict[str, int], *, temporal_on_finetuned: bool) -> list[str]:
    """Sentences on how long an hour of video takes, and `dvc repro` of this data set from nothing."""
    if params.extract.views == "three":
        rates = replace(rates, encode_s=3 * rates.encode_s, tail_s=3 * rates.tail_s)
    window_s = rates.window_s(params.extract.num_workers)
    hour_s = 3600 / params.windows.stride_s * window_s
    gate = "" if params.recordings.motion_gate is None else "; less where nothing moves"
    lines = [f"an hour of video: about {duration(hour_s)}{gate}"]
    if num_windows:
        finetune, total = params.finetune, sum(num_windows.values())
        is_video = finetune.source == "video"
        # A step computes the last block three times over: forwards, and twice that backwards.
        step_s = 3 * rates.tail_s + (window_s - rates.tail_s if is_video else 0.0)
        finetuning_s = finetune.steps * finetune.batch_size * step_s
        finetuning_s += finetune.evaluate_windows * (window_s if is_video else rates.tail_s)
        again = total if temporal_on_finetuned else num_windows["val"] + num_windows["test"]
        again_s = again * (window_s if is_video else rates.tail_s)
        parts = {
            f"{total:,} windows embedded": total * window_s,
            "finetuning": finetuning_s,
            "the finetuned block on what it has not seen": again_s,
        }
        listed = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items())
        lines.append(
            f"`dvc repro` from nothing: about {duration(sum(parts.values()))} ({listed}), and minutes for heads"
        )
    return lines


def _time_windows(
    backbone: Backbone, preprocessing: Preprocessing, frames: torch.Tensor, device: torch.device
) -> tuple[float, float]:
    """Seconds of a window, all of it and the last block alone: the least of a few, after one that does not count."""

    def seconds(work: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
        start_s = time.perf_counter()
        result = work()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter() - start_s, result

    def embed() -> torch.Tensor:
        tokens = backbone.tokens(preprocessing.normalise(frames.to(device), backbone.dtype))
        return backbone.pool(tokens, backbone.poolings)[backbone.poolings[0]]

    with torch.inference_mode():
        begin_s = time.perf_counter()
        seconds(embed)
        whole_s = [seconds(embed)[0]]
        while len(whole_s) < 5 and time.perf_counter() - begin_s < _ENOUGH_S:
            whole_s.append(seconds(embed)[0])
        block_input = backbone.block_input(preprocessing.normalise(frames.to(device), backbone.dtype))
        tail_s = min(seconds(lambda: backbone.last_block(block_input))[0] for _ in range(2))
    return min(whole_s) / len(frames), min(tail_s, *whole_s) / len(frames)


def _time_decoding(reader: ClipReader, videos: Iterable[Path]) -> tuple[float | None, list[Finding]]:
    """Seconds of a window on one core, in the first video that can be read."""
    fault = ""
    for path in islice(videos, _TRIED_VIDEOS):
        start_s, num_clips = time.perf_counter(), 0
        try:
            for _ in islice(reader.clips(Source("video", path)), _MOST_WINDOWS):
                num_clips += 1
        except UnreadableVideo as error:
            fault = fault or str(error)
            continue
        decode_s = (time.perf_counter() - start_s) / max(1, num_clips)
        return decode_s, [Finding("decoding", "ok", f"{decode_s:.3g} s a window on one core, in {path.name}")]
    if fault:
        return None, [Finding("decoding", "failed", fault, "look at that video with another player, or set it aside")]
    return None, [
        Finding("decoding", "warning", "not timed: no video is here yet", "`dvc repro fetch`, then ask again")
    ]


def _compare(
    params: Params,
    folder: Path,
    backbone: Backbone,
    preprocessing: Preprocessing,
    frames: torch.Tensor,
    encode_s: float,
) -> Finding:
    """What bf16 costs and brings on this CPU, beside fp32."""
    device = torch.device("cpu")
    plain = load_backbone(folder, dtype=torch.float32, attention=params.extract.attention)
    plain_s, _ = _time_windows(plain, preprocessing, frames, device)
    error = embedding_error(backbone, plain, preprocessing, frames)
    found = f"bf16 takes {encode_s / plain_s:.2f} of fp32's time here; 1 - cosine of the embeddings is {error:.1e}"
    if error > MAX_ERROR:
        return Finding(
            "precision on this CPU", "failed", f"{found}, above {MAX_ERROR:g}", "set extract.precision to fp32"
        )
    if encode_s > 1.1 * plain_s:
        return Finding("precision on this CPU", "warning", found, "set extract.precision to fp32, which is faster")
    return Finding("precision on this CPU", "ok", f"{found}, of which {MAX_ERROR:g} is allowed")


@torch.inference_mode()
def embedding_error(one: Backbone, other: Backbone, preprocessing: Preprocessing, frames: torch.Tensor) -> float:
    """The largest 1 - cosine similarity of the two backbones' vectors of a clip, over their poolings."""
    pooled = [
        backbone.pool(backbone.tokens(preprocessing.normalise(frames, backbone.dtype)), backbone.poolings)
        for backbone in (one, other)
    ]
    errors = []
    for name in one.poolings:
        a, b = (np.asarray(vectors[name][0].double()) for vectors in pooled)
        errors.append(1 - float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))))
    return max(errors)

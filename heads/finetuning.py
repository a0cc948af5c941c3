"""Training on raw video: which passes to make, batches of clips, evaluation. Knows windows by key; decodes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from features.clips import Source
from features.video import Clip
from heads.evaluation import Evaluate, scores
from heads.model import ActionModel


def plan_passes(
    sources: Sequence[Source], num_windows: dict[str, int], *, windows_per_pass: int, num_clips: int,
    generator: torch.Generator,
) -> list[Source]:  # fmt: skip
    """Passes over videos that together give `num_clips` clips or a few more: every epoch all videos in a new order.

    A pass takes up to `windows_per_pass` of the video's `num_windows`, drawn without replacement.
    """
    passes: list[Source] = []
    planned = 0
    while planned < num_clips:
        for k in torch.randperm(len(sources), generator=generator).tolist():
            source = sources[k]
            chosen = torch.randperm(num_windows[source.video_id], generator=generator)[:windows_per_pass].tolist()
            passes.append(Source(source.video_id, source.path, frozenset(chosen)))
            planned += len(chosen)
            if planned >= num_clips:
                break
    return passes


def clip_batches(
    passes: Iterable[tuple[str, list[Clip]]], target_of: Callable[[str, float], np.ndarray], *, batch_size: int,
    buffer_size: int, generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """Batches (frames (B, T, H, W, 3) uint8, targets (B, L) float32), drawn at random from `buffer_size` clips.

    `target_of` gives a window's targets (L,) by its key (video id, start_s). The buffer is refilled before each draw
    and emptied at the end; what does not fill a batch is left out.
    """
    held: list[tuple[np.ndarray, np.ndarray]] = []
    batch: list[tuple[np.ndarray, np.ndarray]] = []

    def draw() -> Iterator[tuple[Tensor, Tensor]]:
        # The drawn one's place is taken by the last, so that a draw costs the same however large the buffer.
        k = int(torch.randint(len(held), (1,), generator=generator))
        held[k], held[-1] = held[-1], held[k]
        batch.append(held.pop())
        if len(batch) == batch_size:
            yield _stack(batch)
            batch.clear()

    for video_id, clips in passes:
        held.extend((clip.frames, target_of(video_id, clip.segment.start_s)) for clip in clips)
        while len(held) >= buffer_size:
            yield from draw()
    while held:
        yield from draw()


def windows_in_memory(
    passes: Iterable[tuple[str, list[Clip]]], target_of: Callable[[str, float], np.ndarray]
) -> tuple[Tensor, Tensor]:
    """All clips of all passes at once, in order: frames (n, T, H, W, 3) uint8 and targets (n, L) float32."""
    return _stack(
        [(clip.frames, target_of(video_id, clip.segment.start_s)) for video_id, clips in passes for clip in clips]
    )


def on_frames(frames: Tensor, targets: Tensor, *, batch_size: int) -> Evaluate:
    """Evaluate an `ActionModel` on frames (n, T, H, W, 3) uint8.

    What enters the last block is constant while only that block and the head train: it is computed at the first
    evaluation and kept, n · N · D values, in place of the frames.
    """
    frames_or_tokens = {"frames": frames}

    def evaluate(model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, ActionModel)
        device = next(model.parameters()).device
        if "frames" in frames_or_tokens:
            batches = frames_or_tokens.pop("frames").split(batch_size)
            frames_or_tokens["tokens"] = torch.cat([model.prefix(batch.to(device)).cpu() for batch in batches])
        logits = [model.from_prefix(batch.to(device)).cpu() for batch in frames_or_tokens["tokens"].split(batch_size)]
        return scores(torch.cat(logits), targets)

    return evaluate


def _stack(batch: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    frames = torch.from_numpy(np.stack([frames for frames, _ in batch]))
    return frames, torch.from_numpy(np.stack([targets for _, targets in batch]).astype(np.float32))

"""Batches: rows in memory for stage 1; for stage 2 planned from window keys, then filled with frames or block inputs.

Nothing is decoded before the plan is made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from features.clips import ClipReader, Source, read_videos
from features.decode.container import UnreadableVideo
from features.store.block_inputs import BlockInputs
from features.video import Clip, Segment
from heads.training.loop import TrainBatches

Targets = npt.NDArray[np.bool_]


class BatchItem(NamedTuple):
    """A window of a batch: `window` of the plan's pass `pass_number`, mirrored left to right or not."""

    pass_number: int
    window: int
    mirrored: bool


class NoWindows(ValueError):
    """Nothing can be trained on."""


@dataclass(frozen=True)
class Plan:
    """The windows that a training sees, in batches of one size.

    `passes` over videos are made in this order; each names exactly the windows that batches draw from it, once each.
    """

    passes: tuple[Source, ...]
    batches: tuple[tuple[BatchItem, ...], ...]

    def __post_init__(self) -> None:
        if len({len(batch) for batch in self.batches}) != 1 or not self.batches[0]:
            raise ValueError("a plan has batches, all of one size, which is not 0")
        drawn = sorted((item.pass_number, item.window) for batch in self.batches for item in batch)
        read = [(number, window) for number, own in enumerate(self.passes) for window in sorted(own.windows or ())]
        if drawn != read:
            raise ValueError(f"each window of a pass is drawn once: {len(read)} are read and {len(drawn)} drawn")

    def __repr__(self) -> str:
        return f"Plan({len(self.batches)} batches of {len(self.batches[0])}, {len(self.passes)} passes)"

    @property
    def sha256(self) -> str:
        """Hash of the batches, their windows and videos, whatever the paths."""
        passes = [[source.video_id, source.first_frame] for source in self.passes]
        return hashlib.sha256(json.dumps([passes, self.batches]).encode()).hexdigest()


def plan_batches(
    sources: Sequence[Source],
    windows: Mapping[str, Sequence[int]],
    *,
    steps: int,
    batch_size: int,
    windows_per_pass: int,
    buffer_size: int,
    start_frames: int,
    mirrored_share: float,
    generator: torch.Generator,
) -> Plan:
    """Plan `steps` batches of these `windows`, by video id and ascending.

    An epoch is a pass over each video with windows, in a new order; a pass takes up to `windows_per_pass` of them,
    without replacement. Batches are drawn from a buffer that whole passes refill to `buffer_size` windows before each
    draw. Each drawn window is mirrored with probability `mirrored_share`.

    A pass begins 0 … `start_frames` - 1 frames late. Its windows then differ from the embedded ones, and the last may
    not exist, so it is not drawn; a video of a single window is always read from its beginning.
    """
    if not any(windows.get(source.video_id) for source in sources):
        raise NoWindows("there is no window to train on: no video of train has been embedded")
    endless = _passes(
        sources, windows, windows_per_pass=windows_per_pass, start_frames=start_frames, generator=generator
    )
    passes: list[Source] = []
    held: list[tuple[int, int]] = []
    drawn: list[tuple[int, int]] = []
    while len(drawn) < steps * batch_size:
        while len(held) < max(1, buffer_size):
            passes.append(next(endless))
            held.extend((len(passes) - 1, window) for window in sorted(passes[-1].windows or ()))
        # The last one takes the place of the drawn one, so that a draw costs the same however large the buffer is.
        k = int(torch.randint(len(held), (1,), generator=generator))
        held[k], held[-1] = held[-1], held[k]
        drawn.append(held.pop())

    taken = _by_pass(drawn)
    renumbered = {number: position for position, number in enumerate(taken)}
    mirrored = (torch.rand(len(drawn), generator=generator) < mirrored_share).tolist()
    items = [
        BatchItem(renumbered[number], window, flip) for (number, window), flip in zip(drawn, mirrored, strict=True)
    ]
    return Plan(
        passes=tuple(replace(passes[number], windows=numbers) for number, numbers in taken.items()),
        batches=tuple(tuple(items[first : first + batch_size]) for first in range(0, len(items), batch_size)),
    )


def frame_batches(
    plan: Plan, reader: ClipReader, target_of: Callable[[str, Segment], Targets], *, num_workers: int
) -> TrainBatches:
    """The plan's batches from any one on, frames (B, T, H, W, 3) uint8, decoded as they are needed.

    Only windows of these batches are read, and only passes that have one. Windows that wait for their batch are in
    memory: at most the plan's buffer and one pass. `target_of` gives the targets (L,) of a segment of a video. A window
    that cannot be read raises `UnreadableVideo`.
    """

    def from_batch(first_batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        batches = plan.batches[first_batch:]
        wanted = _by_pass([(item.pass_number, item.window) for batch in batches for item in batch])
        sources = [replace(plan.passes[number], windows=windows) for number, windows in wanted.items()]
        passes = zip(wanted, read_videos(sources, reader, num_workers=num_workers), strict=True)
        held: dict[tuple[int, int], tuple[Clip, Targets]] = {}
        for batch in batches:
            while any((item.pass_number, item.window) not in held for item in batch):
                number, (source, clips) = next(passes)
                for clip in all_clips(source, clips):
                    held[number, clip.window] = clip, target_of(source.video_id, clip.segment)
            taken = [(*held.pop((item.pass_number, item.window)), item.mirrored) for item in batch]
            frames = [np.flip(clip.frames, axis=2) if mirrored else clip.frames for clip, _, mirrored in taken]
            yield torch.from_numpy(np.stack(frames)), stacked_targets([targets for _, targets, _ in taken])

    return from_batch


def block_input_batches(
    plan: Plan, block_inputs: BlockInputs, target_at: Callable[[str, int], Targets]
) -> TrainBatches:
    """The plan's batches from any one on, block inputs (B, N, D) as stored: nothing is decoded or encoded.

    `target_at` gives the targets (L,) of a window. A plan with late starts or mirrored windows raises `ValueError`,
    since block inputs are stored of windows as they are.
    """
    is_late = any(source.first_frame for source in plan.passes)
    if is_late or any(item.mirrored for batch in plan.batches for item in batch):
        raise ValueError("block inputs are stored of windows as they are: plan without random starts and mirroring")

    def from_batch(first_batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in plan.batches[first_batch:]:
            keys = [(plan.passes[item.pass_number].video_id, item.window) for item in batch]
            rows = [block_inputs.row(*key) for key in keys]
            yield block_inputs.read(rows), stacked_targets([target_at(*key) for key in keys])

    return from_batch


def _passes(
    sources: Sequence[Source],
    windows: Mapping[str, Sequence[int]],
    *,
    windows_per_pass: int,
    start_frames: int,
    generator: torch.Generator,
) -> Iterator[Source]:
    """Epoch after epoch, without end."""
    useful = [source for source in sources if windows.get(source.video_id)]
    while True:
        for k in torch.randperm(len(useful), generator=generator).tolist():
            numbers = windows[useful[k].video_id]
            late = int(torch.randint(start_frames, (1,), generator=generator)) if len(numbers) > 1 else 0
            candidates = numbers[:-1] if late else numbers
            places = torch.randperm(len(candidates), generator=generator)[:windows_per_pass].tolist()
            yield replace(useful[k], windows=frozenset(candidates[i] for i in places), first_frame=late)


def _by_pass(drawn: Sequence[tuple[int, int]]) -> dict[int, frozenset[int]]:
    """Windows by pass, in the order of the passes."""
    by_pass: dict[int, set[int]] = {}
    for number, window in sorted(drawn):
        by_pass.setdefault(number, set()).add(window)
    return {number: frozenset(windows) for number, windows in by_pass.items()}


def shuffled_batches(features: Tensor, targets: Tensor, *, batch_size: int, generator: torch.Generator) -> TrainBatches:
    """Endless float32 batches of rows in memory, from any batch on, in a new order each epoch.

    An epoch's last partial batch is left out; with fewer rows than `batch_size`, every batch is all rows. One number is
    drawn from `generator` here and determines all orders.
    """
    n_rows = len(features)
    if n_rows == 0 or n_rows != len(targets):
        raise ValueError(f"training needs rows with targets, got {n_rows} rows and {len(targets)} targets")
    size = min(batch_size, n_rows)
    seed = int(torch.randint(2**31, (1,), generator=generator))

    def from_batch(first_batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        own = torch.Generator().manual_seed(seed)
        epochs, skipped = divmod(first_batch, n_rows // size)
        for _ in range(epochs):
            torch.randperm(n_rows, generator=own)
        while True:
            order = torch.randperm(n_rows, generator=own)
            for first in range(skipped * size, n_rows - size + 1, size):
                rows = order[first : first + size]
                yield features[rows].float(), targets[rows].float()
            skipped = 0

    return from_batch


def all_clips(source: Source, clips: Iterable[Clip]) -> list[Clip]:
    """The clips of all windows that `source` names; raises `UnreadableVideo` where the video has fewer."""
    wanted = sorted(source.windows or ())
    read = list(clips)
    if len(read) != len(wanted):
        raise UnreadableVideo(
            source.path, f"windows {wanted} are wanted, as when it was embedded", f"{len(read)} of them"
        )
    return read


def stacked_targets(targets: Sequence[Targets]) -> Tensor:
    """Targets (L,) of n windows as float32 (n, L)."""
    return torch.from_numpy(np.stack(targets).astype(np.float32))

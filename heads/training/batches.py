"""Batches: rows in memory for stage 1; for stage 2 planned from window keys, then filled with frames or block inputs.

Nothing is decoded before the plan is made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
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

Targets = npt.NDArray[np.bool_] | npt.NDArray[np.float16]
"""Of a window, (L,); as numbers where some are not known: 1, 0, or nan."""


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

    `passes` over videos are made in this order; each has exactly the windows that batches draw from it, once.
    """

    passes: tuple[Source, ...]
    batches: tuple[tuple[BatchItem, ...], ...]

    def __post_init__(self) -> None:
        if len({len(batch) for batch in self.batches}) != 1 or not self.batches[0]:
            raise ValueError("a plan has batches, all of one size, which is not 0")
        drawn = sorted((item.pass_number, item.window) for batch in self.batches for item in batch)
        read = [
            (number, window) for number, source in enumerate(self.passes) for window in sorted(source.windows or ())
        ]
        if drawn != read:
            raise ValueError(f"each window of a pass is drawn once: {len(read)} are read and {len(drawn)} drawn")

    def __repr__(self) -> str:
        return f"Plan({len(self.batches)} batches of {len(self.batches[0])}, {len(self.passes)} passes)"

    @property
    def sha256(self) -> str:
        """Hash of the batches, their windows and videos, whatever the paths."""
        passes = [[source.video_id, source.first_frame] for source in self.passes]
        return hashlib.sha256(json.dumps([passes, self.batches]).encode()).hexdigest()

    def share(self, number: int, count: int, *, of_batches: bool) -> Plan:
        """What process `number` of `count` does of it: every n-th batch, or every n-th window of each batch."""
        batches = self.batches[number::count] if of_batches else [batch[number::count] for batch in self.batches]
        return _renumbered(self.passes, batches)


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

    A pass begins 0 … `start_frames` - 1 frames late. Its windows then differ from the embedded ones, and the last one
    before a pause or the video's end may not exist, so it is not drawn; a video that has only such windows is always
    read from its beginning.
    """
    if not any(windows.get(source.video_id) for source in sources):
        raise NoWindows("there is no window to train on: no video of train has been embedded")
    endless_passes = _passes(
        sources, windows, windows_per_pass=windows_per_pass, start_frames=start_frames, generator=generator
    )
    passes: list[Source] = []
    buffer: list[tuple[int, int]] = []
    drawn: list[tuple[int, int]] = []
    while len(drawn) < steps * batch_size:
        while len(buffer) < max(1, buffer_size):
            passes.append(next(endless_passes))
            buffer.extend((len(passes) - 1, window) for window in sorted(passes[-1].windows or ()))
        # The last window takes the place of the drawn one: a draw takes the same time whatever the buffer's size.
        k = int(torch.randint(len(buffer), (1,), generator=generator))
        buffer[k], buffer[-1] = buffer[-1], buffer[k]
        drawn.append(buffer.pop())

    mirrored = (torch.rand(len(drawn), generator=generator) < mirrored_share).tolist()
    items = [BatchItem(number, window, flip) for (number, window), flip in zip(drawn, mirrored, strict=True)]
    return _renumbered(passes, [items[first : first + batch_size] for first in range(0, len(items), batch_size)])


def _renumbered(passes: Sequence[Source], batches: Sequence[Sequence[BatchItem]]) -> Plan:
    """The plan of these batches, with those windows of the passes that they draw."""
    windows_by_pass = _by_pass([(item.pass_number, item.window) for batch in batches for item in batch])
    position_of = {number: position for position, number in enumerate(windows_by_pass)}
    return Plan(
        passes=tuple(replace(passes[number], windows=windows) for number, windows in windows_by_pass.items()),
        batches=tuple(
            tuple(item._replace(pass_number=position_of[item.pass_number]) for item in batch) for batch in batches
        ),
    )


def frame_batches(
    plan: Plan, reader: ClipReader, target_of: Callable[[str, Segment], Targets], *, num_workers: int
) -> TrainBatches:
    """The plan's batches as squares or strips (B, T, H, W, 3) uint8, from any batch number, decoded as they are needed.

    Only the windows of these batches are read. Windows that wait for their batch are in memory: at most the plan's
    buffer and one pass. `target_of` gives the targets (L,) of a segment of a video. A window
    that cannot be read raises `UnreadableVideo`.
    """

    def from_batch(first_batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        batches = plan.batches[first_batch:]
        windows_by_pass = _by_pass([(item.pass_number, item.window) for batch in batches for item in batch])
        sources = [replace(plan.passes[number], windows=windows) for number, windows in windows_by_pass.items()]
        passes = zip(windows_by_pass, read_videos(sources, reader, num_workers=num_workers), strict=True)
        waiting: dict[tuple[int, int], tuple[Clip, Targets]] = {}
        for batch in batches:
            while any((item.pass_number, item.window) not in waiting for item in batch):
                number, (source, clips) = next(passes)
                for clip in all_clips(source, clips):
                    waiting[number, clip.window] = clip, target_of(source.video_id, clip.segment)
            clips_of_batch = [(*waiting.pop((item.pass_number, item.window)), item.mirrored) for item in batch]
            frames = [np.flip(clip.frames, axis=2) if mirrored else clip.frames for clip, _, mirrored in clips_of_batch]
            yield reader.preprocessing.stacked(frames), stacked_targets([targets for _, targets, _ in clips_of_batch])

    return from_batch


def block_input_batches(
    plan: Plan, block_inputs: BlockInputs, target_at: Callable[[str, int], Targets]
) -> TrainBatches:
    """The plan's batches as stored block inputs (B, N, D), from any batch number. Nothing is decoded or encoded.

    `target_at` gives the targets (L,) of a window. A plan with late starts or mirrored windows raises `ValueError`,
    since block inputs of such windows are not stored.
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
    """The passes of one epoch after another, without end."""
    with_windows = [source for source in sources if windows.get(source.video_id)]
    while True:
        for k in torch.randperm(len(with_windows), generator=generator).tolist():
            source = with_windows[k]
            numbers = windows[source.video_id]
            followed = [number for number, after in pairwise(numbers) if after == number + 1]
            late = int(torch.randint(start_frames, (1,), generator=generator)) if len(numbers) > 1 else 0
            first_frame = late if followed else 0
            drawable = followed if first_frame else numbers
            positions = torch.randperm(len(drawable), generator=generator)[:windows_per_pass].tolist()
            yield replace(source, windows=frozenset(drawable[i] for i in positions), first_frame=first_frame)


def _by_pass(drawn: Sequence[tuple[int, int]]) -> dict[int, frozenset[int]]:
    """Windows by pass, in the order of the passes."""
    by_pass: dict[int, set[int]] = {}
    for number, window in sorted(drawn):
        by_pass.setdefault(number, set()).add(window)
    return {number: frozenset(windows) for number, windows in by_pass.items()}


def shuffled_batches(features: Tensor, targets: Tensor, *, batch_size: int, generator: torch.Generator) -> TrainBatches:
    """Endless float32 batches of rows in memory, from any batch number, in a new order each epoch.

    An epoch's last partial batch is left out; with fewer rows than `batch_size`, every batch is all rows. A seed drawn
    from `generator` here determines all orders.
    """
    n_rows = len(features)
    if n_rows == 0 or n_rows != len(targets):
        raise ValueError(f"training needs rows with targets, got {n_rows} rows and {len(targets)} targets")
    size = min(batch_size, n_rows)
    seed = int(torch.randint(2**31, (1,), generator=generator))

    def from_batch(first_batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        order_generator = torch.Generator().manual_seed(seed)
        epochs, skipped = divmod(first_batch, n_rows // size)
        for _ in range(epochs):
            torch.randperm(n_rows, generator=order_generator)
        while True:
            order = torch.randperm(n_rows, generator=order_generator)
            for first in range(skipped * size, n_rows - size + 1, size):
                rows = order[first : first + size]
                yield features[rows].float(), targets[rows].float()
            skipped = 0

    return from_batch


def all_clips(source: Source, clips: Iterable[Clip]) -> list[Clip]:
    """The clips of all windows of `source`. Raises `UnreadableVideo` if the video has fewer."""
    windows = sorted(source.windows or ())
    read = list(clips)
    if len(read) != len(windows):
        raise UnreadableVideo(
            source.path, f"windows {windows} are wanted, as when it was embedded", f"{len(read)} of them"
        )
    return read


def stacked_targets(targets: Sequence[Targets]) -> Tensor:
    """Targets (L,) of n windows as float32 (n, L)."""
    return torch.from_numpy(np.stack(targets).astype(np.float32))

"""Stage 2's batches: planned from window keys alone, then filled with decoded frames or with stored tokens.

Knows windows by video and number; knows no label's name and no params. Decodes nothing before the plan is made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from features.clips import Reading, Source, read_passes
from features.decode.grid import UnreadableVideo
from features.store.block_inputs import Tokens
from features.video import Clip, Segment
from heads.action_model import ActionModel, Tail
from heads.training.loop import TrainBatches
from heads.training.validation import Evaluate, scores

Targets = npt.NDArray[np.bool_]


class Draw(NamedTuple):
    """A window of a batch: number `window` of the plan's pass number `pass_number`, mirrored left-right or not."""

    pass_number: int
    window: int
    mirrored: bool


@dataclass(frozen=True)
class Plan:
    """Which windows a training sees and in which batches: settled before anything is decoded.

    `passes` over videos are made in this order; each names the windows that batches draw from it, no others, and each
    of those is drawn once. All `batches` are of one size.
    """

    passes: tuple[Source, ...]
    batches: tuple[tuple[Draw, ...], ...]

    def __post_init__(self) -> None:
        if len({len(batch) for batch in self.batches}) != 1 or not self.batches[0]:
            raise ValueError("a plan has batches, all of one size, which is not 0")
        drawn = sorted((draw.pass_number, draw.window) for batch in self.batches for draw in batch)
        read = [(number, window) for number, each in enumerate(self.passes) for window in sorted(each.windows or ())]
        if drawn != read:
            raise ValueError(f"each window of a pass is drawn once: {len(read)} are read and {len(drawn)} drawn")

    def __repr__(self) -> str:
        return f"Plan({len(self.batches)} batches of {len(self.batches[0])}, {len(self.passes)} passes)"

    @property
    def sha256(self) -> str:
        """The same for the same batches of the same windows of the same videos, wherever their files are."""
        passes = [[each.video_id, each.first_frame] for each in self.passes]
        return hashlib.sha256(json.dumps([passes, self.batches]).encode()).hexdigest()


def plan_batches(
    sources: Sequence[Source], windows: Mapping[str, Sequence[int]], *, steps: int, batch_size: int,
    windows_per_pass: int, buffer_size: int, start_frames: int, mirrored_share: float, generator: torch.Generator,
) -> Plan:  # fmt: skip
    """Plan `steps` batches of the `windows` that there are, by video id their numbers, ascending.

    An epoch is a pass over each video that has any, in a new order; a pass takes up to `windows_per_pass` of them,
    without replacement. Batches are drawn from a buffer, refilled by whole passes to `buffer_size` windows before each
    draw. Each drawn window is mirrored with probability `mirrored_share`.

    A pass begins 0 … `start_frames` - 1 frames late. Its windows are then other ones than were embedded, and the last
    may not be there, so it is not chosen; a video of a single window is always read from its beginning.
    """
    if not any(windows.get(source.video_id) for source in sources):
        raise ValueError("there is no window to train on")
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
        # The drawn one's place is taken by the last, so that a draw costs the same however large the buffer.
        k = int(torch.randint(len(held), (1,), generator=generator))
        held[k], held[-1] = held[-1], held[k]
        drawn.append(held.pop())

    taken = _by_pass(drawn)
    renumbered = {number: position for position, number in enumerate(taken)}
    mirrored = (torch.rand(len(drawn), generator=generator) < mirrored_share).tolist()
    draws = [Draw(renumbered[number], window, flip) for (number, window), flip in zip(drawn, mirrored, strict=True)]
    return Plan(
        passes=tuple(replace(passes[number], windows=numbers) for number, numbers in taken.items()),
        batches=tuple(tuple(draws[first : first + batch_size]) for first in range(0, len(draws), batch_size)),
    )


def frame_batches(
    plan: Plan, reading: Reading, target_of: Callable[[str, Segment], Targets], *, num_workers: int
) -> TrainBatches:
    """The plan's batches from any one on, frames (B, T, H, W, 3) uint8, decoded as they are needed.

    Only windows that these batches take are read, and only the passes that have one. Those that wait for their batch
    are in memory: as many as the plan's buffer and one pass at most. `target_of` gives the targets (L,) of a stretch
    of a video. A window that cannot be read raises `UnreadableVideo`.
    """

    def from_batch(first_batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        batches = plan.batches[first_batch:]
        wanted = _by_pass([(draw.pass_number, draw.window) for batch in batches for draw in batch])
        sources = [replace(plan.passes[number], windows=windows) for number, windows in wanted.items()]
        arriving = zip(wanted, sources, read_passes(sources, reading, num_workers=num_workers), strict=True)
        held: dict[tuple[int, int], tuple[Clip, Targets]] = {}
        for batch in batches:
            while any((draw.pass_number, draw.window) not in held for draw in batch):
                number, source, (video_id, clips) = next(arriving)
                for window, clip in zip(sorted(wanted[number]), _all_of(source, clips), strict=True):
                    held[number, window] = clip, target_of(video_id, clip.segment)
            taken = [(*held.pop((draw.pass_number, draw.window)), draw.mirrored) for draw in batch]
            frames = [np.flip(clip.frames, axis=2) if mirrored else clip.frames for clip, _, mirrored in taken]
            yield torch.from_numpy(np.stack(frames)), _stacked([targets for _, targets, _ in taken])

    return from_batch


def token_batches(plan: Plan, tokens: Tokens, target_at: Callable[[str, int], Targets]) -> TrainBatches:
    """The plan's batches from any one on, tokens (B, N, D) as stored: nothing is decoded or encoded.

    `target_at` gives the targets (L,) of a video's window by its number. Of stored tokens there is neither a mirrored
    nor a later window: a plan that wants one raises.
    """
    if any(each.first_frame for each in plan.passes) or any(draw.mirrored for batch in plan.batches for draw in batch):
        raise ValueError("stored tokens are of windows as they are: plan without random starts and mirroring")

    def from_batch(first_batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in plan.batches[first_batch:]:
            keys = [(plan.passes[draw.pass_number].video_id, draw.window) for draw in batch]
            yield tokens.read([tokens.row(*key) for key in keys]), _stacked([target_at(*key) for key in keys])

    return from_batch


def on_frames(
    sources: Sequence[Source], reading: Reading, target_of: Callable[[str, Segment], Targets], *, batch_size: int,
    num_workers: int,
) -> Evaluate:  # fmt: skip
    """Evaluate an `ActionModel` on all windows that the sources name, decoded here and now.

    What enters the last block is constant while only that block and the head train: it is computed at the first
    evaluation and kept, n · N · D values, in place of the frames.
    """
    read = list(zip(sources, read_passes(sources, reading, num_workers=num_workers), strict=True))
    found = [(video_id, clip) for source, (video_id, clips) in read for clip in _all_of(source, clips)]
    targets = _stacked([target_of(video_id, clip.segment) for video_id, clip in found])
    frames_or_tokens = {"frames": torch.from_numpy(np.stack([clip.frames for _, clip in found]))}

    def evaluate(model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, ActionModel)
        device = next(model.parameters()).device
        if "frames" in frames_or_tokens:
            batches = frames_or_tokens.pop("frames").split(batch_size)
            frames_or_tokens["tokens"] = torch.cat([model.prefix(batch.to(device)).cpu() for batch in batches])
        return _scores(model.tail, frames_or_tokens["tokens"].split(batch_size), targets)

    return evaluate


def on_tokens(
    tokens: Tokens, windows: Mapping[str, Collection[int]], target_at: Callable[[str, int], Targets], *, batch_size: int
) -> Evaluate:
    """Evaluate a `Tail` on stored windows, by video id their numbers; a batch of them is in memory at a time."""
    keys = [(video_id, window) for video_id, numbers in windows.items() for window in sorted(numbers)]
    rows = [tokens.row(*key) for key in keys]
    targets = _stacked([target_at(*key) for key in keys])

    def evaluate(model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, Tail)
        batches = (tokens.read(rows[first : first + batch_size]) for first in range(0, len(rows), batch_size))
        return _scores(model, batches, targets)

    return evaluate


def _passes(
    sources: Sequence[Source], windows: Mapping[str, Sequence[int]], *, windows_per_pass: int, start_frames: int,
    generator: torch.Generator,
) -> Iterator[Source]:  # fmt: skip
    """Epoch after epoch, without end."""
    useful = [source for source in sources if windows.get(source.video_id)]
    while True:
        for k in torch.randperm(len(useful), generator=generator).tolist():
            numbers = windows[useful[k].video_id]
            late = int(torch.randint(start_frames, (1,), generator=generator)) if len(numbers) > 1 else 0
            there = numbers[:-1] if late else numbers
            chosen = torch.randperm(len(there), generator=generator)[:windows_per_pass].tolist()
            yield replace(useful[k], windows=frozenset(there[i] for i in chosen), first_frame=late)


def _by_pass(drawn: Sequence[tuple[int, int]]) -> dict[int, frozenset[int]]:
    """Window numbers by the number of their pass, in the order of the passes."""
    found: dict[int, set[int]] = {}
    for number, window in sorted(drawn):
        found.setdefault(number, set()).add(window)
    return {number: frozenset(windows) for number, windows in found.items()}


def _all_of(source: Source, clips: Sequence[Clip]) -> Sequence[Clip]:
    wanted = sorted(source.windows or ())
    if len(clips) != len(wanted):
        raise UnreadableVideo(
            source.path, f"windows {wanted} are wanted, as when it was embedded", f"{len(clips)} of them"
        )
    return clips


def _stacked(targets: Sequence[Targets]) -> Tensor:
    return torch.from_numpy(np.stack(targets).astype(np.float32))


def _scores(tail: Tail, batches: Iterator[Tensor] | Sequence[Tensor], targets: Tensor) -> Mapping[str, float]:
    device = next(tail.parameters()).device
    return scores(torch.cat([tail(batch.to(device)).cpu() for batch in batches]), targets)

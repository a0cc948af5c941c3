"""Batches for the temporal head: whole videos in a row, cut into sequences of one length. Nothing is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from features.store.embeddings import Embeddings
from heads.losses import Loss
from heads.temporal import TemporalHeadGrid, predict_sequence, window_steps
from heads.training.loop import TrainBatches
from heads.training.validation import Evaluate, scores


@dataclass(frozen=True, eq=False)
class Sequences:
    """The windows of videos, video after video, each in order of time.

    `features` (n, D) as stored, `targets` (n, L) bool, or floats of 0, 1 and nan, which is unknown; `steps` (n,) int64
    ascends within a video, from 0, and skips a step where a window is missing. `counts` has each video's number of
    windows, at least 1.
    """

    features: Tensor
    targets: Tensor
    steps: Tensor
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        n = sum(self.counts)
        if not n == len(self.features) == len(self.targets) == len(self.steps) or not n or min(self.counts) < 1:
            raise ValueError(
                f"sequences need videos with windows, got {n} windows of {len(self.counts)} videos, "
                f"{len(self.features)} features, {len(self.targets)} targets and {len(self.steps)} steps"
            )
        for own in self.steps.split(list(self.counts)):
            if own[0] != 0 or not (own.diff() > 0).all():
                raise ValueError(f"a video's steps ascend from 0, got {own.tolist()}")

    def steps_apart(self, pause: int) -> Tensor:
        """Steps (n,) of all videos as one sequence, with `pause` empty steps between two videos."""
        lasts = self.steps[torch.tensor(self.counts).cumsum(0) - 1]
        starts = (lasts + 1 + pause).cumsum(0) - (lasts + 1 + pause)
        return self.steps + starts.repeat_interleave(torch.tensor(self.counts))


def sequences_of(
    embeddings: Embeddings, targets: npt.NDArray[np.bool_ | np.floating], *, features: Sequence[str], stride_s: float
) -> Sequences:
    """The windows of these embeddings with their targets (n, L), as `Sequences`: float16 poolings side by side."""
    _, counts = np.unique(embeddings.video_ids, return_counts=True)
    starts = np.split(embeddings.start_s, np.cumsum(counts)[:-1])
    return Sequences(
        features=torch.from_numpy(embeddings.side_by_side(features)),
        targets=torch.from_numpy(targets),
        steps=torch.from_numpy(np.concatenate([window_steps(own, stride_s=stride_s) for own in starts])),
        counts=tuple(counts.tolist()),
    )


def joined(parts: Sequence[Sequences]) -> Sequences:
    """All videos of the parts; one whose targets are partly unknown makes those of all floats."""
    if len(parts) == 1:
        return parts[0]
    dtype = torch.bool if all(part.targets.dtype == torch.bool for part in parts) else torch.float16
    return Sequences(
        features=torch.cat([part.features for part in parts]),
        targets=torch.cat([part.targets.to(dtype) for part in parts]),
        steps=torch.cat([part.steps for part in parts]),
        counts=tuple(count for part in parts for count in part.counts),
    )


def sequence_batches(
    train: Sequences, *, batch_size: int, sequence_windows: int, generator: torch.Generator
) -> TrainBatches:
    """Endless batches of float32 features (B, T, D), a mask (B, T) and the targets (n, L) of the n windows in it.

    All videos in a row, in a new order each epoch, are cut into sequences of `sequence_windows` steps wherever that
    may be: so short videos teach what long recordings need. One number is drawn from `generator` here and determines
    all orders.
    """
    seed = int(torch.randint(2**31, (1,), generator=generator))
    rows_of = _rows_by_step(train)
    epoch_steps, batch_steps = sum(map(len, rows_of)), batch_size * sequence_windows

    def from_batch(first_batch: int) -> Iterator[tuple[Tensor, ...]]:
        own = torch.Generator().manual_seed(seed)
        epochs, skipped = divmod(first_batch * batch_steps, epoch_steps)
        for _ in range(epochs):
            torch.randperm(len(rows_of), generator=own)
        waiting = torch.empty(0, dtype=torch.int64)
        while True:
            while len(waiting) < skipped + batch_steps:
                order = torch.randperm(len(rows_of), generator=own).tolist()
                waiting = torch.cat([waiting, *(rows_of[k] for k in order)])
            waiting = waiting[skipped:]
            rows, waiting, skipped = waiting[:batch_steps], waiting[batch_steps:], 0
            rows = rows.reshape(batch_size, sequence_windows)
            mask = rows >= 0
            yield train.features[rows.clamp_min(0)].float(), mask, train.targets[rows[mask]].float()

    return from_batch


def on_sequences(val: Sequences, losses: Sequence[Loss]) -> Evaluate:
    """Evaluate a `TemporalHeadGrid` on whole videos, each alone; `losses` (C,) are what its heads train on."""

    def evaluate(model: nn.Module) -> Mapping[str, list[float]]:
        assert isinstance(model, TemporalHeadGrid)
        steps = val.steps_apart(model.heads[0].shape.reach)
        found = [
            scores(predict_sequence(head, val.features, steps), val.targets, loss=loss)
            for head, loss in zip(model.heads, losses, strict=True)
        ]
        return {name: [own[name] for own in found] for name in ("loss", "map")}

    return evaluate


def _rows_by_step(sequences: Sequences) -> list[Tensor]:
    """For each video the row at each of its steps, -1 where there is no window."""
    rows_of, first = [], 0
    for steps in sequences.steps.split(list(sequences.counts)):
        rows = torch.full((int(steps[-1]) + 1,), -1)
        rows[steps] = first + torch.arange(len(steps))
        rows_of.append(rows)
        first += len(steps)
    return rows_of

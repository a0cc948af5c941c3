"""Loss and mAP on val while a model trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from features.clips import ClipReader, Source, read_videos
from features.store.block_inputs import BlockInputs
from features.video import Segment
from heads.action_model import ActionModel, Tail
from heads.losses import Loss, bce
from heads.training.batches import Targets, all_clips, stacked_targets

Evaluate = Callable[[nn.Module], Mapping[str, Any]]
"""A function from a model to val's "loss" and "map": numbers, or (C,) of C candidates."""


def scores(logits: Tensor, targets: Tensor, *, loss: Loss = bce) -> dict[str, float]:
    """The `loss` and mAP ("map") of logits (n, L) against targets (n, L)."""
    return {name: values[0] for name, values in _scores_of_each(logits[None], targets, [loss]).items()}


def on_features(features: Tensor, targets: Tensor, losses: Sequence[Loss]) -> Evaluate:
    """Evaluate a head, or C at once, on features (n, D) in one batch; `losses` (C,) are the losses they train on."""

    def evaluate(model: nn.Module) -> Mapping[str, list[float]]:
        logits = model(features.to(next(model.parameters()).device)).reshape(len(losses), *targets.shape)
        return _scores_of_each(logits, targets, losses)

    return evaluate


def on_frames(
    sources: Sequence[Source],
    reader: ClipReader,
    target_of: Callable[[str, Segment], Targets],
    *,
    batch_size: int,
    num_workers: int,
) -> Evaluate:
    """Evaluate an `ActionModel` on all windows of the sources, which are decoded here.

    Only the last block and the head train, so block inputs are constant. The first evaluation computes them, n · N · D
    values, and they replace the frames in memory.
    """
    read = [
        (source.video_id, clip)
        for source, clips in read_videos(sources, reader, num_workers=num_workers)
        for clip in all_clips(source, clips)
    ]
    targets = stacked_targets([target_of(video_id, clip.segment) for video_id, clip in read])
    frames: Tensor | None = reader.preprocessing.stacked([clip.frames for _, clip in read])
    block_inputs: list[list[Tensor]] = []  # of each batch, by view

    def evaluate(model: nn.Module) -> Mapping[str, float]:
        nonlocal frames, block_inputs
        assert isinstance(model, ActionModel)
        device = next(model.parameters()).device
        if frames is not None:
            batches = frames.split(batch_size)
            block_inputs = [[view.cpu() for view in model.block_inputs(batch.to(device))] for batch in batches]
            frames = None
        return _tail_scores(model.tail, block_inputs, targets)

    return evaluate


def on_block_inputs(
    block_inputs: BlockInputs,
    windows: Mapping[str, Collection[int]],
    target_at: Callable[[str, int], Targets],
    *,
    batch_size: int,
) -> Evaluate:
    """Evaluate a `Tail` on stored `windows`, by video id; a batch of them is in memory at a time."""
    keys = [(video_id, window) for video_id, numbers in windows.items() for window in sorted(numbers)]
    rows = [block_inputs.row(*key) for key in keys]
    targets = stacked_targets([target_at(*key) for key in keys])

    def evaluate(model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, Tail)
        batches = ([block_inputs.read(rows[first : first + batch_size])] for first in range(0, len(rows), batch_size))
        return _tail_scores(model, batches, targets)

    return evaluate


def _tail_scores(tail: Tail, batches: Iterable[Sequence[Tensor]], targets: Tensor) -> Mapping[str, float]:
    """Of batches of block inputs (B, N, D), each by view."""
    device = next(tail.parameters()).device
    logits = [tail(*[view.to(device) for view in views]).cpu() for views in batches]
    return scores(torch.cat(logits), targets)


def average_precisions(
    probabilities: npt.NDArray[np.floating], targets: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Average precision of each label of C candidates, (C, L), of probabilities (C, n, L) and targets (n, L).

    The mean over the positives of the precision at their rank; equal probabilities share one rank; nan without
    positives. The result is what `reports.metrics.average_precision` gives, in a small part of its time.
    """
    count, num_rows, num_labels = probabilities.shape
    precisions = np.full((count, num_labels), np.nan)
    for label in np.flatnonzero(targets.any(axis=0)):
        ascending = np.array(probabilities[:, :, label], order="C")  # a copy: of one label, the slice is the array
        ascending.sort()
        positives = np.array(probabilities[:, targets[:, label], label], order="C")
        positives.sort()
        at_least = num_rows - _num_below(ascending, positives)
        positives_at_least = positives.shape[1] - _num_below(positives, positives)
        precisions[:, label] = (positives_at_least / at_least).mean(axis=1)
    return precisions


def _scores_of_each(logits: Tensor, targets: Tensor, losses: Sequence[Loss]) -> dict[str, list[float]]:
    logits, targets = logits.float().cpu(), targets.float().cpu()
    precisions = average_precisions(logits.sigmoid().numpy(), targets.bool().numpy())
    has_positives = ~np.isnan(precisions[0])
    return {
        "loss": [loss(candidate, targets).item() for candidate, loss in zip(logits, losses, strict=True)],
        "map": precisions[:, has_positives].mean(axis=1).tolist() if has_positives.any() else [math.nan] * len(losses),
    }


def _num_below(ascending: npt.NDArray[np.floating], values: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """How many of each row of `ascending` (C, n) are less than each of the same row of `values` (C, m): (C, m)."""
    return torch.searchsorted(torch.from_numpy(ascending), torch.from_numpy(values)).numpy()

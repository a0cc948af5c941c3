"""What the stages that train heads share: heads on windows and on whole videos, and what a config says of training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from heads.temporal import TemporalEnsemble
from heads.training.grid import Trial, best_of, settings_of, train_heads, train_temporal_heads
from heads.training.sequences import Sequences, joined, sequences_of
from pipeline.dataset.truth import SplitTruth

if TYPE_CHECKING:
    from pipeline.training_params import TemporalParams, TrainParams

log = logging.getLogger(__name__)

_SHARE_TO_GO_ON = 0.3
"""Of the steps of a training from nothing; LOG.md has what more and fewer give."""


def linear_trials(
    linear: TrainParams,
    train: SplitTruth,
    val: SplitTruth,
    *,
    seed: int,
    reviewed: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> list[Trial]:
    """Heads on single windows, and on features and targets of `reviewed` ones, against what overlaps them."""
    features, targets = train.embeddings.side_by_side(linear.features), train.windows
    if reviewed:
        features = np.concatenate([features, *(own for own, _ in reviewed)])
        targets = np.concatenate([targets, *(own for _, own in reviewed)])
    return train_heads(
        (torch.from_numpy(features), torch.from_numpy(targets)),
        (torch.from_numpy(val.embeddings.side_by_side(linear.features)), torch.from_numpy(val.windows)),
        settings=settings_of(linear.loss, linear.learning_rate, linear.weight_decay),
        schedule=linear.schedule,
        batch_size=linear.batch_size,
        generator=torch.Generator().manual_seed(seed),
        cpu=False,
    )


def temporal_trials(
    temporal: TemporalParams,
    train: SplitTruth,
    val: SplitTruth,
    *,
    stride_s: float,
    seed: int,
    reviewed: Sequence[Sequences] = (),
    start: TemporalEnsemble | None = None,
) -> list[Trial]:
    """Temporal heads on whole videos, and on `reviewed` ones, against what is on in each window's cell.

    With `start` they go on from it for a part of the steps, at the lowest of the learning rates.
    """
    schedule, learning_rates = temporal.schedule, temporal.learning_rate
    if start is not None:
        steps = max(1, round(_SHARE_TO_GO_ON * schedule.steps / schedule.accumulation)) * schedule.accumulation
        schedule = replace(schedule, steps=steps, evaluate_every_steps=steps)
        learning_rates = (min(learning_rates),)

    def sequences(truth: SplitTruth) -> Sequences:
        cells = truth.cells(stride_s=stride_s)
        return sequences_of(truth.embeddings, cells, features=temporal.features, stride_s=stride_s)

    return train_temporal_heads(
        joined([sequences(train), *reviewed]),
        sequences(val),
        shape=temporal.shape,
        num_members=temporal.members,
        settings=settings_of(temporal.loss, learning_rates, temporal.weight_decay),
        schedule=schedule,
        batch_size=temporal.batch_size,
        sequence_windows=temporal.sequence_windows,
        generator=torch.Generator().manual_seed(seed),
        cpu=False,
        start=start,
    )


def training_config(trials: Sequence[Trial], train: SplitTruth, features: Sequence[str]) -> dict[str, Any]:
    """What a model's config says of its features and its training: of the best of the trials."""
    best = best_of(trials)
    log.info(
        "trained %d heads on %d windows of %d videos; val mAP %.3f at step %d with %s",
        *(len(trials), len(train.windows), len(train.video_ids)),
        *(best.history.best.val_map, best.history.best.step, best.setting),
    )
    facts = {
        "num_videos": len(train.video_ids),
        "num_windows": len(train.windows),
        "window_frequencies": train.windows.mean(axis=0).tolist(),
        "video_frequencies": train.videos.mean(axis=0).tolist(),
    }
    return {"features": list(features), "train": facts | asdict(best.setting)}


def temporal_config(trials: Sequence[Trial], train: SplitTruth, temporal: TemporalParams) -> dict[str, Any]:
    """`training_config` of temporal heads, with their shape and number."""
    shape = {"temporal": asdict(temporal.shape), "members": temporal.members}
    return training_config(trials, train, temporal.features) | shape

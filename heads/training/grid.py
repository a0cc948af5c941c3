"""Stage 1: linear or temporal heads with several rates, decays and losses, trained at once; val chooses one.

Knows embeddings in memory and targets, and no file but the table that it writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from features.files import write_csv
from heads import losses
from heads.linear import LinearHead, LinearHeadGrid
from heads.losses import Loss
from heads.shape import TemporalShape
from heads.temporal import TemporalEnsemble, TemporalHead, TemporalHeadGrid
from heads.training.batches import shuffled_batches
from heads.training.candidates import Candidate, History
from heads.training.loop import TrainBatches, fit
from heads.training.schedule import LossName, TrainingSchedule
from heads.training.sequences import Sequences, on_sequences, sequence_batches
from heads.training.validation import Evaluate, on_features


@dataclass(frozen=True)
class Setting:
    """What one head of a grid is trained with."""

    loss: LossName
    learning_rate: float
    weight_decay: float


@dataclass(frozen=True)
class Trial:
    """A trained head, or ensemble of temporal heads, and its history."""

    setting: Setting
    head: LinearHead | TemporalEnsemble
    history: History


def settings_of(
    loss_names: Sequence[LossName], learning_rates: Sequence[float], weight_decays: Sequence[float]
) -> list[Setting]:
    """All combinations, sorted by loss, since `fit` computes neighbours with one loss together."""
    return [Setting(loss, lr, decay) for loss, lr, decay in product(loss_names, learning_rates, weight_decays)]


def train_heads(
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    *,
    settings: Sequence[Setting],
    schedule: TrainingSchedule,
    batch_size: int,
    generator: torch.Generator,
    cpu: bool,
) -> list[Trial]:
    """Train a linear head for each of `settings` on `train`, all on the same batches, and stop each by `val`.

    `train` and `val` are features (n, D) and targets (n, L). Each head comes out as if trained alone, except for
    rounding. `val_loss` in a history is the head's own loss on val.
    """
    features, targets = train
    start = LinearHead(features.shape[1], targets.shape[1])
    start.start_from(features, targets)
    return _fit_grid(
        LinearHeadGrid(start, len(settings)),
        settings,
        targets,
        train_batches=shuffled_batches(features, targets, batch_size=batch_size, generator=generator),
        evaluate_with=partial(on_features, *val),
        schedule=schedule,
        generator=generator,
        cpu=cpu,
    )


def train_temporal_heads(
    train: Sequences,
    val: Sequences,
    *,
    shape: TemporalShape,
    num_members: int,
    settings: Sequence[Setting],
    schedule: TrainingSchedule,
    batch_size: int,
    sequence_windows: int,
    generator: torch.Generator,
    cpu: bool,
    start: TemporalEnsemble | None = None,
) -> list[Trial]:
    """Train temporal heads of `shape` for each of `settings` on `train`, and stop each setting by mAP on val's videos.

    A setting has `num_members` heads, which start from weights of their own and draw dropout of their own: the mAP is
    that of their ensemble. Settings see the same batches of `batch_size` sequences, start from the same weights, which
    `generator` determines, and draw the same dropout: each comes out as if it were trained alone. With `start`, all
    settings go on from that ensemble, whose `shape` and `num_members` are then its own, and it is not chosen itself.
    """
    members = []
    with torch.random.fork_rng([]):
        for _ in range(num_members):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
            members.append(TemporalHead(train.features.shape[1], train.targets.shape[1], shape))
    is_new = start is None
    if start is None:
        start = TemporalEnsemble(members)
        start.start_from(train.features, train.targets)
    return _fit_grid(
        TemporalHeadGrid(start, len(settings)),
        settings,
        train.targets,
        train_batches=sequence_batches(
            train, batch_size=batch_size, sequence_windows=sequence_windows, generator=generator
        ),
        evaluate_with=partial(on_sequences, val) if is_new else lambda of: _but_the_first(on_sequences(val, of)),
        schedule=schedule,
        generator=generator,
        cpu=cpu,
    )


def _but_the_first(evaluate: Evaluate) -> Evaluate:
    """The evaluation, but that the first one, before any step, is worse than all others."""
    is_first = True

    def evaluate_later(model: nn.Module) -> Mapping[str, Any]:
        nonlocal is_first
        found = evaluate(model)
        if is_first:
            is_first, found = False, {**found, "map": [-1.0] * len(found["map"])}
        return found

    return evaluate_later


def _fit_grid(
    grid: LinearHeadGrid | TemporalHeadGrid,
    settings: Sequence[Setting],
    targets: Tensor,
    *,
    train_batches: TrainBatches,
    evaluate_with: Callable[[Sequence[Loss]], Evaluate],
    schedule: TrainingSchedule,
    generator: torch.Generator,
    cpu: bool,
) -> list[Trial]:
    """Fit one head of the grid for each setting; `targets` (n, L) are train's, `evaluate_with` takes their losses."""
    heads: Sequence[LinearHead | TemporalEnsemble] = grid.heads
    by_name = {setting.loss: losses.named(setting.loss, targets) for setting in settings}
    candidates = [
        Candidate(
            name=f"{setting.loss}, learning rate {setting.learning_rate:g}, weight decay {setting.weight_decay:g}",
            groups=[
                {
                    "params": list(head.parameters()),
                    "lr": setting.learning_rate,
                    "weight_decay": setting.weight_decay,
                    "name": "head",
                }
            ],
            loss=by_name[setting.loss],
        )
        for setting, head in zip(settings, heads, strict=True)
    ]
    histories = fit(
        grid,
        train_batches=train_batches,
        evaluate=evaluate_with([candidate.loss for candidate in candidates]),
        candidates=candidates,
        schedule=schedule,
        generator=generator,
        checkpoint=None,
        cpu=cpu,
    )
    return [Trial(*parts) for parts in zip(settings, heads, histories, strict=True)]


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest val mAP; of equals, the first."""
    return max(trials, key=lambda trial: trial.history.best.val_map)


def save_table(path: Path, trials: Sequence[Trial]) -> None:
    """Write CSV, a row for each trial: setting, step, val loss and val mAP of its best evaluation, 1 for `best_of`."""
    best_trial = best_of(trials)
    rows = []
    for trial in trials:
        setting, best = trial.setting, trial.history.best
        is_best = int(trial is best_trial)
        rows.append(
            [setting.loss, setting.learning_rate, setting.weight_decay, best.step, best.val_loss, best.val_map, is_best]
        )
    write_csv(path, ["loss", "learning_rate", "weight_decay", "best_step", "val_loss", "val_map", "chosen"], rows)

"""Candidates: independent sets of trained parameters, their history and their state while they train."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from torch import Tensor, nn

from features.files import write_csv
from heads.losses import Loss


class ParameterGroup(TypedDict):
    """Parameters with one peak learning rate and weight decay; `name` names the rate's column in the history."""

    params: list[nn.Parameter]
    lr: float
    weight_decay: float
    name: str


@dataclass(frozen=True, eq=False)
class Candidate:
    """One independent set of trained parameters, in groups, and its loss. Candidates share batches only."""

    name: str
    groups: Sequence[ParameterGroup]
    loss: Loss

    def __post_init__(self) -> None:
        names = [group["name"] for group in self.groups]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"{self.name}: parameter groups need names of their own, got {names}")

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All of its parameters, in the order of its groups."""
        return [parameter for group in self.groups for parameter in group["params"]]


@dataclass(frozen=True)
class Evaluation:
    """The state after `step` micro-steps. `train_loss` is the mean since the evaluation before, None at step 0;
    `learning_rates`, by group, are those of the next update.
    """

    step: int
    train_loss: float | None
    val_loss: float
    val_map: float
    learning_rates: Mapping[str, float]


@dataclass(frozen=True)
class History:
    """All evaluations of one candidate in order, including the one before the first step."""

    rows: tuple[Evaluation, ...]

    @property
    def best(self) -> Evaluation:
        """The first evaluation with the highest val mAP: the model has its weights."""
        return max(self.rows, key=lambda row: row.val_map)

    def save(self, path: Path) -> None:
        """Write CSV: step, train_loss, val_loss, val_map, and lr_<group> for each group."""
        names = list(self.rows[0].learning_rates)
        header = ["step", "train_loss", "val_loss", "val_map", *(f"lr_{name}" for name in names)]
        rows = (
            [row.step, row.train_loss, row.val_loss, row.val_map, *(row.learning_rates[name] for name in names)]
            for row in self.rows
        )
        write_csv(path, header, rows)


@dataclass
class CandidateState:
    """How far a candidate has come: evaluations, losses since the last one, the best parameters."""

    candidate: Candidate
    rows: list[Evaluation] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best: list[Tensor] = field(default_factory=list)
    stale: int = 0  # evaluations in a row without a better val mAP

    @property
    def best_map(self) -> float:
        return max((row.val_map for row in self.rows), default=-math.inf)

    def take(self, row: Evaluation) -> None:
        if row.val_map > self.best_map:
            self.stale = 0
            self.best = [parameter.detach().clone() for parameter in self.candidate.parameters]
        else:
            self.stale += 1
        self.rows.append(row)
        self.losses = []

"""How long and how fast a training goes, in the keys of params/<profile>.yaml. Needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from annotated_types import Ge, Gt, Lt

Precision = Literal["fp32", "bf16", "fp16"]
Decay = Literal["cosine", "constant"]
LossName = Literal["bce", "asymmetric", "class_balanced"]


@dataclass(frozen=True, kw_only=True)
class TrainingSchedule:
    """`steps` micro-steps (batches that a process sees), `accumulation` of them to an update.

    The learning rate rises over the first `warmup_share` of the updates, then stays or falls to 0 as a cosine. A
    candidate is evaluated every `evaluate_every_steps` micro-steps and done after `patience` evaluations in a row
    without a better val mAP. `max_grad_norm` limits each candidate's gradient; None does not. `precision` is that of
    the arithmetic; parameters are kept in their own.
    """

    steps: Annotated[int, Ge(1)]
    accumulation: Annotated[int, Ge(1)]
    evaluate_every_steps: Annotated[int, Ge(1)]
    patience: Annotated[int, Ge(1)]
    warmup_share: Annotated[float, Ge(0), Lt(1)]
    decay: Decay
    max_grad_norm: Annotated[float, Gt(0)] | None
    precision: Precision

    def __post_init__(self) -> None:
        if min(self.steps, self.accumulation, self.evaluate_every_steps, self.patience) < 1:
            raise ValueError(f"steps, accumulation, evaluate_every_steps and patience must be 1 or more, got {self}")
        if self.steps % self.accumulation:
            raise ValueError(
                f"steps must be a multiple of accumulation, or the last gradients are lost: "
                f"got {self.steps} and {self.accumulation}"
            )
        if self.evaluate_every_steps > self.steps:
            raise ValueError(f"evaluate_every_steps must be at most steps = {self.steps}")
        if not 0 <= self.warmup_share < 1:
            raise ValueError(f"warmup_share must be in [0, 1), got {self.warmup_share}")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be above 0 or None, got {self.max_grad_norm}")
        if self.decay not in get_args(Decay) or self.precision not in get_args(Precision):
            raise ValueError(f"unknown decay {self.decay!r} or precision {self.precision!r}")

    def lr_factor(self, update: int) -> float:
        """Share of the peak learning rate that update number `update` (from 0) is made with."""
        updates = self.steps // self.accumulation
        warmup = round(self.warmup_share * updates)
        if update < warmup:
            return (update + 1) / warmup
        if self.decay == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (update - warmup) / (updates - warmup)))

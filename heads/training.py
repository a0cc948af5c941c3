"""The one training loop, for heads on embeddings and for blocks on clips. Knows batches and logits; knows no file.

Owns accelerate, which brings device, precision and several processes.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, broadcast_object_list
from torch import Tensor, nn
from tqdm import tqdm


class NonFiniteLoss(RuntimeError):  # noqa: N818, named as what it is
    """A loss became nan or infinite; nothing after that step would mean anything."""

    def __init__(self, *, which: str, step: int, value: float) -> None:
        super().__init__(f"{which} loss is {value} at step {step}: lower the learning rate, or look at that batch")
        self.step = step
        self.value = value


class ParameterGroup(TypedDict):
    """Parameters that share a peak learning rate; `name` heads its column in the history."""

    params: list[nn.Parameter]
    lr: float
    name: str


@dataclass(frozen=True)
class TrainingSchedule:
    """How long and how fast: `steps` micro-steps (batches a process sees), `accumulation` of them to an update.

    The learning rate rises over the first `warmup_share` of the updates, then stays or falls to 0 as a cosine.
    Evaluated every `evaluate_every` micro-steps; stopped after `patience` evaluations in a row without a better val
    mAP. `max_grad_norm` None clips nothing.
    """

    steps: int
    accumulation: int
    evaluate_every: int
    patience: int
    weight_decay: float
    warmup_share: float
    decay: Literal["cosine", "constant"]
    max_grad_norm: float | None
    precision: Literal["fp32", "bf16", "fp16"]

    def __post_init__(self) -> None:
        if min(self.steps, self.accumulation, self.evaluate_every, self.patience) < 1:
            raise ValueError(f"steps, accumulation, evaluate_every and patience must be 1 or more, got {self}")
        if self.steps % self.accumulation:
            raise ValueError(
                f"{self.steps} steps are no multiple of accumulation {self.accumulation}: some would be lost"
            )
        if not 0 <= self.warmup_share < 1 or self.weight_decay < 0:
            raise ValueError(f"warmup_share lies in [0, 1) and weight_decay is not negative, got {self}")
        if self.decay not in ("cosine", "constant") or self.precision not in ("fp32", "bf16", "fp16"):
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
    """All evaluations of one training, in order, the one before the first step included."""

    rows: tuple[Evaluation, ...]

    @property
    def best(self) -> Evaluation:
        """The first evaluation that has the highest val mAP: whose weights the model was left with."""
        return max(self.rows, key=lambda row: row.val_map)

    def save(self, path: Path) -> None:
        """Write CSV: step, train_loss, val_loss, val_map, and lr_<group> for each group."""
        names = list(self.rows[0].learning_rates)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", "train_loss", "val_loss", "val_map", *(f"lr_{name}" for name in names)])
            for row in self.rows:
                rates = [row.learning_rates[name] for name in names]
                writer.writerow([row.step, row.train_loss, row.val_loss, row.val_map, *rates])


def fit(
    model: nn.Module,
    *,
    train_batches: Iterator[tuple[Tensor, Tensor]],
    evaluate: Callable[[nn.Module], Mapping[str, float]],
    parameter_groups: Sequence[ParameterGroup],
    schedule: TrainingSchedule,
    generator: torch.Generator,
    cpu: bool = False,
) -> History:
    """Train `parameter_groups` with AdamW on binary cross-entropy, and leave the best parameters in `model`.

    `train_batches` gives (inputs, targets (B, L)) to the last step; of several processes each takes every n-th batch,
    so all must be given the same. `evaluate` gets the model on its device, in eval mode, without gradients and in the
    schedule's precision, and gives val's "map" and "loss". The groups must hold exactly the parameters that require a
    gradient; only those go back to the best evaluation's. The model goes through `train()` and `eval()`: one with
    frozen parts keeps those in eval mode by itself. It comes back on the CPU, in eval mode.

    `generator` drives dropout; the global random state of CPU and CUDA is as before afterwards. On one CPU with one
    number of threads, the same inputs give the same parameters, bit for bit. `cpu` refuses any accelerator.
    Raises `NonFiniteLoss`.
    """
    _require_all_trainable(model, parameter_groups)
    # accelerate keeps one device and precision for the whole process, and would refuse a second fit that wants others.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="no" if schedule.precision == "fp32" else schedule.precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=schedule.accumulation, sync_with_dataloader=False
        ),
    )
    if schedule.precision == "fp16" and accelerator.device.type == "cpu":
        raise ValueError("precision fp16 needs an accelerator; a CPU has fp32 and bf16")
    groups: list[dict[str, Any]] = [{"params": group["params"], "lr": group["lr"]} for group in parameter_groups]
    optimizer = torch.optim.AdamW(groups, weight_decay=schedule.weight_decay)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    batches = islice(train_batches, accelerator.process_index, None, accelerator.num_processes)
    trainable = [parameter for group in parameter_groups for parameter in group["params"]]
    best_weights: list[Tensor] = []
    rows: list[Evaluation] = []
    losses: list[float] = []
    stale = 0
    seed = int(torch.randint(2**31, (1,), generator=generator)) + accelerator.process_index
    bar = tqdm(total=schedule.steps, unit="step", file=sys.stderr, disable=not accelerator.is_local_main_process)
    with bar, torch.random.fork_rng([accelerator.device] if accelerator.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for step in range(schedule.steps + 1):
            if step:
                factor = schedule.lr_factor((step - 1) // schedule.accumulation)
                for group, parameters in zip(optimizer.param_groups, parameter_groups, strict=True):
                    group["lr"] = parameters["lr"] * factor
                batch = next(batches, None)
                if batch is None:
                    raise ValueError(f"train_batches ended before step {step} of {schedule.steps}")
                loss = _micro_step(
                    accelerator, wrapped, optimizer, batch, step=step, max_grad_norm=schedule.max_grad_norm
                )
                losses.append(loss)
                bar.update()
            if step % schedule.evaluate_every and step != schedule.steps:
                continue
            factor = schedule.lr_factor(step // schedule.accumulation)
            val_loss, val_map = _evaluate(accelerator, model, evaluate, step)
            row = Evaluation(
                step=step,
                train_loss=_mean_over_processes(accelerator, losses) if losses else None,
                val_loss=val_loss,
                val_map=val_map,
                learning_rates={group["name"]: group["lr"] * factor for group in parameter_groups},
            )
            losses = []
            stale = stale + 1 if rows and row.val_map <= max(past.val_map for past in rows) else 0
            rows.append(row)
            bar.set_postfix(train_loss=row.train_loss, val_loss=row.val_loss, val_map=row.val_map)
            if stale == 0:
                best_weights = [parameter.detach().clone() for parameter in trainable]
            elif stale >= schedule.patience:
                break
    with torch.no_grad():
        for parameter, best in zip(trainable, best_weights, strict=True):
            parameter.copy_(best)
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    model.__dict__.pop("forward", None)  # what autocast put in front of the class's own
    model.zero_grad(set_to_none=True)
    model.cpu().eval()
    return History(tuple(rows))


def shuffled_batches(
    features: Tensor, targets: Tensor, *, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless float32 batches of rows held in memory, in a new order each epoch.

    An epoch's last partial batch is left out; with fewer rows than `batch_size`, every batch is all rows.
    """
    n_rows = len(features)
    if n_rows == 0 or n_rows != len(targets):
        raise ValueError(f"training needs rows with targets, got {n_rows} rows and {len(targets)} targets")
    size = min(batch_size, n_rows)
    while True:
        order = torch.randperm(n_rows, generator=generator)
        for first in range(0, n_rows - size + 1, size):
            rows = order[first : first + size]
            yield features[rows].float(), targets[rows].float()


def _require_all_trainable(model: nn.Module, groups: Sequence[ParameterGroup]) -> None:
    given = {id(parameter) for group in groups for parameter in group["params"]}
    wanted = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if given != wanted.keys() or not given:
        left_out = sorted(name for key, name in wanted.items() if key not in given)
        raise ValueError(
            f"parameter groups must hold exactly the trainable parameters: {left_out} are in none, "
            f"{len(given - wanted.keys())} given are frozen or not in the model"
        )
    if len({group["name"] for group in groups}) != len(groups):
        raise ValueError(f"parameter groups need names of their own, got {[group['name'] for group in groups]}")


def _micro_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    *,
    step: int,
    max_grad_norm: float | None,
) -> float:
    inputs, targets = (tensor.to(accelerator.device, non_blocking=True) for tensor in batch)
    with accelerator.accumulate(model):
        loss = F.binary_cross_entropy_with_logits(model(inputs).float(), targets.float())
        value = loss.item()
        if not math.isfinite(value):
            raise NonFiniteLoss(which="train", step=step, value=value)
        accelerator.backward(loss)
        if accelerator.sync_gradients and max_grad_norm is not None:
            accelerator.clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    return value


def _evaluate(
    accelerator: Accelerator, model: nn.Module, evaluate: Callable[[nn.Module], Mapping[str, float]], step: int
) -> tuple[float, float]:
    model.eval()
    with torch.no_grad(), accelerator.autocast():
        found = evaluate(model)
    model.train()
    # Processes may differ in the last bits, and must not differ in when to stop: all take the first one's.
    val_loss, val_map = broadcast_object_list([float(found["loss"]), float(found["map"])])
    if not math.isfinite(val_loss):
        raise NonFiniteLoss(which="val", step=step, value=val_loss)
    if not math.isfinite(val_map):
        raise ValueError(f"val mAP is {val_map} at step {step}: has val a label with positives?")
    return val_loss, val_map


def _mean_over_processes(accelerator: Accelerator, values: list[float]) -> float:
    total = torch.tensor([math.fsum(values), float(len(values))], device=accelerator.device)
    total = accelerator.reduce(total, reduction="sum")
    return float(total[0] / total[1])

"""The one training loop, for heads on embeddings and for blocks on clips. Knows batches and logits; knows no data set.

Owns accelerate, which brings device, precision and several processes.
"""

from __future__ import annotations

import csv
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, broadcast_object_list, gather_object
from torch import Tensor, nn
from tqdm import tqdm

from heads.losses import Loss
from heads.training.state import Checkpoint

log = logging.getLogger(__name__)

TrainBatches = Callable[[int], Iterator[tuple[Tensor, Tensor]]]


class NonFiniteLoss(RuntimeError):  # noqa: N818, named as what it is
    """A loss became nan or infinite; nothing after that step would mean anything."""

    def __init__(self, *, which: str, candidate: str, step: int, value: float) -> None:
        super().__init__(
            f"{which} loss is {value} at step {step} ({candidate}): lower the learning rate, or look at that batch"
        )
        self.step = step
        self.value = value


class ParameterGroup(TypedDict):
    """Parameters that share a peak learning rate and a weight decay; `name` heads the rate's column in the history."""

    params: list[nn.Parameter]
    lr: float
    weight_decay: float
    name: str


@dataclass(frozen=True, eq=False)
class Candidate:
    """What is trained as one: parameters of its own, in groups, on a loss. Several share batches, and nothing else."""

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
class TrainingSchedule:
    """How long and how fast: `steps` micro-steps (batches a process sees), `accumulation` of them to an update.

    The learning rate rises over the first `warmup_share` of the updates, then stays or falls to 0 as a cosine.
    Evaluated every `evaluate_every` micro-steps; a candidate is done after `patience` evaluations in a row without a
    better val mAP. `max_grad_norm` is for each candidate's gradient; None clips nothing.
    """

    steps: int
    accumulation: int
    evaluate_every: int
    patience: int
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
        if not 0 <= self.warmup_share < 1:
            raise ValueError(f"warmup_share lies in [0, 1), got {self}")
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
    """All evaluations of one candidate, in order, the one before the first step included."""

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
    train_batches: TrainBatches,
    evaluate: Callable[[nn.Module], Mapping[str, Any]],
    candidates: Sequence[Candidate],
    schedule: TrainingSchedule,
    generator: torch.Generator,
    checkpoint: Checkpoint | None,
    cpu: bool,
) -> list[History]:
    """Train each of C candidates with AdamW on its loss, and leave its best parameters in `model`; a history for each.

    `model(inputs)` gives logits (C, B, L), or (B, L) where there is one candidate. `train_batches(k)` gives (inputs,
    targets (B, L)) from batch k (from 0) to the last step's; of several processes each takes every n-th batch, so all
    must be given the same. `evaluate` gets the model on its device, in eval mode, without gradients and in the
    schedule's precision, and gives val's "map" and "loss": (C,), or numbers where there is one candidate. Candidates
    must hold exactly the parameters that require a gradient, each once; only those go back to the best evaluation's.
    The model goes through `train()` and `eval()`: one with frozen parts keeps those in eval mode by itself. It comes
    back on the CPU, in eval mode.

    A candidate comes out as if it were trained alone: one that has run out of patience is evaluated no more, and the
    training ends when all have. Neighbours with the very same loss are given to it together, so that grids sort by it.

    `generator` drives dropout; the global random state of CPU and CUDA is as before afterwards. On one CPU with one
    number of threads, the same inputs give the same parameters, bit for bit, and so does a training that was killed
    and goes on from `checkpoint`, which is removed at the end. `cpu` refuses any accelerator. Raises `NonFiniteLoss`.
    """
    names = _names_of_trained(model, candidates)
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
    wrapped = accelerator.prepare(model)
    courses = [_Course(candidate) for candidate in candidates]
    training = _Training(accelerator, wrapped, _adamw(candidates), courses, names, schedule)
    if checkpoint:
        checkpoint = replace(checkpoint, identity={**checkpoint.identity, "fit": training.identity})
    seed = int(torch.randint(2**31, (1,), generator=generator)) + accelerator.process_index
    with torch.random.fork_rng([accelerator.device] if accelerator.device.type == "cuda" else []):
        torch.manual_seed(seed)
        done = training.resume(checkpoint) if checkpoint else None
        saved = done or 0
        batches = islice(
            train_batches(saved * accelerator.num_processes), accelerator.process_index, None, accelerator.num_processes
        )
        with tqdm(
            total=schedule.steps,
            initial=saved,
            unit="step",
            file=sys.stderr,
            disable=not accelerator.is_local_main_process,
        ) as bar:
            for step in range(0 if done is None else done + 1, schedule.steps + 1):
                if step:
                    batch = next(batches, None)
                    if batch is None:
                        raise ValueError(f"train_batches ended before step {step} of {schedule.steps}")
                    training.micro_step(batch, step)
                    bar.update()
                if step % schedule.evaluate_every == 0 or step == schedule.steps:
                    training.evaluate(model, evaluate, step)
                    bar.set_postfix(val_map=max(course.best_map for course in courses))
                    if not training.running:
                        break
                ends_update = step % schedule.accumulation == 0  # before that, gradients would have to be kept too
                if checkpoint and ends_update and step - saved >= checkpoint.every_steps and step < schedule.steps:
                    training.save(checkpoint, step)
                    saved = step
    with torch.no_grad():
        for course in courses:
            for parameter, best in zip(course.candidate.parameters, course.best, strict=True):
                parameter.copy_(best)
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    model.__dict__.pop("forward", None)  # what autocast put in front of the class's own
    model.zero_grad(set_to_none=True)
    model.cpu().eval()
    if checkpoint:
        if accelerator.is_main_process:
            checkpoint.remove()
        accelerator.wait_for_everyone()
    return [History(tuple(course.rows)) for course in courses]


def shuffled_batches(features: Tensor, targets: Tensor, *, batch_size: int, generator: torch.Generator) -> TrainBatches:
    """Endless float32 batches of rows held in memory, in a new order each epoch, from any batch on.

    An epoch's last partial batch is left out; with fewer rows than `batch_size`, every batch is all rows. One number
    is drawn from `generator`, here, and determines all orders.
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


@dataclass
class _Course:
    """How far a candidate has come: its evaluations, the losses since the last of them, and its best parameters."""

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


@dataclass
class _Training:
    """A training under way: its parts, and all of its state. `names` are the trained parameters' in the model."""

    accelerator: Accelerator
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    courses: list[_Course]
    names: Mapping[nn.Parameter, str]
    schedule: TrainingSchedule

    @property
    def running(self) -> list[int]:
        """Which candidates have patience left."""
        return [k for k, course in enumerate(self.courses) if course.stale < self.schedule.patience]

    @property
    def identity(self) -> dict[str, Any]:
        """What determines this training, as far as it is known here; JSON."""
        return {
            "schedule": asdict(self.schedule),
            "candidates": {
                course.candidate.name: [
                    {key: value for key, value in group.items() if key != "params"}
                    | {"params": {self.names[each]: list(each.shape) for each in group["params"]}}
                    for group in course.candidate.groups
                ]
                for course in self.courses
            },
            "device": self.accelerator.device.type,
            "processes": self.accelerator.num_processes,
        }

    def micro_step(self, batch: tuple[Tensor, Tensor], step: int) -> None:
        # accelerate's own optimizer and `accumulate` look for packages at each step: a head would wait for that more
        # than for its arithmetic. What is left to it is all that depends on device, precision and processes.
        inputs, targets = (tensor.to(self.accelerator.device, non_blocking=True) for tensor in batch)
        ends_update = step % self.schedule.accumulation == 0
        with nullcontext() if ends_update else self.accelerator.no_sync(self.wrapped):
            losses = _losses(self.wrapped(inputs).float(), targets.float(), self.courses)
            values, running = losses.tolist(), self.running
            for k in running:
                course = self.courses[k]
                if not math.isfinite(values[k]):
                    raise NonFiniteLoss(which="train", candidate=course.candidate.name, step=step, value=values[k])
                course.losses.append(values[k])
            self.accelerator.backward(losses.sum() if len(running) == len(values) else losses[running].sum())
        if ends_update:
            self._update(self.schedule.lr_factor(step // self.schedule.accumulation - 1))

    def _update(self, lr_factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * lr_factor
        scaler = self.accelerator.scaler
        if self.schedule.max_grad_norm is not None:
            self.accelerator.unscale_gradients(self.optimizer)
            _shorten([course.candidate.parameters for course in self.courses], self.schedule.max_grad_norm)
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()
        self.optimizer.zero_grad()

    def evaluate(self, model: nn.Module, evaluate: Callable[[nn.Module], Mapping[str, Any]], step: int) -> None:
        model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            found = evaluate(model)
        model.train()
        scores = [torch.as_tensor(found[name], dtype=torch.float64).reshape(-1).tolist() for name in ("loss", "map")]
        # Processes may differ in the last bits, and must not differ in when to stop: all take the first one's.
        losses, maps = broadcast_object_list(scores)
        if not len(losses) == len(maps) == len(self.courses):
            raise ValueError(f"{len(self.courses)} candidates want a loss and a mAP each, got {losses} and {maps}")
        factor = self.schedule.lr_factor(step // self.schedule.accumulation)
        for k in self.running:
            course = self.courses[k]
            if not math.isfinite(losses[k]):
                raise NonFiniteLoss(which="val", candidate=course.candidate.name, step=step, value=losses[k])
            if not math.isfinite(maps[k]):
                raise ValueError(f"val mAP is {maps[k]} at step {step}: has val a label with positives?")
            course.take(
                Evaluation(
                    step=step,
                    train_loss=_mean_over_processes(self.accelerator, course.losses) if course.losses else None,
                    val_loss=losses[k],
                    val_map=maps[k],
                    learning_rates={group["name"]: group["lr"] * factor for group in course.candidate.groups},
                )
            )

    def save(self, checkpoint: Checkpoint, step: int) -> None:
        """All that the next micro-step depends on, the random states and losses of each process included."""
        tensors: dict[str, Tensor] = {}
        for parameter, name in self.names.items():
            tensors[f"parameter.{name}"] = parameter
            tensors |= {f"adamw.{key}.{name}": value for key, value in self.optimizer.state[parameter].items()}
        for course in self.courses:
            for parameter, best in zip(course.candidate.parameters, course.best, strict=True):
                tensors[f"best.{self.names[parameter]}"] = best
        random = {kind: module.get_rng_state().tolist() for kind, module in self._random_modules().items()}
        processes = gather_object([{"random": random, "losses": [course.losses for course in self.courses]}])
        if self.accelerator.is_main_process:
            state = {
                "step": step,
                "processes": processes,
                "rows": [[asdict(row) for row in course.rows] for course in self.courses],
                "stale": [course.stale for course in self.courses],
                "scaler": self.accelerator.scaler and self.accelerator.scaler.state_dict(),
            }
            checkpoint.write(tensors, state)
        self.accelerator.wait_for_everyone()

    def resume(self, checkpoint: Checkpoint) -> int | None:
        """Put everything as it was when `save` ran, and say after which micro-step that was; None without one."""
        found = checkpoint.read()
        if found is None:
            return None
        tensors, state = found
        with torch.no_grad():
            for parameter, name in self.names.items():
                parameter.copy_(tensors[f"parameter.{name}"])
                # Gradients that overflow in fp16 may have kept the optimizer from any step, and so from any state.
                self.optimizer.state[parameter] = {
                    key: tensors[f"adamw.{key}.{name}"].to(parameter.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"adamw.{key}.{name}" in tensors
                }
        process = state["processes"][self.accelerator.process_index]
        for k, course in enumerate(self.courses):
            course.rows = [Evaluation(**row) for row in state["rows"][k]]
            course.losses = process["losses"][k]
            course.stale = state["stale"][k]
            course.best = [tensors[f"best.{self.names[each]}"].to(each.device) for each in course.candidate.parameters]
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        for kind, module in self._random_modules().items():
            module.set_rng_state(torch.tensor(process["random"][kind], dtype=torch.uint8))
        log.info("goes on after step %d of %d, from %s", state["step"], self.schedule.steps, checkpoint.path)
        return int(state["step"])

    def _random_modules(self) -> dict[str, Any]:
        """What holds the random states that dropout may draw from, by kind of device."""
        kind = self.accelerator.device.type
        return {"cpu": torch} if kind == "cpu" else {"cpu": torch, kind: torch.get_device_module(kind)}


def _names_of_trained(model: nn.Module, candidates: Sequence[Candidate]) -> dict[nn.Parameter, str]:
    """The name in `model` of each parameter that is trained, in the candidates' order."""
    given = [parameter for candidate in candidates for parameter in candidate.parameters]
    wanted = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if set(given) != wanted.keys() or not given:
        left_out = sorted(name for parameter, name in wanted.items() if parameter not in set(given))
        raise ValueError(
            f"parameter groups must hold exactly the trainable parameters: {left_out} are in none, "
            f"{len(set(given) - wanted.keys())} given are frozen or not in the model"
        )
    if len(set(given)) != len(given):
        raise ValueError("a parameter is in two groups, or twice in one")
    if len({candidate.name for candidate in candidates}) != len(candidates):
        raise ValueError(f"candidates need names of their own, got {[candidate.name for candidate in candidates]}")
    return {parameter: wanted[parameter] for parameter in given}


def _adamw(candidates: Sequence[Candidate]) -> torch.optim.AdamW:
    """AdamW with a group for each pair of rate and decay, however many candidates have it."""
    by_pair: dict[tuple[float, float], list[nn.Parameter]] = {}
    for candidate in candidates:
        for group in candidate.groups:
            by_pair.setdefault((group["lr"], group["weight_decay"]), []).extend(group["params"])
    groups = [
        {"params": parameters, "lr": lr, "peak_lr": lr, "weight_decay": weight_decay}
        for (lr, weight_decay), parameters in by_pair.items()
    ]
    # Fused: the 40 tensors of 20 small heads step in a third of the time that a call for each operation takes.
    return torch.optim.AdamW(groups, fused=True)


def _losses(logits: Tensor, targets: Tensor, courses: Sequence[_Course]) -> Tensor:
    """Each candidate's loss, (C,), of logits (C, B, L) or, of one candidate, (B, L)."""
    runs = [(loss, len(list(run))) for loss, run in groupby(course.candidate.loss for course in courses)]
    parts = logits.reshape(len(courses), *targets.shape).split([count for _, count in runs])
    return torch.cat(
        [
            loss(part[0] if count == 1 else part, targets).reshape(count)
            for part, (loss, count) in zip(parts, runs, strict=True)
        ]
    )


def _shorten(parameters: Sequence[Sequence[nn.Parameter]], max_grad_norm: float) -> None:
    """Each candidate's gradient to a length of `max_grad_norm` at most, all of them in a few calls."""
    gradients = [(k, each.grad) for k, own in enumerate(parameters) for each in own if each.grad is not None]
    tensors = [gradient for _, gradient in gradients]
    owners = torch.tensor([k for k, _ in gradients], device=tensors[0].device)
    squares = torch.stack(torch._foreach_norm(tensors)).square()
    norms = squares.new_zeros(len(parameters)).index_add(0, owners, squares).sqrt()
    factors = (max_grad_norm / (norms + 1e-6)).clamp(max=1.0)
    if (factors < 1).any():  # and not `amin`: one that has stopped may be at nan
        torch._foreach_mul_(tensors, list(factors[owners].unbind()))


def _mean_over_processes(accelerator: Accelerator, values: list[float]) -> float:
    total = torch.tensor([math.fsum(values), float(len(values))], device=accelerator.device)
    total = accelerator.reduce(total, reduction="sum")
    return float(total[0] / total[1])

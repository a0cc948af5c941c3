"""The one training loop, for heads on embeddings and for blocks on clips. Knows batches and logits, no data set."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from heads.training.candidates import Candidate, CandidateState, Evaluation, History
from heads.training.processes import Processes, joined_processes
from heads.training.schedule import TrainingSchedule
from heads.training.state import Checkpoint

log = logging.getLogger(__name__)

TrainBatches = Callable[[int], Iterator[tuple[Tensor, ...]]]
"""From the number of a batch to the batches from there on: the model's inputs, and targets (B, L)."""


class NonFiniteLoss(RuntimeError):
    """A loss became nan or infinite; nothing after that step would mean anything."""

    def __init__(self, *, which: str, candidate: str, step: int, value: float) -> None:
        super().__init__(
            f"{which} loss is {value} at step {step} ({candidate}): lower the learning rate, or look at that batch"
        )
        self.step = step
        self.value = value


class NoPositives(ValueError):
    """Val has no label with positives, so that no step is better than another."""


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
    takes_turns: bool = False,
) -> list[History]:
    """Train C candidates with AdamW, leave each one's best parameters in `model`, and return a history for each.

    `model(*inputs)` gives logits (C, B, L), or (B, L) for one candidate, or (C, K, B, L), where a candidate's loss is
    the mean over its K. `train_batches(k)` gives (*inputs, targets (B, L)) from batch k (from 0) to the last step's. Of
    several processes each gets batches of its own: those of a step that are its part, or, where it `takes_turns`, of
    every n-th step its whole batch; together they train as one does. `evaluate` gets the model on its device, in
    eval mode, without gradients and in the schedule's precision, and gives val's "map" and "loss": (C,), or numbers for
    one candidate. Candidates hold exactly the parameters that require a gradient, each once; only those return to the
    best evaluation's. A model with frozen parts keeps them in eval mode by itself when `train()` is called. The model
    comes back on the CPU, in eval mode.

    Each candidate comes out as if trained alone. One without patience left is not evaluated again; the training ends
    when none has patience left. Neighbours with the same loss share one call of it, so sort grids by loss.

    `generator` drives dropout; the global random state of CPU and CUDA is restored afterwards. On one CPU with one
    number of threads, the same inputs give the same parameters, bit for bit, also when a killed training resumes from
    `checkpoint`, which is removed at the end. `cpu` refuses any accelerator. Raises `NonFiniteLoss`.
    """
    names = _names_of_trained(model, candidates)
    states = [CandidateState(candidate) for candidate in candidates]
    processes = joined_processes(cpu=cpu, precision=schedule.precision)
    stride = processes.count if takes_turns else 1
    if schedule.accumulation % stride or schedule.evaluate_every_steps % stride:
        raise ValueError(f"{stride} processes cannot take turns at batches of {schedule}")
    training = _Training(processes, processes.wrapped(model), _adamw(candidates), states, names, schedule, stride)
    if checkpoint:
        checkpoint = replace(checkpoint, provenance={**checkpoint.provenance, "fit": training.provenance})
    seed = int(torch.randint(2**31, (1,), generator=generator)) + processes.rank
    with torch.random.fork_rng([processes.device] if processes.device.type == "cuda" else []):
        torch.manual_seed(seed)
        _run(model, training, train_batches, evaluate, checkpoint)
    with torch.no_grad():
        for state in states:
            for parameter, best in zip(state.candidate.parameters, state.best, strict=True):
                parameter.copy_(best)
    model.zero_grad(set_to_none=True)
    model.cpu().eval()
    if checkpoint and processes.is_main:
        checkpoint.remove()
    processes.wait()
    return [History(tuple(state.rows)) for state in states]


def _run(
    model: nn.Module,
    training: _Training,
    train_batches: TrainBatches,
    evaluate: Callable[[nn.Module], Mapping[str, Any]],
    checkpoint: Checkpoint | None,
) -> None:
    schedule, processes, stride = training.schedule, training.processes, training.stride
    resumed = training.resume(checkpoint) if checkpoint else None
    saved = resumed or 0
    batches = train_batches(saved // stride)
    with tqdm(total=schedule.steps, initial=saved, unit="step", file=sys.stderr, disable=not processes.is_main) as bar:
        for step in range(0 if resumed is None else resumed + stride, schedule.steps + 1, stride):
            if step:
                batch = next(batches, None)
                if batch is None:
                    raise ValueError(f"train_batches ended before step {step} of {schedule.steps}")
                training.micro_step(batch, step)
                bar.update(stride)
            if step % schedule.evaluate_every_steps == 0 or step == schedule.steps:
                training.evaluate(model, evaluate, step)
                if step:  # before that nothing is trained, and who goes on from a head does not look at it
                    bar.set_postfix(val_map=max(state.best_map for state in training.states))
                if not training.running:
                    return
            ends_update = step % schedule.accumulation == 0  # before that, gradients would have to be kept too
            if checkpoint and ends_update and step - saved >= checkpoint.every_steps and step < schedule.steps:
                training.save(checkpoint, step)
                saved = step


@dataclass
class _Training:
    """A training under way and all of its state.

    `names` has the trained parameters' names in the model. `stride` steps of the schedule are one of each process.
    """

    processes: Processes
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    states: list[CandidateState]
    names: Mapping[nn.Parameter, str]
    schedule: TrainingSchedule
    stride: int

    def __post_init__(self) -> None:
        is_fp16 = self.schedule.precision == "fp16"
        self.scaler = torch.amp.GradScaler(self.processes.device.type) if is_fp16 else None

    @property
    def running(self) -> list[int]:
        """Numbers of the candidates that have patience left."""
        return [k for k, state in enumerate(self.states) if state.stale < self.schedule.patience]

    @property
    def provenance(self) -> dict[str, Any]:
        """What determines this training, as far as the loop knows it; JSON."""
        return {
            "schedule": asdict(self.schedule),
            "candidates": {
                state.candidate.name: [
                    {key: value for key, value in group.items() if key != "params"}
                    | {"params": {self.names[parameter]: list(parameter.shape) for parameter in group["params"]}}
                    for group in state.candidate.groups
                ]
                for state in self.states
            },
            "device": self.processes.device.type,
            "processes": self.processes.count,
        }

    def micro_step(self, batch: tuple[Tensor, ...], step: int) -> None:
        *inputs, targets = (tensor.to(self.processes.device, non_blocking=True) for tensor in batch)
        ends_update = step % self.schedule.accumulation == 0
        with nullcontext() if ends_update else self.processes.without_sync(self.wrapped):
            with self.processes.autocast():
                logits = self.wrapped(*inputs)
            losses = _losses(logits.float(), targets.float(), self.states)
            values, running = losses.tolist(), self.running
            for k in running:
                state = self.states[k]
                if not math.isfinite(values[k]):
                    raise NonFiniteLoss(which="train", candidate=state.candidate.name, step=step, value=values[k])
                state.losses.append(values[k])
            total = losses.sum() if len(running) == len(values) else losses[running].sum()
            total = total / (self.schedule.accumulation // self.stride)
            (total if self.scaler is None else self.scaler.scale(total)).backward()
        if ends_update:
            self._update(self.schedule.lr_factor(step // self.schedule.accumulation - 1))

    def _update(self, lr_factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * lr_factor
        if self.schedule.max_grad_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            clip_gradients([state.candidate.parameters for state in self.states], self.schedule.max_grad_norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad()

    def evaluate(self, model: nn.Module, evaluate: Callable[[nn.Module], Mapping[str, Any]], step: int) -> None:
        model.eval()
        with torch.no_grad(), self.processes.autocast():
            result = evaluate(model)
        model.train()
        scores = [torch.as_tensor(result[name], dtype=torch.float64).reshape(-1).tolist() for name in ("loss", "map")]
        # Processes may differ in the last bits and must not differ in when to stop: all take the first one's.
        losses, maps = self.processes.of_main(scores)
        if not len(losses) == len(maps) == len(self.states):
            raise ValueError(f"{len(self.states)} candidates want a loss and a mAP each, got {losses} and {maps}")
        factor = self.schedule.lr_factor(step // self.schedule.accumulation)
        for k in self.running:
            state = self.states[k]
            if not math.isfinite(losses[k]):
                raise NonFiniteLoss(which="val", candidate=state.candidate.name, step=step, value=losses[k])
            if not math.isfinite(maps[k]):
                raise NoPositives(
                    f"val mAP is {maps[k]} at step {step}: none of the val windows that are evaluated has a label; "
                    "raise finetune.evaluate_windows, or take labels that val shows"
                )
            state.take(
                Evaluation(
                    step=step,
                    train_loss=_mean_over_processes(self.processes, state.losses) if state.losses else None,
                    val_loss=losses[k],
                    val_map=maps[k],
                    learning_rates={group["name"]: group["lr"] * factor for group in state.candidate.groups},
                )
            )

    def save(self, checkpoint: Checkpoint, step: int) -> None:
        """Write all that the next micro-step depends on, with the random states and losses of each process."""
        tensors: dict[str, Tensor] = {}
        for parameter, name in self.names.items():
            tensors[f"parameter.{name}"] = parameter
            tensors |= {f"adamw.{key}.{name}": value for key, value in self.optimizer.state[parameter].items()}
        for state in self.states:
            for parameter, best in zip(state.candidate.parameters, state.best, strict=True):
                tensors[f"best.{self.names[parameter]}"] = best
        random = {kind: module.get_rng_state().tolist() for kind, module in self._random_modules().items()}
        processes = self.processes.gathered({"random": random, "losses": [state.losses for state in self.states]})
        if self.processes.is_main:
            content = {
                "step": step,
                "processes": processes,
                "rows": [[asdict(row) for row in state.rows] for state in self.states],
                "stale": [state.stale for state in self.states],
                "scaler": self.scaler and self.scaler.state_dict(),
            }
            checkpoint.write(tensors, content)
        self.processes.wait()

    def resume(self, checkpoint: Checkpoint) -> int | None:
        """Restore what `save` wrote, and return after which micro-step that was; None without a checkpoint."""
        saved = checkpoint.read()
        if saved is None:
            return None
        tensors, content = saved
        with torch.no_grad():
            for parameter, name in self.names.items():
                parameter.copy_(tensors[f"parameter.{name}"])
                # Gradients that overflow in fp16 may have kept the optimizer from any step, and so from any state.
                self.optimizer.state[parameter] = {
                    key: tensors[f"adamw.{key}.{name}"].to(parameter.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"adamw.{key}.{name}" in tensors
                }
        process = content["processes"][self.processes.rank]
        for k, state in enumerate(self.states):
            state.rows = [Evaluation(**row) for row in content["rows"][k]]
            state.losses = process["losses"][k]
            state.stale = content["stale"][k]
            state.best = [tensors[f"best.{self.names[p]}"].to(p.device) for p in state.candidate.parameters]
        if self.scaler:
            self.scaler.load_state_dict(content["scaler"])
        for kind, module in self._random_modules().items():
            module.set_rng_state(torch.tensor(process["random"][kind], dtype=torch.uint8))
        log.info("resuming after step %d of %d, from %s", content["step"], self.schedule.steps, checkpoint.path)
        return int(content["step"])

    def _random_modules(self) -> dict[str, Any]:
        """The modules that hold the random states that dropout draws from, by kind of device."""
        kind = self.processes.device.type
        return {"cpu": torch} if kind == "cpu" else {"cpu": torch, kind: torch.get_device_module(kind)}


def _names_of_trained(model: nn.Module, candidates: Sequence[Candidate]) -> dict[nn.Parameter, str]:
    """The name in `model` of each parameter that is trained, in the candidates' order."""
    grouped = [parameter for candidate in candidates for parameter in candidate.parameters]
    trainable = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if set(grouped) != trainable.keys() or not grouped:
        left_out = sorted(name for parameter, name in trainable.items() if parameter not in set(grouped))
        raise ValueError(
            f"parameter groups must hold exactly the trainable parameters: {left_out} are in none, "
            f"{len(set(grouped) - trainable.keys())} given are frozen or not in the model"
        )
    if len(set(grouped)) != len(grouped):
        raise ValueError("a parameter is in two groups, or twice in one")
    if len({candidate.name for candidate in candidates}) != len(candidates):
        raise ValueError(f"candidates need names of their own, got {[candidate.name for candidate in candidates]}")
    return {parameter: trainable[parameter] for parameter in grouped}


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


def _losses(logits: Tensor, targets: Tensor, states: Sequence[CandidateState]) -> Tensor:
    """Each candidate's loss, (C,), of logits (C, K, B, L), (C, B, L) or, of one candidate, (B, L)."""
    runs = [(loss, len(list(run))) for loss, run in groupby(state.candidate.loss for state in states)]
    parts = logits.reshape(len(states), -1, *targets.shape).split([count for _, count in runs])
    return torch.cat(
        [
            loss(part[0] if count == 1 else part, targets).reshape(count, -1).mean(1)
            for part, (loss, count) in zip(parts, runs, strict=True)
        ]
    )


def clip_gradients(parameters: Sequence[Sequence[nn.Parameter]], max_grad_norm: float) -> None:
    """Scale each candidate's gradient to a norm of at most `max_grad_norm`, all of them in a few calls."""
    gradients = [(k, p.grad) for k, group in enumerate(parameters) for p in group if p.grad is not None]
    tensors = [gradient for _, gradient in gradients]
    owners = torch.tensor([k for k, _ in gradients], device=tensors[0].device)
    squares = torch.stack(torch._foreach_norm(tensors)).square()
    norms = squares.new_zeros(len(parameters)).index_add(0, owners, squares).sqrt()
    factors = (max_grad_norm / (norms + 1e-6)).clamp(max=1.0)
    if (factors < 1).any():  # not `amin`: a candidate that has stopped may be at nan
        torch._foreach_mul_(tensors, list(factors[owners].unbind()))


def _mean_over_processes(processes: Processes, values: list[float]) -> float:
    total = torch.tensor([math.fsum(values), float(len(values))], device=processes.device)
    total = processes.total(total)
    return float(total[0] / total[1])

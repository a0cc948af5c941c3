"""The device of a training, its arithmetic precision, and the processes that share it under `torchrun`."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from features.backbone import DTYPES, best_device
from heads.training.schedule import Precision


class PrecisionError(ValueError):
    """The device of a training does not compute in the precision that is asked for."""


class TooFewDevices(ValueError):
    """`torchrun` started more processes on this machine than it has GPUs."""


@dataclass(frozen=True)
class Processes:
    """This process of a training: number `rank` of `count`, on `device`, computing in `precision`."""

    device: torch.device
    precision: Precision
    rank: int
    count: int

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[object]:
        """A context that computes in `precision`; parameters stay as they are."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision])

    def wrapped(self, model: nn.Module) -> nn.Module:
        """`model` on the device; with several processes it averages their gradients."""
        model.to(self.device)
        if self.count == 1:
            return model
        return DistributedDataParallel(model, [self.device] if self.device.type == "cuda" else None)

    def without_sync(self, wrapped: nn.Module) -> AbstractContextManager[object]:
        """A context in which gradients are added up in each process alone."""
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()

    def of_main(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, device=self.device)
        return values[0]

    def gathered(self, value: Any) -> list[Any]:
        """Every process's value, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()


def is_main_process() -> bool:
    """Whether this process is the first of `torchrun`'s, or the only one: the one that writes files."""
    return process_rank() == 0


def process_rank() -> int:
    """The number of this process among those that `torchrun` started; 0 without it."""
    return int(os.environ.get("RANK", "0"))


def num_processes() -> int:
    """How many processes `torchrun` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class UnevenShares(ValueError):
    """An update cannot be shared evenly by the processes of a training."""


def shares_batches(*, accumulation: int, batch_size: int, evaluate_every_steps: int) -> bool:
    """Whether the processes of an update take whole batches in turn, or else each its part of every batch.

    An update is of the same windows however many processes there are. Raises `UnevenShares` where neither is even.
    """
    count = num_processes()
    if accumulation % count == 0 and evaluate_every_steps % count == 0:
        return True
    if batch_size % count == 0:
        return False
    raise UnevenShares(
        f"{count} processes cannot share updates of {accumulation} batches of {batch_size} windows evenly, evaluated "
        f"every {evaluate_every_steps} batches: make batch_size a multiple of {count}, or accumulation and "
        "evaluate_every_steps, under finetune in the params; or start another number of processes"
    )


def joined_processes(*, cpu: bool, precision: Precision) -> Processes:
    """Join the processes of `torchrun`, if it started this one; `cpu` refuses any accelerator.

    The process group stays for later trainings in this process. fp16 on a CPU raises `PrecisionError`.
    """
    count = num_processes()
    device = torch.device("cpu") if cpu else best_device()
    if precision == "fp16" and device.type == "cpu":
        raise PrecisionError(
            "precision fp16 trains on an accelerator only, and this machine has none: set train.precision and "
            "finetune.precision to fp32, or to bf16"
        )
    if count == 1:
        return Processes(device, precision, rank=0, count=1)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        num_devices, num_here = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
        if num_devices < num_here:
            raise TooFewDevices(
                f"each process of torchrun needs a GPU of its own, and this machine has {num_devices} for {num_here} "
                f"processes: start them with --nproc-per-node {num_devices}"
            )
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(device, precision, rank=dist.get_rank(), count=count)

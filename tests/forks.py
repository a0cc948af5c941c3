"""A process with all imports done, from which others are forked: such as are killed, or run beside each other."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess


class ForkServer:
    """Its process has one thread. A target and its arguments are pickled."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_fork_server, args=(theirs,))
        self._process.start()

    def start(self, target: Callable[..., object], *args: Any) -> int:
        """Call `target` in a new process and return its process id."""
        self._connection.send((target, args))
        return int(self._connection.recv())

    def wait(self, pid: int) -> int:
        """The exit status of the process that was started."""
        self._connection.send(pid)
        return int(self._connection.recv())

    def close(self) -> None:
        self._connection.close()
        self._process.join()


def _fork_server(connection: Any) -> None:
    import torch

    torch.set_num_threads(1)
    importlib.import_module("transformers.models.vjepa2.modeling_vjepa2")  # two seconds
    started: dict[int, ForkProcess] = {}
    with contextlib.suppress(EOFError):
        while True:
            match connection.recv():
                case int(pid):
                    started[pid].join()
                    connection.send(started.pop(pid).exitcode)
                case target, args:
                    process = multiprocessing.get_context("fork").Process(target=target, args=args)
                    process.start()
                    started[process.pid or 0] = process
                    connection.send(process.pid)

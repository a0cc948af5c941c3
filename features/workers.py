"""Processes that work through tasks, each minded by a thread of this one. Knows processes; knows no video.

A worker that crashes or hangs costs the task that it was at, never the run: a new one takes its place.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Task = TypeVar("Task")

_NICENESS = 10  # workers take what the model's threads leave: of two at one core, the model's gets nine tenths
_ATTEMPTS = 2  # a crash may have come from outside, such as a lack of memory; the second one is the task's own
_POLL_S = 0.2
_PIPE_BYTES = 2**20  # what Linux grants anybody

_start_lock = threading.Lock()


@dataclass(frozen=True)
class Ended:
    """A task's last item: `lost` says that its worker "crashed" or "hung", and what is known of it; or is None."""

    lost: tuple[str, str] | None


class WorkerError(RuntimeError):
    """The work itself raised something unforeseen in a worker; the message holds the traceback from there."""


def work_apart(
    work: Callable[[Task], Iterable[Any]], tasks: Sequence[Task], *, num_workers: int, ahead: int, hang_s: float
) -> Iterator[tuple[Task, Any]]:
    """Run `work(task)` in `num_workers` processes; all tasks' items in order, each task's followed by an `Ended`.

    `work` and the tasks are pickled, and `work` is importable. It must give the same items if it is run again: after
    a crash a task is tried once more, and items that have come are not repeated. Up to `ahead` items of a task wait
    here, of at most twice as many tasks as there are workers. A worker from which nothing comes for `hang_s` seconds
    is killed. What workers log is logged here. Closing the generator ends the workers.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(tasks)):
        waiting.put(number)
    results: list[queue.Queue[Any]] = [queue.Queue(maxsize=ahead) for _ in tasks]
    room = threading.Semaphore(2 * num_workers)
    stop = threading.Event()
    minders = [
        _Minder(work, tasks, waiting=waiting, results=results, room=room, stop=stop, hang_s=hang_s)
        for _ in range(min(num_workers, len(tasks)))
    ]
    for minder in minders:
        minder.start()
    try:
        for number, task in enumerate(tasks):
            item: Any = None
            while not isinstance(item, Ended):
                item = results[number].get()
                if isinstance(item, BaseException):
                    raise item
                yield task, item
            results[number] = queue.Queue()  # not held until the end
            room.release()
    finally:
        stop.set()
        for minder in minders:
            minder.join()


class _Minder(threading.Thread):
    """Feeds one worker process its tasks, and takes what it gives; starts another when it dies."""

    def __init__(
        self, work: Callable[[Any], Iterable[Any]], tasks: Sequence[Any], *, waiting: queue.SimpleQueue[int],
        results: Sequence[queue.Queue[Any]], room: threading.Semaphore, stop: threading.Event, hang_s: float,
    ) -> None:  # fmt: skip
        super().__init__(daemon=True)
        self._work, self._tasks, self._waiting, self._results = work, tasks, waiting, results
        self._room, self._stopping, self._hang_s = room, stop, hang_s
        self._worker: tuple[Any, Connection, Connection] | None = None

    def run(self) -> None:
        try:
            while self._room_is_there():
                try:
                    number = self._waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    self._mind(number)
                except BaseException as error:  # raised again where the results are taken
                    self._give(number, error)
        except _Stopped:
            pass
        finally:
            self._end_worker()

    def _room_is_there(self) -> bool:
        while not self._stopping.is_set():
            if self._room.acquire(timeout=_POLL_S):
                return True
        return False

    def _mind(self, number: int) -> None:
        given = 0
        for attempt in range(_ATTEMPTS):
            process, tasks, results = self._worker or self._start_worker()
            try:
                tasks.send(self._tasks[number])
                come = 0
                while True:
                    kind, content = self._receive(results)
                    if kind == "end":
                        self._give(number, Ended(None))
                        return
                    if kind == "raised":
                        raise WorkerError(content)
                    if kind == "log":
                        name, level, message = content
                        logging.getLogger(name).log(level, "%s", message)
                    else:
                        come += 1
                        if come > given:
                            self._give(number, content)
                            given = come
            except (EOFError, OSError):
                process.join(timeout=1.0)
                status = process.exitcode
                self._end_worker()
                if attempt == _ATTEMPTS - 1:
                    how = f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"
                    self._give(number, Ended(("crashed", f"{how}, {_ATTEMPTS} times")))
            except _Hung:
                self._end_worker()
                self._give(number, Ended(("hung", f"nothing came for {self._hang_s:g} s")))
                return

    def _receive(self, connection: Connection) -> tuple[str, Any]:
        waited_s = 0.0
        while not connection.poll(_POLL_S):
            if self._stopping.is_set():
                raise _Stopped
            waited_s += _POLL_S
            if waited_s >= self._hang_s:
                raise _Hung
        received: tuple[str, Any] = connection.recv()
        return received

    def _give(self, number: int, item: Any) -> None:
        while True:
            if self._stopping.is_set():
                raise _Stopped
            with contextlib.suppress(queue.Full):
                self._results[number].put(item, timeout=_POLL_S)
                return

    def _start_worker(self) -> tuple[Any, Connection, Connection]:
        # From a server that has imported what the work needs, and has no threads: forking from there is safe, and
        # quick. Elsewhere than on Linux system libraries do not outlive a fork.
        context: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        with _start_lock, _main_not_imported_again():
            if sys.platform == "linux":
                context.set_forkserver_preload([type(self._work).__module__])
            tasks, results = context.Pipe(duplex=False), context.Pipe(duplex=False)
            _widen(results[1])
            process = context.Process(target=_serve, args=(tasks[0], results[1], self._work), daemon=True)
            process.start()
            tasks[0].close()
            results[1].close()
        self._worker = process, tasks[1], results[0]
        return self._worker

    def _end_worker(self) -> None:
        if self._worker is not None:
            process, tasks, results = self._worker
            tasks.close()
            results.close()
            process.kill()
            process.join()
            self._worker = None


class _Stopped(Exception):  # noqa: N818, never leaves this module
    """Nobody takes the results any more."""


class _Hung(Exception):  # noqa: N818, never leaves this module
    """A worker has been silent for too long."""


@contextlib.contextmanager
def _main_not_imported_again() -> Iterator[None]:
    """A child imports its parent's main module, which work never needs, and a stage's takes seconds."""
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {name: main.__dict__.pop(name) for name in ("__spec__", "__file__") if hasattr(main, name)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


def _widen(pipe: Connection) -> None:
    """Room for a whole small clip, on Linux: else it comes in pieces, each a wait for the lock that threads share."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _serve(tasks: Connection, connection: Connection, work: Callable[[Any], Iterable[Any]]) -> None:
    """A worker's life: ends when its parent does, since then the connection breaks."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    root = logging.getLogger()
    root.handlers = [_Sender(connection)]
    root.setLevel(logging.INFO)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            task = tasks.recv()
            try:
                for item in work(task):
                    connection.send(("item", item))
                connection.send(("end", None))
            except OSError:
                raise
            except Exception:
                connection.send(("raised", traceback.format_exc()))


class _Sender(logging.Handler):
    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        self._connection.send(("log", (record.name, record.levelno, record.getMessage())))

"""Processes that work through tasks, each watched by a thread of this process.

A worker that crashes or hangs costs the task that it was at, never the run: a new worker takes its place.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Task = TypeVar("Task")

_ATTEMPTS = 2  # a first crash may have come from outside, such as a lack of memory; a second one is the task's own
_POLL_S = 0.2
_PIPE_BYTES = 2**20  # what Linux grants without privileges

_start_lock = threading.Lock()


class WorkerLost(Exception):
    """The worker of a task is gone: its `cause` is "crashed" or "hung", `detail` what is known of it."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(cause, detail)
        self.cause = cause
        self.detail = detail


class WorkerError(RuntimeError):
    """The work raised something unexpected in a worker; the message holds the traceback from there."""


@dataclass
class _Parent:
    """In a worker, the connection to its parent, and when `still_alive` used it last."""

    connection: Connection | None = None
    told_at_s: float = 0.0


_parent = _Parent()


def still_alive() -> None:
    """Say that the work goes on, where no item may come for long. Does nothing outside a worker."""
    if _parent.connection is not None and time.monotonic() - _parent.told_at_s >= _POLL_S:
        _parent.connection.send(("alive", None))
        _parent.told_at_s = time.monotonic()


def imap_processes(
    work: Callable[[Task], Iterable[Any]],
    tasks: Sequence[Task],
    *,
    expected: type[Exception],
    num_workers: int,
    ahead: int,
    hang_s: float,
) -> Iterator[tuple[Task, Generator[Any, None, Any]]]:
    """Run `work(task)` in `num_workers` processes; each task in order, with a generator of its items.

    The generator returns what the iterator that `work` made returns, None if nothing. It raises `WorkerLost`, an
    `expected` error that the work raised, or `WorkerError` for any other. Items that are not taken before the next task
    is asked for are dropped. `work`, the tasks and `expected` errors are pickled. `work` must give the same items when
    it is run again: after a crash a task is tried once more, and items that have arrived are not repeated. Up to
    `ahead` items of a task wait here, of at most twice as many tasks as there are workers. A worker that gives nothing
    for `hang_s` seconds is killed, unless the work says `still_alive`. What workers log is logged here.
    Closing the generator ends the workers.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(tasks)):
        waiting.put(number)
    results: list[queue.Queue[Any]] = [queue.Queue(maxsize=ahead) for _ in tasks]
    room = threading.Semaphore(2 * num_workers)
    stop = threading.Event()
    watchers = [
        _Watcher(work, tasks, expected, waiting=waiting, results=results, room=room, stop=stop, hang_s=hang_s)
        for _ in range(min(num_workers, len(tasks)))
    ]
    for watcher in watchers:
        watcher.start()
    try:
        for number, task in enumerate(tasks):
            items = _items(results[number])
            yield task, items
            with contextlib.suppress(expected, WorkerLost):
                for _ in items:
                    pass
            results[number] = queue.Queue()  # not held until the end
            room.release()
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()


def _items(results: queue.Queue[Any]) -> Generator[Any, None, Any]:
    while True:
        item = results.get()
        if isinstance(item, _End):
            if item.error is not None:
                raise item.error
            return item.returned
        yield item


@dataclass(frozen=True)
class _End:
    """Follows a task's last item, with the error that ended it, or what the work returned."""

    error: BaseException | None = None
    returned: Any = None


class _Watcher(threading.Thread):
    """Feeds one worker process its tasks and takes its items; starts another process when it dies."""

    def __init__(
        self,
        work: Callable[[Any], Iterable[Any]],
        tasks: Sequence[Any],
        expected: type[Exception],
        *,
        waiting: queue.SimpleQueue[int],
        results: Sequence[queue.Queue[Any]],
        room: threading.Semaphore,
        stop: threading.Event,
        hang_s: float,
    ) -> None:
        super().__init__(daemon=True)
        self._work, self._tasks, self._expected = work, tasks, expected
        self._waiting, self._results, self._room = waiting, results, room
        self._stopping, self._hang_s = stop, hang_s
        self._worker: tuple[Any, Connection, Connection] | None = None

    def run(self) -> None:
        try:
            while self._wait_for_room():
                try:
                    number = self._waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    end = self._run_task(number)
                except _Stopped:
                    raise
                except BaseException as unexpected:  # raised again where the items are taken
                    end = _End(unexpected)
                self._give(number, end)
        except _Stopped:
            pass
        finally:
            self._end_worker()

    def _wait_for_room(self) -> bool:
        while not self._stopping.is_set():
            if self._room.acquire(timeout=_POLL_S):
                return True
        return False

    def _run_task(self, number: int) -> _End:
        """Pass on a task's items; returns what ended it."""
        num_given = 0
        status: int | None = None
        for _ in range(_ATTEMPTS):
            process, tasks, results = self._worker or self._start_worker()
            num_received = 0
            try:
                tasks.send(self._tasks[number])
                while True:
                    kind, content = self._receive(results)
                    if kind == "item":
                        num_received += 1
                        if num_received > num_given:
                            self._give(number, content)
                            num_given = num_received
                    elif kind == "alive":
                        continue
                    elif kind == "log":
                        name, level, message = content
                        logging.getLogger(name).log(level, "%s", message)
                    elif kind == "end":
                        return _End(returned=content)
                    else:
                        return _End(WorkerError(content) if kind == "traceback" else content)
            except (EOFError, OSError):
                process.join(timeout=1.0)
                status = process.exitcode
                self._end_worker()
            except _Hung:
                self._end_worker()
                return _End(WorkerLost("hung", f"nothing came for {self._hang_s:g} s"))
        ended = f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"
        return _End(WorkerLost("crashed", f"{ended}, {_ATTEMPTS} times"))

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
            arguments = (tasks[0], results[1], self._work, self._expected)
            process = context.Process(target=_serve, args=arguments, daemon=True)
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


class _Stopped(Exception):
    """Nobody takes the results any more."""


class _Hung(Exception):
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


def _serve(
    tasks: Connection, connection: Connection, work: Callable[[Any], Iterable[Any]], expected: type[Exception]
) -> None:
    """Run a worker until its parent ends, which breaks the connection."""
    _parent.connection = connection
    root = logging.getLogger()
    root.handlers = [_Sender(connection)]
    root.setLevel(logging.INFO)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            task = tasks.recv()
            try:
                connection.send(("end", _send_items(connection, iter(work(task)))))
            except expected as error:
                connection.send(("error", error))
            except OSError:
                raise
            except Exception:
                connection.send(("traceback", traceback.format_exc()))


def _send_items(connection: Connection, items: Iterator[Any]) -> Any:
    """Send all items; what their iterator returns."""
    while True:
        try:
            item = next(items)
        except StopIteration as stop:
            return stop.value
        connection.send(("item", item))


class _Sender(logging.Handler):
    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        self._connection.send(("log", (record.name, record.levelno, record.getMessage())))

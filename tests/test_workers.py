"""Work in child processes: order, crashes, hangs, logs, and no process left behind."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from features.workers import WorkerError, WorkerLost, imap_processes, still_alive


class ForeseenError(Exception):
    """An error that the work is expected to raise."""


def arrays(task: tuple[int, int]) -> Iterator[np.ndarray]:
    """`count` arrays full of `mark`."""
    mark, count = task
    for _ in range(count):
        yield np.full((50, 50), mark)


def trouble(task: str) -> Iterator[str]:
    """Yields its name twice, then does what the name says."""
    yield task
    yield task
    what, _, path = task.partition(" ")
    if what == "crash":
        ctypes.string_at(0)  # a segmentation fault, as in a decoder's C code
    elif what == "crash-once" and not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "hang":
        time.sleep(1000)
    elif what == "raise":
        raise ValueError("something new")
    elif what == "foreseen":
        raise ForeseenError("half a file")
    elif what == "log":
        logging.getLogger("features.decode.grid").warning("%s: half a frame", task)
    yield "done"


def run(tasks: list[str], *, hang_s: float = 60.0) -> dict[str, tuple[list[str], Exception | None]]:
    """Each task's items and the error that ended it."""
    results: dict[str, tuple[list[str], Exception | None]] = {}
    for task, items in imap_processes(trouble, tasks, expected=ForeseenError, num_workers=2, ahead=4, hang_s=hang_s):
        received: list[str] = []
        error: Exception | None = None
        try:
            received.extend(items)
        except (ForeseenError, WorkerLost) as raised:
            error = raised
        results[task] = (received, error)
    return results


def test_all_items_come_in_the_order_of_the_tasks() -> None:
    """Items come in the order of tasks, whichever worker is faster; arrays arrive whole."""
    tasks = [(k, (7 * k) % 5 + (40 if k == 3 else 0)) for k in range(12)]
    stream = imap_processes(arrays, tasks, expected=ForeseenError, num_workers=3, ahead=4, hang_s=60.0)
    received = [(task, list(items)) for task, items in stream]
    assert [task for task, _ in received] == tasks
    assert [[int(item[0, 0]) for item in items] for _, items in received] == [[task[0]] * task[1] for task in tasks]
    assert all(item.flags.writeable for _, items in received for item in items)


def test_items_that_nobody_takes_are_dropped() -> None:
    """Asking for the next task skips the rest of this one."""
    stream = imap_processes(arrays, [(1, 20), (2, 3)], expected=ForeseenError, num_workers=1, ahead=2, hang_s=60.0)
    _, first = next(stream)
    next(first)
    task, items = next(stream)
    assert task == (2, 3)
    assert [int(item[0, 0]) for item in items] == [2, 2, 2]


def test_a_crash_costs_its_task_alone() -> None:
    """A second segmentation fault is raised with its signal; earlier items come once, other tasks whole."""
    results = run(["a", "crash", "b", "c"])
    received, error = results["crash"]
    assert received == ["crash", "crash"]
    assert isinstance(error, WorkerLost)
    assert (error.cause, error.detail) == ("crashed", "signal 11, 2 times")
    assert {task: results[task] for task in "abc"} == {task: ([task, task, "done"], None) for task in "abc"}


def test_a_worker_that_is_killed_from_outside_costs_nothing(tmp_path: Path) -> None:
    """Another worker runs the task again, and items that arrived before are not repeated."""
    task = f"crash-once {tmp_path / 'once'}"
    assert run([task]) == {task: ([task, task, "done"], None)}


def test_a_hang_costs_its_task_alone() -> None:
    """A worker that is silent for too long is killed, and its task is reported as hung."""
    results = run(["hang", "a"], hang_s=3.0)
    received, error = results["hang"]
    assert received == ["hang", "hang"]
    assert isinstance(error, WorkerLost)
    assert (error.cause, error.detail) == ("hung", "nothing came for 3 s")
    assert results["a"] == (["a", "a", "done"], None)


def test_an_expected_error_ends_its_task_alone() -> None:
    """The error that the work raised is raised here, after the items before it."""
    results = run(["foreseen", "a"])
    received, error = results["foreseen"]
    assert received == ["foreseen", "foreseen"]
    assert isinstance(error, ForeseenError)
    assert str(error) == "half a file"
    assert results["a"] == (["a", "a", "done"], None)


def test_a_slow_consumer_is_no_hang() -> None:
    """A worker that waits because nobody takes its items is never treated as hung."""
    ((_, items),) = [
        (task, list(_slowly(items)))
        for task, items in imap_processes(arrays, [(1, 30)], expected=ForeseenError, num_workers=1, ahead=2, hang_s=1.0)
    ]
    assert len(items) == 30


def _slowly(items: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for number, item in enumerate(items):
        if number == 3:
            time.sleep(2.5)
        yield item


def test_an_unexpected_error_is_raised_here() -> None:
    """Any other exception in the work is a bug: it comes with its traceback."""
    with pytest.raises(WorkerError, match="something new"):
        run(["a", "raise"])


def test_logs_come_across(caplog: pytest.LogCaptureFixture) -> None:
    """A warning from a worker is logged here, by the same name and level."""
    run(["log"])
    (record,) = [record for record in caplog.records if record.name == "features.decode.grid"]
    assert (record.levelname, record.getMessage()) == ("WARNING", "log: half a frame")


def test_nobody_is_left_behind() -> None:
    """Closing the stream early ends the workers; so does its end."""

    def workers() -> list[psutil.Process]:
        server = [process for process in psutil.Process().children() if "forkserver" in " ".join(process.cmdline())]
        return [child for process in server for child in process.children()] if server else []

    stream = imap_processes(arrays, [(1, 100), (2, 100)], expected=ForeseenError, num_workers=2, ahead=4, hang_s=60.0)
    _, items = next(stream)
    next(items)
    assert workers() or not hasattr(os, "fork")
    stream.close()  # type: ignore[attr-defined]
    assert workers() == []


def quiet(task: float) -> Generator[str, None, str]:
    """Says for so many seconds that it goes on, and then gives one item and returns another."""
    end_s = time.monotonic() + task
    while time.monotonic() < end_s:
        time.sleep(0.1)
        still_alive()
    yield "done"
    return "all done"


def test_work_that_says_that_it_goes_on_is_no_hang() -> None:
    """A worker from which no item comes for long is left alone as long as it says that it goes on."""
    still_alive()  # here, in no worker, it does nothing
    stream = imap_processes(quiet, [3.0], expected=ForeseenError, num_workers=1, ahead=2, hang_s=1.5)
    assert [(task, list(items)) for task, items in stream] == [(3.0, ["done"])]


def test_what_the_work_returns_comes_behind_its_items() -> None:
    """The generator of a task's items returns what the work returned, once all are taken."""
    for _, items in imap_processes(quiet, [0.0, 0.0], expected=ForeseenError, num_workers=1, ahead=2, hang_s=60.0):
        assert next(items) == "done"
        with pytest.raises(StopIteration) as stop:
            next(items)
        assert stop.value.value == "all done"

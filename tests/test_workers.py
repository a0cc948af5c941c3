"""Work in processes of its own: order, crashes, hangs, logs, and that nothing is left behind."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from features.workers import Ended, WorkerError, work_apart


def arrays(task: tuple[int, int]) -> Iterator[np.ndarray]:
    """`count` arrays full of `mark`."""
    mark, count = task
    for _ in range(count):
        yield np.full((50, 50), mark)


def trouble(task: str) -> Iterator[str]:
    """Gives its name twice, then does what it says."""
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
    elif what == "log":
        logging.getLogger("features.decode.grid").warning("%s: half a frame", task)
    yield "done"


def run(tasks: list[str], **settings: float) -> list[tuple[str, object]]:
    return list(work_apart(trouble, tasks, num_workers=2, ahead=4, hang_s=settings.get("hang_s", 60.0)))


def test_all_items_come_in_the_order_of_the_tasks() -> None:
    """Whoever is quicker, a task's items come in order and behind those of the tasks before it; arrays arrive whole."""
    tasks = [(k, (7 * k) % 5 + (40 if k == 3 else 0)) for k in range(12)]
    come = list(work_apart(arrays, tasks, num_workers=3, ahead=4, hang_s=60.0))
    assert [(task, int(item[0, 0])) for task, item in come if not isinstance(item, Ended)] == [
        (task, task[0]) for task in tasks for _ in range(task[1])
    ]
    assert [task for task, item in come if isinstance(item, Ended)] == tasks
    assert all(item.flags.writeable for _, item in come if not isinstance(item, Ended))


def test_a_crash_costs_its_task_alone() -> None:
    """A segmentation fault, twice, is told with its signal; items from before it come once, other tasks whole."""
    come = run(["a", "crash", "b", "c"])
    assert [item for task, item in come if task == "crash"] == [
        "crash", "crash", Ended(("crashed", "signal 11, 2 times")),
    ]  # fmt: skip
    for task in "abc":
        assert [item for each, item in come if each == task] == [task, task, "done", Ended(None)]


def test_a_worker_that_is_killed_from_outside_costs_nothing(tmp_path: Path) -> None:
    """Its task is done again by another, and what had come before is not repeated."""
    task = f"crash-once {tmp_path / 'once'}"
    assert [item for _, item in run([task])] == [task, task, "done", Ended(None)]


def test_a_hang_costs_its_task_alone() -> None:
    """A worker that is silent for too long is killed, and its task is told as hung."""
    come = run(["hang", "a"], hang_s=3.0)
    assert [item for task, item in come if task == "hang"] == ["hang", "hang", Ended(("hung", "nothing came for 3 s"))]
    assert [item for task, item in come if task == "a"][-1] == Ended(None)


def test_slow_takers_are_no_hang() -> None:
    """While nobody takes what has come, a worker that waits with more is left alone, however long."""
    taken = []
    for _, item in work_apart(arrays, [(1, 30)], num_workers=1, ahead=2, hang_s=1.0):
        if len(taken) == 3:
            time.sleep(2.5)
        taken.append(item)
    assert len(taken) == 31
    assert taken[-1] == Ended(None)


def test_what_is_not_foreseen_is_raised_here() -> None:
    """An exception in the work is a bug: it comes with its traceback."""
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
        server = [each for each in psutil.Process().children() if "forkserver" in " ".join(each.cmdline())]
        return [child for each in server for child in each.children()] if server else []

    stream = work_apart(arrays, [(1, 100), (2, 100)], num_workers=2, ahead=4, hang_s=60.0)
    next(stream)
    assert workers() or not hasattr(os, "fork")
    stream.close()  # type: ignore[attr-defined]
    assert workers() == []

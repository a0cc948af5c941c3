"""A folder that many processes hold at once, so that none of them clears it up under another's hands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

_LOCK = ".lock"  # the file of `features.files.locked`, which waits until nobody holds the folder


@contextmanager
def held_together(folder: Path) -> Iterator[None]:
    """Hold `folder`, made if it is not there, beside all others who do; waits only for one who holds it alone.

    A killed process holds nothing. Where a system has no shared locks (Windows), one waits for the other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        with FileLock(folder / _LOCK, is_singleton=True):  # which this process may hold more than once
            yield
        return
    import fcntl

    descriptor = _flocked(folder / _LOCK, fcntl.LOCK_SH)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def held_alone(folder: Path) -> Iterator[bool]:
    """Hold `folder` alone if nobody else holds it; else nothing is held. Says which; never waits."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _flocked(path: Path, operation: Any) -> int:
    """A descriptor of the lock file that stands at `path` now: who releases a lock may have removed another one."""
    import fcntl

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, operation)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)

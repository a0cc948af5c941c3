"""Diaries of files while a recording goes on, in processes of their own: `LiveDiaries`."""

from __future__ import annotations

import logging
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger(__name__)

_WINDOWS_FLAGS = sum(
    getattr(subprocess, name, 0) for name in ("CREATE_NEW_PROCESS_GROUP", "BELOW_NORMAL_PRIORITY_CLASS")
)
_DAMAGED = 3  # exit status of `diary write`: the diaries are written


class LiveDiaries:
    """Runs `diary write` on finished files with `options`, one process at a time, which gives way to the recording.

    Files that come while one runs share the next process. A failure is kept for the end: it never ends the recording.
    """

    def __init__(self, options: Sequence[str]) -> None:
        self._command = [*_gently(), sys.executable, "-P", "-m", "pipeline.cli", "write", *options]
        self._waiting: queue.Queue[Path | None] = queue.Queue()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_cancelled = False
        self.failed: list[Path] = []
        """Files whose diaries `diary write` could not write, or that were left."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, path: Path) -> None:
        self._waiting.put(path)

    def finish(self) -> None:
        """Wait for the diaries of all files. `KeyboardInterrupt` ends what runs and leaves the others."""
        self._waiting.put(None)
        try:
            while self._thread.is_alive():
                self._thread.join(timeout=0.2)
        except KeyboardInterrupt:
            self._is_cancelled = True
            if self._process is not None:
                self._process.terminate()
            self._thread.join()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            files = [self._waiting.get()]
            while not self._waiting.empty():
                files.append(self._waiting.get())
            is_last = files[-1] is None
            paths = [path for path in files if path is not None]
            if paths and (self._is_cancelled or not self._write(paths)):
                self.failed += paths

    def _write(self, paths: Sequence[Path]) -> bool:
        try:
            # A session of its own: Ctrl-C is for the recording, and diaries are written to the end.
            self._process = subprocess.Popen(
                [*self._command, "--", *map(str, paths)],
                start_new_session=True,
                creationflags=_WINDOWS_FLAGS,
                env=_environment(),
            )
            status = self._process.wait()
        except OSError as error:
            log.error("no diary of %s: %s", ", ".join(path.name for path in paths), error)
            return False
        if status not in (0, _DAMAGED):
            log.error("no diary of %s: `diary write` ended with status %d", ", ".join(p.name for p in paths), status)
        return status in (0, _DAMAGED)


def _environment() -> dict[str, str]:
    """In which `pipeline` is this one, whatever the folder is that the user is in."""
    root, path = str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, path] if path else [root])}


def _gently() -> list[str]:
    """What makes a command give way to others."""
    return ["nice", "-n", "10"] if shutil.which("nice") else []

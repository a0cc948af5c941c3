"""Pages follow what people say: they are written anew a moment after the last answer, from what is stored."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from features.files import locked, private_files
from pipeline.diaries.correcting import apply_corrections
from pipeline.diaries.output import OutputFolder
from pipeline.diaries.pages import write_pages

log = logging.getLogger(__name__)

_PAUSE_S = 2.0


def rewrite(folder: Path) -> list[str]:
    """Write events files and pages of a folder of diaries anew where corrections changed them; no model is run.

    Waits for other commands that write there. Returns a line for each file that could not be written.
    """
    with private_files(), locked(folder):
        output = OutputFolder(folder)
        failures = apply_corrections(output)
        return [*failures, *write_pages(output).failures]


class Rewriter:
    """Rewrites a folder in a thread of its own: at the start, a moment after the last change, and at the end if due.

    At the start, since a review that was killed leaves it to the next one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed, self._closed, self._woken = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="rewriting", daemon=True)
        self.changed()
        self._thread.start()

    def changed(self) -> None:
        self._changed.set()
        self._woken.set()

    def close(self) -> None:
        """Write what is still to be written, and end."""
        self._closed.set()
        self._woken.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._woken.wait()
            self._woken.clear()
            is_due = self._changed.is_set()
            while self._changed.is_set():
                self._changed.clear()
                self._closed.wait(_PAUSE_S)
            if is_due:
                self._rewrite()
            if self._closed.is_set() and not self._changed.is_set():
                return

    def _rewrite(self) -> None:
        try:
            for line in rewrite(self._folder):
                log.error("%s", line)
        except Exception:  # the answers are safe in corrections.jsonl; the next change tries again
            log.exception("%s: the pages could not be written", self._folder)

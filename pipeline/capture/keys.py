"""Keys of a terminal that control a recording: space pauses and resumes, q stops."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.capture.recorder import Control

_POLL_S = 0.1
_PAUSE, _STOP = " ", "q"


@contextmanager
def keys(control: Control) -> Iterator[bool]:
    """Heed keys inside; whether there is a terminal in the foreground to read them from."""
    with contextlib.ExitStack() as stack:
        if sys.stdin is None or not sys.stdin.isatty() or not _is_in_foreground():
            yield False
            return
        if sys.platform != "win32":
            stack.enter_context(_keys_at_once())
        is_over = threading.Event()
        thread = threading.Thread(target=_heed, args=(control, is_over), daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(is_over.set)
        yield True


def _heed(control: Control, is_over: threading.Event) -> None:
    while not is_over.is_set():
        key = _next_key().lower()
        if key == _PAUSE:
            control.is_paused = not control.is_paused
        elif key == _STOP:
            control.stop()


if sys.platform == "win32":
    import msvcrt
    import time

    def _next_key() -> str:
        if not msvcrt.kbhit():
            time.sleep(_POLL_S)
            return ""
        return msvcrt.getwch()

    def _is_in_foreground() -> bool:
        return True

else:
    import termios
    import tty

    def _next_key() -> str:
        descriptor = sys.stdin.fileno()
        if not select.select([descriptor], [], [], _POLL_S)[0]:
            return ""
        try:
            return os.read(descriptor, 1).decode("latin-1") or _STOP
        except OSError:  # the terminal was closed
            return _STOP

    def _is_in_foreground() -> bool:
        """A process in the background that changes its terminal is stopped by it."""
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()

    @contextmanager
    def _keys_at_once() -> Iterator[None]:
        """Keys come without Enter and are not shown; Ctrl-C stays what it is."""
        before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        try:
            yield
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)

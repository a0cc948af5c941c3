"""Messages between processes, whose arrays are written and read as they lie in memory."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

_PIPE_BYTES = 2**20  # what Linux grants without privileges


def send(connection: Connection, message: tuple[str, Any]) -> None:
    """Send a message, then its arrays as they lie in memory."""
    arrays: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
    views = [array.raw() for array in arrays]
    connection.send((head, [view.nbytes for view in views]))
    for view in views:
        if sys.platform == "win32" and view.nbytes:
            connection.send_bytes(view)
        else:
            num_sent = 0
            while num_sent < view.nbytes:
                num_sent += os.write(connection.fileno(), view[num_sent:])


def receive(connection: Connection) -> tuple[str, Any]:
    """What the other end sent, by `send` or plainly.

    Arrays are read to where they stay. Python's lock is free meanwhile: whoever launches the work of a GPU needs that
    lock for each operation, while many workers send.
    """
    head, content = connection.recv()
    if not isinstance(head, bytes):
        return head, content
    arrays = [np.empty(num_bytes, dtype=np.uint8) for num_bytes in content]
    for array in arrays:
        view, num_read = array.data, 0
        while num_read < view.nbytes:
            if sys.platform == "win32":
                new = connection.recv_bytes_into(view)
            else:
                new = os.readv(connection.fileno(), [view[num_read:]])
            if not new:
                raise EOFError
            num_read += new
    message: tuple[str, Any] = pickle.loads(head, buffers=arrays)
    return message


def widen(pipe: Connection) -> None:
    """Room for a whole small clip, on Linux: else it comes in pieces, each a wait for the lock that threads share."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

"""Messages between processes, whose arrays are written and read as they lie in memory."""

from __future__ import annotations

import os
import pickle
import socket
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np


def send(connection: Connection, message: tuple[str, Any]) -> None:
    """Send a message, then its arrays as they lie in memory. The connection is one of `Pipe(duplex=True)`."""
    arrays: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
    views = [array.raw() for array in arrays if array.raw().nbytes]
    connection.send((head, [array.raw().nbytes for array in arrays]))
    if sys.platform == "win32":
        for view in views:
            connection.send_bytes(view)
    elif views:
        with _as_socket(connection) as end:
            for view in views:
                end.sendall(view)


def receive(connection: Connection) -> tuple[str, Any]:
    """What the other end sent, by `send` or plainly.

    Arrays are read to where they stay, each in one call. Python's lock is free meanwhile: whoever launches the work of
    a GPU needs that lock for each operation, while many workers send.
    """
    head, content = connection.recv()
    if not isinstance(head, bytes):
        return head, content
    arrays = [np.empty(num_bytes, dtype=np.uint8) for num_bytes in content]
    views = [array.data for array in arrays if array.nbytes]
    if sys.platform == "win32":
        for view in views:
            connection.recv_bytes_into(view)
    elif views:
        with _as_socket(connection) as end:
            for view in views:
                if end.recv_into(view, 0, socket.MSG_WAITALL) < view.nbytes:
                    raise EOFError
    message: tuple[str, Any] = pickle.loads(head, buffers=arrays)
    return message


def _as_socket(connection: Connection) -> socket.socket:
    """The socket that one of a pair of connections is, on a file descriptor of its own."""
    return socket.socket(fileno=os.dup(connection.fileno()))

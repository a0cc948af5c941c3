"""Arrays go through a pipe as they are, at any size, and a sender that dies leaves none half read."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from multiprocessing import Pipe

import numpy as np
import pytest

from features.pipes import receive, send


@dataclass(frozen=True)
class Item:
    number: int
    images: np.ndarray
    name: str
    other: np.ndarray


def test_what_is_sent_is_received() -> None:
    """Larger than a pipe holds, empty, of rows with gaps, and messages without arrays; what comes may be written to."""
    receiver, sender = Pipe()
    large = np.random.default_rng(0).integers(0, 256, (16, 256, 256, 3), dtype=np.uint8)
    items = [
        ("item", Item(1, large, "a", np.arange(7))),
        ("item", Item(2, large[:, ::2], "b", np.empty((0, 3)))),
        ("end", None),
        ("item", b"bytes alone"),
    ]

    def send_all() -> None:
        for item in items:
            send(sender, item)

    sending = threading.Thread(target=send_all)
    sending.start()
    came = [receive(receiver) for _ in items]
    sender.send(("log", ("name", 20, "sent plainly")))
    assert receive(receiver) == ("log", ("name", 20, "sent plainly"))
    sending.join()
    assert came[2:] == items[2:]
    for (kind, item), (_, wanted) in zip(came[:2], items[:2], strict=True):
        assert (kind, item.number, item.name) == ("item", wanted.number, wanted.name)  # type: ignore[union-attr]
        np.testing.assert_array_equal(item.images, wanted.images)  # type: ignore[union-attr]
        np.testing.assert_array_equal(item.other, wanted.other)  # type: ignore[union-attr]
        item.images[...] = 0


def test_a_sender_that_ends_within_an_array_is_seen() -> None:
    """The error is that of a pipe that ends between two messages."""
    receiver, sender = Pipe()
    sender.send((b"head", [1000]))
    sender.send_bytes(b"x" * 10)
    sender.close()
    with pytest.raises(EOFError):
        receive(receiver)

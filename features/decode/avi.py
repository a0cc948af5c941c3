"""The clock of an AVI, which stamps packets by their place in the file."""

from __future__ import annotations

from collections import deque
from typing import Any


class AviClock:
    """When the frames of an AVI are shown, from the places of packets that were sent to the decoder.

    The k-th decoded frame is shown at the k-th place that was sent, which is k / rate unless the file leaves places
    empty. A lost packet or an extra frame would shift all that follow, so the count restarts at each key frame: nothing
    that was sent before a key frame is decoded behind it.
    """

    def __init__(self, stream: Any) -> None:
        self._sent: deque[int] = deque(maxlen=64)  # no decoder holds as many back
        self._inside: set[int] = set()
        self._num_due = 0
        stream.codec_context.copy_opaque = True

    def send(self, packet: Any) -> None:
        packet.opaque = packet.dts, packet.is_keyframe
        self._sent.append(packet.dts)
        self._inside.add(packet.dts)
        self._num_due += 1

    def take(self, frame: Any) -> int | None:
        place, is_key = frame.opaque or (None, False)
        if place is not None and is_key and frame.key_frame:  # damage alone can make either say so
            self._inside = {inside for inside in self._inside if inside >= place}
            self._num_due = len(self._inside)
        self._inside.discard(place)
        self._num_due -= 1
        return self._sent[-1 - self._num_due] if 0 <= self._num_due < len(self._sent) else None

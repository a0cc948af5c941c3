"""Presentation times in AVI, which stores none."""

from __future__ import annotations

from collections import deque

import av


class AviClock:
    """The time of each decoded frame, in ticks, from the positions of the packets that were sent to the decoder.

    AVI stamps a packet with its position in the file, which is decoding order. The k-th frame out of the decoder is
    shown at the k-th position sent, which is k / rate unless the file leaves positions empty. A lost packet or an extra
    frame would shift all later ones, so the count restarts at each key frame: no frame sent before it comes out after.
    """

    def __init__(self, stream: av.VideoStream) -> None:
        self._sent: deque[int] = deque(maxlen=64)  # no decoder holds as many frames back
        self._in_decoder: set[int] = set()
        self._num_pending = 0
        stream.codec_context.copy_opaque = True

    def send(self, packet: av.Packet, position: int) -> None:
        packet.opaque = position, packet.is_keyframe
        self._sent.append(position)
        self._in_decoder.add(position)
        self._num_pending += 1

    def take(self, frame: av.VideoFrame) -> int | None:
        """The time of the next frame out of the decoder; None if damage has used up all positions sent."""
        position, is_key = frame.opaque if isinstance(frame.opaque, tuple) else (None, False)
        if position is not None and is_key and frame.key_frame:  # damage can set either flag alone
            self._in_decoder = {sent for sent in self._in_decoder if sent >= position}
            self._num_pending = len(self._in_decoder)
        self._in_decoder.discard(position)
        self._num_pending -= 1
        return self._sent[-1 - self._num_pending] if 0 <= self._num_pending < len(self._sent) else None

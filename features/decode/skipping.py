"""Which frames the decoder may skip: those that a time grid does not need and no other frame refers to."""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Iterator

import av
from av.container import InputContainer

from features.decode.container import is_mp4, read_packets
from features.decode.damage import Damage
from features.decode.timeline import TOLERANCE_S

_MAX_REORDERED = 32  # twice what H.264 and HEVC allow: a frame and its successor lie at most so many packets apart


class NeedsFullDecode(Exception):
    """Skipping frames may change the pictures of this file; decode all of it instead."""


class PendingFrames:
    """The frames whose packets are read and that have not left the decoder, by tick; tells which the grid needs."""

    def __init__(self, tick_s: float, sample_fps: float) -> None:
        self._tick_s, self._sample_fps = tick_s, sample_fps
        self._ticks: list[int] = []  # ascending
        self._origin: int | None = None
        self._last_out = -math.inf  # the last tick that is no longer pending

    def add(self, tick: int) -> None:
        if tick <= self._last_out or tick in self._ticks:
            raise NeedsFullDecode
        bisect.insort(self._ticks, tick)

    def is_needed(self, tick: int) -> bool:
        """Whether the grid needs this frame. True as well for the last frame, and for one that it narrowly misses.

        The frames shown just before and after must have been added.
        """
        if tick <= self._last_out:
            raise NeedsFullDecode
        if self._origin is None:
            self._origin = self._ticks[0]
        index = bisect.bisect(self._ticks, tick)
        if index == len(self._ticks):
            return True
        start_s = (tick - self._origin) * self._tick_s - TOLERANCE_S
        until_s = (self._ticks[index] - self._origin) * self._tick_s - TOLERANCE_S
        return math.ceil(until_s * self._sample_fps + 1e-6) > max(0, math.ceil(start_s * self._sample_fps - 1e-6))

    def take(self, frame: av.VideoFrame) -> Iterator[tuple[int, av.VideoFrame | None]]:
        """The frame that left the decoder, after (tick, None) for each frame skipped before it."""
        tick = frame.pts
        while self._ticks and tick is not None and self._ticks[0] < tick:
            yield self._ticks.pop(0), None
        if tick is None or frame.is_corrupt or not self._ticks or self._ticks.pop(0) != tick:
            raise NeedsFullDecode
        self._last_out = tick
        yield tick, frame

    def rest(self) -> Iterator[tuple[int, None]]:
        """(tick, None) for each frame skipped at the end."""
        for tick in self._ticks:
            yield tick, None


def packets_with_need(
    container: InputContainer, stream: av.VideoStream, damage: Damage, pending: PendingFrames
) -> Iterator[tuple[av.Packet | None, bool]]:
    """Each packet and whether the grid needs its frame; then (None, True), which flushes the decoder.

    Adds the next packets to `pending` before it decides. Raises `NeedsFullDecode` at the first sign of damage.
    """
    ahead: deque[tuple[int, av.Packet]] = deque()
    for tick, packet in _intact_packets(container, stream, damage):
        pending.add(tick)
        ahead.append((tick, packet))
        if len(ahead) > _MAX_REORDERED:
            due_tick, due_packet = ahead.popleft()
            yield due_packet, pending.is_needed(due_tick)
    for tick, packet in ahead:
        yield packet, pending.is_needed(tick)
    yield None, True


def _intact_packets(
    container: InputContainer, stream: av.VideoStream, damage: Damage
) -> Iterator[tuple[int, av.Packet]]:
    """Each packet with its tick; raises `NeedsFullDecode` at the first sign of damage or of an edit list."""
    for packet in read_packets(container, stream, damage):
        if damage.num_damaged:
            raise NeedsFullDecode
        if packet is None or (packet.dts is None and not packet.size):
            continue  # it flushes the decoder
        if not packet.size or packet.pts is None or packet.is_corrupt or packet.is_discard:
            raise NeedsFullDecode
        damage.num_packets += 1
        yield packet.pts, packet


def can_skip_nonref(container: InputContainer, stream: av.VideoStream) -> bool:
    """Whether skipping non-reference frames leaves all other frames as they are.

    Only in an MP4 with one index, which tells the decoder how far frames are reordered; elsewhere a decoder may guess
    that from the frames that it sees. And not in HEVC with temporal layers, where a higher layer may refer to them.
    """
    if not is_mp4(container) or not stream.frames:
        return False
    codec = stream.codec_context
    if codec.name == "hevc":
        head = codec.extradata or b""
        return len(head) > 21 and head[21] >> 3 & 7 == 1  # the number of temporal layers
    return codec.name == "h264"

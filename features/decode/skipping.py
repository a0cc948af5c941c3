"""Decoding only the frames that a time grid picks and those that they refer to."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import av

from features.decode.container import read_packets
from features.decode.damage import Damage
from features.decode.forward import CLOCK_S, NeedsFullDecode, decoded

_MOST_REORDERED = 32  # twice what H.264 and HEVC allow: so far apart may a frame and its successor lie in the file


def decoded_sparingly(
    container: Any, stream: Any, damage: Damage, *, sample_fps: float
) -> Iterator[tuple[int | None, Any]]:
    """As `decoded`, with None for frames that the grid does not pick and that no other frame refers to.

    Skips unneeded non-reference frames. Raises `NeedsFullDecode` at the first sign that the file is not whole.
    """
    if not can_skip_nonref(container, stream):
        yield from decoded(container, stream, damage)
        return
    due = PendingFrames(float(stream.time_base), sample_fps)
    ahead: deque[Any] = deque()
    # Behind the packets, one None flushes the decoder; the others only make room.
    for read in itertools.chain(_whole_packets(container, stream, damage), [None] * (_MOST_REORDERED + 1)):
        if read is not None:
            due.add(read.pts)
        ahead.append(read)
        if len(ahead) <= _MOST_REORDERED:
            continue
        packet = ahead.popleft()
        if packet is not None:
            stream.codec_context.skip_frame = "DEFAULT" if due.is_picked(packet.pts) else "NONREF"
        try:
            frames = stream.decode(packet)
        except av.error.FFmpegError as error:
            raise NeedsFullDecode from error
        for frame in frames:
            yield from due.take(frame)
        if packet is None:
            break
    yield from due.rest()


class PendingFrames:
    """Frames of the packets read so far that are still to come, by tick, and whether the grid picks them."""

    def __init__(self, tick_s: float, sample_fps: float) -> None:
        self._tick_s, self._sample_fps = tick_s, sample_fps
        self._ticks: list[int] = []  # ascending
        self._origin: int | None = None
        self._came = -math.inf  # the last tick that is no longer due

    def add(self, tick: int) -> None:
        if tick <= self._came or tick in self._ticks:
            raise NeedsFullDecode
        bisect.insort(self._ticks, tick)

    def is_picked(self, tick: int) -> bool:
        """Whether the grid picks this frame; also true for the last one, and for one that it narrowly misses.

        Ask when the packets of the frames around it have been added.
        """
        if tick <= self._came:
            raise NeedsFullDecode
        if self._origin is None:
            self._origin = self._ticks[0]
        at = bisect.bisect(self._ticks, tick)
        if at == len(self._ticks):
            return True
        start_s, until_s = ((each - self._origin) * self._tick_s - CLOCK_S for each in (tick, self._ticks[at]))
        return math.ceil(until_s * self._sample_fps + 1e-6) > max(0, math.ceil(start_s * self._sample_fps - 1e-6))

    def take(self, frame: Any) -> Iterator[tuple[int, Any]]:
        """The decoded frame, behind the frames that were skipped before it."""
        while self._ticks and frame.pts is not None and self._ticks[0] < frame.pts:
            yield self._ticks.pop(0), None
        if frame.is_corrupt or not self._ticks or self._ticks.pop(0) != frame.pts:
            raise NeedsFullDecode
        self._came = frame.pts
        yield frame.pts, frame

    def rest(self) -> Iterator[tuple[int, Any]]:
        for tick in self._ticks:
            yield tick, None


def _whole_packets(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """The packets of a whole file without the flushing one; raises `NeedsFullDecode` at the first sign of damage."""
    for packet in read_packets(container, stream, damage):
        if damage.num_damaged:
            raise NeedsFullDecode
        if packet is None or (packet.dts is None and not packet.size):
            continue
        if not packet.size or packet.pts is None or packet.is_corrupt or packet.is_discard:
            raise NeedsFullDecode
        yield packet


def can_skip_nonref(container: Any, stream: Any) -> bool:
    """Whether non-reference frames can be skipped without changing any other frame.

    In HEVC with temporal layers a higher layer may refer to them. An MP4 with one index tells the decoder how far
    frames are reordered; elsewhere a decoder may guess that from the frames that it sees.
    """
    if "mp4" not in container.format.name.split(",") or not stream.frames:
        return False
    codec = stream.codec_context
    if codec.name == "hevc":
        head = bytes(codec.extradata or b"")
        return len(head) > 21 and head[21] >> 3 & 7 == 1  # the number of temporal layers
    return bool(codec.name == "h264")

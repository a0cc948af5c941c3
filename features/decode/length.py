"""How long a video lasts, without decoding it."""

from __future__ import annotations

from pathlib import Path

from features.decode.container import UnreadableVideo, failing_as, opened, read_packets, stated_duration_s, time_base
from features.decode.damage import Damage


def video_length_s(path: Path) -> float:
    """Seconds that the file states for its picture; where it states none, until its last packet ends.

    Raises `UnreadableVideo`, also where no time is stated anywhere.
    """
    with failing_as(path), opened(path) as (container, stream):
        stated_s = stated_duration_s(container, stream)
        if stated_s is not None and stated_s > 0:
            return stated_s
        packets = [packet for packet in read_packets(container, stream, Damage()) if packet is not None]
        starts = [packet.pts for packet in packets if packet.pts is not None]
        ends = [packet.pts + (packet.duration or 0) for packet in packets if packet.pts is not None]
        if not starts or max(ends) <= min(starts):
            raise UnreadableVideo(path, "no length", "no packet states a time")
        return float((max(ends) - min(starts)) * time_base(stream))

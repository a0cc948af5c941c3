"""The stream of a camera, read in a thread of its own, so that neither writing nor the user waits for a camera."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Self

import av
from av.container import InputContainer

from pipeline.capture.cameras import Camera

_TIMEOUT_S = 10.0  # until a camera that sends nothing counts as lost
_POLL_S = 0.1
_PROBED_S = 1.0
_NUM_WAITING = 32  # packets: at most 130 MB of raw pictures at 1080p
# What MP4 holds and browsers and this program read; Motion JPEG would take ten times the room.
_COPIED_CODECS = ("h264", "hevc", "av1", "vp9")
_CLOCKLESS_FORMATS = ("mpjpeg", "mjpeg", "h264", "hevc", "m4v", "jpeg_pipe")
"""Bare pictures, which FFmpeg gives the stamps of a rate that nobody stated."""


class CameraLost(Exception):
    """A camera could not be opened, or sends no more."""


@dataclass(frozen=True)
class Arrival:
    """A packet of the stream, never empty and with both stamps, and when it arrived, in seconds since 1970."""

    packet: av.Packet[av.VideoStream]
    at_s: float

    @property
    def stamp_s(self) -> Fraction:
        """When the picture is shown, on the stream's clock."""
        assert self.packet.pts is not None
        return self.packet.pts * self.packet.time_base


def _stamped(packet: av.Packet[av.VideoStream], at_s: float, *, has_clock: bool) -> Arrival:
    """The packet with a stamp: by when it arrived, where its stream has no clock."""
    if not has_clock or (packet.pts is None and packet.dts is None):
        packet.time_base = Fraction(1, 1_000_000)
        packet.pts = packet.dts = round(at_s * 1_000_000)
    packet.pts = packet.dts if packet.pts is None else packet.pts
    return Arrival(packet, at_s)


def _fill_dts(arrivals: Sequence[Arrival]) -> None:
    """Give packets a place in the order of decoding where their container states that of display alone."""
    later: int | None = None
    for packet in (arrival.packet for arrival in reversed(arrivals)):
        if packet.dts is None:
            assert packet.pts is not None
            packet.dts = packet.pts if later is None else min(packet.pts, later - 1)
        later = packet.dts


class CameraStream:
    """A camera while it is open.

    With the first packet, `video` is there and `origin_s`, when the stream's clock was at zero, in seconds since 1970.
    """

    video: av.VideoStream
    origin_s: float | None = None

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._waiting: queue.Queue[Arrival | CameraLost] = queue.Queue(_NUM_WAITING)
        self._is_closed = threading.Event()
        self._container: InputContainer | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed.set()
        self._thread.join(timeout=1)  # one that waits for a dead camera ends by itself, after the timeout
        if not self._thread.is_alive():
            self._close()

    @property
    def is_copied(self) -> bool:
        """Whether the packets go into files as they are; else the pictures are encoded."""
        return self.video.codec_context.name in _COPIED_CODECS

    def arrivals(self, *, until: Callable[[], bool]) -> Iterator[Arrival]:
        """The packets as they arrive, up to those that are there when `until` says so. Raises `CameraLost`.

        The first second of a copied stream comes at once: with it, `origin_s` is known.
        """
        held: list[Arrival] = []
        is_known = False
        try:
            for arrival in self._arrivals(until=until):
                held.append(arrival)
                is_known = is_known or not self.is_copied or arrival.at_s - held[0].at_s >= _PROBED_S
                if is_known:
                    yield from self._settled(held)
                    held.clear()
        except CameraLost:
            yield from self._settled(held)
            raise
        yield from self._settled(held)

    def _settled(self, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
        """What FFmpeg has read to know the stream comes late, so the packet that comes earliest tells the origin."""
        _fill_dts(arrivals)
        if self.origin_s is None and arrivals:
            self.origin_s = min(arrival.at_s - float(arrival.stamp_s) for arrival in arrivals)
        return arrivals

    def _arrivals(self, *, until: Callable[[], bool]) -> Iterator[Arrival]:
        while not until():
            try:
                arrival = self._waiting.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if isinstance(arrival, CameraLost):
                raise arrival
            yield arrival

    def _read(self) -> None:
        try:
            self._container = container = av.open(
                self._camera.url,
                format=self._camera.format,
                options=dict(self._camera.options),
                timeout=_TIMEOUT_S,
                metadata_errors="replace",
            )
            video = container.streams.best("video")
            if not isinstance(video, av.VideoStream) or video.codec_context is None:
                self._put(CameraLost(f"{self._camera.name}: sends no picture that can be read"))
                return
            video.thread_type = "SLICE"  # with frame threads, pictures would come late
            self.video = video
            has_clock = container.format.name not in _CLOCKLESS_FORMATS
            for packet in container.demux(video):
                if self._is_closed.is_set():
                    break
                if packet.size:
                    self._put(_stamped(packet, time.time(), has_clock=has_clock))
            self._put(CameraLost(f"{self._camera.name}: the stream ended"))
        except av.ExitError:
            self._put(CameraLost(f"{self._camera.name}: sends nothing for {_TIMEOUT_S:g} s"))
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._put(CameraLost(f"{self._camera.name}: {reason}"))
        finally:
            if self._is_closed.is_set():
                self._close()

    def _put(self, item: Arrival | CameraLost) -> None:
        while not self._is_closed.is_set():
            with contextlib.suppress(queue.Full):
                self._waiting.put(item, timeout=_POLL_S)
                return

    def _close(self) -> None:
        if self._container is not None:
            self._container.close()

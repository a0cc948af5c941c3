"""The stream of a camera, read in a thread of its own, so that neither writing nor the user waits for a camera."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import av
from av.container import InputContainer

from pipeline.capture.cameras import Camera

_TIMEOUT_S = 10.0  # until a camera that sends nothing counts as lost
_POLL_S = 0.1
_NUM_WAITING = 32  # packets: at most 130 MB of raw pictures at 1080p
# What MP4 holds and browsers and this program read; Motion JPEG would take ten times the room.
_COPIED_CODECS = ("h264", "hevc", "av1", "vp9", "mpeg4")


class CameraLost(Exception):
    """A camera could not be opened, or sends no more."""


@dataclass(frozen=True)
class Arrival:
    """A packet of the stream, never empty, and when it arrived, in seconds since 1970."""

    packet: av.Packet[av.VideoStream]
    at_s: float


class CameraStream:
    """A camera while it is open. `video` is there once a packet has arrived."""

    video: av.VideoStream

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
        """The packets as they arrive, up to those that are there when `until` says so. Raises `CameraLost`."""
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
            for packet in container.demux(video):
                if self._is_closed.is_set():
                    break
                if packet.size:
                    self._put(Arrival(packet, time.time()))
            self._put(CameraLost(f"{self._camera.name}: the stream ended"))
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

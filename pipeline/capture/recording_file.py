"""One video file of a recording while it is written: `RecordingFile`. Knows stamps, packets and pictures.

Files are MP4, since browsers play it and every camera's H.264 and HEVC fits into it. While one is written it lies in a
hidden folder and is fragmented, so that what a killed process leaves is playable; closing it makes a plain MP4 of it in
place and moves it to its name.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
from av.video.reformatter import VideoReformatter

from features.files import put_in_place

log = logging.getLogger(__name__)

HIDDEN = ".recording"
"""Folder of the files that are being written."""
_CONTAINER = {
    "movflags": "hybrid_fragmented+use_metadata_tags",
    "frag_duration": "1000000",  # microseconds: what a kill costs
    "flush_packets": "1",
}
_TICK_S = Fraction(1, 90_000)
_KEY_FRAME_EVERY_S = 2
_USUAL_RATE = Fraction(30)
_H264 = {"preset": "veryfast", "crf": "23", "bf": "0"}
_MPEG4 = {"qscale": "4", "bf": "0"}


@dataclass(frozen=True)
class RecordedFile:
    """A file that is complete: when it begins and how long it lasts."""

    path: Path
    start: datetime
    duration_s: float
    num_bytes: int


class RecordingFile:
    """A file that begins at `start`, with an offset, with the picture stamped `first_s` on the stream's clock.

    Stamps are kept as the camera gave them, so the rate may vary.
    """

    def __init__(self, folder: Path, start: datetime, video: av.VideoStream, *, first_s: Fraction, is_copied: bool):
        self.start = start
        self._folder, self._first_s, self._last_s, self._frame_s = folder, first_s, first_s, Fraction(0)
        self._last_tick: int | None = None
        self._name = f"{start:%Y-%m-%dT%H-%M-%S%z}.mp4"
        self._partial = _free_place(hidden_folder(folder), self._name)
        self._container = av.open(str(self._partial), mode="w", format="mp4", options=_CONTAINER)
        self._container.metadata["creation_time"] = start.astimezone(UTC).isoformat()
        # The tag of Apple's cameras, which holds the offset of the place.
        self._container.metadata["com.apple.quicktime.creationdate"] = start.isoformat(timespec="milliseconds")
        self._stream = self._container.add_stream_from_template(video) if is_copied else self._encoder(video)
        self._reformatter = None if is_copied else VideoReformatter()
        self._container.start_encoding()

    def _encoder(self, video: av.VideoStream) -> av.VideoStream:
        codec, options = ("libx264", _H264) if "libx264" in av.codecs_available else ("mpeg4", _MPEG4)
        rate = video.average_rate or video.guessed_rate or _USUAL_RATE
        rate = rate if 1 <= rate <= 240 else _USUAL_RATE  # some state the ticks of their clock
        stream = self._container.add_stream(codec, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        context = video.codec_context
        stream.width, stream.height, stream.pix_fmt = context.width // 2 * 2, context.height // 2 * 2, "yuv420p"
        stream.codec_context.sample_aspect_ratio = video.sample_aspect_ratio or Fraction(1)
        stream.codec_context.time_base = _TICK_S
        stream.codec_context.gop_size = max(1, round(rate * _KEY_FRAME_EVERY_S))
        return stream

    @property
    def duration_s(self) -> float:
        """From the first picture to the last one, and as long as that one is taken to be shown."""
        return float(self._last_s - self._first_s + self._frame_s)

    @property
    def num_bytes(self) -> int:
        return self._partial.stat().st_size

    def seconds_until(self, stamp_s: Fraction) -> float:
        return float(stamp_s - self._first_s)

    def add_packet(self, packet: av.Packet[av.VideoStream]) -> None:
        """Add a packet, with its stamps, as it is; the first one is a key frame."""
        assert packet.pts is not None
        assert packet.dts is not None
        base = packet.time_base
        self._count(packet.pts * base)
        shift = round(self._first_s / base)
        dts = packet.dts - shift
        if self._last_tick is not None and dts <= self._last_tick:
            dts = self._last_tick + 1  # MP4 has no two pictures with one stamp
        self._last_tick = dts
        packet.pts, packet.dts, packet.stream = max(packet.pts - shift, dts), dts, self._stream
        self._container.mux(packet)

    def add_frame(self, frame: av.VideoFrame, stamp_s: Fraction) -> None:
        """Encode a picture; one that is not later than the one before is left out."""
        tick = round((stamp_s - self._first_s) / _TICK_S)
        if self._last_tick is not None and tick <= self._last_tick:
            return
        self._last_tick = tick
        self._count(stamp_s)
        stream = self._stream
        assert self._reformatter is not None
        fitted = self._reformatter.reformat(frame, stream.width, stream.height, "yuv420p")
        fitted.pts, fitted.time_base = tick, _TICK_S
        fitted.pict_type = av.video.frame.PictureType.NONE
        self._container.mux(stream.encode(fitted))

    def close(self) -> RecordedFile | None:
        """Complete the file and move it to its place; None where there is no picture in it.

        On a full disk it stays fragmented, and as long as it could be written.
        """
        try:
            if self._reformatter is not None:
                self._container.mux(self._stream.encode())
            self._container.close()
        except av.FFmpegError as error:
            log.warning("%s: is not as long as it was to be: %s", self._name, error.strerror)
        path = _put_in_place(self._partial, self._folder)
        return None if path is None else RecordedFile(path, self.start, self.duration_s, path.stat().st_size)

    def _count(self, stamp_s: Fraction) -> None:
        if stamp_s > self._last_s:
            self._frame_s, self._last_s = stamp_s - self._last_s, stamp_s


def hidden_folder(folder: Path) -> Path:
    """Where files of a recording into `folder` lie while they are written; made if it is not there."""
    hidden = folder / HIDDEN
    hidden.mkdir(parents=True, exist_ok=True)
    return hidden


def put_leftovers_in_place(folder: Path) -> list[Path]:
    """Put in place what a killed recording into `folder` left, as far as there is a picture in it."""
    places = [_put_in_place(partial, folder) for partial in sorted(hidden_folder(folder).glob("*.mp4"))]
    return [place for place in places if place is not None]


def _put_in_place(partial: Path, folder: Path) -> Path | None:
    if not _has_picture(partial):
        partial.unlink(missing_ok=True)
        return None
    place = _free_place(folder, partial.name)
    put_in_place(partial, place)
    return place


def _has_picture(path: Path) -> bool:
    with contextlib.suppress(av.FFmpegError, OSError), av.open(f"file:{path}") as container:
        return any(packet.size for packet in container.demux(video=0))
    return False


def _free_place(folder: Path, name: str) -> Path:
    """The place of that name, or of the name with a number, such as `…+0100-2.mp4`, where files are already."""
    place, number = folder / name, 1
    while place.exists():
        number += 1
        place = folder / f"{name.removesuffix('.mp4')}-{number}.mp4"
    return place

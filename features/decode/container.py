"""An open video file: its video stream, what its head states, and its packets."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from features.decode import formats
from features.decode.damage import Damage

_MAX_PIXELS = 2**26  # twice 8K: a larger picture is damage, and would take gigabytes
_DEMUX_ATTEMPTS = 16
_TRACK_END = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")


class UnreadableVideo(Exception):
    """The file at `path` gives no picture: why (`reason`), and what is there instead (`found`)."""

    def __init__(self, path: Path, reason: str, found: str) -> None:
        super().__init__(path, reason, found)  # all three, so that it can be pickled across processes
        self.path = path
        self.reason = reason
        self.found = found

    def __str__(self) -> str:
        return f"{self.path}: cannot be read: {self.reason} (found: {self.found})"


@contextlib.contextmanager
def failing_as(path: Path) -> Iterator[None]:
    """Raises whatever goes wrong inside as `UnreadableVideo`: one file's failure must not end the others' work."""
    try:
        yield
    except UnreadableVideo:
        raise
    except Exception as error:
        found = " ".join(f"{type(error).__name__}: {error}".split())
        raise UnreadableVideo(path, "decoding it failed", found) from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """The open container and its video stream, ready to decode. Raises `UnreadableVideo` without one."""
    if not path.is_file():
        raise UnreadableVideo(path, "not a file", found="a folder" if path.is_dir() else "nothing")
    if path.stat().st_size == 0:
        raise UnreadableVideo(path, "the file is empty", found="0 bytes")
    try:
        # `file:` keeps a name with a colon from being a protocol; the white lists keep files from reading others.
        options = {"protocol_whitelist": "file", "format_whitelist": ",".join(formats.VIDEO_FORMATS)}
        container = av.open(f"file:{path}", metadata_errors="replace", options=options)
    except PermissionError as error:
        raise UnreadableVideo(path, "cannot be opened", found=error.strerror or "no permission") from error
    except (FFmpegError, OSError) as error:
        if photo := formats.photo_format(path):
            raise UnreadableVideo(path, "a photo, not a video", found=photo) from error
        why = "" if isinstance(error, av.ArgumentError) else f" ({error.strerror})"  # it is not on the white list
        raise UnreadableVideo(path, f"not a video file{why}", found=formats.content(path)) from error
    with container:
        brand = container.metadata.get("major_brand", "").strip()
        if brand in formats.PHOTO_BRANDS:
            raise UnreadableVideo(path, "a photo, not a video", found=brand)
        stream = container.streams.best("video")
        if container.format.name == "gif" and stream is not None and stream.frames == 1:
            raise UnreadableVideo(path, "a photo, not a video", found="gif")
        if stream is None or stream.disposition & Disposition.attached_pic:
            kinds = sorted({other.type for other in container.streams} - {"video"})
            found = ", ".join([*kinds, "cover art"] if stream is not None else kinds)
            raise UnreadableVideo(path, "no video stream", found or "no stream")
        if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
            raise UnreadableVideo(
                path, "no decoder for its video", found=f"stream {stream.index} of {container.format.name}"
            )
        # With frame threads the pixels of a damaged file depend on the number of threads.
        stream.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        yield container, stream


def read_packets(container: InputContainer, stream: av.VideoStream, damage: Damage) -> Iterator[av.Packet | None]:
    """The stream's packets, then an empty one or None, which flushes the decoder. Continues after damage."""
    for _ in range(_DEMUX_ATTEMPTS):
        try:
            yield from container.demux(stream)
            return
        except FFmpegError:
            damage.num_packets += 1
            damage.num_damaged += 1
    yield None


def is_mp4(container: InputContainer) -> bool:
    return "mp4" in container.format.name.split(",")


def time_base(stream: av.VideoStream) -> Fraction:
    """Seconds per tick of the stream's clock."""
    assert stream.time_base is not None  # None in streams that are written, never in streams that are read
    return stream.time_base


def stated_duration_s(container: InputContainer, stream: av.VideoStream) -> float | None:
    """The shorter of the durations that stream and container state for the picture; often wrong.

    Sound may begin before the picture and outlast it, and an edit list may cut the stream.
    """
    durations_s = []
    begins_s = (container.start_time or 0) / av.time_base
    picture_begins_s = begins_s if stream.start_time is None else float(stream.start_time * time_base(stream))
    if container.duration is not None:
        # Matroska states when the video ends, all others how long it lasts.
        ends_s = container.duration / av.time_base + (0 if "matroska" in container.format.name else begins_s)
        durations_s.append(ends_s - max(0.0, picture_begins_s))
    if stream.duration is not None:
        durations_s.append(float(stream.duration * time_base(stream)))
    elif len(container.streams) > 1 and (ends := _TRACK_END.fullmatch(stream.metadata.get("DURATION", ""))):
        hours, minutes, seconds = map(float, ends.groups())  # Matroska's note on when the track ends
        durations_s.append(3600 * hours + 60 * minutes + seconds - max(0.0, picture_begins_s))
    return min(durations_s, default=None)


def pixel_aspect(stream: av.VideoStream) -> float:
    """How much wider than high the stored pixels are."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / 8 <= aspect <= 8 else 1.0  # beyond that it is damage, and would make pictures of gigabytes

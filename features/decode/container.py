"""An open video file: its video stream, what its head states, and its packets."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from features.decode.damage import Damage

_MAX_PIXELS = 2**26  # twice 8K: a larger picture is damage, and would take gigabytes
_DEMUX_ATTEMPTS = 16


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
def opened(path: Path) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """The open container and its video stream, ready to decode. Raises `UnreadableVideo` without one."""
    if not path.is_file():
        raise UnreadableVideo(path, "not a file", found="a folder" if path.is_dir() else "nothing")
    if path.stat().st_size == 0:
        raise UnreadableVideo(path, "the file is empty", found="0 bytes")
    try:
        # `file:` keeps a name with a colon from being a protocol; the whitelist keeps playlists off the network.
        container = av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except (FFmpegError, OSError) as error:
        raise UnreadableVideo(path, f"not a video file ({error.strerror})", found=_content(path)) from error
    with container:
        name = container.format.name
        if name == "tty" or name.startswith("image2") or name.endswith("_pipe"):
            raise UnreadableVideo(path, "not a video file", found="text" if name == "tty" else "a still picture")
        stream = container.streams.best("video")
        if stream is None or stream.disposition & Disposition.attached_pic:
            kinds = sorted({other.type for other in container.streams} - {"video"})
            found = ", ".join([*kinds, "cover art"] if stream is not None else kinds)
            raise UnreadableVideo(path, "no video stream", found or "no stream")
        if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
            raise UnreadableVideo(path, "no decoder for its video", found=f"stream {stream.index} of {name}")
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
    """The shorter of the durations that stream and container state; often wrong.

    Sound may outlast the picture, and an edit list may cut the stream.
    """
    durations_s = []
    if container.duration is not None:
        # Matroska states when the video ends, all others how long it lasts.
        start = max(0, container.start_time or 0) if "matroska" in container.format.name else 0
        durations_s.append((container.duration - start) / av.time_base)
    if stream.duration is not None:
        durations_s.append(float(stream.duration * time_base(stream)))
    return min(durations_s, default=None)


def pixel_aspect(stream: av.VideoStream) -> float:
    """How much wider than high the stored pixels are."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / 8 <= aspect <= 8 else 1.0  # beyond that it is damage, and would make pictures of gigabytes


def _content(path: Path) -> str:
    """What the file holds, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(512)
    if head[4:8] == b"ftyp":
        return "an MP4 whose index is missing or damaged, as in a recording that was cut off"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "a Matroska or WebM file without a picture"
    if all(byte >= 0x80 or chr(byte) in string.printable for byte in head):
        return "text"
    return f"{path.stat().st_size} bytes of no known format"

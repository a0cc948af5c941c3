"""A video file, opened: its video stream, its packets, and what its head states."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av

from features.decode.damage import Damage

_MAX_PIXELS = 2**26  # twice 8K: a larger picture is damage, and would take gigabytes
_DEMUX_ATTEMPTS = 16


class UnreadableVideo(Exception):
    """The file at `path` gives no picture: why (`reason`), and what is there instead (`found`)."""

    def __init__(self, path: Path, reason: str, found: str) -> None:
        super().__init__(path, reason, found)  # all three, so that it can cross processes
        self.path = path
        self.reason = reason
        self.found = found

    def __str__(self) -> str:
        return f"{self.path}: cannot be read: {self.reason} (found: {self.found})"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The open container and its video stream, ready to decode. Raises `UnreadableVideo` without one."""
    if not path.is_file():
        raise UnreadableVideo(path, "not a file", found="a folder" if path.is_dir() else "nothing")
    if path.stat().st_size == 0:
        raise UnreadableVideo(path, "the file is empty", found="0 bytes")
    try:
        # `file:` and the white list: a name with a colon is no protocol, and no playlist reaches out to a network.
        container = av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableVideo(path, f"not a video file ({error.strerror})", found=_first_bytes(path)) from error
    with container:
        name = container.format.name
        if name == "tty" or name.startswith("image2") or name.endswith("_pipe"):
            raise UnreadableVideo(path, "not a video file", found="text" if name == "tty" else "a still picture")
        stream = container.streams.best("video")
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            kinds = {each.type for each in container.streams} - {"video"}
            found = sorted(kinds) + ["cover art"] * (stream is not None)
            raise UnreadableVideo(path, "no video stream", found=", ".join(found) or "no stream")
        if stream.codec_context is None:
            raise UnreadableVideo(path, "no decoder for its video", found=f"stream {stream.index} of {name}")
        stream.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        yield container, stream


def read_recorded_at(path: Path) -> datetime | None:
    """When the file's head says that the recording began, with an offset from UTC; decodes nothing.

    None where it does not say. Raises `UnreadableVideo`.
    """
    with opened(path) as (container, stream):
        return _recorded_at({**container.metadata, **stream.metadata})


def read_packets(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """The stream's packets, then an empty one or None, which flushes the decoder. Continues behind damage."""
    for _ in range(_DEMUX_ATTEMPTS):
        try:
            yield from container.demux(stream)
            return
        except av.error.FFmpegError:
            damage.num_packets += 1
            damage.num_damaged += 1
    yield None


def stated_duration_s(container: Any, stream: Any) -> float | None:
    """The shorter of the durations that stream and container state: sound may outlast it, edit lists cut it."""
    stated = []
    if container.duration is not None:
        # Matroska states when it ends, all others how long it lasts.
        start = max(0, container.start_time or 0) if "matroska" in container.format.name else 0
        stated.append((container.duration - start) / av.time_base)
    if stream.duration is not None:
        stated.append(float(stream.duration * stream.time_base))
    return min(stated, default=None)


def pixel_aspect(stream: Any) -> float:
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / 8 <= aspect <= 8 else 1.0  # beyond that it is damage, and would make pictures of gigabytes


def no_frames(path: Path, stream: Any, damage: Damage) -> UnreadableVideo:
    found = f"{stream.codec_context.name}, {damage.num_packets} packets, of which {damage.num_damaged} are damaged"
    return UnreadableVideo(path, "not one frame can be decoded", found)


def _first_bytes(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(512)
    if head[4:8] == b"ftyp":
        return "an MP4 whose index is missing or damaged, as in a recording that was cut off"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "a Matroska or WebM file without a picture"
    if all(byte >= 0x80 or chr(byte) in string.printable for byte in head):
        return "text"
    return f"{path.stat().st_size} bytes of no known format"


def _recorded_at(metadata: dict[str, str]) -> datetime | None:
    """Apple's creation date, which has the offset of the place, else `creation_time`, which is UTC."""
    for key in ("com.apple.quicktime.creationdate", "creation_time"):
        try:
            moment = datetime.fromisoformat(metadata.get(key, ""))
        except ValueError:
            continue
        if moment.year > 1970:  # 1904 and 1970 are the zeros of clocks that were never set
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None

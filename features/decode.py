"""Which picture a video file shows when. Knows files, PyAV and decord; knows nothing of windows, models or labels.

Time counts from the first shown frame, by presentation timestamps. Frame counts, frame rates and durations that a
container states are not trusted.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import logging
import os
import string
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import av
import numpy as np

from features.video import Frame, Image

_log = logging.getLogger(__name__)

CLOCK_S = 0.002
"""How early a frame may be taken: WebM's clock ticks in milliseconds, so a frame due at 1/3 s may be stamped 0.334."""

_GAP_S = 1.0
_MAX_THREADS = 4
_DEMUX_ATTEMPTS = 16

# What decord is known to be right on is short, and it holds all of it in memory.
_DECORD_MAX_DURATION_S = 200.0
_DECORD_MAX_DECODED_BYTES = 2 * 1024**3

T = TypeVar("T")


Decoder = Literal["auto", "pyav", "decord"]
"""Who decodes: `auto` takes for each file what is known to be right on it."""


class UnreadableVideo(Exception):  # noqa: N818 - it names what is wrong, as StopIteration does
    """`path` gives no picture at all: why (`reason`), and what is there instead (`found`)."""

    def __init__(self, path: Path, reason: str, found: str) -> None:
        super().__init__(path, reason, found)  # all three, so that it can cross processes
        self.path = path
        self.reason = reason
        self.found = found

    def __str__(self) -> str:
        return f"{self.path}: cannot be read: {self.reason} (found: {self.found})"


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about its video, and which decoder is right for it.

    `width` and `height` are those of the frames that come out: upright, pixels square. `rotation_deg` is how far the
    stored picture is turned counterclockwise for that, `pixel_aspect` how much wider than high its pixels are.
    `stated_duration_s` is the container's promise, often wrong; the truth is the last frame's `shown_until_s`.
    """

    container: str
    codec: str
    width: int
    height: int
    rotation_deg: int
    pixel_aspect: float
    stated_duration_s: float | None
    recorded_at: datetime | None
    decoder: Literal["decord", "pyav"]
    decoder_reason: str

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a video has pixels, got {self.width}x{self.height}")
        if self.recorded_at is not None and self.recorded_at.tzinfo is None:
            raise ValueError(f"recorded_at carries its offset from UTC, got {self.recorded_at}")


def probe(path: Path) -> VideoInfo:
    """Read the file's head and first frame. Raises `UnreadableVideo` where no video frame can be had."""
    with _opened(path, num_threads=1) as (container, stream):
        tally = _Tally()
        _, first = next(_decoded(container, stream, tally), (None, None))
        if first is None:
            raise _no_frames(path, stream, tally)
        aspect = _pixel_aspect(stream)
        height, width = _shown_size(first, aspect)
        doubt = next(_doubts_about_decord(path, width * height), None)
        return VideoInfo(
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width=width,
            height=height,
            rotation_deg=_quarter_turns(first) * 90,
            pixel_aspect=aspect,
            stated_duration_s=_stated_duration_s(container, stream),
            recorded_at=_recorded_at({**container.metadata, **stream.metadata}),
            decoder="pyav" if doubt else "decord",
            decoder_reason=doubt or "a short progressive H.264 MP4 with closed groups of pictures",
        )


def frames_on_grid(path: Path, *, sample_fps: float, decoder: Decoder) -> Iterator[Frame]:
    """Stream what is shown at t = 0, 1 / sample_fps, 2 / sample_fps … while t lies before the video's end.

    Shown at t is the last frame whose time is at most t + 2 ms. Images are upright with square pixels, in full
    resolution, all of the first one's size; neighbours may share one array, so do not write into them. At least one
    frame comes, or `UnreadableVideo` is raised. A damaged file gives what there is, and a warning is logged.

    `auto` takes decord where `probe` finds that it is right, and PyAV for all else. PyAV's memory does not grow with
    the video's length; decord's does. Forcing decord on other files can give wrong frames, or hang on MPEG-TS.
    """
    if sample_fps <= 0:
        raise ValueError(f"sample_fps must be positive, got {sample_fps}")
    if decoder == "pyav":
        return _grid_by_pyav(path, sample_fps)
    info = probe(path)
    if decoder == "decord":
        if info.decoder != "decord":
            _log.warning("%s: decord is forced, and may show wrong frames: %s", path, info.decoder_reason)
        return iter(_grid_by_decord(path, sample_fps, info))
    if info.decoder == "decord":
        try:
            return iter(_grid_by_decord(path, sample_fps, info))
        except UnreadableVideo as error:
            _log.warning("%s; reading it with PyAV", error)
    return _grid_by_pyav(path, sample_fps)


def frame_at(path: Path, times_s: Sequence[float]) -> list[Image]:
    """The pictures shown at `times_s`, which must ascend, in one forward pass that ends behind the last of them.

    A time before the video gives its first frame, one behind its end its last. No times, no pictures.
    """
    if list(times_s) != sorted(times_s):
        raise ValueError(f"times must ascend, got {list(times_s)}")
    images: list[Image] = []
    if not times_s:
        return images
    with contextlib.closing(_shown_by_pyav(path)) as shown:
        for one in shown:
            num_due = bisect.bisect_left(times_s, one.until_s - CLOCK_S)
            if num_due > len(images):
                images += [one.picture()] * (num_due - len(images))
            if len(images) == len(times_s):
                return images
    return images + [one.picture()] * (len(times_s) - len(images))


class _Shown(NamedTuple, Generic[T]):
    """One source frame on the screen during `[pts_s, until_s)`; `picture` is what its image can be had from."""

    pts_s: float
    until_s: float
    picture: T


def _on_grid(shown: Iterable[_Shown[T]], sample_fps: float) -> Iterator[tuple[float, _Shown[T]]]:
    steps = itertools.count()
    time_s = next(steps) / sample_fps
    for one in shown:
        while time_s + CLOCK_S < one.until_s:
            yield time_s, one
            time_s = next(steps) / sample_fps


def _end_s(pts_s: float, duration_s: float) -> float:
    """Where a video ends: even one frame of no duration is shown at t = 0."""
    return pts_s + max(duration_s, 2 * CLOCK_S)


def _grid_by_pyav(path: Path, sample_fps: float) -> Iterator[Frame]:
    converted: _Shown[Callable[[], Image]] | None = None
    for time_s, one in _on_grid(_shown_by_pyav(path), sample_fps):
        if one is not converted:
            image, converted = one.picture(), one
        yield Frame(time_s, one.pts_s, one.until_s, image)


def _shown_by_pyav(path: Path) -> Generator[_Shown[Callable[[], Image]], None, None]:
    """Every frame in one forward pass. A picture is turned to RGB only when asked for."""
    with _opened(path, num_threads=min(_MAX_THREADS, os.cpu_count() or 1)) as (container, stream):
        tally = _Tally()
        tick_s = float(stream.time_base)
        step_s = float(1 / (stream.average_rate or stream.guessed_rate or 25))
        reformatter = av.video.reformatter.VideoReformatter()
        held: tuple[float, Any] | None = None
        origin_s: float | None = None
        for tick, frame in _decoded(container, stream, tally):
            due_s = held[0] + step_s if held else 0.0
            if tick is not None and origin_s is None:
                origin_s = tick * tick_s - due_s
            pts_s = due_s if tick is None or origin_s is None else tick * tick_s - origin_s
            if held is None:
                size = _shown_size(frame, _pixel_aspect(stream))
            elif pts_s < held[0]:
                tally.num_backwards += 1
                continue
            else:
                tally.see_gap(held[0], pts_s)
                yield _Shown(held[0], pts_s, functools.partial(_picture, held[1], reformatter, size))
            held = pts_s, frame
        if held is None:
            raise _no_frames(path, stream, tally)
        last_s, last = held
        end_s = _end_s(last_s, (last.duration or 0) * tick_s or step_s)
        tally.report(path, end_s, _stated_duration_s(container, stream))
        yield _Shown(last_s, end_s, functools.partial(_picture, last, reformatter, size))


def _decoded(container: Any, stream: Any, tally: _Tally) -> Iterator[tuple[int | None, Any]]:
    """Every frame that decodes, in the order of presentation, with its time in ticks of the stream's clock."""
    # AVI stamps packets by their place in the file, which is not presentation order where there are B-frames: the k-th
    # frame that comes out is due at the k-th packet's place. That is k / rate, unless the file leaves places empty.
    places: deque[int | None] = deque()
    is_avi = container.format.name == "avi"
    for packet in _packets(container, stream, tally):
        if packet is not None and packet.size:
            tally.num_packets += 1
            # Cut off by the file's end. Decoded in threads, its error would take the frames before it along. In
            # MPEG-TS the mark means lost bytes on the way, which a decoder is made to conceal.
            if packet.is_corrupt and container.format.name != "mpegts":
                tally.num_failed += 1
                continue
            if is_avi:
                places.append(packet.dts)
        try:
            frames = stream.decode(packet)
        except av.error.FFmpegError:
            tally.num_failed += 1
            if places:
                places.popleft()
            continue
        for frame in frames:
            tally.num_damaged += frame.is_corrupt
            yield (places.popleft() if places else frame.pts), frame


def _packets(container: Any, stream: Any, tally: _Tally) -> Iterator[Any]:
    """The stream's packets, then an empty one (or None) that flushes the decoder. Reads on behind damage."""
    for _ in range(_DEMUX_ATTEMPTS):
        try:
            yield from container.demux(stream)
            return
        except av.error.FFmpegError:
            tally.num_packets += 1
            tally.num_failed += 1
    yield None


@dataclass
class _Tally:
    """What went wrong in one pass over a file."""

    num_packets: int = 0
    num_failed: int = 0
    num_damaged: int = 0
    num_backwards: int = 0
    num_gaps: int = 0
    longest_gap: tuple[float, float] = (0.0, 0.0)

    def see_gap(self, start_s: float, end_s: float) -> None:
        if end_s - start_s > _GAP_S:
            self.num_gaps += 1
            self.longest_gap = max(self.longest_gap, (start_s, end_s), key=lambda gap: gap[1] - gap[0])

    def report(self, path: Path, end_s: float, stated_s: float | None) -> None:
        troubles = []
        if self.num_failed:
            troubles.append(f"{self.num_failed} of {self.num_packets} packets failed")
        if self.num_damaged:
            troubles.append(f"{self.num_damaged} frames came out damaged")
        if self.num_backwards:
            troubles.append(f"{self.num_backwards} frames whose times run backwards were left out")
        if stated_s is not None and end_s < stated_s - _GAP_S:
            troubles.append("shorter than stated")
        if troubles:
            stated = "no duration" if stated_s is None else f"{stated_s:.2f} s"
            _log.warning("%s: %s; it ends at %.2f s, the file states %s", path, ", ".join(troubles), end_s, stated)
        if self.num_gaps:
            start_s, stop_s = self.longest_gap
            _log.warning(
                "%s: nothing new is shown for more than %g s in %d places, the longest from %.2f s to %.2f s",
                path,
                _GAP_S,
                self.num_gaps,
                start_s,
                stop_s,
            )


@contextlib.contextmanager
def _opened(path: Path, num_threads: int) -> Iterator[tuple[Any, Any]]:
    """The open container and its video stream, ready to decode; raises `UnreadableVideo` where there is none."""
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
            raise UnreadableVideo(path, "no decoder for its video", found=f"codec tag {stream.codec_tag!r}")
        stream.thread_type = "AUTO"
        stream.thread_count = num_threads
        yield container, stream


def _first_bytes(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(512)
    if head[4:8] == b"ftyp":
        return "an MP4 whose index is missing or damaged, as in a recording that was cut off"
    if all(byte >= 0x80 or chr(byte) in string.printable for byte in head):
        return "text"
    return f"{path.stat().st_size} bytes of no known format"


def _no_frames(path: Path, stream: Any, tally: _Tally) -> UnreadableVideo:
    found = f"{stream.codec_context.name}, {tally.num_packets} packets, of which {tally.num_failed} failed"
    return UnreadableVideo(path, "not one frame can be decoded", found)


def _picture(frame: Any, reformatter: Any, size: tuple[int, int]) -> Image:
    rgb = reformatter.reformat(frame, format="rgb24", interpolation="BILINEAR", threads=1).to_ndarray()
    return _resized(np.ascontiguousarray(np.rot90(rgb, _quarter_turns(frame))), size)


def _quarter_turns(frame: Any) -> int:
    """Counterclockwise, as `np.rot90` takes them."""
    return round(frame.rotation / 90) % 4


def _pixel_aspect(stream: Any) -> float:
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / 8 <= aspect <= 8 else 1.0  # beyond that it is damage, and would make pictures of gigabytes


def _shown_size(frame: Any, pixel_aspect: float) -> tuple[int, int]:
    """(height, width) upright with square pixels: the stored height is kept, the stored width stretched."""
    height, width = frame.height, max(1, round(frame.width * pixel_aspect))
    return (width, height) if _quarter_turns(frame) % 2 else (height, width)


def _resized(image: Image, size: tuple[int, int]) -> Image:
    if image.shape[:2] == size:
        return image
    import torch
    import torch.nn.functional as F

    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def _stated_duration_s(container: Any, stream: Any) -> float | None:
    """The shorter of what stream and container state: sound may outlast the picture, an edit list cuts the stream."""
    stated = []
    if container.duration is not None:
        stated.append(container.duration / av.time_base)
    if stream.duration is not None:
        stated.append(float(stream.duration * stream.time_base))
    return min(stated, default=None)


def _recorded_at(metadata: dict[str, str]) -> datetime | None:
    """Apple's creation date first, since it keeps the offset of the place; `creation_time` is UTC by its format."""
    for key in ("com.apple.quicktime.creationdate", "creation_time"):
        try:
            moment = datetime.fromisoformat(metadata.get(key, ""))
        except ValueError:
            continue
        if moment.year > 1970:  # 1904 and 1970 are the zeros of clocks that were never set
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


def _doubts_about_decord(path: Path, num_pixels: int) -> Iterator[str]:
    """Why decord is not known to be right on this file, the cheapest to find first; nothing where it is."""
    with _opened(path, num_threads=1) as (container, stream):
        codec = stream.codec_context
        duration_s = _stated_duration_s(container, stream)
        if "mp4" not in container.format.name.split(","):
            yield f"{container.format.name} is not MP4"
        if len(container.streams.video) > 1:
            yield "several video streams"
        if codec.name != "h264" or codec.pix_fmt not in ("yuv420p", "yuvj420p"):
            yield f"{codec.name} {codec.pix_fmt} is not 8-bit 4:2:0 H.264"
        if duration_s is None or duration_s > _DECORD_MAX_DURATION_S:
            yield f"not known to be at most {_DECORD_MAX_DURATION_S:g} s long"
        if 3 * num_pixels * stream.frames > _DECORD_MAX_DECODED_BYTES:
            yield f"{stream.frames} frames of {num_pixels} pixels may not fit into memory"
        tally = _Tally()
        packets = [packet for packet in _packets(container, stream, tally) if packet is not None and packet.size]
        if any(packet.is_discard for packet in packets):
            yield "an edit list trims it"
        # x264 writes its options into the first packet; what other encoders made is not known.
        opening = bytes(packets[0]) if packets else b""
        is_closed = b" open_gop=0" in opening or b" bframes=0" in opening
        if not is_closed or b" interlaced=0" not in opening or b" intra_refresh=0" not in opening:
            yield "not known to be progressive with closed groups of pictures"
        if tally.num_failed or any(packet.is_corrupt for packet in packets) or len(packets) != stream.frames:
            yield f"damaged: {len(packets)} whole packets where {stream.frames} are stated"


def _grid_by_decord(path: Path, sample_fps: float, info: VideoInfo) -> list[Frame]:
    import torch  # noqa: F401 - on some platforms decord must be loaded after torch
    from decord import DECORDError, VideoReader

    try:
        # One batch, and the reader is gone when this returns: an open one decodes ahead without bound.
        reader = VideoReader(str(path), num_threads=1)
        spans_s = reader.get_frame_timestamp(np.arange(len(reader))).astype(np.float64)
        starts_s = spans_s[:, 0] - spans_s[0, 0]
        end_s = _end_s(starts_s[-1], spans_s[-1, 1] - spans_s[-1, 0])
        untils_s = np.append(starts_s[1:], end_s)
        shown = map(_Shown, starts_s.tolist(), untils_s.tolist(), range(len(reader)))
        picks = list(_on_grid(shown, sample_fps))
        numbers = list(dict.fromkeys(one.picture for _, one in picks))
        batch = reader.get_batch(numbers).asnumpy()
    except (DECORDError, RuntimeError, AssertionError) as error:
        # One sentence out of what C++ reports, with a stack of its own places behind it.
        cause = str(error).rpartition("Check failed: ")[2].strip() or type(error).__name__
        raise UnreadableVideo(path, "decord fails", found=cause.splitlines()[0]) from error
    images = {number: _resized(image, (info.height, info.width)) for number, image in zip(numbers, batch, strict=True)}
    return [Frame(time_s, one.pts_s, one.until_s, images[one.picture]) for time_s, one in picks]

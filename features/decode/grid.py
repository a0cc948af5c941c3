"""Which picture a video file shows when. Knows files, PyAV and decord; knows nothing of windows, models or labels.

Time counts from the first shown frame, by presentation timestamps. Frame counts, frame rates and durations that a
container states are not trusted. A file is decoded by one thread: of damaged files FFmpeg's frame threads give other
pixels for each number of threads, and they cost more CPU; decode several files side by side instead.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import logging
import math
import string
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import av
import numpy as np

from features.decode.damage import Damage
from features.decode.orientation import Orientation, resized
from features.video import Frame, Image

_log = logging.getLogger(__name__)

VERSION = 1
"""Part of the key under which anything made from frames is kept: raised when, for some file, other frames or other
pixels come out than before."""

CLOCK_S = 0.002
"""How early a frame may be taken: WebM's clock ticks in milliseconds, so a frame due at 1/3 s may be stamped 0.334."""

_LONGEST_PAUSE_S = 3600.0  # behind a longer one it is the clock that is damaged
_MAX_PIXELS = 2**26  # twice 8K: a larger picture is damage, and would take gigabytes
_DEMUX_ATTEMPTS = 16
_MOST_REORDERED = 32  # twice what H.264 and HEVC allow: so far apart may a frame and its successor lie in the file

# What decord is known to be right on is short, and it holds all of it in memory.
_DECORD_MAX_DURATION_S = 200.0
_DECORD_MAX_DECODED_BYTES = 2 * 1024**3

T = TypeVar("T")


Decoder = Literal["auto", "pyav", "decord"]
"""Who decodes: `auto` takes for each file what is known to be right on it."""


def library_versions() -> dict[str, str]:
    """The decoding libraries as installed: other ones may give other pixels."""
    ffmpeg = {
        name: ".".join(map(str, av.library_versions[name])) for name in ("libavcodec", "libavformat", "libswscale")
    }
    return {"av": metadata.version("av"), "decord": metadata.version("decord2"), **ffmpeg}


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

    `width` and `height` are those of the frames that come out: upright, pixels square. For that the stored picture is
    mirrored left to right where `mirrored`, then turned by `rotation_deg` counterclockwise; `pixel_aspect` is how much
    wider than high its pixels are.
    `stated_duration_s` is the container's promise, often wrong; the truth is the last frame's `shown_until_s`.
    """

    container: str
    codec: str
    width: int
    height: int
    rotation_deg: int
    mirrored: bool
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
    """Read the file's head and first frame. Raises `UnreadableVideo` where no video frame can be had.

    Decodes the few packets that the first frame takes. For a short H.264 MP4 by x264 it also reads all packets and
    decodes the first one again: that is what finding the right decoder takes.
    """
    with _opened(path) as (container, stream):
        damage = Damage()
        _, first = next(_decoded(container, stream, damage), (None, None))
        if first is None:
            raise _no_frames(path, stream, damage)
        orientation, aspect = _orientation(first), _pixel_aspect(stream)
        height, width = orientation.shown_size(first.height, first.width, aspect)
        doubt = next(_doubts_about_decord(path), None)
        return VideoInfo(
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width=width,
            height=height,
            rotation_deg=orientation.quarter_turns * 90,
            mirrored=orientation.mirrored,
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
    frame comes, or `UnreadableVideo` is raised. A damaged file gives what there is.

    `pyav` decodes in one forward pass, holds a few frames at a time, and logs a warning where something is damaged or
    missing. In H.264 and HEVC in MP4 it passes over frames that are not asked for and that no other frame leans on: of
    a whole file the same pictures come, and damage in what is passed over goes unseen. `decord` holds all frames that
    are asked for in memory, decodes some twice where it seeks, and conceals damage without a word; forced on a file
    that it is not known to be right on, it can give wrong frames, pixels that are not square, or hang on MPEG-TS.

    `auto` takes decord where it is right, and PyAV for all else. To choose costs opening the file once more; nothing is
    decoded for it, except where decord is chosen: then all packets were read and one frame was decoded.
    """
    if sample_fps <= 0:
        raise ValueError(f"sample_fps must be positive, got {sample_fps}")
    if decoder == "pyav":
        return _grid_by_pyav(path, sample_fps)
    doubt = next(_doubts_about_decord(path), None)
    if decoder == "decord":
        if doubt:
            _log.warning("%s: decord is forced, and may show wrong frames: %s", path, doubt)
        return iter(_grid_by_decord(path, sample_fps))
    if doubt is None:
        try:
            return iter(_grid_by_decord(path, sample_fps))
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
    with contextlib.closing(_shown_by_pyav(path, _decoded)) as shown:
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


class _Doubt(Exception):  # noqa: N818 - it reaches nobody
    """Decoding only what is needed may give something else here than decoding everything."""


_Decode = Callable[[Any, Any, Damage], Iterator[tuple[int | None, Any]]]
"""`_decoded`, or what gives the same frames where they are needed."""


def _grid_by_pyav(path: Path, sample_fps: float) -> Iterator[Frame]:
    num_given = 0
    for decode in (functools.partial(_decoded_sparingly, sample_fps=sample_fps), _decoded):
        with contextlib.suppress(_Doubt):
            for frame in itertools.islice(_converted(_shown_by_pyav(path, decode), sample_fps), num_given, None):
                yield frame
                num_given += 1
            return


def _converted(shown: Iterable[_Shown[Callable[[], Image]]], sample_fps: float) -> Iterator[Frame]:
    converted: _Shown[Callable[[], Image]] | None = None
    for time_s, one in _on_grid(shown, sample_fps):
        if one is not converted:
            image, converted = one.picture(), one
        yield Frame(time_s, one.pts_s, one.until_s, image)


def _shown_by_pyav(path: Path, decode: _Decode) -> Generator[_Shown[Callable[[], Image]], None, None]:
    """Every frame in one forward pass. A picture is turned to RGB only when asked for."""
    with _opened(path) as (container, stream):
        damage = Damage()
        reformatter = av.video.reformatter.VideoReformatter()
        in_order = _in_order(_timed(decode(container, stream, damage), stream), damage)
        first = next(in_order, None)
        if first is None:
            raise _no_frames(path, stream, damage)
        held_s, held = first[0], _seen(first[1])
        origin_s = held_s
        size = _orientation(held).shown_size(held.height, held.width, _pixel_aspect(stream))
        for pts_s, frame in in_order:
            damage.see_gap(held_s - origin_s, pts_s - origin_s)
            yield _Shown(held_s - origin_s, pts_s - origin_s, functools.partial(_picture, held, reformatter, size))
            held_s, held = pts_s, frame
        lasts_s = (_seen(held).duration or 0) * float(stream.time_base) or _step_s(stream)
        end_s = _end_s(held_s - origin_s, min(lasts_s, _LONGEST_PAUSE_S))
        for sentence in damage.sentences(end_s, _stated_duration_s(container, stream)):
            _log.warning("%s: %s", path, sentence)
        yield _Shown(held_s - origin_s, end_s, functools.partial(_picture, held, reformatter, size))


def _in_order(timed: Iterable[tuple[float, Any]], damage: Damage) -> Iterator[tuple[float, Any]]:
    """The frames whose times fit.

    Frames come in the order in which they are shown, so where a time runs backwards one of the two is wrong: the
    earlier one if without it all fits, as when one damaged stamp lies far ahead; the later one if not.
    """
    before_s: float | None = None
    held: tuple[float, Any] | None = None
    for one in timed:
        if held is not None:
            if 0 <= one[0] - held[0] <= _LONGEST_PAUSE_S:
                yield held
                before_s = held[0]
            else:
                damage.num_misplaced += 1
                if before_s is not None and not 0 <= one[0] - before_s <= _LONGEST_PAUSE_S:
                    continue
        held = one
    if held is not None:
        yield held


def _timed(decoded: Iterable[tuple[int | None, Any]], stream: Any) -> Iterator[tuple[float, Any]]:
    """Every frame with its time on the stream's clock; one without a stamp follows the frame before."""
    tick_s, step_s = float(stream.time_base), _step_s(stream)
    due_s = 0.0
    for tick, frame in decoded:
        pts_s = due_s if tick is None else tick * tick_s
        due_s = pts_s + step_s
        yield pts_s, frame


def _step_s(stream: Any) -> float:
    return float(1 / (stream.average_rate or stream.guessed_rate or 25))


def _decoded(container: Any, stream: Any, damage: Damage) -> Iterator[tuple[int | None, Any]]:
    """Every frame that decodes, in the order of presentation, with its time in ticks of the stream's clock."""
    places = _Places(stream) if container.format.name == "avi" else None
    for packet in _packets(container, stream, damage):
        if packet is not None and packet.size:
            damage.num_packets += 1
            damage.num_damaged += packet.is_corrupt
            # Cut off by the file's end: half a picture. In MPEG-TS the mark means lost bytes on the way, which a
            # decoder is made to conceal.
            if packet.is_corrupt and container.format.name != "mpegts":
                continue
            if places and packet.dts is not None:
                places.send(packet)
        try:
            frames = stream.decode(packet)
        except av.error.FFmpegError:
            damage.num_damaged += packet is None or not packet.is_corrupt
            continue
        for frame in frames:
            damage.num_concealed += frame.is_corrupt
            yield places.take(frame) if places else frame.pts, frame


def _decoded_sparingly(
    container: Any, stream: Any, damage: Damage, *, sample_fps: float
) -> Iterator[tuple[int | None, Any]]:
    """As `_decoded`, with None for frames that the grid does not pick and no other frame leans on: they cost nothing.

    Raises `_Doubt` at the first sign that the file is not whole.
    """
    if not _marks_the_needless(container, stream):
        yield from _decoded(container, stream, damage)
        return
    due = _Due(float(stream.time_base), sample_fps)
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
            raise _Doubt from error
        for frame in frames:
            yield from due.take(frame)
        if packet is None:
            break
    yield from due.rest()


class _Due:
    """Which frames are still to come of the packets read so far, known by their ticks, and which of them are picked."""

    def __init__(self, tick_s: float, sample_fps: float) -> None:
        self._tick_s, self._sample_fps = tick_s, sample_fps
        self._ticks: list[int] = []  # ascending
        self._origin: int | None = None
        self._came = -math.inf  # the last tick that is no longer due

    def add(self, tick: int) -> None:
        if tick <= self._came or tick in self._ticks:
            raise _Doubt
        bisect.insort(self._ticks, tick)

    def is_picked(self, tick: int) -> bool:
        """Whether the grid picks this frame: the last always, and perhaps one that it misses by a hair.

        Asked when the packets of the frames around it are added.
        """
        if tick <= self._came:
            raise _Doubt
        if self._origin is None:
            self._origin = self._ticks[0]
        at = bisect.bisect(self._ticks, tick)
        if at == len(self._ticks):
            return True
        start_s, until_s = ((each - self._origin) * self._tick_s - CLOCK_S for each in (tick, self._ticks[at]))
        return math.ceil(until_s * self._sample_fps + 1e-6) > max(0, math.ceil(start_s * self._sample_fps - 1e-6))

    def take(self, frame: Any) -> Iterator[tuple[int, Any]]:
        """The frame that came out, behind those that were passed over before it."""
        while self._ticks and frame.pts is not None and self._ticks[0] < frame.pts:
            yield self._ticks.pop(0), None
        if frame.is_corrupt or not self._ticks or self._ticks.pop(0) != frame.pts:
            raise _Doubt
        self._came = frame.pts
        yield frame.pts, frame

    def rest(self) -> Iterator[tuple[int, Any]]:
        for tick in self._ticks:
            yield tick, None


class _Places:
    """When the frames of an AVI are due: it stamps packets by their place in the file, in the order of decoding.

    The k-th frame that comes out is due at the k-th place that was sent, which is k / rate unless the file leaves
    places empty. A swallowed packet, or a frame too many, would shift all that follow; so it is counted anew at each
    key frame, behind which nothing comes out that was sent before it.
    """

    def __init__(self, stream: Any) -> None:
        self._sent: deque[int] = deque(maxlen=64)  # no decoder holds as many back
        self._inside: set[int] = set()
        self._num_due = 0
        stream.codec_context.copy_opaque = True

    def send(self, packet: Any) -> None:
        packet.opaque = packet.dts, packet.is_keyframe
        self._sent.append(packet.dts)
        self._inside.add(packet.dts)
        self._num_due += 1

    def take(self, frame: Any) -> int | None:
        place, is_key = frame.opaque or (None, False)
        if place is not None and is_key and frame.key_frame:  # damage alone can make either say so
            self._inside = {inside for inside in self._inside if inside >= place}
            self._num_due = len(self._inside)
        self._inside.discard(place)
        self._num_due -= 1
        return self._sent[-1 - self._num_due] if 0 <= self._num_due < len(self._sent) else None


def _packets(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """The stream's packets, then an empty one (or None) that flushes the decoder. Reads on behind damage."""
    for _ in range(_DEMUX_ATTEMPTS):
        try:
            yield from container.demux(stream)
            return
        except av.error.FFmpegError:
            damage.num_packets += 1
            damage.num_damaged += 1
    yield None


def _whole_packets(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """The packets of a file that is whole and shown in full, without the one that flushes; `_Doubt` of any other."""
    for packet in _packets(container, stream, damage):
        if damage.num_damaged:
            raise _Doubt
        if packet is None or (packet.dts is None and not packet.size):
            continue
        if not packet.size or packet.pts is None or packet.is_corrupt or packet.is_discard:
            raise _Doubt
        yield packet


def _marks_the_needless(container: Any, stream: Any) -> bool:
    """Whether a frame that calls itself no reference can be left out without a trace.

    In HEVC with temporal layers a higher layer may refer to it. And an MP4 with one index tells the decoder how far
    frames are reordered; elsewhere a decoder may guess from the frames that it sees.
    """
    if "mp4" not in container.format.name.split(",") or not stream.frames:
        return False
    codec = stream.codec_context
    if codec.name == "hevc":
        head = bytes(codec.extradata or b"")
        return len(head) > 21 and head[21] >> 3 & 7 == 1  # the number of temporal layers
    return bool(codec.name == "h264")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
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
            raise UnreadableVideo(path, "no decoder for its video", found=f"stream {stream.index} of {name}")
        stream.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        yield container, stream


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


def _no_frames(path: Path, stream: Any, damage: Damage) -> UnreadableVideo:
    found = f"{stream.codec_context.name}, {damage.num_packets} packets, of which {damage.num_damaged} are damaged"
    return UnreadableVideo(path, "not one frame can be decoded", found)


def _seen(frame: Any) -> Any:
    if frame is None:
        raise _Doubt
    return frame


def _picture(frame: Any, reformatter: Any, size: tuple[int, int]) -> Image:
    rgb = reformatter.reformat(_seen(frame), format="rgb24", interpolation="BILINEAR", threads=1).to_ndarray()
    return resized(_orientation(frame).upright(rgb), size)


def _orientation(frame: Any) -> Orientation:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return Orientation() if matrix is None else Orientation.from_matrix(np.frombuffer(matrix, dtype=np.int32).tolist())


def _pixel_aspect(stream: Any) -> float:
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / 8 <= aspect <= 8 else 1.0  # beyond that it is damage, and would make pictures of gigabytes


def _stated_duration_s(container: Any, stream: Any) -> float | None:
    """The shorter of what stream and container state: sound may outlast the picture, an edit list cuts the stream."""
    stated = []
    if container.duration is not None:
        # Matroska states when it ends, all others how long it lasts.
        start = max(0, container.start_time or 0) if "matroska" in container.format.name else 0
        stated.append((container.duration - start) / av.time_base)
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


def _doubts_about_decord(path: Path) -> Iterator[str]:
    """Why decord is not known to be right on this file, the cheapest to find first; nothing where it is."""
    with _opened(path) as (container, stream):
        yield from _doubts_from_head(container, stream)
        yield from _doubts_from_packets(container, stream)


def _doubts_from_head(container: Any, stream: Any) -> Iterator[str]:
    codec = stream.codec_context
    duration_s = _stated_duration_s(container, stream)
    num_pixels = codec.width * codec.height
    if "mp4" not in container.format.name.split(","):
        yield f"{container.format.name} is not MP4"
    if len(container.streams.video) > 1:
        yield "several video streams"
    if codec.name != "h264" or codec.pix_fmt not in ("yuv420p", "yuvj420p"):
        yield f"{codec.name} {codec.pix_fmt} is not 8-bit 4:2:0 H.264"
    if _pixel_aspect(stream) != 1:
        yield "its pixels are not square"
    if duration_s is None or duration_s > _DECORD_MAX_DURATION_S:
        yield f"not known to be at most {_DECORD_MAX_DURATION_S:g} s long"
    if 3 * num_pixels * stream.frames > _DECORD_MAX_DECODED_BYTES:
        yield f"{stream.frames} frames of {num_pixels} pixels may not fit into memory"


def _doubts_from_packets(container: Any, stream: Any) -> Iterator[str]:
    damage = Damage()
    packets = (packet for packet in _packets(container, stream, damage) if packet is not None and packet.size)
    first = next(packets, None)
    if first is None:
        yield "it holds no packet"
        return
    if first.is_discard:
        yield "an edit list trims it"
    # x264 writes its options into the first packet; what other encoders made is not known.
    opening = bytes(first)
    is_closed = b" open_gop=0" in opening or b" bframes=0" in opening
    if not is_closed or b" interlaced=0" not in opening or b" intra_refresh=0" not in opening:
        yield "not known to be progressive with closed groups of pictures"
    num_whole = 0
    for packet in itertools.chain([first], packets):
        if packet.is_discard:
            yield "an edit list trims it"
        num_whole += not packet.is_corrupt
    if damage.num_damaged or num_whole != stream.frames:
        yield f"damaged: {num_whole} whole packets where {stream.frames} are stated"
    frames: list[Any] = []
    with contextlib.suppress(av.error.FFmpegError):
        frames = [*stream.decode(first), *stream.decode(None)]
    if not frames or _orientation(frames[0]).mirrored:
        yield "mirrored, or its first packet gives no frame"


def _grid_by_decord(path: Path, sample_fps: float) -> list[Frame]:
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
    images = dict(zip(numbers, batch, strict=True))
    return [Frame(time_s, one.pts_s, one.until_s, images[one.picture]) for time_s, one in picks]

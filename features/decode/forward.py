"""One forward pass over a video with PyAV: its frames, each with the time at which it is shown."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError

from features.decode.avi import AviClock
from features.decode.clock import Stamped, on_one_clock
from features.decode.container import UnreadableVideo, opened, pixel_aspect, read_packets, stated_duration_s, time_base
from features.decode.damage import Damage, VideoEnd
from features.decode.picture import Pictures
from features.decode.skipping import NeedsFullDecode, PendingFrames, can_skip_nonref, packets_with_need
from features.decode.timeline import Shown, video_end_s
from features.video import Image

_log = logging.getLogger(__name__)

_NEAR_A_JOIN = 4  # packets: the parser finds where one ends when the next ones have begun
_MPEG_CLOCK = 2**33  # ticks, after which the clock of MPEG-TS and MPEG-PS starts anew

Ticked = tuple[int | None, av.VideoFrame | None]
"""A frame's time in ticks of the stream's clock, None if it has none, and the frame, None if it was skipped."""

Decode = Callable[[InputContainer, av.VideoStream, Damage], Iterator[Ticked]]
"""`decode_all`, or `decode_needed` for a grid."""


def shown_frames(path: Path, decode: Decode) -> Generator[Shown[Callable[[], Image]], None, VideoEnd]:
    """Every frame of the video; its `picture` converts it to an upright RGB image of the first one's size.

    Returns what is known of the video when it has been read, and logs its faults and facts as warnings. Raises
    `UnreadableVideo` if no frame can be decoded, and `NeedsFullDecode` if `decode` does or if it skipped a frame that
    is needed.
    """
    with opened(path) as (container, stream):
        damage = Damage()
        stamped_frames = _stamped(decode(container, stream, damage), container, stream)
        timed_frames = on_one_clock(stamped_frames, _nominal_step_s(stream), damage)
        held = next(timed_frames, None)
        if held is None:
            found = (
                f"{stream.codec_context.name}, {damage.num_packets} packets, of which {damage.num_damaged} are damaged"
            )
            raise UnreadableVideo(path, "not one frame can be decoded", found)
        first_frame = _not_skipped(held.frame)
        pictures = Pictures(first_frame, pixel_aspect(stream))
        for timed in timed_frames:
            damage.add_pause(held.pts_s, timed.pts_s)
            yield Shown(held.pts_s, timed.pts_s, functools.partial(_image, held.frame, pictures))
            held = timed
        _not_skipped(held.frame)
        stated_s = stated_duration_s(container, stream)
        duration_s = held.duration_s
        if duration_s > 1 and stated_s is not None and held.pts_s + duration_s > stated_s + 1:
            duration_s = _nominal_step_s(stream)  # a damaged one, that the head does not know
        end_s = video_end_s(held.pts_s, duration_s)
        damage.add_pause(held.pts_s, end_s)
        end = damage.end(end_s, stated_s)
        for sentence in end.faults + end.facts:
            _log.warning("%s: %s", path, sentence)
        yield Shown(held.pts_s, end_s, functools.partial(_image, held.frame, pictures))
        return end


def decode_all(container: InputContainer, stream: av.VideoStream, damage: Damage) -> Iterator[Ticked]:
    """Every frame that can be decoded, in order of presentation. Counts damage and continues after it."""
    avi_clock = AviClock(stream) if container.format.name == "avi" else None
    joins = _Joins(time_base(stream)) if container.format.name == "mpegts" else None
    for packet in read_packets(container, stream, damage):
        if packet is not None and packet.size:
            damage.num_packets += 1
            damage.num_damaged += packet.is_corrupt
            damage.num_damaged -= joins is not None and joins.explains_mark(packet)
            # A corrupt packet was cut off by the end of the file and holds part of a picture. Only in MPEG-TS does the
            # mark mean bytes lost in transmission, which decoders conceal.
            if packet.is_corrupt and container.format.name != "mpegts":
                continue
            if avi_clock and packet.dts is not None:
                avi_clock.send(packet, packet.dts)
        try:
            frames = stream.decode(packet)
        except FFmpegError:
            damage.num_damaged += packet is None or not packet.is_corrupt
            continue
        for frame in frames:
            damage.num_concealed += frame.is_corrupt
            yield avi_clock.take(frame) if avi_clock else frame.pts, frame


def decode_needed(
    container: InputContainer, stream: av.VideoStream, damage: Damage, *, sample_fps: float
) -> Iterator[Ticked]:
    """As `decode_all`, but skips non-reference frames that a grid at `sample_fps` does not need.

    Raises `NeedsFullDecode` at the first sign of damage. Decodes all frames where they cannot be skipped safely.
    """
    if not can_skip_nonref(container, stream):
        yield from decode_all(container, stream, damage)
        return
    pending = PendingFrames(float(time_base(stream)), sample_fps)
    for packet, is_needed in packets_with_need(container, stream, damage, pending):
        if packet is not None:
            stream.codec_context.skip_frame = "DEFAULT" if is_needed else "NONREF"
        try:
            frames = stream.decode(packet)
        except FFmpegError as error:
            raise NeedsFullDecode from error
        for frame in frames:
            yield from pending.take(frame)
    yield from pending.rest()


class _Joins:
    """Finds the marks of damage that MPEG-TS bears where files were joined: the packet just before is whole."""

    def __init__(self, tick_s: Fraction) -> None:
        self._one_minute = 60 / tick_s  # less may be lost in transmission
        self._last_dts: int | None = None
        self._num_since_mark = _NEAR_A_JOIN

    def explains_mark(self, packet: av.Packet) -> bool:
        """Whether the clock jumps at this packet, and one of the few before it bears the mark."""
        jumps = False
        if packet.dts is not None and self._last_dts is not None:
            jumps = not 0 <= packet.dts - self._last_dts <= self._one_minute
        is_explained = jumps and self._num_since_mark < _NEAR_A_JOIN
        self._num_since_mark = 0 if packet.is_corrupt else _NEAR_A_JOIN if jumps else self._num_since_mark + 1
        self._last_dts = packet.dts
        return is_explained


def _stamped(
    ticked_frames: Iterable[Ticked], container: InputContainer, stream: av.VideoStream
) -> Iterator[Stamped[av.VideoFrame | None]]:
    """The frames with their own times and durations in seconds."""
    tick_s = float(time_base(stream))
    is_mpeg = container.format.name in ("mpegts", "mpeg")
    for tick, frame in ticked_frames:
        # libavformat takes a clock that starts anew for one that ran over, and adds that.
        own_tick = tick % _MPEG_CLOCK if tick is not None and is_mpeg else tick
        duration = 0 if frame is None else frame.duration or 0
        yield Stamped(None if own_tick is None else own_tick * tick_s, duration * tick_s, frame)


def _nominal_step_s(stream: av.VideoStream) -> float:
    """How long a frame lasts where nothing else tells: of raw streams `average_rate` is always 25."""
    return float(1 / (stream.guessed_rate or stream.average_rate or 25))


def _not_skipped(frame: av.VideoFrame | None) -> av.VideoFrame:
    if frame is None:
        raise NeedsFullDecode
    return frame


def _image(frame: av.VideoFrame | None, pictures: Pictures) -> Image:
    return pictures.image(_not_skipped(frame))

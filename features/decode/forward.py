"""One forward pass over a video with PyAV: its frames, each with the time at which it is shown."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError

from features.decode.avi import AviClock
from features.decode.container import UnreadableVideo, opened, pixel_aspect, read_packets, stated_duration_s, time_base
from features.decode.damage import Damage
from features.decode.picture import Pictures
from features.decode.skipping import NeedsFullDecode, PendingFrames, can_skip_nonref, packets_with_need
from features.decode.timeline import Shown, video_end_s
from features.video import Image

_log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 3600.0  # after a longer one it is the clock that is damaged

Ticked = tuple[int | None, av.VideoFrame | None]
"""A frame's time in ticks of the stream's clock, None if it has none, and the frame, None if it was skipped."""

Timed = tuple[float, av.VideoFrame | None]
"""The same with the time in seconds."""

Decode = Callable[[InputContainer, av.VideoStream, Damage], Iterator[Ticked]]
"""`decode_all`, or `decode_needed` for a grid."""


def shown_frames(path: Path, decode: Decode) -> Generator[Shown[Callable[[], Image]], None, None]:
    """Every frame of the video; its `picture` converts it to an upright RGB image of the first one's size.

    Raises `UnreadableVideo` if no frame can be decoded, and `NeedsFullDecode` if `decode` does or if it skipped a frame
    that is needed. Logs a warning at the end of a damaged file.
    """
    with opened(path) as (container, stream):
        damage = Damage()
        timed_frames = _in_order(_timed(decode(container, stream, damage), stream), damage)
        first = next(timed_frames, None)
        if first is None:
            found = (
                f"{stream.codec_context.name}, {damage.num_packets} packets, of which {damage.num_damaged} are damaged"
            )
            raise UnreadableVideo(path, "not one frame can be decoded", found)
        origin_s, first_frame = first[0], _not_skipped(first[1])
        pictures = Pictures(first_frame, pixel_aspect(stream))
        held_s, held = first
        for pts_s, frame in timed_frames:
            damage.add_pause(held_s - origin_s, pts_s - origin_s)
            yield Shown(held_s - origin_s, pts_s - origin_s, functools.partial(_image, held, pictures))
            held_s, held = pts_s, frame
        duration_s = (_not_skipped(held).duration or 0) * float(time_base(stream)) or _frame_step_s(stream)
        end_s = video_end_s(held_s - origin_s, min(duration_s, _LONGEST_PAUSE_S))
        for sentence in damage.sentences(end_s, stated_duration_s(container, stream)):
            _log.warning("%s: %s", path, sentence)
        yield Shown(held_s - origin_s, end_s, functools.partial(_image, held, pictures))


def decode_all(container: InputContainer, stream: av.VideoStream, damage: Damage) -> Iterator[Ticked]:
    """Every frame that can be decoded, in order of presentation. Counts damage and continues after it."""
    avi_clock = AviClock(stream) if container.format.name == "avi" else None
    for packet in read_packets(container, stream, damage):
        if packet is not None and packet.size:
            damage.num_packets += 1
            damage.num_damaged += packet.is_corrupt
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


def _in_order(timed_frames: Iterable[Timed], damage: Damage) -> Iterator[Timed]:
    """The frames whose times fit.

    Frames come in the order in which they are shown, so where a time runs backwards one of two frames is wrong: the
    earlier one if all times fit without it, as with one damaged stamp far ahead; else the later one.
    """
    before_s: float | None = None
    held: Timed | None = None
    for timed in timed_frames:
        if held is not None:
            if 0 <= timed[0] - held[0] <= _LONGEST_PAUSE_S:
                yield held
                before_s = held[0]
            else:
                damage.num_misplaced += 1
                if before_s is not None and not 0 <= timed[0] - before_s <= _LONGEST_PAUSE_S:
                    continue
        held = timed
    if held is not None:
        yield held


def _timed(ticked_frames: Iterable[Ticked], stream: av.VideoStream) -> Iterator[Timed]:
    """The frames with their times in seconds; a frame without a time follows the one before at the stream's rate."""
    tick_s, step_s = float(time_base(stream)), _frame_step_s(stream)
    next_s = 0.0
    for tick, frame in ticked_frames:
        pts_s = next_s if tick is None else tick * tick_s
        next_s = pts_s + step_s
        yield pts_s, frame


def _frame_step_s(stream: av.VideoStream) -> float:
    return float(1 / (stream.average_rate or stream.guessed_rate or 25))


def _not_skipped(frame: av.VideoFrame | None) -> av.VideoFrame:
    if frame is None:
        raise NeedsFullDecode
    return frame


def _image(frame: av.VideoFrame | None, pictures: Pictures) -> Image:
    return pictures.image(_not_skipped(frame))

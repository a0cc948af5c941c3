"""One forward pass over a video with PyAV: every frame with the time at which it is shown."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import av
import numpy as np

from features.decode.avi import AviClock
from features.decode.container import no_frames, opened, pixel_aspect, read_packets, stated_duration_s
from features.decode.damage import Damage
from features.decode.orientation import Orientation, resized
from features.video import Image

CLOCK_S = 0.002
"""How early a frame may be taken: WebM's clock ticks in milliseconds, so a frame due at 1/3 s may be stamped 0.334."""

LONGEST_PAUSE_S = 3600.0  # behind a longer one it is the clock that is damaged

T = TypeVar("T")

_log = logging.getLogger(__name__)

Decode = Callable[[Any, Any, Damage], Iterator[tuple[int | None, Any]]]
"""`decoded`, or a function that gives the same frames where they are needed."""


class NeedsFullDecode(Exception):
    """Decoding only the needed frames may differ from decoding all frames."""


class Shown(NamedTuple, Generic[T]):
    """One source frame, shown during `[pts_s, until_s)`; `picture` gives its image."""

    pts_s: float
    until_s: float
    picture: T


def on_grid(shown: Iterable[Shown[T]], sample_fps: float) -> Iterator[tuple[float, Shown[T]]]:
    steps = itertools.count()
    time_s = next(steps) / sample_fps
    for one in shown:
        while time_s + CLOCK_S < one.until_s:
            yield time_s, one
            time_s = next(steps) / sample_fps


def video_end_s(pts_s: float, duration_s: float) -> float:
    """The end of a video whose last frame has this time and duration: even a frame of no duration is shown at t = 0."""
    return pts_s + max(duration_s, 2 * CLOCK_S)


def shown_frames(path: Path, decode: Decode) -> Generator[Shown[Callable[[], Image]], None, None]:
    """Every frame in one forward pass; a picture is converted to RGB only when asked for."""
    with opened(path) as (container, stream):
        damage = Damage()
        reformatter = av.video.reformatter.VideoReformatter()
        in_order = _in_order(_timed(decode(container, stream, damage), stream), damage)
        first = next(in_order, None)
        if first is None:
            raise no_frames(path, stream, damage)
        held_s, held = first[0], _seen(first[1])
        origin_s = held_s
        size = orientation_of(held).shown_size(held.height, held.width, pixel_aspect(stream))
        for pts_s, frame in in_order:
            damage.see_gap(held_s - origin_s, pts_s - origin_s)
            yield Shown(held_s - origin_s, pts_s - origin_s, functools.partial(_picture, held, reformatter, size))
            held_s, held = pts_s, frame
        lasts_s = (_seen(held).duration or 0) * float(stream.time_base) or _step_s(stream)
        end_s = video_end_s(held_s - origin_s, min(lasts_s, LONGEST_PAUSE_S))
        for sentence in damage.sentences(end_s, stated_duration_s(container, stream)):
            _log.warning("%s: %s", path, sentence)
        yield Shown(held_s - origin_s, end_s, functools.partial(_picture, held, reformatter, size))


def decoded(container: Any, stream: Any, damage: Damage) -> Iterator[tuple[int | None, Any]]:
    """Every frame that decodes, in order of presentation, with its time in ticks of the stream's clock."""
    places = AviClock(stream) if container.format.name == "avi" else None
    for packet in read_packets(container, stream, damage):
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


def _in_order(timed: Iterable[tuple[float, Any]], damage: Damage) -> Iterator[tuple[float, Any]]:
    """The frames whose times fit.

    Frames come in the order in which they are shown, so where a time runs backwards one of two frames is wrong: the
    earlier one if all times fit without it, as with one damaged stamp far ahead; else the later one.
    """
    before_s: float | None = None
    held: tuple[float, Any] | None = None
    for one in timed:
        if held is not None:
            if 0 <= one[0] - held[0] <= LONGEST_PAUSE_S:
                yield held
                before_s = held[0]
            else:
                damage.num_misplaced += 1
                if before_s is not None and not 0 <= one[0] - before_s <= LONGEST_PAUSE_S:
                    continue
        held = one
    if held is not None:
        yield held


def _timed(decoded: Iterable[tuple[int | None, Any]], stream: Any) -> Iterator[tuple[float, Any]]:
    """Every frame with its time on the stream's clock; a frame without a stamp follows the one before."""
    tick_s, step_s = float(stream.time_base), _step_s(stream)
    due_s = 0.0
    for tick, frame in decoded:
        pts_s = due_s if tick is None else tick * tick_s
        due_s = pts_s + step_s
        yield pts_s, frame


def _step_s(stream: Any) -> float:
    return float(1 / (stream.average_rate or stream.guessed_rate or 25))


def _seen(frame: Any) -> Any:
    if frame is None:
        raise NeedsFullDecode
    return frame


def _picture(frame: Any, reformatter: Any, size: tuple[int, int]) -> Image:
    rgb = reformatter.reformat(_seen(frame), format="rgb24", interpolation="BILINEAR", threads=1).to_ndarray()
    return resized(orientation_of(frame).upright(rgb), size)


def orientation_of(frame: Any) -> Orientation:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return Orientation() if matrix is None else Orientation.from_matrix(np.frombuffer(matrix, dtype=np.int32).tolist())

"""Which frame is on screen at which time. Knows times; knows no file and no decoder.

Time is in seconds from the first shown frame, by presentation timestamps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

TOLERANCE_S = 0.002
"""How early a frame may be shown: WebM rounds times to milliseconds, so a frame of 1/3 s may be stamped 0.334."""

_ROUNDING_S = 1e-6

T = TypeVar("T")


class Shown(NamedTuple, Generic[T]):
    """One source frame, shown during `[pts_s, until_s)`; `picture` is what its image is made from."""

    pts_s: float
    until_s: float
    picture: T


def on_grid(
    shown_frames: Iterable[Shown[T]], sample_fps: float, *, max_still_s: float
) -> Iterator[tuple[float, Shown[T]]]:
    """Each time t = 0, 1 / sample_fps, 2 / sample_fps … that lies in footage, with the frame shown at t.

    A frame is footage for at most `max_still_s` from when it is shown; later times, until the next frame, are a pause,
    which costs nothing however long it is. The last time before a pause, or before the video's end, has as `until_s`
    when that footage ends, whichever frame it ends with.
    """
    step = 0
    held: tuple[float, Shown[T]] | None = None
    held_step, footage_end_s = -1, 0.0
    for shown in shown_frames:
        still_until_s = min(shown.until_s, shown.pts_s + max_still_s)
        if step / sample_fps + TOLERANCE_S < shown.pts_s:  # the times between lie in a pause
            step = math.ceil((shown.pts_s - TOLERANCE_S - _ROUNDING_S) * sample_fps)
        elif shown.pts_s <= footage_end_s + TOLERANCE_S:
            footage_end_s = max(footage_end_s, still_until_s)
        while (time_s := step / sample_fps) + TOLERANCE_S < shown.until_s and time_s + _ROUNDING_S < still_until_s:
            if held is not None:
                yield held if held_step + 1 == step else _until(held, footage_end_s)
            held, held_step, footage_end_s = (time_s, shown), step, still_until_s
            step += 1
    if held is not None:
        yield _until(held, footage_end_s)


def video_end_s(pts_s: float, duration_s: float) -> float:
    """When the video ends whose last frame has this time and duration. Never so early that t = 0 shows nothing."""
    return pts_s + max(duration_s, 2 * TOLERANCE_S)


def _until(picked: tuple[float, Shown[T]], end_s: float) -> tuple[float, Shown[T]]:
    return picked[0], picked[1]._replace(until_s=end_s)

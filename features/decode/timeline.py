"""Which frame is on screen at which time. Knows times; knows no file and no decoder.

Time is in seconds from the first shown frame, by presentation timestamps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

TOLERANCE_S = 0.002
"""How early a frame may be shown: WebM rounds times to milliseconds, so a frame of 1/3 s may be stamped 0.334."""

T = TypeVar("T")


class Shown(NamedTuple, Generic[T]):
    """One source frame, shown during `[pts_s, until_s)`; `picture` is what its image is made from."""

    pts_s: float
    until_s: float
    picture: T


def on_grid(shown_frames: Iterable[Shown[T]], sample_fps: float) -> Iterator[tuple[float, Shown[T]]]:
    """Each time t = 0, 1 / sample_fps, 2 / sample_fps … before the video's end, with the frame shown at t."""
    steps = itertools.count()
    time_s = next(steps) / sample_fps
    for shown in shown_frames:
        while time_s + TOLERANCE_S < shown.until_s:
            yield time_s, shown
            time_s = next(steps) / sample_fps


def video_end_s(pts_s: float, duration_s: float) -> float:
    """When the video ends whose last frame has this time and duration. Never so early that t = 0 shows nothing."""
    return pts_s + max(duration_s, 2 * TOLERANCE_S)

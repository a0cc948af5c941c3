"""One clock for all frames of a file, whose stamps may be missing, damaged, or start anew. Knows no decoder.

Frames come in the order in which they are shown. Times are in seconds.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from features.decode.damage import Damage

_LONGEST_VIDEO_S = 31 * 86400.0  # a stamp that is further ahead is no pause: it is of another clock, or damaged
_NUM_ASTRAY = 4  # so many frames in a row may bear wrong stamps; more of them follow another clock
_NUM_STEPS = 9  # of the latest frames, whose median is the step from a frame to the next

T = TypeVar("T")


class Stamped(NamedTuple, Generic[T]):
    """A frame and its own time and duration; None or 0 where the file states none."""

    pts_s: float | None
    duration_s: float
    frame: T


class Timed(NamedTuple, Generic[T]):
    """A frame, shown from `pts_s` until the next one, or for `duration_s`."""

    pts_s: float
    duration_s: float
    frame: T


def on_one_clock(stamped_frames: Iterable[Stamped[T]], step_s: float, damage: Damage) -> Iterator[Timed[T]]:
    """The frames by times that never run backwards, from 0 on; counts what does not fit in `damage`.

    A frame without a time follows the one before; `step_s` is how long a frame lasts where nothing else tells. Where
    the clock jumps back, as where two files were joined, it goes on from the last frame's end. But a few frames that
    alone do not fit, such as one with a damaged stamp far ahead, are left out.
    """
    frames = _Ahead(_completed(stamped_frames, step_s))
    steps_s = deque([step_s], maxlen=_NUM_STEPS)
    origin_s: float | None = None
    last: Timed[T] | None = None
    while (timed := frames.take()) is not None:
        following = frames.next_s(1)
        if following and following[0] < timed.pts_s:
            # One of the two is wrong: this one if all times fit without it.
            fits = following[0] >= last.pts_s if last else max(frames.next_s(_NUM_ASTRAY)) >= timed.pts_s
            if fits:
                damage.num_misplaced += 1
                continue
        if last is not None and timed.pts_s < last.pts_s and max(frames.next_s(_NUM_ASTRAY), default=0) > last.pts_s:
            damage.num_misplaced += 1
            continue
        origin_s = timed.pts_s if origin_s is None else origin_s
        if last is not None and not last.pts_s <= timed.pts_s <= origin_s + _LONGEST_VIDEO_S:
            damage.num_restarts += 1
            moved_s = last.pts_s + last.duration_s - timed.pts_s
            frames.shift(moved_s)
            timed = timed._replace(pts_s=timed.pts_s + moved_s)
        if last is not None and last.pts_s < timed.pts_s:
            steps_s.append(timed.pts_s - last.pts_s)
        last = timed._replace(duration_s=timed.duration_s or statistics.median(steps_s))
        yield last._replace(pts_s=last.pts_s - origin_s)


def _completed(stamped_frames: Iterable[Stamped[T]], step_s: float) -> Iterator[Timed[T]]:
    """The frames with a time each: one that has none follows the one before."""
    next_s = 0.0
    for pts_s, duration_s, frame in stamped_frames:
        timed = Timed(next_s if pts_s is None else pts_s, duration_s if duration_s < _LONGEST_VIDEO_S else 0.0, frame)
        next_s = timed.pts_s + (timed.duration_s or step_s)
        yield timed


class _Ahead(Generic[T]):
    """Frames of which the next ones can be looked at, and whose clock can be shifted."""

    def __init__(self, frames: Iterator[Timed[T]]) -> None:
        self._frames = frames
        self._waiting: deque[Timed[T]] = deque()
        self._shift_s = 0.0

    def take(self) -> Timed[T] | None:
        self._fill(1)
        if not self._waiting:
            return None
        timed = self._waiting.popleft()
        return timed._replace(pts_s=timed.pts_s + self._shift_s)

    def next_s(self, count: int) -> list[float]:
        """The times of the next frames: `count` of them, or all that there are."""
        self._fill(count)
        return [timed.pts_s + self._shift_s for timed in list(self._waiting)[:count]]

    def shift(self, by_s: float) -> None:
        self._shift_s += by_s

    def _fill(self, count: int) -> None:
        while len(self._waiting) < count and (timed := next(self._frames, None)) is not None:
            self._waiting.append(timed)

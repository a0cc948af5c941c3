"""The nouns of video: `Segment`, `WindowPlan`, `Frame`, `Clip`. Knows times and pixels, no decoder and no file.

Every interval is half open, `[start_s, end_s)`, in seconds from the video's first shown frame.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from features.pictures import PictureNumbers
from features.thumbnails import Thumbnail

Image = npt.NDArray[np.uint8]
"""RGB pixels (H, W, 3) of an upright picture; pixels are square."""

Views = Literal["center", "three"]
"""What a model sees of a picture: the square in its middle, or also those at both ends of its longer side."""


@dataclass(frozen=True, order=True)
class Segment:
    """The time `[start_s, end_s)`; an empty or reversed one raises `ValueError`."""

    start_s: float
    end_s: float

    def __post_init__(self) -> None:
        if not self.start_s < self.end_s:
            raise ValueError(f"a segment ends after it starts, got [{self.start_s}, {self.end_s})")

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    def overlap_s(self, other: Segment) -> float:
        """Seconds that both segments share; 0.0 where they only touch."""
        return max(0.0, min(self.end_s, other.end_s) - max(self.start_s, other.start_s))


@dataclass(frozen=True)
class WindowPlan:
    """How a video is cut into windows: `num_frames` frames at `sample_fps`, one window every `stride_s` seconds.

    All windows of a video share one time grid, t = k / sample_fps, so a stride is a whole number of grid steps. A
    picture that stands still counts for at most `max_still_s`: where nothing new is shown for longer, there are no
    windows.
    """

    num_frames: int
    sample_fps: float
    stride_s: float
    max_still_s: float

    def __post_init__(self) -> None:
        seconds = (self.sample_fps, self.stride_s, self.max_still_s)
        if self.num_frames < 1 or not all(0 < value < math.inf for value in seconds):
            raise ValueError(f"a window plan needs positive values, all finite, got {self}")
        steps = self.stride_s * self.sample_fps
        if abs(steps - round(steps)) > 1e-6 or round(steps) < 1:
            raise ValueError(
                f"stride_s must be a multiple of 1 / sample_fps = {1 / self.sample_fps:g} s, got {self.stride_s:g}"
            )

    @property
    def window_s(self) -> float:
        return self.num_frames / self.sample_fps

    @property
    def stride_frames(self) -> int:
        return round(self.stride_s * self.sample_fps)

    def num_windows(self, duration_s: float) -> int:
        """Number of windows that `cut_clips` makes of a video of this length without pauses; 0 for no length.

        With pauses there are fewer, and the numbers of those that are left out are missing.
        """
        num_frames = math.ceil(duration_s * self.sample_fps - 1e-6)  # at t = 0, 1 / sample_fps … before the end
        if num_frames <= 0:
            return 0
        if self.stride_frames > self.num_frames:
            return math.ceil(num_frames / self.stride_frames)
        return 1 + math.ceil(max(0, num_frames - self.num_frames) / self.stride_frames)


@dataclass(frozen=True)
class Frame:
    """The picture that is shown at `time_s`, a point of the time grid.

    The source frame is on screen during `[pts_s, shown_until_s)`. Before a pause and at the video's end
    `shown_until_s` is when the footage ends, even if more source frames come until then.
    """

    time_s: float
    pts_s: float
    shown_until_s: float
    image: Image


@dataclass(frozen=True)
class Clip:
    """One window's `frames` (T, H, W, 3) uint8 and their presentation times `pts_s` (T,).

    `window` is its number within the video, from 0, of which some may be missing. `segment` is the time that the video
    really has in it; the last `num_padded` frames repeat the last real one. A reader adds what it saw of the pictures:
    `numbers`, and `thumbnail` where it was asked for one. A clip that `repeats` the last one that does not, as nothing
    moved, takes that one's embedding and has no pixels: frames (T, 0, 0, 3).
    """

    window: int
    segment: Segment
    frames: npt.NDArray[np.uint8]
    pts_s: npt.NDArray[np.float64]
    num_padded: int
    numbers: PictureNumbers | None = None
    thumbnail: Thumbnail | None = None
    repeats: bool = False

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(f"frames are (T, H, W, 3) uint8, got {self.frames.shape} {self.frames.dtype}")
        if self.pts_s.shape != (len(self.frames),) or not 0 <= self.num_padded < len(self.frames):
            raise ValueError(
                f"{len(self.frames)} frames with {self.pts_s.shape} times and {self.num_padded} padded do not fit"
            )

    def __repr__(self) -> str:
        span = f"[{self.segment.start_s:g}, {self.segment.end_s:g})"
        return f"Clip(window {self.window}, {span}, {self.frames.shape}, padded {self.num_padded})"


def cut_clips(frames: Iterable[Frame], plan: WindowPlan, *, first_frame: int = 0) -> Iterator[Clip]:
    """Cut a video's grid frames into its windows, in order, with one window in memory.

    Window k begins k strides after the grid's frame `first_frame`, whatever is left out before it. Times that `frames`
    leaves out are pauses, and so are the windows that one of them lies in. The last partial window is kept, and so is a
    video shorter than a window: both are padded by repeating the last frame. No window starts after one that reaches
    the video's end. No frames give no clips.
    """
    step_s = 1 / plan.sample_fps
    window = 0
    held: deque[Frame] = deque()  # one after the other on the grid, from the start of `window` on
    next_step = 0
    has_new_frame = False  # since the last clip
    for frame in frames:
        step = round(frame.time_s * plan.sample_fps) - first_frame
        # Only this next frame shows that the video lasts to the full window's end.
        if len(held) == plan.num_frames:
            end_s = held[-1].time_s + step_s
            yield _clip(window, list(held), plan, end_s if step == next_step else _footage_end_s(held[-1], step_s))
            window += 1
            has_new_frame = False
            for _ in range(min(plan.stride_frames, plan.num_frames)):
                held.popleft()
        if step != next_step:
            held.clear()
        next_step = step + 1
        if not held:
            window = max(window, math.ceil(step / plan.stride_frames))
            has_new_frame = False
        if step >= window * plan.stride_frames:
            held.append(frame)
            has_new_frame = True
    if has_new_frame:
        yield _clip(window, list(held), plan, _footage_end_s(held[-1], step_s))


def _footage_end_s(last: Frame, step_s: float) -> float:
    return min(last.shown_until_s, last.time_s + step_s)


def _clip(window: int, held: list[Frame], plan: WindowPlan, end_s: float) -> Clip:
    num_padded = plan.num_frames - len(held)
    shown = held + [held[-1]] * num_padded
    return Clip(
        window=window,
        segment=Segment(held[0].time_s, max(end_s, held[-1].time_s + 1e-3)),
        frames=np.stack([frame.image for frame in shown]),
        pts_s=np.array([frame.pts_s for frame in shown]),
        num_padded=num_padded,
    )

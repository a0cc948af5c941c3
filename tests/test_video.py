"""The nouns of video: their checks, and how a grid of frames is cut into windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from features.video import Clip, Frame, Segment, WindowPlan, cut_clips


def grid(num_frames: int, sample_fps: float, last_shown_s: float | None = None) -> Iterator[Frame]:
    """Grid frames whose grey level is their number; the last one stays for `last_shown_s`, one step if not given."""
    step_s = 1 / sample_fps
    for k in range(num_frames):
        until_s = k * step_s + (last_shown_s if last_shown_s is not None and k == num_frames - 1 else step_s)
        yield Frame(k * step_s, k * step_s, until_s, np.full((2, 3, 3), k, dtype=np.uint8))


def levels(clip: Clip) -> list[int]:
    return [int(image[0, 0, 0]) for image in clip.frames]


def cut(num_frames: int, plan: WindowPlan, last_shown_s: float | None = None) -> list[Clip]:
    return list(cut_clips(grid(num_frames, plan.sample_fps, last_shown_s), plan))


def test_segment() -> None:
    """A segment has a length; what two share is measured, and touching is not sharing."""
    assert Segment(1.0, 3.5).duration_s == 2.5
    assert Segment(0.0, 2.0).overlap_s(Segment(1.5, 9.0)) == 0.5
    assert Segment(0.0, 9.0).overlap_s(Segment(2.0, 3.0)) == 1.0
    assert Segment(0.0, 2.0).overlap_s(Segment(2.0, 3.0)) == 0.0
    assert Segment(0.0, 1.0).overlap_s(Segment(2.0, 3.0)) == 0.0
    assert sorted([Segment(2.0, 3.0), Segment(0.0, 9.0)])[0] == Segment(0.0, 9.0)


@pytest.mark.parametrize(("start_s", "end_s"), [(2.0, 2.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("nan"))])
def test_segment_is_never_empty(start_s: float, end_s: float) -> None:
    """Empty, reversed and undefined stretches are refused."""
    with pytest.raises(ValueError, match="ends after it starts"):
        Segment(start_s, end_s)


def test_plan() -> None:
    """A plan knows its window's length and its stride in grid steps, also where the division is not exact."""
    plan = WindowPlan(num_frames=16, sample_fps=7.5, stride_s=0.8, max_still_s=1.0)
    assert plan.window_s == pytest.approx(32 / 15)
    assert plan.stride_frames == 6


@pytest.mark.parametrize(
    "plan",
    [WindowPlan(4, 4, 0.5, 1.0), WindowPlan(4, 4, 1.0, 1.0), WindowPlan(3, 4, 2.5, 1.0), WindowPlan(1, 5, 0.2, 1.0)],
)
def test_plan_counts_the_windows_that_are_cut(plan: WindowPlan) -> None:
    """A video's length tells how many windows it has, overlapping or with gaps between them."""
    for num_frames in range(40):
        wanted = len(cut(num_frames, plan))
        assert plan.num_windows(num_frames / plan.sample_fps) == wanted
        if num_frames:
            assert plan.num_windows((num_frames - 0.5) / plan.sample_fps) == wanted


@pytest.mark.parametrize(
    ("num_frames", "sample_fps", "stride_s", "max_still_s"),
    [
        (0, 4.0, 1.0, 1.0),
        (4, 0.0, 1.0, 1.0),
        (4, -4.0, 1.0, 1.0),
        (4, 4.0, 0.0, 1.0),
        (4, 4.0, 0.3, 1.0),
        (4, 4.0, 1e-8, 1.0),
        (4, 4.0, 1.0, 0.0),
        (4, 4.0, 1.0, float("inf")),
        (4, 4.0, 1.0, float("nan")),
    ],
)
def test_plan_lies_on_the_grid(num_frames: int, sample_fps: float, stride_s: float, max_still_s: float) -> None:
    """A plan without frames, with a stride that is no whole number of grid steps, or without a bound is refused."""
    with pytest.raises(ValueError, match=r"positive values|multiple of"):
        WindowPlan(num_frames, sample_fps, stride_s, max_still_s)


def test_windows_side_by_side() -> None:
    """With the stride equal to the window, every frame is in one window and the last window is padded."""
    clips = cut(10, WindowPlan(num_frames=4, sample_fps=2.0, stride_s=2.0, max_still_s=1.0))
    assert [levels(clip) for clip in clips] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 9, 9]]
    assert [clip.num_padded for clip in clips] == [0, 0, 2]
    assert [clip.segment for clip in clips] == [Segment(0.0, 2.0), Segment(2.0, 4.0), Segment(4.0, 5.0)]
    assert clips[2].pts_s.tolist() == [4.0, 4.5, 4.5, 4.5]


def test_windows_overlap() -> None:
    """With a shorter stride windows share frames, and none begins where the one before already reached the end."""
    plan = WindowPlan(num_frames=4, sample_fps=2.0, stride_s=1.0, max_still_s=1.0)
    assert [levels(clip) for clip in cut(6, plan)] == [[0, 1, 2, 3], [2, 3, 4, 5]]
    assert [levels(clip) for clip in cut(7, plan)] == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 6]]


def test_windows_apart() -> None:
    """With a longer stride frames between windows are passed over, also where the video ends among them."""
    plan = WindowPlan(num_frames=2, sample_fps=2.0, stride_s=2.0, max_still_s=1.0)
    assert [levels(clip) for clip in cut(4, plan)] == [[0, 1]]
    assert [levels(clip) for clip in cut(5, plan)] == [[0, 1], [4, 4]]
    assert [levels(clip) for clip in cut(6, plan)] == [[0, 1], [4, 5]]


def test_short_video() -> None:
    """A video shorter than a window is one padded window; one without frames is none."""
    plan = WindowPlan(num_frames=4, sample_fps=2.0, stride_s=2.0, max_still_s=1.0)
    (clip,) = cut(1, plan, last_shown_s=0.04)
    assert (levels(clip), clip.num_padded, clip.segment) == ([0, 0, 0, 0], 3, Segment(0.0, 0.04))
    assert cut(0, plan) == []


def test_segment_ends_with_the_video() -> None:
    """A segment is what the video really has: one that ends within the last grid step ends the window there too."""
    plan = WindowPlan(num_frames=4, sample_fps=2.0, stride_s=1.0, max_still_s=1.0)
    assert [clip.segment for clip in cut(4, plan, last_shown_s=0.1)] == [Segment(0.0, 1.6)]
    assert [clip.segment.end_s for clip in cut(6, plan, last_shown_s=0.1)] == [2.0, 2.6]
    assert [clip.segment.end_s for clip in cut(5, plan, last_shown_s=0.1)] == [2.0, 2.1]


def test_one_window_in_memory() -> None:
    """A window comes as soon as the frame behind it does: an endless video can be cut."""
    taken: list[int] = []

    def endless() -> Iterator[Frame]:
        for k, frame in enumerate(grid(10**9, 2.0)):
            taken.append(k)
            yield frame

    clips = cut_clips(endless(), WindowPlan(num_frames=4, sample_fps=2.0, stride_s=2.0, max_still_s=1.0))
    assert levels(next(clips)) == [0, 1, 2, 3]
    assert taken == [0, 1, 2, 3, 4]


def test_every_window_is_where_the_plan_says() -> None:
    """For any length, windows begin at multiples of the stride, hold what lies under them, and the last one ends it."""
    for num_frames in range(1, 30):
        for window, stride in [(1, 1), (4, 1), (4, 3), (4, 4), (4, 6), (3, 7)]:
            plan = WindowPlan(num_frames=window, sample_fps=4.0, stride_s=stride / 4.0, max_still_s=1.0)
            clips = cut(num_frames, plan)
            assert [clip.window for clip in clips] == list(range(len(clips)))
            assert [clip.segment.start_s for clip in clips] == [k * stride / 4.0 for k in range(len(clips))]
            for k, clip in enumerate(clips):
                real = list(range(k * stride, min(k * stride + window, num_frames)))
                assert levels(clip) == real + real[-1:] * (window - len(real))
                assert clip.segment.duration_s == len(real) / 4.0
                assert (clip.segment.end_s == num_frames / 4.0) <= (k == len(clips) - 1)
            assert num_frames <= (len(clips) - 1) * stride + max(window, stride)


def test_clip_checks_itself() -> None:
    """Frames that are no uint8 pictures, and times or padding that do not fit them, are refused."""
    frames, pts_s = np.zeros((4, 2, 3, 3), dtype=np.uint8), np.arange(4.0)
    assert repr(Clip(2, Segment(0, 1), frames, pts_s, 1)) == "Clip(window 2, [0, 1), (4, 2, 3, 3), padded 1)"
    with pytest.raises(ValueError, match="uint8"):
        Clip(0, Segment(0, 1), frames.astype(np.float32), pts_s, 0)
    with pytest.raises(ValueError, match="uint8"):
        Clip(0, Segment(0, 1), frames[0], pts_s, 0)
    with pytest.raises(ValueError, match="do not fit"):
        Clip(0, Segment(0, 1), frames, pts_s[:3], 0)
    with pytest.raises(ValueError, match="do not fit"):
        Clip(0, Segment(0, 1), frames, pts_s, 4)

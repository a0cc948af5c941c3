"""Pauses: where nothing new is shown for longer than a plan allows, there is no footage and there are no windows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.clips import ClipReader, Source, read_videos
from features.decode.container import UnreadableVideo
from features.decode.damage import VideoEnd
from features.decode.grid import Decoder, frames_on_grid, frames_shown_at
from features.preprocess import Preprocessing
from features.video import Clip, Frame, WindowPlan, cut_clips
from reports.events import observed
from tests.videos import VP9, evenly, number_of, numbers, write_video

DECODERS: tuple[Decoder, ...] = ("pyav", "auto")
PLAN = WindowPlan(num_frames=4, sample_fps=4.0, stride_s=0.5, max_still_s=1.0)
PREPROCESSING = Preprocessing(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def clips_of(path: Path, *, plan: WindowPlan = PLAN, decoder: Decoder = "pyav", first_frame: int = 0) -> list[Clip]:
    return list(ClipReader(plan, PREPROCESSING, decoder).clips(Source("v", path, first_frame=first_frame)))


def spans(clips: Sequence[Clip]) -> list[tuple[int, float, float]]:
    return [(clip.window, clip.segment.start_s, clip.segment.end_s) for clip in clips]


@pytest.mark.parametrize(("name", "settings"), [("a.mp4", {}), ("a.mkv", {}), ("a.webm", VP9), ("a.ts", {})])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_gap_is_not_footage(decoder: Decoder, name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """No window lies in a gap of a minute or touches it; those around it keep their numbers, times and pictures."""
    times_s = evenly(24, 12) + evenly(24, 12, start_s=62.0)
    clips = clips_of(write_video(tmp_path / name, times_s, **settings), decoder=decoder)

    # The frame before the gap is shown from 1.917 s on, and counts until 2.917 s.
    assert [clip.window for clip in clips] == [0, 1, 2, 3, 4, 124, 125, 126]
    assert [clip.segment.start_s for clip in clips] == [0.0, 0.5, 1.0, 1.5, 2.0, 62.0, 62.5, 63.0]
    ends_s = [1.0, 1.5, 2.0, 2.5, 2.917, 63.0, 63.5, 64.0]
    assert [clip.segment.end_s for clip in clips] == pytest.approx(ends_s, abs=0.002)
    assert all(clip.num_padded == 0 for clip in clips)
    assert clips[5].pts_s.tolist() == pytest.approx([62.0, 62.25, 62.5, 62.75], abs=0.002)
    seen = observed([clip.segment for clip in clips])
    assert [(round(each.start_s, 2), round(each.end_s, 2)) for each in seen] == [(0.0, 2.92), (62.0, 64.0)]


@pytest.mark.parametrize("decoder", DECODERS)
def test_hours_of_pauses_cost_nothing(decoder: Decoder, tmp_path: Path) -> None:
    """A small file with pauses of hours gives its few frames and windows at once, and loses none."""
    times_s = [time_s for hour in range(40) for time_s in evenly(3, 12, start_s=7200.0 * hour)]
    path = write_video(tmp_path / "a.mkv", times_s, options={"g": "12", "bf": "0"})
    assert path.stat().st_size < 100_000
    frames = list(frames_on_grid(path, sample_fps=24.0, decoder=decoder))
    assert len(frames) < 40 * 30
    assert sorted(set(numbers(frames))) == list(range(120))

    assert len(clips_of(path, decoder=decoder)) == 40
    assert [number_of(image) for image in frames_shown_at(path, [3.0, 7200.0, 280_800.1])] == [2, 3, 118]


def test_longer_pauses_than_a_limit_on_stamps(tmp_path: Path) -> None:
    """A clock that jumps by years is another clock: its frames follow at once, and none is lost."""
    path = write_video(tmp_path / "a.mkv", evenly(12, 12) + evenly(12, 12, start_s=1.7e9))
    frames = frames_on_grid(path, sample_fps=12.0, decoder="pyav")
    assert numbers(list(frames)) == list(range(24))
    assert frames.end is not None
    assert frames.end.end_s == pytest.approx(2.0, abs=0.01)
    assert (frames.end.num_restarts, frames.end.pauses) == (1, ())


def test_a_picture_that_stands_still(tmp_path: Path) -> None:
    """A screen recording whose last frame lasts for a minute: a second of it counts, and the end is where it ends."""
    times_s = [*evenly(12, 12), 61.0]
    reader = ClipReader(PLAN, PREPROCESSING, "pyav")
    clips = reader.clips(Source("v", write_video(tmp_path / "a.mp4", times_s)))
    taken = list(clips)
    # One picture from 0.917 s on, and a last one at 61 s.
    assert spans(taken)[:2] == [(0, 0.0, 1.0), (1, 0.5, 1.5)]
    assert [clip.window for clip in taken] == [0, 1, 2, 122]
    assert clips.end is not None
    assert [(pause.start_s, pause.end_s) for pause in clips.end.pauses] == [pytest.approx((11 / 12, 61.0))]


@pytest.mark.parametrize(("max_still_s", "windows"), [(0.5, [0, 1, 6]), (1.0, [0, 1, 2, 6]), (60.0, [*range(7)])])
def test_how_long_a_picture_counts(max_still_s: float, windows: list[int], tmp_path: Path) -> None:
    """`max_still_s` says how much of a still picture is footage."""
    path = write_video(tmp_path / "a.mp4", evenly(8, 8) + evenly(8, 8, start_s=3.0))
    plan = WindowPlan(num_frames=4, sample_fps=4.0, stride_s=0.5, max_still_s=max_still_s)
    assert [clip.window for clip in clips_of(path, plan=plan)] == windows


def test_a_slow_camera_has_no_pauses(tmp_path: Path) -> None:
    """One frame a second, stamped to the millisecond, is footage throughout."""
    path = write_video(tmp_path / "a.webm", [k * 1.0004 for k in range(12)], rate=1, **VP9)
    plan = WindowPlan(num_frames=8, sample_fps=4.0, stride_s=0.75, max_still_s=1.0)
    clips = clips_of(path, plan=plan)
    assert [clip.window for clip in clips] == list(range(len(clips)))
    assert clips[-1].segment.end_s == pytest.approx(12.0, abs=0.02)


def test_no_window_without_a_pause(tmp_path: Path) -> None:
    """A video that has no window is unreadable, in a sentence with its length; it is not an empty success."""
    path = write_video(tmp_path / "a.mkv", [0.0, 5.0, 10.0], rate=10)
    plan = WindowPlan(num_frames=8, sample_fps=4.0, stride_s=6.0, max_still_s=1.0)
    with pytest.raises(
        UnreadableVideo, match=r"no window of 2 s without a pause \(found: 10\.10 s with pauses of more"
    ):
        clips_of(path, plan=plan)


def test_later_starts(tmp_path: Path) -> None:
    """A pass that begins a few frames late has its windows where it says, behind a pause as well."""
    path = write_video(tmp_path / "a.mkv", evenly(24, 12) + evenly(24, 12, start_s=62.0))
    assert [clip.window for clip in clips_of(path, first_frame=1)] == [0, 1, 2, 3, 124, 125, 126]
    starts_s = [0.25, 0.75, 1.25, 1.75, 62.25, 62.75, 63.25]
    assert [clip.segment.start_s for clip in clips_of(path, first_frame=1)] == starts_s
    assert clips_of(path, first_frame=1)[-1].num_padded == 1


def test_named_windows_that_lie_in_a_pause(tmp_path: Path) -> None:
    """Of windows that a source names, those in a pause do not come, and reading stops behind the last of them."""
    path = write_video(tmp_path / "a.mkv", evenly(24, 12) + evenly(24, 12, start_s=62.0))
    reader = ClipReader(PLAN, PREPROCESSING, "pyav")
    assert [clip.window for clip in reader.clips(Source("v", path, frozenset({1, 5, 60})))] == [1]
    assert [clip.window for clip in reader.clips(Source("v", path, frozenset({1, 60, 125})))] == [1, 125]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_end_comes_with_the_last_clip(num_workers: int, tmp_path: Path) -> None:
    """When all clips are taken, from a worker process too, `end` has what decoding knows; before that it is None."""
    path = write_video(tmp_path / "a.mkv", evenly(24, 12) + evenly(24, 12, start_s=62.0))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reader = ClipReader(PLAN, PREPROCESSING, "pyav")
    sources = [Source("v", path), Source("cut", cut), Source("part", path, frozenset({0}))]
    ends: dict[str, VideoEnd | None] = {}
    for source, clips in read_videos(sources, reader, num_workers=num_workers):
        assert next(clips).window == 0
        assert clips.end is None
        assert all(clip.window for clip in clips)
        ends[source.video_id] = clips.end
    whole, half = ends["v"], ends["cut"]
    assert whole is not None
    assert whole.end_s == pytest.approx(64.0, abs=0.002)
    assert whole.stated_s == pytest.approx(64.0, abs=0.1)
    assert [(pause.start_s, pause.end_s) for pause in whole.pauses] == [pytest.approx((23 / 12, 62.0), abs=0.001)]
    assert (whole.faults, whole.num_damaged) == ((), 0)
    assert whole.facts == ("nothing new is shown for more than 1 s in 1 place, the longest from 1.92 s to 62.00 s",)
    assert half is not None
    assert "shorter than stated; it ends at" in half.faults[0]
    assert ends["part"] is None


def test_windows_lie_on_the_grid_whatever_is_left_out() -> None:
    """For any pauses, the windows are those whose frames are all there, and the last may be padded."""
    generator = np.random.default_rng(0)
    for _ in range(400):
        length, stride, first = (int(generator.integers(low, 6)) for low in (1, 1, 0))
        there = np.flatnonzero(generator.random(40) < generator.choice([0.5, 0.9, 1.0])).tolist()
        plan = WindowPlan(num_frames=length, sample_fps=4.0, stride_s=stride / 4.0, max_still_s=1.0)
        frames = [Frame(k / 4, k / 4, (k + 1) / 4, np.full((2, 2, 3), k, np.uint8)) for k in there]
        clips = list(cut_clips(iter(frames), plan, first_frame=first))
        end = there[-1] + 1 if there else 0
        wanted: list[int] = []
        for window in range(40):
            start = first + window * stride
            own = range(start, min(start + length, end))
            reaches_the_end = any(first + made * stride + length >= end for made in wanted)
            if own and all(k in there for k in own) and not reaches_the_end:
                wanted.append(window)
        assert [clip.window for clip in clips] == wanted, (length, stride, first, there)
        assert sum(clip.num_padded > 0 for clip in clips) <= 1
        assert len(clips) <= plan.num_windows(end / 4)

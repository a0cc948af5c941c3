"""The choice of windows if there is no room for all."""

from __future__ import annotations

from features.video import WindowPlan
from pipeline.dataset.manifest import Manifest, VideoEntry
from pipeline.dataset.windows import block_input_windows, spread_windows


def test_windows_are_spread_over_videos_and_times() -> None:
    """Evenly over all windows, videos sorted by id, the first and the last among them; numbers are each video's own."""
    num_windows = {"c": 10, "a": 10, "b": 1}
    assert spread_windows(num_windows, 5) == {"a": {0, 5}, "b": {0}, "c": {4, 9}}
    assert spread_windows(num_windows, 1) == {"a": {0}}
    assert spread_windows(num_windows, 99) == {"a": set(range(10)), "b": {0}, "c": set(range(10))}
    assert spread_windows({"a": 0, "b": 2, "c": 0}, 2) == {"b": {0, 1}}
    assert spread_windows({}, 5) == spread_windows({"a": 3}, 0) == {}
    many = {f"{k:04d}": 1 + k % 30 for k in range(500)}
    windows = spread_windows(many, 300)
    assert sum(map(len, windows.values())) == 300
    assert all(max(numbers) < many[video_id] for video_id, numbers in windows.items())


def entry(video_id: str, split: str, length_s: float) -> VideoEntry:
    return VideoEntry(video_id, f"{video_id}.mp4", f"somebody in {split}", "scene", split, length_s, ())


def test_block_inputs_are_kept_of_what_is_needed_first() -> None:
    """First val windows that stage 2 is evaluated on, then train's, evenly, then the rest of val and test."""
    videos = Manifest(
        (entry("t1", "train", 10), entry("t2", "train", 10), entry("v", "val", 10), entry("x", "test", 5))
    )
    plan = WindowPlan(num_frames=4, sample_fps=4, stride_s=1.0, max_still_s=1.0)  # ten windows in 10 s

    def kept(num_clips: int) -> dict[str, int]:
        windows = block_input_windows(videos, plan, num_clips=num_clips, evaluate_windows=3)
        return {video_id: len(numbers) for video_id, numbers in sorted(windows.items())}

    assert kept(0) == {}
    assert kept(2) == {"v": 2}
    assert kept(11) == {"t1": 4, "t2": 4, "v": 3}
    assert kept(23) == {"t1": 10, "t2": 10, "v": 3}
    assert kept(1000) == {"t1": 10, "t2": 10, "v": 10, "x": 5}
    for num_clips in range(40):
        assert sum(kept(num_clips).values()) <= num_clips
    assert block_input_windows(videos, plan, num_clips=11, evaluate_windows=3)["v"] == {0, 4, 9}

import numpy as np
import pytest

from features.store.embeddings import Embeddings
from features.video import Segment
from heads.targets import video_targets, window_targets
from pipeline.dataset.manifest import Interval, Manifest, VideoEntry
from pipeline.dataset.truth import SplitTruth, split_truth

LABELS = ["c015", "c059", "c097"]


def carried(window: Segment, action: Segment, min_overlap_s: float) -> bool:
    return bool(window_targets([window], [("c015", action)], ["c015"], min_overlap_s=min_overlap_s)[0, 0])


def test_a_window_carries_what_overlaps_it_long_enough() -> None:
    """Rows are windows, columns are labels in their order, and an action not asked for is ignored."""
    windows = [Segment(0, 4), Segment(2, 6), Segment(4, 8)]
    actions = [("c059", Segment(0, 3.5)), ("c097", Segment(5, 9)), ("c100", Segment(0, 8))]
    targets = window_targets(windows, actions, LABELS, min_overlap_s=1.0)
    assert targets.tolist() == [[False, True, False], [False, True, True], [False, False, True]]


def test_exactly_the_minimum_is_enough() -> None:
    """An overlap of min_overlap_s counts, even where decimals make it fall short by rounding."""
    assert carried(Segment(0, 4), Segment(3, 9), 1.0)
    assert not carried(Segment(0, 4), Segment(3.01, 9), 1.0)
    assert 1.4 - 0.4 < 1.0
    assert carried(Segment(0, 1.4), Segment(0.4, 9), 1.0)


def test_half_of_a_short_action_is_enough() -> None:
    """An action shorter than twice the minimum counts where half of it is seen."""
    assert carried(Segment(0, 4), Segment(3.8, 4.2), 1.0)
    assert not carried(Segment(0, 4), Segment(3.9, 4.3), 1.0)


def test_windows_that_only_touch_carry_nothing() -> None:
    """Intervals are half open, also when no overlap at all is asked for."""
    assert not carried(Segment(0, 4), Segment(4, 8), 0.0)
    assert carried(Segment(0, 4), Segment(3.999, 8), 0.0)


def test_the_same_action_twice_is_judged_interval_by_interval() -> None:
    """Intervals of one label are judged one by one: they neither cancel nor add up."""
    twice = [("c015", Segment(0, 0.6)), ("c015", Segment(3.4, 20))]
    assert window_targets([Segment(0.4, 4)], twice, ["c015"], min_overlap_s=0.8).tolist() == [[False]]
    assert window_targets([Segment(0, 4)], twice, ["c015"], min_overlap_s=0.8).tolist() == [[True]]


def test_nothing_in_nothing_out() -> None:
    """No windows and no actions keep their shapes."""
    assert window_targets([], [("c015", Segment(0, 1))], LABELS, min_overlap_s=1.0).shape == (0, 3)
    assert not window_targets([Segment(0, 4)], [], LABELS, min_overlap_s=1.0).any()


def test_a_video_carries_classes_without_a_time() -> None:
    """A video's labels are those present anywhere, whatever their intervals."""
    assert video_targets({"c097", "c100"}, LABELS).tolist() == [False, False, True]


def stored_split() -> SplitTruth:
    """Train of three videos, of which `b` failed to embed; `a` has three windows of 2 s, `c` two, one second apart."""
    keys = [("a", 0.0), ("a", 1.0), ("a", 2.0), ("c", 0.0), ("c", 1.0), ("d", 0.0)]
    start_s = np.array([start for _, start in keys])
    window = start_s.astype(np.int32)
    rows = Embeddings(
        video_ids=np.array([video_id for video_id, _ in keys]),
        window=window,
        start_s=start_s,
        end_s=start_s + 2,
        num_padded=np.zeros(len(keys), dtype=np.int32),
        vectors={"mean": np.zeros((len(keys), 4), dtype=np.float16)},
    )
    videos = [
        VideoEntry(video_id, f"{video_id}.mp4", f"s{video_id}", "Kitchen", split, 4.0, (Interval("c059", 2.5, 4.0),))
        for video_id, split in (("c", "train"), ("a", "train"), ("b", "train"), ("d", "val"))
    ]
    return split_truth(rows, Manifest(tuple(videos)), "train", LABELS, min_overlap_s=1.0)


def test_a_window_is_found_by_its_number_and_a_stretch_by_its_times() -> None:
    """A stored window's targets are those of its segment; one between two windows has its own; others raise."""
    split = stored_split()
    assert split.video_ids == ("a", "c")
    assert split.windows_of == {"a": (0, 1, 2), "c": (0, 1)}
    assert [split.target_at("a", k).tolist()[1] for k in range(3)] == [False, False, True]
    assert split.target_at("c", 1).tolist() == split.windows[4].tolist()
    for k in range(3):
        assert split.target_of("a", Segment(k, k + 2)).tolist() == split.target_at("a", k).tolist()
    assert not split.target_of("a", Segment(1.2, 3.2))[1]
    assert split.target_of("a", Segment(1.3, 3.3))[1]
    for video_id, window in (("a", 3), ("a", -1), ("b", 0), ("d", 0)):
        with pytest.raises(KeyError):
            split.target_at(video_id, window)


def test_a_split_is_spread_over_the_windows_that_there_are() -> None:
    """Only this split's videos and only windows in `among` are taken."""
    split = stored_split()
    assert split.spread(9, among={"a": [0, 2], "d": [0]}) == {"a": {0, 2}}
    assert split.spread(2, among={"a": range(3), "c": range(2)}) == {"a": {0}, "c": {1}}

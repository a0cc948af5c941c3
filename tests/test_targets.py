from features.video import Segment
from heads.targets import video_targets, window_targets

LABELS = ["c015", "c059", "c097"]


def carried(window: Segment, action: Segment, min_overlap_s: float) -> bool:
    return bool(window_targets([window], [("c015", action)], ["c015"], min_overlap_s=min_overlap_s)[0, 0])


def test_a_window_carries_what_overlaps_it_long_enough():
    """Rows are windows, columns are labels in their order, and an action not asked for is ignored."""
    windows = [Segment(0, 4), Segment(2, 6), Segment(4, 8)]
    actions = [("c059", Segment(0, 3.5)), ("c097", Segment(5, 9)), ("c100", Segment(0, 8))]
    targets = window_targets(windows, actions, LABELS, min_overlap_s=1.0)
    assert targets.tolist() == [[False, True, False], [False, True, True], [False, False, True]]


def test_exactly_the_minimum_is_enough():
    """An overlap of min_overlap_s counts, even where decimals make it fall short by rounding."""
    assert carried(Segment(0, 4), Segment(3, 9), 1.0)
    assert not carried(Segment(0, 4), Segment(3.01, 9), 1.0)
    assert 1.4 - 0.4 < 1.0
    assert carried(Segment(0, 1.4), Segment(0.4, 9), 1.0)


def test_half_of_a_short_action_is_enough():
    """An action shorter than twice the minimum counts where half of it is seen."""
    assert carried(Segment(0, 4), Segment(3.8, 4.2), 1.0)
    assert not carried(Segment(0, 4), Segment(3.9, 4.3), 1.0)


def test_windows_that_only_touch_carry_nothing():
    """Intervals are half open, also when no overlap at all is asked for."""
    assert not carried(Segment(0, 4), Segment(4, 8), 0.0)
    assert carried(Segment(0, 4), Segment(3.999, 8), 0.0)


def test_the_same_action_twice_is_judged_interval_by_interval():
    """Two intervals of one label neither cancel nor add up."""
    twice = [("c015", Segment(0, 0.6)), ("c015", Segment(3.4, 20))]
    assert window_targets([Segment(0.4, 4)], twice, ["c015"], min_overlap_s=0.8).tolist() == [[False]]
    assert window_targets([Segment(0, 4)], twice, ["c015"], min_overlap_s=0.8).tolist() == [[True]]


def test_nothing_in_nothing_out():
    """No windows and no actions keep their shapes."""
    assert window_targets([], [("c015", Segment(0, 1))], LABELS, min_overlap_s=1.0).shape == (0, 3)
    assert not window_targets([Segment(0, 4)], [], LABELS, min_overlap_s=1.0).any()


def test_a_video_carries_classes_without_a_time():
    """A video's labels are those present anywhere, whatever their intervals."""
    assert video_targets({"c097", "c100"}, LABELS).tolist() == [False, False, True]

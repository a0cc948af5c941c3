from __future__ import annotations

import numpy as np
import pytest

from features.video import Segment, WindowPlan
from reports.events import Event, EventRule, EventsFound, find_events, observed

PLAIN = EventRule(onset=0.5, offset=0.5, min_duration_s=0.0, merge_gap_s=0.0)
STRIDE_S = 2.0


def overlapping(count: int, start_s: float = 0.0) -> list[Segment]:
    """Windows of 4 s, one every 2 s: cells are [0, 3), [3, 5), [5, 7), … and the last one reaches to the end."""
    return [Segment(start_s + STRIDE_S * i, start_s + STRIDE_S * i + 4) for i in range(count)]


def find(windows: list[Segment], column: list[float], rule: EventRule) -> EventsFound:
    return find_events("kitchen", windows, np.array([column]).T, ["c015"], {"c015": rule}, stride_s=STRIDE_S)


def segments(windows: list[Segment], column: list[float], rule: EventRule) -> list[tuple[float, float]]:
    return [(event.segment.start_s, event.segment.end_s) for event in find(windows, column, rule).events]


def test_a_window_speaks_for_the_stride_around_its_centre() -> None:
    """A probability above the threshold in one window becomes an event of one stride, around that window's centre."""
    assert segments(overlapping(5), [0, 0, 0.9, 0, 0], PLAIN) == [(5, 7)]


def test_cells_tile_the_observed_time() -> None:
    """The first and last cells reach to the windows' ends: if all are high, one event lasts from start to end."""
    assert segments(overlapping(5), [0.9] * 5, PLAIN) == [(0, 12)]
    assert segments(overlapping(5), [0.9, 0, 0, 0, 0.9], PLAIN) == [(0, 3), (9, 12)]
    alternating = segments(overlapping(6), [0.9, 0, 0.9, 0, 0.9, 0], PLAIN)
    rest = segments(overlapping(6), [0, 0.9, 0, 0.9, 0, 0.9], PLAIN)
    assert sum(end - start for start, end in alternating + rest) == 14


def test_a_last_shorter_window_keeps_the_end_to_itself() -> None:
    """A window cut off by the end of the video does not move the cells before it."""
    assert segments([Segment(0, 4), Segment(2, 6), Segment(4, 6.5)], [0, 0.9, 0], PLAIN) == [(3, 5)]
    assert segments([Segment(0, 4), Segment(4, 5)], [0, 0.9], PLAIN) == [(4, 5)]


def test_no_windows_and_one_window() -> None:
    """No windows give no events; one window gives an event of its own length."""
    assert find([], [], PLAIN).events == ()
    assert segments([Segment(1, 2.5)], [0.5], PLAIN) == [(1, 2.5)]


def test_an_event_starts_at_onset_and_reaches_both_ways_to_offset() -> None:
    """A stretch at or above offset is one event if it reaches onset once, else none."""
    rule = EventRule(onset=0.8, offset=0.4, min_duration_s=0.0, merge_gap_s=0.0)
    assert segments(overlapping(6), [0, 0.4, 0.8, 0.5, 0.39, 0.6], rule) == [(3, 9)]


def test_a_gap_is_bridged_only_if_shorter_than_asked() -> None:
    """One low window of 2 s between two high ones is bridged at 2.1 s and not at 2 s."""
    column = [0, 0.9, 0, 0.9, 0]
    assert segments(overlapping(5), column, EventRule(0.5, 0.5, 0.0, 2.1)) == [(3, 9)]
    assert segments(overlapping(5), column, EventRule(0.5, 0.5, 0.0, 2.0)) == [(3, 5), (7, 9)]


def test_short_ones_are_dropped_after_bridging_and_counted() -> None:
    """Two short detections that are bridged survive; a single one is dropped and counted."""
    rule = EventRule(0.5, 0.5, min_duration_s=4.0, merge_gap_s=2.5)
    result = find(overlapping(10), [0, 0.9, 0, 0.9, 0, 0, 0, 0.9, 0, 0], rule)
    assert [(event.segment.start_s, event.segment.end_s) for event in result.events] == [(3, 9)]
    assert result.suppressed == {"c015": 1}
    assert result.num_suppressed == 1


def test_an_event_never_crosses_a_stretch_without_video() -> None:
    """A gap between windows ends an event, however large `merge_gap_s` is."""
    windows = overlapping(3) + overlapping(3, start_s=8.5)
    assert segments(windows, [0.9] * 6, EventRule(0.5, 0.5, 0.0, 60.0)) == [(0, 8), (8.5, 16.5)]
    assert segments(windows, [0.9, 0, 0, 0, 0, 0.9], EventRule(0.5, 0.5, 0.0, 60.0)) == [(0, 3), (13.5, 16.5)]


def test_windows_that_only_touch_are_one_stretch() -> None:
    """Back-to-back windows on a grid of 0.1 s, whose sums are not exact, still make one event."""
    windows = [Segment(0.1 * i, 0.1 * i + 0.1) for i in range(20)]
    result = find_events("a", windows, np.full((20, 1), 0.9), ["c015"], {"c015": PLAIN}, stride_s=0.1)
    assert [event.segment for event in result.events] == [Segment(0.0, windows[-1].end_s)]


def test_peak_and_mean_are_those_of_the_events_time() -> None:
    """The mean is weighted by time: the first cell is 3 s long, the second 2 s."""
    (event,) = find(overlapping(4), [0.6, 0.9, 0, 0], PLAIN).events
    assert event.peak_probability == 0.9
    assert event.mean_probability == pytest.approx((3 * 0.6 + 2 * 0.9) / 5)


def test_ids_follow_start_and_label_whatever_the_order_of_rows() -> None:
    """Ids are numbered by (start, label); shuffling windows or labels changes nothing."""
    windows = overlapping(5)
    probabilities = np.array([[0, 0.9], [0, 0.9], [0.9, 0.9], [0, 0], [0.9, 0.9]])
    rules = {"c059": PLAIN, "c015": PLAIN}
    result = find_events("kitchen", windows, probabilities, ["c059", "c015"], rules, stride_s=STRIDE_S)
    assert [(event.id, event.label) for event in result.events] == [
        ("kitchen-001", "c015"),
        ("kitchen-002", "c059"),
        ("kitchen-003", "c015"),
        ("kitchen-004", "c059"),
    ]
    shuffled = find_events(
        "kitchen", windows[::-1], probabilities[::-1, ::-1], ["c015", "c059"], rules, stride_s=STRIDE_S
    )
    assert shuffled.events == result.events


def test_observed_merges_what_overlaps_or_touches() -> None:
    """Stretches come back in order, merged, whatever the order of the windows."""
    assert observed([]) == []
    assert observed([Segment(9, 13), Segment(2, 6), Segment(0, 4), Segment(6, 7)]) == [Segment(0, 7), Segment(9, 13)]


def test_the_windows_of_a_plan_cover_what_they_cover() -> None:
    """A plan whose stride is longer than its windows leaves stretches unobserved, and no event claims them."""
    plan = WindowPlan(num_frames=4, sample_fps=4.0, stride_s=3.0, max_still_s=1.0)
    windows = [Segment(plan.stride_s * i, plan.stride_s * i + plan.window_s) for i in range(3)]
    result = find_events("a", windows, np.full((3, 1), 1.0), ["c015"], {"c015": PLAIN}, stride_s=plan.stride_s)
    assert [event.segment for event in result.events] == windows


@pytest.mark.parametrize(
    ("onset", "offset", "min_duration_s", "merge_gap_s"),
    [(0.3, 0.4, 0, 0), (1.2, 0.4, 0, 0), (0.5, 0.0, 0, 0), (0.5, 0.4, -1, 0), (0.5, 0.4, 0, float("nan"))],
)
def test_a_rule_checks_itself(onset: float, offset: float, min_duration_s: float, merge_gap_s: float) -> None:
    """A rule whose offset is above its onset, or whose times are not durations, cannot be made."""
    with pytest.raises(ValueError, match="need"):
        EventRule(onset, offset, min_duration_s, merge_gap_s)


def test_what_does_not_fit_raises_and_names_the_recording() -> None:
    """Wrong shapes, nan, a label without a rule and doubled windows are errors, not events."""
    one = [Segment(0, 4)]
    with pytest.raises(ValueError, match=r"kitchen: 1 windows and 1 labels do not fit \(2, 1\)"):
        find_events("kitchen", one, np.zeros((2, 1)), ["c015"], {"c015": PLAIN}, stride_s=2.0)
    with pytest.raises(ValueError, match="kitchen: probabilities must be"):
        find_events("kitchen", one, np.array([[np.nan]]), ["c015"], {"c015": PLAIN}, stride_s=2.0)
    with pytest.raises(ValueError, match="no event rule for c059"):
        find_events("kitchen", one, np.zeros((1, 2)), ["c015", "c059"], {"c015": PLAIN}, stride_s=2.0)
    with pytest.raises(ValueError, match="inside another"):
        find_events("kitchen", one * 2, np.zeros((2, 1)), ["c015"], {"c015": PLAIN}, stride_s=2.0)
    with pytest.raises(ValueError, match="do not fit"):
        Event("a-001", "c015", Segment(0, 1), peak_probability=0.4, mean_probability=0.5)

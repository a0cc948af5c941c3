"""From probabilities to events: `EventRule`, `Event`, `find_events`. Knows windows and labels; no clock, no name.

Windows overlap, and events must not count a second twice. So each window speaks for one cell: the stride around its
centre, where it saw as much of what came before as of what came after (`heads.targets.window_cells`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from features.video import Segment
from heads.targets import window_cells

_TOLERANCE_S = 1e-6
"""Times that differ by less are the same time: they are sums of strides in binary floating point."""


@dataclass(frozen=True)
class EventRule:
    """When a label's probabilities make an event.

    It starts where the probability reaches `onset`, and extends both ways for as long as it stays at `offset` or above.
    Gaps shorter than `merge_gap_s` are bridged first, then what is shorter than `min_duration_s` is dropped; 0.0
    switches either off. So is an event whose mean probability is below `min_mean`.
    """

    onset: float
    offset: float
    min_duration_s: float
    merge_gap_s: float
    min_mean: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.offset <= self.onset <= 1:
            raise ValueError(f"thresholds need 0 < offset <= onset <= 1, got offset {self.offset}, onset {self.onset}")
        if not (self.min_duration_s >= 0 and self.merge_gap_s >= 0):
            raise ValueError(f"durations need 0 or more seconds, got {self}")
        if not 0 <= self.min_mean <= 1:
            raise ValueError(f"a mean probability lies between 0 and 1, got {self.min_mean}")

    def keeps(self, duration_s: float, peak: float, mean: float) -> bool:
        """Whether a stretch above `offset` that lasts so long, with such probabilities, is an event."""
        return duration_s >= self.min_duration_s - _TOLERANCE_S and peak >= self.onset and mean >= self.min_mean


@dataclass(frozen=True)
class Event:
    """One label over one stretch of a recording.

    `peak_probability` is the highest of its windows, `mean_probability` their mean weighted by time, bridged gaps
    included. A person said of a `confirmed` one that it is right, or added it.
    """

    id: str
    label: str
    segment: Segment
    peak_probability: float
    mean_probability: float
    confirmed: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.mean_probability <= self.peak_probability <= 1:
            raise ValueError(f"{self.id}: mean {self.mean_probability} and peak {self.peak_probability} do not fit")


@dataclass(frozen=True)
class EventsFound:
    """The events of one recording, ordered by (start, label), and what was left out.

    `suppressed` has a count for each label: detections dropped as shorter than its `min_duration_s`. `less_certain` are
    events, ordered likewise, that only less careful rules find: a diary counts them and does not tell them.
    """

    events: tuple[Event, ...]
    suppressed: Mapping[str, int]
    less_certain: tuple[Event, ...] = ()

    @property
    def num_suppressed(self) -> int:
        return sum(self.suppressed.values())


def numbered(recording_id: str, events: Iterable[Event]) -> tuple[Event, ...]:
    """The events in order of (start, label), with the ids "<recording_id>-001" and so on."""
    ordered = sorted(events, key=lambda event: (event.segment.start_s, event.label))
    return tuple(replace(event, id=f"{recording_id}-{number:03d}") for number, event in enumerate(ordered, start=1))


def observed(windows: Sequence[Segment]) -> list[Segment]:
    """The stretches that windows cover, in order: windows that overlap or touch become one.

    >>> observed([Segment(0, 4), Segment(2, 6), Segment(9, 13)])
    [Segment(start_s=0, end_s=6), Segment(start_s=9, end_s=13)]

    No windows, no stretches.
    """
    stretches: list[Segment] = []
    for window in sorted(windows):
        if stretches and window.start_s <= stretches[-1].end_s + _TOLERANCE_S:
            stretches[-1] = Segment(stretches[-1].start_s, max(stretches[-1].end_s, window.end_s))
        else:
            stretches.append(window)
    return stretches


def find_events(
    recording_id: str,
    windows: Sequence[Segment],
    probabilities: npt.NDArray[np.floating],
    labels: Sequence[str],
    rules: Mapping[str, EventRule],
    *,
    stride_s: float,
) -> EventsFound:
    """Turn the windows' `probabilities` (n_windows, n_labels) into events, each label by its own rule.

    Windows may come in any order, none inside another; `stride_s` is what their plan says. The first cell of an
    observed stretch reaches back to its first window's start, the last one on to its last window's end. An event never
    crosses a stretch that no window covers. Event ids are "<recording_id>-001" and so on, in order of (start, label).

    No windows, no events. One window is one cell: an event, if there is one, has the window's length. A label without a
    rule raises, as do probabilities that are not numbers from 0 to 1.
    """
    if probabilities.shape != (len(windows), len(labels)):
        raise ValueError(
            f"{recording_id}: {len(windows)} windows and {len(labels)} labels do not fit {probabilities.shape}"
        )
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError(f"{recording_id}: probabilities must be numbers from 0 to 1")
    if missing := sorted(set(labels) - set(rules)):
        raise ValueError(f"{recording_id}: no event rule for {', '.join(missing)}")

    order = sorted(range(len(windows)), key=lambda i: windows[i])
    cells = window_cells([windows[i] for i in order], stride_s=stride_s)
    columns = probabilities[order].astype(np.float64)
    kept: list[Event] = []
    suppressed = dict.fromkeys(labels, 0)
    onsets = np.array([rules[label].onset for label in labels])
    for column in np.flatnonzero((columns >= onsets).any(axis=0)).tolist():
        label = labels[column]
        for detection in _detections(label, cells, columns[:, column], rules[label]):
            rule, duration_s = rules[label], detection.segment.duration_s
            if rule.keeps(duration_s, detection.peak_probability, detection.mean_probability):
                kept.append(detection)
            else:
                suppressed[label] += int(duration_s < rule.min_duration_s - _TOLERANCE_S)
    return EventsFound(numbered(recording_id, kept), suppressed)


def _detections(
    label: str, cells: Sequence[Segment], probabilities: npt.NDArray[np.float64], rule: EventRule
) -> list[Event]:
    """The label's detections in order, without ids, before short ones are dropped."""
    runs: list[tuple[int, int]] = []  # cells [first, end)
    for first, end in touching_runs(cells, probabilities >= rule.offset):
        if probabilities[first:end].max() < rule.onset:
            continue
        if runs and _is_bridged(cells, runs[-1][1], first, rule.merge_gap_s):
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((first, end))
    detections = []
    for first, end in runs:
        durations_s = [cell.duration_s for cell in cells[first:end]]
        peak = float(probabilities[first:end].max())
        mean = float(np.average(probabilities[first:end], weights=durations_s))
        segment = Segment(cells[first].start_s, cells[end - 1].end_s)
        detections.append(Event("", label, segment, peak, min(mean, peak)))
    return detections


def touching_runs(cells: Sequence[Segment], is_in: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Longest runs of touching cells that are in, as cell numbers [first, end)."""
    numbers = np.flatnonzero(is_in).tolist()
    is_cut = [after != before + 1 or cells[before].end_s != cells[after].start_s for before, after in pairwise(numbers)]
    firsts = [number for number, is_first in zip(numbers, [True, *is_cut], strict=False) if is_first]
    lasts = [number for number, is_last in zip(numbers, [*is_cut, True], strict=False) if is_last]
    return [(first, last + 1) for first, last in zip(firsts, lasts, strict=True)]


def _is_bridged(cells: Sequence[Segment], gap_first: int, gap_end: int, merge_gap_s: float) -> bool:
    """Whether the cells [gap_first, gap_end) between two runs are all observed and last less than `merge_gap_s`."""
    around = cells[gap_first - 1 : gap_end + 1]
    if any(before.end_s != after.start_s for before, after in pairwise(around)):
        return False
    return cells[gap_end].start_s - cells[gap_first - 1].end_s < merge_gap_s - _TOLERANCE_S

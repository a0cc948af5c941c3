"""What turns a model's raw probabilities into a diary's events, tuned on val: `Decoding`. Knows no model and no clock.

Calibrate, smooth, find events by each label's rule, and let no two labels that exclude each other be on at once.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.sealed import damage_told, read_sealed_json, write_sealed_json
from features.video import Segment
from heads.targets import window_cells
from reports.calibration import Calibration
from reports.events import Event, EventRule, EventsFound, find_events, numbered, touching_runs
from reports.exclusions import Exclusion
from reports.metrics.events import Agreement
from reports.thresholds import NoThresholds

Floats = npt.NDArray[np.floating]
Rules = Mapping[str, EventRule]

_REMEDY = "run `dvc repro sweep`"
_Z = 1.959964
"""A normal variable lies within this of its mean in 95 of 100 cases."""


@dataclass(frozen=True)
class PointScores:
    """What an operating point reaches on val: `events` matched one to one at IoU 0.3, and `seconds`, over all labels.

    All of it was tuned on, so it is better than what other recordings give.
    """

    events: Agreement
    seconds: Agreement

    @property
    def precision_low(self) -> float:
        """Lower bound of both precisions, by events and by seconds: each stated event is a draw of its own."""
        if not self.events.stated:
            return 0.0
        return min(_wilson_low(own.precision, self.events.stated) for own in (self.events, self.seconds))

    def to_json(self) -> dict[str, Any]:
        """With the ratios, and the lower bound of the precision."""
        return {
            "events": self.events.to_json(),
            "seconds": self.seconds.to_json(),
            "precision_low": round(self.precision_low, 6),
        }


@dataclass(frozen=True)
class Decoding:
    """From raw probabilities (n, L) of `labels` (L,) to events, at two operating points.

    `rules`, by label, are those of the best event F1 on val; `careful_rules` those that surely reach the wished
    `min_precision` there, or come closest: `is_reached` says which. Probabilities are averaged over `smoothing_windows`
    neighbours, an odd number; 1 leaves them. `scores` and `careful_scores` are those on val, by kind: "recording" and
    "video". `model_sha256` is that of the model that was tuned.
    """

    labels: tuple[str, ...]
    calibration: Calibration
    smoothing_windows: int
    rules: Rules
    careful_rules: Rules
    exclusions: tuple[Exclusion, ...]
    min_precision: float
    scores: Mapping[str, PointScores]
    careful_scores: Mapping[str, PointScores]
    model_sha256: str = ""

    def __post_init__(self) -> None:
        if not (set(self.labels) == set(self.rules) == set(self.careful_rules)):
            raise ValueError("each label needs a rule and a careful rule")
        if len(self.calibration.slopes) != len(self.labels) or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"{len(self.calibration.slopes)} calibrations do not fit {len(self.labels)} labels")
        if self.smoothing_windows < 1 or self.smoothing_windows % 2 == 0:
            raise ValueError(f"an odd number of windows is averaged, got {self.smoothing_windows}")
        if not 0 < self.min_precision < 1:
            raise ValueError(f"a wished precision lies between 0 and 1, got {self.min_precision}")
        for pair in self.exclusions:
            if not {pair.first, pair.second} <= set(self.labels):
                raise ValueError(f"{pair} is not of the labels {', '.join(self.labels)}")

    @property
    def careful_basis(self) -> PointScores:
        """What the careful point is judged by: long recordings if val has any, for diaries are of them."""
        return self.careful_scores.get("recording") or self.careful_scores["video"]

    @property
    def is_reached(self) -> bool:
        """Whether the careful rules reach the wished precision on val, by its lower bound."""
        return self.careful_basis.precision_low >= self.min_precision

    def probabilities(self, windows: Sequence[Segment], raw: Floats, *, stride_s: float) -> npt.NDArray[np.float64]:
        """Calibrated and smoothed probabilities (n, L) of sorted windows: what `events` decides by."""
        calibrated = self.calibration.apply(raw)
        if self.smoothing_windows == 1:
            return calibrated
        return _smoothed(calibrated, window_cells(windows, stride_s=stride_s), self.smoothing_windows)

    def events(
        self,
        recording_id: str,
        windows: Sequence[Segment],
        probabilities: Floats,
        *,
        stride_s: float,
        careful: bool = False,
    ) -> EventsFound:
        """The events of one recording, of whose windows the model's raw `probabilities` (n, L) are given in any order.

        Events are accepted by descending mean probability, and each loses the time in which an accepted one of an
        excluded label is on. What is left is an event if its label's rule `keeps` it. What is not counts as suppressed.

        With `careful`, the careful rules state events, and what only the others find is `less_certain`: their events
        that overlap no stated one of the same label, with ids "<recording_id>-less-001" and so on.
        """
        order = sorted(range(len(windows)), key=lambda i: windows[i])
        windows = [windows[i] for i in order]
        if probabilities.shape != (len(windows), len(self.labels)):
            raise ValueError(
                f"{recording_id}: {len(windows)} windows and {len(self.labels)} labels do not fit {probabilities.shape}"
            )
        if not np.all((probabilities >= 0) & (probabilities <= 1)):
            raise ValueError(f"{recording_id}: probabilities must be numbers from 0 to 1")
        probabilities = self.probabilities(windows, probabilities[order], stride_s=stride_s)
        found = self._decoded(recording_id, windows, probabilities, self.rules, stride_s)
        if not careful:
            return found
        stated = self._decoded(recording_id, windows, probabilities, self.careful_rules, stride_s)
        return dataclasses.replace(stated, less_certain=_only_in(found.events, stated.events, f"{recording_id}-less"))

    def _decoded(
        self, recording_id: str, windows: Sequence[Segment], probabilities: Floats, rules: Rules, stride_s: float
    ) -> EventsFound:
        """Events by `rules`, without contradictions, of sorted windows with calibrated and smoothed probabilities."""
        found = find_events(recording_id, windows, probabilities, self.labels, rules, stride_s=stride_s)
        stated = {event.label for event in found.events}
        exclusions = [pair for pair in self.exclusions if {pair.first, pair.second} <= stated]
        if not exclusions:
            return found
        cells = window_cells(windows, stride_s=stride_s)
        columns = dict(zip(self.labels, probabilities.T, strict=True))
        return _without_contradictions(recording_id, found, cells, columns, rules, exclusions)

    def save(self, path: Path) -> None:
        """Write everything as JSON, with its hash."""
        write_sealed_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> Decoding:
        """Read what `save` wrote. Raises `DamagedFile`, or `FileNotFoundError`."""
        with damage_told(path, remedy=_REMEDY):
            found = read_sealed_json(path, remedy=_REMEDY)
            return cls(
                labels=tuple(found["labels"]),
                calibration=Calibration(tuple(found["calibration"]["slopes"]), tuple(found["calibration"]["offsets"])),
                smoothing_windows=found["smoothing_windows"],
                rules={label: EventRule(**rule) for label, rule in found["rules"].items()},
                careful_rules={label: EventRule(**rule) for label, rule in found["careful_rules"].items()},
                exclusions=tuple(Exclusion(**pair) for pair in found["exclusions"]),
                min_precision=found["min_precision"],
                scores=_scores(found["scores"]),
                careful_scores=_scores(found["careful_scores"]),
                model_sha256=found["model_sha256"],
            )

    @property
    def event_f1(self) -> float:
        """Event F1 on val, the mean over kinds of recording: what models are compared by; 0.0 where it is unknown."""
        known = [own.events.f1 for own in self.scores.values() if own.events.stated or own.events.true]
        return sum(known) / len(known) if known else 0.0

    def require_model(self, sha256: str, path: Path) -> None:
        """Raise `NoThresholds` unless this decoding, read from `path`, is of the model with this hash."""
        if self.model_sha256 != sha256:
            raise NoThresholds(
                f"{path} has the rules of another model: wanted {sha256[:16]}…, found {self.model_sha256[:16]}…; "
                f"{_REMEDY}"
            )

    def to_json(self) -> dict[str, Any]:
        """What a report says of it: both points on val, the wished precision, and the excluded pairs."""
        return {
            "smoothing_windows": self.smoothing_windows,
            "best_f1": {kind: scores.to_json() for kind, scores in self.scores.items()},
            "careful": {kind: scores.to_json() for kind, scores in self.careful_scores.items()},
            "min_precision": self.min_precision,
            "is_reached": self.is_reached,
            "exclusions": [dataclasses.asdict(pair) for pair in self.exclusions],
        }


def _wilson_low(share: float, count: float) -> float:
    """Lower end of Wilson's 95% interval (1927) of a share of `count` draws."""
    spread = _Z**2 / count
    centre = share + spread / 2
    return max(0.0, (centre - math.sqrt(spread * (share * (1 - share) + spread / 4))) / (1 + spread))


def _scores(found: Mapping[str, Any]) -> dict[str, PointScores]:
    return {
        kind: PointScores(*(Agreement(**own[name]) for name in ("events", "seconds"))) for kind, own in found.items()
    }


def _smoothed(
    probabilities: npt.NDArray[np.float64], cells: Sequence[Segment], smoothing_windows: int
) -> npt.NDArray[np.float64]:
    """Mean of each cell and its neighbours, (smoothing_windows - 1) / 2 on each side, of the same observed stretch."""
    reach = smoothing_windows // 2
    smooth = np.empty_like(probabilities)
    for first, end in touching_runs(cells, np.ones(len(cells), dtype=np.bool_)):
        sums, counts = probabilities[first:end].copy(), np.ones((end - first, 1))
        for shift in range(1, min(reach, end - first - 1) + 1):
            sums[shift:] += probabilities[first : end - shift]
            sums[:-shift] += probabilities[first + shift : end]
            counts[shift:] += 1
            counts[:-shift] += 1
        smooth[first:end] = sums / counts
    return smooth.clip(0.0, 1.0)


def _only_in(events: Sequence[Event], others: Sequence[Event], name: str) -> tuple[Event, ...]:
    """The events that overlap none of `others` of their label, with ids of their own; both are in order."""
    taken: dict[str, list[Segment]] = {}
    for other in others:
        taken.setdefault(other.label, []).append(other.segment)
    ends = {label: [segment.end_s for segment in own] for label, own in taken.items()}  # apart, so these rise as well
    left = []
    for event in events:
        own = taken.get(event.label, [])
        after = bisect_right(ends.get(event.label, []), event.segment.start_s)
        if after == len(own) or own[after].start_s >= event.segment.end_s:
            left.append(event)
    return numbered(name, left)


def _without_contradictions(
    recording_id: str,
    found: EventsFound,
    cells: Sequence[Segment],
    columns: Mapping[str, Floats],
    rules: Rules,
    exclusions: Sequence[Exclusion],
) -> EventsFound:
    """`found` without what contradicts a more probable event; `columns` has each label's probability by cell."""
    rivals: dict[str, list[str]] = {label: [] for label in columns}
    for pair in exclusions:
        rivals[pair.first].append(pair.second)
        rivals[pair.second].append(pair.first)
    starts = {cell.start_s: number for number, cell in enumerate(cells)}
    ends = {cell.end_s: number + 1 for number, cell in enumerate(cells)}
    durations_s = np.array([cell.duration_s for cell in cells])
    taken = {label: np.zeros(len(cells), dtype=np.bool_) for label in columns}
    suppressed = dict(found.suppressed)
    kept: list[Event] = []
    for event in sorted(found.events, key=lambda event: (-event.mean_probability, event.segment, event.label)):
        own = np.zeros(len(cells), dtype=np.bool_)
        own[starts[event.segment.start_s] : ends[event.segment.end_s]] = True
        free = own.copy()
        for rival in rivals[event.label]:
            free &= ~taken[rival]
        rule, column = rules[event.label], columns[event.label]
        is_whole, num_kept = bool((free == own).all()), len(kept)
        for first, end in touching_runs(cells, free):
            segment = Segment(cells[first].start_s, cells[end - 1].end_s)
            peak = float(column[first:end].max())
            mean = float(np.average(column[first:end], weights=durations_s[first:end]))
            if is_whole or rule.keeps(segment.duration_s, peak, mean):
                kept.append(Event(event.id, event.label, segment, peak, min(mean, peak)))
                taken[event.label][first:end] = True
        suppressed[event.label] += len(kept) == num_kept
    return EventsFound(numbered(recording_id, kept), suppressed)

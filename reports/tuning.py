"""Choose a `Decoding` on val, by event F1 and then by precision: `tune`. Nothing here may see test.

`carried_over` keeps one for a model that went on learning, and measures it anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heads.targets import cell_targets
from reports.calibration import Calibration, fit_calibration
from reports.decoding import Decoding, PointScores
from reports.events import EventRule
from reports.exclusions import Exclusion
from reports.metrics.events import Agreement
from reports.metrics.matching import AnnotatedRecording, EventTruth, Key, Kind, event_truth, match
from reports.spans import Span, segment_span, total
from reports.thresholds import NoThresholds

_IOU = 0.3
_ONSETS = tuple(round(0.05 * k, 2) for k in range(1, 20))
_CAREFUL_ONSETS = tuple(round(0.025 * k, 3) for k in range(1, 40))
_OFFSET_RATIOS = (1.0, 0.85, 0.7, 0.55, 0.4)
_SMOOTHINGS = (1, 3, 5)
_MIN_DURATIONS = (0.0, 2.0, 3.0, 4.0)  # strides: events last whole cells
_MERGE_GAPS = (0.0, 1.5, 2.5, 4.5)  # strides: one cell is bridged at 1.5
_MAX_PASSES = 3
_OWN_ONSET_STRENGTH = 30.0
"""How many true events of a label weigh as much as the onset of all labels."""

_BELOW_WISH = 0.1
"""A careful rule states no event whose mean probability is farther below the wished precision, unless too few are left.

The wish is for the mean of all, on val, which models and rules are chosen on. With 0.8, of the events below 0.7 on 20
recordings of people in no split 67 in 100 are right, and 92 above. Of six events in 72 rooms without anybody, five are
below.
"""

_MIN_STATED = 20
"""The careful point states this many events on val, or its precision says nothing."""


@dataclass(frozen=True)
class _Setting:
    """One rule for all labels; durations in strides."""

    onset: float = 0.5
    offset_ratio: float = 1.0
    min_duration: float = 0.0
    merge_gap: float = 0.0
    smoothing: int = 1
    min_mean: float = 0.0

    def rule(self, onset: float, stride_s: float) -> EventRule:
        durations_s = (self.min_duration * stride_s, self.merge_gap * stride_s)
        return EventRule(onset, onset * self.offset_ratio, *durations_s, self.min_mean)


_CANDIDATES: Mapping[str, Sequence[Any]] = {  # the simplest first
    "onset": sorted(_ONSETS, key=lambda onset: abs(onset - 0.5)),
    "offset_ratio": _OFFSET_RATIOS,
    "min_duration": _MIN_DURATIONS,
    "merge_gap": _MERGE_GAPS,
    "smoothing": _SMOOTHINGS,
}


def tune(
    recordings: Sequence[AnnotatedRecording],
    labels: Sequence[str],
    *,
    stride_s: float,
    exclusions: Sequence[Exclusion],
    min_precision: float,
    model_sha256: str,
) -> Decoding:
    """Calibration, then the rules of the best event F1 at IoU 0.3, then those of the wished precision.

    Events are counted over all labels; F1 is the mean of that on short videos and that on long recordings, where there
    are both. Global onset, offset, durations and smoothing are tried one after the other until none is better; equals
    go to the simpler one. A label's own best onset then counts as far as val has events of it. For the careful point
    all onsets rise to one, and offsets with them: of what reaches `min_precision` by the lower bound of the precision,
    by events and by seconds, the one of the best F1. It is judged by recordings, where there are any, for they are what
    diaries are of. Without true events raises `NoThresholds`.
    """
    val = _Val(recordings, labels, stride_s)
    calibration = val.calibration()
    draft = Decoding(
        labels=tuple(labels),
        calibration=Calibration.identity(len(labels)),
        smoothing_windows=1,
        rules=dict.fromkeys(labels, _Setting().rule(0.5, stride_s)),
        careful_rules=dict.fromkeys(labels, _Setting().rule(0.5, stride_s)),
        exclusions=tuple(exclusions),
        min_precision=min_precision,
        scores={},
        careful_scores={},
        model_sha256=model_sha256,
    )
    val = val.calibrated(calibration)

    def with_onsets(setting: _Setting, onsets: Mapping[str, float]) -> Decoding:
        rules = {label: setting.rule(onset, stride_s) for label, onset in onsets.items()}
        return dataclasses.replace(draft, smoothing_windows=setting.smoothing, rules=rules)

    def with_setting(setting: _Setting) -> Decoding:
        return with_onsets(setting, dict.fromkeys(labels, setting.onset))

    setting = _descend(lambda tried: val.objective(val.counts(with_setting(tried))))
    onsets = _own_onsets(val, setting, with_setting)
    best = with_onsets(setting, onsets)
    if val.objective(val.counts(best)) <= val.objective(val.counts(with_setting(setting))):
        best = with_setting(setting)
        onsets = dict.fromkeys(labels, setting.onset)
    careful = _careful(
        val,
        min_precision,
        (
            [
                with_onsets(
                    dataclasses.replace(setting, offset_ratio=ratio, min_mean=min_mean),
                    {label: max(own, t) for label, own in onsets.items()},
                )
                for ratio in sorted(_OFFSET_RATIOS)
                if ratio >= setting.offset_ratio
                for t in (0.0, *_CAREFUL_ONSETS)
                if t == 0 or t > min(onsets.values())
            ]
            for min_mean in (max(0.0, min_precision - _BELOW_WISH), 0.0)
        ),
    )
    return dataclasses.replace(
        best,
        calibration=calibration,
        careful_rules=careful.rules,
        scores=val.scores(best),
        careful_scores=val.scores(careful),
    )


def carried_over(
    decoding: Decoding, recordings: Sequence[AnnotatedRecording], *, stride_s: float, model_sha256: str
) -> Decoding:
    """Calibration and rules as they are, for another model: with the scores of what it says of val's `recordings`."""
    val = _Val(recordings, decoding.labels, stride_s)
    return dataclasses.replace(
        decoding,
        scores=val.scores(decoding),
        careful_scores=val.scores(dataclasses.replace(decoding, rules=decoding.careful_rules)),
        model_sha256=model_sha256,
    )


def _descend(objective: Callable[[_Setting], float]) -> _Setting:
    """Coordinate descent over `_CANDIDATES`; each setting is tried once."""
    known: dict[_Setting, float] = {}

    def value(setting: _Setting) -> float:
        if setting not in known:
            known[setting] = round(objective(setting), 9)
        return known[setting]

    best = _Setting()
    for _ in range(_MAX_PASSES):
        before = best
        for name, candidates in _CANDIDATES.items():
            best = max((dataclasses.replace(best, **{name: candidate}) for candidate in candidates), key=value)
        if best == before:
            break
    return best


def _own_onsets(val: _Val, setting: _Setting, with_setting: Callable[[_Setting], Decoding]) -> dict[str, float]:
    """Each label's own onset, tried at all onsets with the rest of the setting as it is."""
    f1: dict[str, dict[float, float]] = {label: {} for label in val.labels}
    for onset in _CANDIDATES["onset"]:
        counts = val.counts(with_setting(dataclasses.replace(setting, onset=onset)))
        for label in val.labels:
            summed = sum((own for (_, of_label), own in counts.items() if of_label == label), Agreement())
            f1[label][onset] = summed.f1 if summed.stated or summed.true else 0.0
    return {
        label: own_onset(by_onset, shared=setting.onset, num_true=val.num_true(label)) for label, by_onset in f1.items()
    }


def own_onset(f1: Mapping[float, float], *, shared: float, num_true: int) -> float:
    """The onset of the best F1, drawn towards the `shared` one; of equals, the one nearest to that."""
    nearest_first = sorted(f1, key=lambda onset: (round(abs(onset - shared), 9), onset))
    own = max(nearest_first, key=lambda onset: round(f1[onset], 9))
    return round(shared + num_true / (num_true + _OWN_ONSET_STRENGTH) * (own - shared), 3)


def _careful(val: _Val, min_precision: float, groups: Iterable[Sequence[Decoding]]) -> Decoding:
    """Of those that surely reach the wished precision the one of the best F1; if none does, the surest one.

    They are of the first group in which one states enough; if there is none, of the last.
    """
    kind = "recording" if "recording" in val.true_kinds else "video"
    tried: list[tuple[Decoding, PointScores]] = []
    for candidates in groups:
        tried = [(decoding, val.scores(decoding)[kind]) for decoding in candidates]
        enough = [own for own in tried if own[1].events.stated >= _MIN_STATED]
        if enough:
            tried = enough
            break
    reaching = [own for own in tried if own[1].precision_low >= min_precision]
    if reaching:
        return max(reaching, key=lambda own: (round(own[1].events.f1, 9), round(own[1].precision_low, 9)))[0]
    return max(tried, key=lambda own: round(own[1].precision_low, 9))[0]


class _Val:
    """The recordings with their truth, and what a decoding gets right of them."""

    def __init__(self, recordings: Sequence[AnnotatedRecording], labels: Sequence[str], stride_s: float) -> None:
        self.recordings, self.labels, self.stride_s = recordings, tuple(labels), stride_s
        self.truth: EventTruth = event_truth(
            [event for recording in recordings for event in recording.truth],
            {recording.id: recording.windows for recording in recordings},
            labels,
        )
        self.kind_of: dict[str, Kind] = {recording.id: recording.kind for recording in recordings}
        if len(self.kind_of) != len(recordings):
            raise ValueError("recordings to tune on have ids of their own, got some twice")
        if not self.truth.events:
            raise NoThresholds(
                f"no rules can be tuned: nothing happens in {len(recordings)} val videos and recordings that one of "
                f"{len(labels)} labels names; take labels that val shows"
            )
        self.true_kinds = sorted({self.kind_of[recording_id] for recording_id, _ in self.truth.events})

    def calibration(self) -> Calibration:
        """Fitted on the cells of all recordings."""
        targets = [
            cell_targets(
                own.windows, [(event.label, event.segment) for event in own.truth], self.labels, stride_s=self.stride_s
            )
            for own in self.recordings
        ]
        return fit_calibration(np.concatenate([own.probabilities for own in self.recordings]), np.concatenate(targets))

    def calibrated(self, calibration: Calibration) -> _Val:
        return _Val(
            [dataclasses.replace(own, probabilities=calibration.apply(own.probabilities)) for own in self.recordings],
            self.labels,
            self.stride_s,
        )

    def num_true(self, label: str) -> int:
        return sum(len(spans) for (_, own), spans in self.truth.events.items() if own == label)

    def stated(self, decoding: Decoding) -> dict[Key, list[Span]]:
        """Events by recording and label, the most probable first."""
        groups: dict[Key, list[Span]] = {}
        for own in self.recordings:
            found = decoding.events(own.id, own.windows, own.probabilities, stride_s=self.stride_s)
            for event in sorted(found.events, key=lambda event: (-event.mean_probability, event.segment)):
                groups.setdefault((own.id, event.label), []).append(segment_span(event.segment))
        return groups

    def counts(self, decoding: Decoding) -> dict[tuple[Kind, str], Agreement]:
        """Events matched at IoU 0.3, by kind and label."""
        return self._counts(self.stated(decoding))

    def _counts(self, stated: Mapping[Key, Sequence[Span]]) -> dict[tuple[Kind, str], Agreement]:
        counts: dict[tuple[Kind, str], Agreement] = {}
        for recording_id, label in sorted(stated.keys() | self.truth.events.keys()):
            true, own = (of.get((recording_id, label), ()) for of in (self.truth.events, stated))
            both = len(match(true, own, min_iou=_IOU)) if true and own else 0
            key = (self.kind_of[recording_id], label)
            counts[key] = counts.get(key, Agreement()) + Agreement(both, len(own), len(true))
        return counts

    def objective(self, counts: Mapping[tuple[Kind, str], Agreement]) -> float:
        """Mean over the kinds that have true events of F1 over all labels; 0.0 where nothing is stated or true."""
        sums = [_sum(counts, kind) for kind in self.true_kinds]
        return float(np.mean([own.f1 if own.stated or own.true else 0.0 for own in sums]))

    def scores(self, decoding: Decoding) -> dict[str, PointScores]:
        """By kind, those with true events."""
        stated = self.stated(decoding)
        counts = self._counts(stated)
        seconds: dict[str, Agreement] = dict.fromkeys(self.kind_of.values(), Agreement())
        for key in sorted(stated.keys() | self.truth.events.keys()):
            true, own = self.truth.events.get(key, ()), stated.get(key, ())
            both_ms = total(own) + total(true) - total([*own, *true])
            seconds[self.kind_of[key[0]]] += Agreement(both_ms / 1000, total(own) / 1000, total(true) / 1000)
        return {kind: PointScores(_sum(counts, kind), seconds[kind]) for kind in self.true_kinds}


def _sum(counts: Mapping[tuple[Kind, str], Agreement], kind: Kind) -> Agreement:
    return sum((own for (of_kind, _), own in counts.items() if of_kind == kind), Agreement())

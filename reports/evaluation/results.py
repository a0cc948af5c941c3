"""What the report is made of, as rows of numbers: knows neither models nor data sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.certainty import Certainty
from reports.evaluation.event_tables import Reliability
from reports.evaluation.examples import Example
from reports.evaluation.pairs import Confusion, Together
from reports.metrics.precision_recall import PrecisionRecall


@dataclass(frozen=True)
class ModelResult:
    """One model's scores on test, its sweep on val and its training history.

    `metrics` has micro_f1, micro_f1_at_half, micro_f1_prior, macro_f1, map, threshold, n_windows, n_videos, n_labels
    and n_labels_without_positives for windows, and under "video" the same for videos. `labels` are rows of label, name,
    n_positives, ap, f1, precision, recall, threshold (test windows), as `scored_labels` makes them; `sweep` rows of
    threshold, micro_f1, macro_f1, precision, recall (validation windows); `history` rows of step, train_loss, val_loss,
    val_map. None or nan is an unknown value.

    `events` has under "recordings" and "videos", or one of them, what `EventScores.to_json` gives for test at the point
    of the best F1; `events_careful` the same at the diary's point. `curve` is over all label decisions of test windows,
    `chosen` its (recall, precision) at the threshold. `val_event_f1` is what the exported model is chosen by.
    """

    metrics: Mapping[str, Any]
    labels: Sequence[Mapping[str, Any]]
    sweep: Sequence[Mapping[str, float | None]]
    history: Sequence[Mapping[str, float | None]]
    events: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    events_careful: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reliability: Reliability | None = None
    curve: PrecisionRecall | None = None
    chosen: tuple[float, float] | None = None
    val_event_f1: float = math.nan


@dataclass(frozen=True)
class CloserLook:
    """What the report shows of the chosen model alone, on test windows and test videos.

    `curves` are by label. `pictures` has the addresses of each example's pictures, `videos` that of its video at its
    time, in the order of `examples`; an example may have none.
    """

    curves: Mapping[str, PrecisionRecall] = field(default_factory=dict)
    confusions: Sequence[Confusion] = ()
    together: Sequence[Together] = ()
    examples: Sequence[Example] = ()
    pictures: Sequence[Sequence[str]] = ()
    videos: Sequence[str] = ()


@dataclass(frozen=True)
class SplitFacts:
    """The size of one split, and what was left out of it: `dropped` has a count for each reason."""

    name: str
    num_videos: int
    num_windows: int
    num_subjects: int
    hours: float | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FailedVideo:
    """A video that could not be read; no number on the page includes it."""

    video_id: str
    reason: str


@dataclass(frozen=True)
class Report:
    """All that the page and its twin show of one label set; `models` in this order.

    `provenance` is shown unchanged, one line per pair; so is `machine`, which the twin leaves out, with `params`, the
    values by name. `exclusions` are pairs of labels that exclude each other: both names, how many training videos have
    both, and in how many of them chance would show them at once. `protocols` are the blocks of
    `protocol_blocks`, and `seeds` what stage `seeds` found, if anything.
    """

    profile: str
    label_set: str
    models: Mapping[str, ModelResult]
    splits: Sequence[SplitFacts]
    failed: Sequence[FailedVideo]
    provenance: Mapping[str, str]
    exclusions: Sequence[tuple[str, str, int, float]] = ()
    certainty: Certainty | None = None
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seeds: Mapping[str, Any] = field(default_factory=dict)
    closer: CloserLook = field(default_factory=CloserLook)
    num_val_recordings: int = 0
    machine: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("a report needs at least one model")

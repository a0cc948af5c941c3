"""The two official measures of Charades, so that numbers compare with published ones: `localisation`, `classification`.

Both take the average precision of each label (`official_average_precisions`), and the mean of those. Labels without
positives are nan, are listed, and are in no mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from reports.thresholds import Bools, Floats

NUM_POINTS = 25


class AnnotatedInterval(Protocol):
    """A label and its times as annotated: they may lie past the video's end, or be reversed."""

    @property
    def label(self) -> str: ...
    @property
    def start_s(self) -> float: ...
    @property
    def end_s(self) -> float: ...


class AnnotatedVideo(Protocol):
    """A video as the data set states it, with all its intervals, those of labels that nobody scores included."""

    @property
    def video_id(self) -> str: ...
    @property
    def length_s(self) -> float: ...
    @property
    def intervals(self) -> Sequence[AnnotatedInterval]: ...


@dataclass(frozen=True)
class OfficialScores:
    """Average precision and number of positives of each label, over `num_rows` videos or points of `num_videos`."""

    labels: tuple[str, ...]
    average_precisions: tuple[float, ...]
    num_positives: tuple[int, ...]
    num_rows: int
    num_videos: int

    @property
    def mean_average_precision(self) -> float:
        """Mean over the labels that have positives; nan without one."""
        known = [value for value in self.average_precisions if not math.isnan(value)]
        return sum(known) / len(known) if known else math.nan

    @property
    def labels_without_positives(self) -> tuple[str, ...]:
        return tuple(label for label, count in zip(self.labels, self.num_positives, strict=True) if not count)

    def to_json(self) -> dict[str, Any]:
        """Floats have 6 digits; None is nan."""
        return {
            "map": _rounded(self.mean_average_precision),
            "n_videos": self.num_videos,
            "n_rows": self.num_rows,
            "n_labels": len(self.labels),
            "n_labels_without_positives": len(self.labels_without_positives),
            "labels_without_positives": list(self.labels_without_positives),
            "labels": [
                {"label": label, "average_precision": _rounded(value), "n_positives": count}
                for label, value, count in zip(self.labels, self.average_precisions, self.num_positives, strict=True)
            ],
        }


def points_s(length_s: float) -> Floats:
    """The times (25,) at which a video is judged: t = (j - 1) / 25 * length for j = 1 … 25."""
    return np.arange(NUM_POINTS) / NUM_POINTS * length_s  # divided first, as the official code does


def point_targets(videos: Sequence[AnnotatedVideo], labels: Sequence[str]) -> Bools:
    """Which labels are on at each point, (n_videos, 25, n_labels): an interval is on at start <= t <= end, both in."""
    column = {label: k for k, label in enumerate(labels)}
    targets = np.zeros((len(videos), NUM_POINTS, len(labels)), dtype=np.bool_)
    for row, video in enumerate(videos):
        times_s = points_s(video.length_s)
        for interval in video.intervals:
            if interval.label in column:
                on = (interval.start_s <= times_s) & (times_s <= interval.end_s)
                targets[row, on, column[interval.label]] = True
    return targets


def localisation(
    videos: Sequence[AnnotatedVideo],
    scores: Floats | Callable[[AnnotatedVideo, Floats], Floats],
    labels: Sequence[str],
) -> OfficialScores:
    """Localisation mAP, as `Charades_v1_localize.m` has it: each of the 25 points of each video is a row.

    `scores` (n_videos, 25, n_labels) are in the order of `videos`, or a function gives those of one video, (25,
    n_labels), at the times `points_s`. Videos without actions stay in, as negatives. A video without scores has -inf,
    as rows have that a submission lacks. Equal scores rank in the order of `videos`; the official order is that of
    `Charades_v1_test.csv`.
    """
    if callable(scores):
        each = [np.asarray(scores(video, points_s(video.length_s))) for video in videos]
        scores = np.stack(each) if each else np.zeros((0, NUM_POINTS, len(labels)))
    targets = point_targets(videos, labels)
    if scores.shape != targets.shape:
        raise ValueError(f"scores must be (n_videos, {NUM_POINTS}, n_labels) = {targets.shape}, got {scores.shape}")
    rows = (len(videos) * NUM_POINTS, len(labels))
    return _official_scores(videos, scores.reshape(rows), targets.reshape(rows), labels)


def classification(videos: Sequence[AnnotatedVideo], scores: Floats, labels: Sequence[str]) -> OfficialScores:
    """Video-level mAP, as `Charades_v1_classify.m` has it: `scores` (n_videos, n_labels) in the order of `videos`.

    A video carries every label of its intervals, with or without a usable time. Videos without any action are dropped:
    the official code does not read their ids, so they rank last. One whose actions all have other labels than `labels`
    stays in, as a negative. -inf and equal scores are as in `localisation`.
    """
    if scores.shape != (len(videos), len(labels)):
        raise ValueError(f"scores must be (n_videos, n_labels) = {(len(videos), len(labels))}, got {scores.shape}")
    kept = [row for row, video in enumerate(videos) if video.intervals]
    targets = np.zeros((len(kept), len(labels)), dtype=np.bool_)
    for row, kept_row in enumerate(kept):
        present = {interval.label for interval in videos[kept_row].intervals}
        targets[row] = [label in present for label in labels]
    return _official_scores([videos[row] for row in kept], scores[kept], targets, labels)


def official_average_precisions(scores: Floats, targets: Bools) -> Floats:
    """Average precision of each column of (n, L), (L,): the mean, over the positives, of the precision at their rank.

    Rows rank by descending score; the sort is stable, so that equal scores rank in the order of the rows, and nothing
    is interpolated. nan without positives. Scores that are not numbers raise `ValueError`.
    """
    if np.isnan(scores).any():
        raise ValueError("a score is not a number; a row without scores has -inf")
    average_precisions = np.full(targets.shape[1], math.nan)
    for column in range(targets.shape[1]):
        positive = targets[:, column]
        if positive.any():
            order = np.argsort(-np.ascontiguousarray(scores[:, column]), kind="stable")
            ranks = np.flatnonzero(positive[order]) + 1
            average_precisions[column] = np.mean(np.arange(1, len(ranks) + 1) / ranks)
    return average_precisions


def _official_scores(
    videos: Sequence[AnnotatedVideo], scores: Floats, targets: Bools, labels: Sequence[str]
) -> OfficialScores:
    if len(set(labels)) != len(labels) or len({video.video_id for video in videos}) != len(videos):
        raise ValueError("labels and videos must be unique")
    return OfficialScores(
        labels=tuple(labels),
        average_precisions=tuple(official_average_precisions(scores, targets).tolist()),
        num_positives=tuple(targets.sum(axis=0).tolist()),
        num_rows=len(targets),
        num_videos=len(videos),
    )


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None

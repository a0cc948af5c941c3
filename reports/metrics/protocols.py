"""Ways of putting a number to a model, each with a name: what is asked, where, and what chose what.

`held_out` is the one that models are compared by. `prototype` is that of the program this one replaces, for a
like-for-like comparison. `charades_classify`, `charades_localize` and `videoglue_frozen` are those of published
numbers. Each function measures one model; a model is its predictions for val and test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from features.video import Segment
from heads.predictions import Predictions, rows_by_video
from heads.targets import window_cells
from reports.metrics.charades import (
    NUM_POINTS,
    AnnotatedVideo,
    OfficialScores,
    classification,
    localisation,
    point_targets,
    points_s,
)
from reports.metrics.intervals import (
    Interval,
    counts_by_subject,
    draw_subjects,
    f1_scores,
    interval,
    official_mean_average_precisions,
)
from reports.thresholds import Bools, Floats, best_threshold, decide

NUM_PROTOTYPE_VIDEOS = 1000
PROTOTYPE_THRESHOLDS = np.round(0.05 * np.arange(1, 20), 2)

SENTENCES = {
    "held_out": (
        "Micro-F1 of windows: model, threshold and calibration were chosen on validation, whose people are in neither "
        "train nor test, and the number is of test, once."
    ),
    "prototype": (
        f"Micro-F1 of whole videos' labels, from the one window nearest the centre of each of the first "
        f"{NUM_PROTOTYPE_VIDEOS:,} test videos, at the best of {len(PROTOTYPE_THRESHOLDS)} thresholds. It flatters: "
        "the threshold is chosen on the videos that are reported (the number behind it is of one chosen on "
        "validation); and it asks of one window what happens in a whole video."
    ),
    "charades_classify": (
        "Mean average precision of test videos, as Charades_v1_classify.m has it: a video's score is its highest "
        "window's, videos without any action are dropped."
    ),
    "charades_localize": (
        f"Mean average precision of {NUM_POINTS} points of each test video, as Charades_v1_localize.m has it: videos "
        "without actions stay in, as negatives."
    ),
    "videoglue_frozen": (
        "Mean average precision of test videos, of a head with attention over all tokens of a window and a backbone "
        "that stays frozen, as VideoGLUE has it for Charades; each video's score is its highest window's."
    ),
}
"""What each protocol says of itself."""


class SubjectVideo(AnnotatedVideo, Protocol):
    """An annotated video of somebody."""

    @property
    def subject(self) -> str: ...


@dataclass(frozen=True)
class Measured:
    """One model's `interval` under a protocol, what it rests on, and the `threshold` that it was made at, if any.

    `chosen_on_val` is the score with the threshold that val would choose, where the protocol chooses on test. `rows`
    are windows, videos or points.
    """

    interval: Interval
    num_videos: int
    num_subjects: int
    num_rows: int
    labels_without_positives: tuple[str, ...]
    threshold: float | None = None
    chosen_on_val: float | None = None

    def counts(self) -> dict[str, Any]:
        """What the number rests on, the same for every model."""
        return {
            "n_videos": self.num_videos,
            "n_subjects": self.num_subjects,
            "n_rows": self.num_rows,
            "labels_without_positives": list(self.labels_without_positives),
        }

    def to_json(self) -> dict[str, float | None]:
        """Value and bounds, and what is known of thresholds; six digits."""
        known = {"threshold": self.threshold, "chosen_on_val": self.chosen_on_val}
        return self.interval.to_json() | {key: round(own, 6) for key, own in known.items() if own is not None}


def protocol_blocks(
    models: Mapping[str, tuple[Predictions, Predictions]],
    *,
    frozen: Collection[str],
    val_videos: Sequence[SubjectVideo],
    test_videos: Sequence[SubjectVideo],
    stride_s: float,
    seed: int,
) -> dict[str, Any]:
    """A block for each protocol, JSON: what it is, what it rests on, and each model's score with its 95% interval.

    `models` have predictions for val and test; those in `frozen` are attentive heads on a frozen backbone, and without
    any there is no block `videoglue_frozen`. The videos are in the order of the data set's files. All intervals are of
    the same draws of people.
    """
    measures: dict[str, tuple[str, Callable[[Predictions, Predictions], Measured]]] = {
        "held_out": ("micro_f1", lambda val, test: held_out(val, test, test_videos, seed=seed)),
        "prototype": ("micro_f1", lambda val, test: prototype(val, test, val_videos, test_videos, seed=seed)),
        "charades_classify": ("map", lambda _, test: charades_classify(test, test_videos, seed=seed)),
        "charades_localize": (
            "map",
            lambda _, test: charades_localize(test, test_videos, stride_s=stride_s, seed=seed),
        ),
        "videoglue_frozen": ("map", lambda _, test: videoglue_frozen(test, test_videos, seed=seed)),
    }
    blocks: dict[str, Any] = {}
    for name, (metric, measure) in measures.items():
        pairs = {model: pair for model, pair in models.items() if name != "videoglue_frozen" or model in frozen}
        measured = {model: measure(*pair) for model, pair in pairs.items()}
        if not measured:
            continue
        first = next(iter(pairs))
        blocks[name] = {
            "sentence": SENTENCES[name],
            "split": "test",
            "chosen_on": {"held_out": "val", "prototype": "test"}.get(name),
            "metric": metric,
            "n_labels": len(pairs[first][1].labels),
            **measured[first].counts(),
            "models": {model: result.to_json() for model, result in measured.items()},
        }
    return blocks


def held_out(val: Predictions, test: Predictions, videos: Sequence[SubjectVideo], *, seed: int) -> Measured:
    """Micro-F1 of test's windows at the threshold that is best on val's."""
    threshold = best_threshold(val.probabilities.ravel(), val.targets.ravel())
    subject_of = {video.video_id: video.subject for video in videos}
    subjects = [subject_of[video_id] for video_id in test.video_ids.tolist()]
    decisions = decide(test.probabilities, threshold)
    draws = draw_subjects(subjects, seed=seed)
    scores = f1_scores(counts_by_subject(decisions, test.targets, subjects), draws)
    return Measured(
        interval(scores),
        num_videos=len(test.videos),
        num_subjects=len(draws.subjects),
        num_rows=len(test.video_ids),
        labels_without_positives=_without_positives(test.labels, test.targets),
        threshold=threshold,
    )


def prototype(
    val: Predictions,
    test: Predictions,
    val_videos: Sequence[SubjectVideo],
    test_videos: Sequence[SubjectVideo],
    *,
    seed: int,
) -> Measured:
    """Micro-F1 of the labels of the first 1,000 test videos, from one window each, at the best of 19 thresholds.

    `test_videos` are in the order of the data set's file; those without windows are passed over. The best threshold is
    the lowest of the best on the same videos. The interval is of the protocol as a whole: each draw chooses anew.
    """
    probabilities, targets, subjects = _centre_windows(test, test_videos[:NUM_PROTOTYPE_VIDEOS])
    draws = draw_subjects(subjects, seed=seed)
    scores = np.stack(
        [
            f1_scores(counts_by_subject(decide(probabilities, threshold), targets, subjects), draws)
            for threshold in PROTOTYPE_THRESHOLDS
        ]
    )
    known = np.where(np.isnan(scores), -1.0, scores)
    best = int(known[:, 0].argmax())
    of_val = _f1_at_each(*_centre_windows(val, val_videos)[:2])
    highest = known.max(axis=0)
    return Measured(
        interval(np.where(highest < 0, math.nan, highest)),
        num_videos=len(targets),
        num_subjects=len(draws.subjects),
        num_rows=len(targets),
        labels_without_positives=_without_positives(test.labels, targets),
        threshold=float(PROTOTYPE_THRESHOLDS[best]),
        chosen_on_val=float(_f1_at_each(probabilities, targets)[int(of_val.argmax())]),
    )


def charades_classify(test: Predictions, videos: Sequence[SubjectVideo], *, seed: int) -> Measured:
    """The official video-level mAP; `videos` are all of test in the order of the data set's file.

    A video without windows ranks last.
    """
    scores = video_scores(test, videos)
    kept = [row for row, video in enumerate(videos) if video.intervals]
    targets = np.array(
        [[label in {own.label for own in videos[row].intervals} for label in test.labels] for row in kept],
        dtype=np.bool_,
    ).reshape(len(kept), len(test.labels))
    subjects = [videos[row].subject for row in kept]
    return _official(classification(videos, scores, test.labels), scores[kept], targets, subjects, seed=seed)


def charades_localize(test: Predictions, videos: Sequence[SubjectVideo], *, stride_s: float, seed: int) -> Measured:
    """The official mAP of 25 points of each video; `videos` as in `charades_classify`."""
    scores = point_scores(test, videos, stride_s=stride_s)
    targets = point_targets(videos, test.labels)
    rows = (len(videos) * NUM_POINTS, len(test.labels))
    subjects = [video.subject for video in videos for _ in range(NUM_POINTS)]
    official = localisation(videos, scores, test.labels)
    return _official(official, scores.reshape(rows), targets.reshape(rows), subjects, seed=seed)


def videoglue_frozen(test: Predictions, videos: Sequence[SubjectVideo], *, seed: int) -> Measured:
    """The video-level mAP of an attentive head on a frozen backbone (`heads.attentive`)."""
    return charades_classify(test, videos, seed=seed)


def video_scores(predictions: Predictions, videos: Sequence[AnnotatedVideo]) -> Floats:
    """Each video's highest probabilities, (n_videos, L); -inf for a video without windows."""
    highest, _ = predictions.by_video()
    row_of = {video_id: row for row, video_id in enumerate(predictions.videos.tolist())}
    scores = np.full((len(videos), len(predictions.labels)), -np.inf)
    for row, video in enumerate(videos):
        if video.video_id in row_of:
            scores[row] = highest[row_of[video.video_id]]
    return scores


def point_scores(predictions: Predictions, videos: Sequence[AnnotatedVideo], *, stride_s: float) -> Floats:
    """Each video's probabilities at its 25 points, (n_videos, 25, L): of the window in whose cell a point lies.

    A video without windows has -inf.
    """
    rows_of = rows_by_video(predictions.video_ids)
    scores = np.full((len(videos), NUM_POINTS, len(predictions.labels)), -np.inf)
    for row, video in enumerate(videos):
        if (own := rows_of.get(video.video_id)) is None:
            continue
        times = zip(predictions.start_s[own], predictions.end_s[own], strict=True)
        cells = window_cells([Segment(start_s, end_s) for start_s, end_s in times], stride_s=stride_s)
        starts_s = np.array([cell.start_s for cell in cells])
        places = np.searchsorted(starts_s, points_s(video.length_s), side="right") - 1
        scores[row] = predictions.probabilities[own][places.clip(0)]
    return scores


def _centre_windows(predictions: Predictions, videos: Sequence[SubjectVideo]) -> tuple[Floats, Bools, list[str]]:
    """Of each video with windows the one nearest its centre, the earlier of two: probabilities, the video's targets
    and its subject.
    """
    rows_of = rows_by_video(predictions.video_ids)
    place_of = {video_id: place for place, video_id in enumerate(predictions.videos.tolist())}
    with_windows = [video for video in videos if video.video_id in rows_of]
    centres_s = (predictions.start_s + predictions.end_s) / 2
    rows = [
        rows_of[video.video_id].start + int(np.abs(centres_s[rows_of[video.video_id]] - video.length_s / 2).argmin())
        for video in with_windows
    ]
    places = [place_of[video.video_id] for video in with_windows]
    return predictions.probabilities[rows], predictions.video_targets[places], [video.subject for video in with_windows]


def _f1_at_each(probabilities: Floats, targets: Bools) -> Floats:
    """Micro-F1 at each of the 19 thresholds; 0 where nothing is right."""
    counts = [
        (int((decisions & targets).sum()), int(decisions.sum()))
        for decisions in (decide(probabilities, threshold) for threshold in PROTOTYPE_THRESHOLDS)
    ]
    return np.array([2 * hits / max(1, stated + int(targets.sum())) for hits, stated in counts])


def _official(
    official: OfficialScores, scores: Floats, targets: Bools, subjects: Sequence[str], *, seed: int
) -> Measured:
    draws = draw_subjects(subjects, seed=seed)
    bounds = interval(official_mean_average_precisions(scores, targets, subjects, draws))
    return Measured(
        Interval(official.mean_average_precision, bounds.low, bounds.high),
        num_videos=official.num_videos,
        num_subjects=len(draws.subjects),
        num_rows=official.num_rows,
        labels_without_positives=official.labels_without_positives,
    )


def _without_positives(labels: Sequence[str], targets: Bools) -> tuple[str, ...]:
    return tuple(label for k, label in enumerate(labels) if not targets[:, k].any())

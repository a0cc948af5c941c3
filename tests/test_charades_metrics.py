"""The official measures of Charades: cases by hand, and the definition spelled out on random scores with ties."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest

from pipeline.dataset.manifest import Interval, VideoEntry
from reports.metrics.charades import (
    AnnotatedVideo,
    classification,
    localisation,
    official_average_precisions,
    point_targets,
    points_s,
)
from reports.thresholds import Bools, Floats

LABELS = ("c000", "c001", "c002")


def video(video_id: str, length_s: float, *intervals: tuple[str, float, float]) -> VideoEntry:
    return VideoEntry(
        video_id, f"{video_id}.mp4", "S", "", "test", length_s, tuple(Interval(*own) for own in intervals)
    )


def naive_average_precision(scores: Floats, positives: Bools) -> float:
    """Rank by counting: a row stands behind those with a higher score and behind equal ones above it."""
    rank = [
        1 + sum(other > score or (other == score and j < i) for j, other in enumerate(scores))
        for i, score in enumerate(scores)
    ]
    ranks = [rank[i] for i in range(len(scores)) if positives[i]]
    total = sum(Fraction(sum(other <= own for other in ranks), own) for own in ranks)
    return float(total / len(ranks)) if ranks else math.nan


@pytest.mark.parametrize("seed", range(20))
def test_random_scores_agree_with_the_naive_definition(seed: int) -> None:
    """Scores of one digit tie often; some rows have none at all."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 10, (40, 4)) / 10
    scores[rng.random(40) < 0.1] = -np.inf
    targets = rng.random((40, 4)) < [0.05, 0.3, 0.9, 0.0]
    assert official_average_precisions(scores, targets) == pytest.approx(
        [naive_average_precision(scores[:, k], targets[:, k]) for k in range(4)], nan_ok=True
    )


def test_without_ties_scikit_learn_agrees() -> None:
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    scores, targets = rng.random((500, 1)), rng.random((500, 1)) < 0.2
    assert official_average_precisions(scores, targets)[0] == pytest.approx(
        average_precision_score(targets[:, 0], scores[:, 0])
    )


def test_average_precision_by_hand() -> None:
    """Positives at ranks 1, 3 and 4 of 4 give (1/1 + 2/3 + 3/4) / 3. Equal scores rank in the order of the rows."""
    scores = np.array([[0.9], [0.8], [0.7], [0.1]])
    assert official_average_precisions(scores, np.array([[True], [False], [True], [True]])) == pytest.approx([29 / 36])
    equal = np.zeros((3, 1))
    assert official_average_precisions(equal, np.array([[True], [False], [False]])) == [1.0]
    assert official_average_precisions(equal, np.array([[False], [False], [True]])) == pytest.approx([1 / 3])


def test_points_are_25ths_of_the_length_from_its_start() -> None:
    """Divided first, then multiplied, in double precision: 7 / 25 * 25 is past 7, so that an end at 7.00 is off."""
    assert points_s(25.0) == pytest.approx(np.arange(25))
    assert points_s(30.77).tolist() == [j / 25 * 30.77 for j in range(25)]
    assert not point_targets([video("A", 25, ("c000", 6.5, 7))], LABELS).any()


def test_an_interval_is_on_at_both_its_ends() -> None:
    """Points at 0 … 24 s: [2, 5] is on at 2, 3, 4 and 5; one past the end from 23 on; a reversed one nowhere."""
    targets = point_targets(
        [
            video("A", 25, ("c000", 2, 5), ("c000", 4, 5.9), ("c001", 23, 26.5), ("c002", 9, 7)),
            video("B", 25, ("c001", 0, 0), ("c002", 3.2, 3.8), ("c156", 0, 25)),
            video("C", 25),
        ],
        LABELS,
    )
    assert targets.shape == (3, 25, 3)
    where = {(i, k): np.flatnonzero(targets[i, :, k]).tolist() for i in range(3) for k in range(3)}
    assert {key: points for key, points in where.items() if points} == {
        (0, 0): [2, 3, 4, 5],
        (0, 1): [23, 24],
        (1, 1): [0],
    }


def test_localisation_by_hand() -> None:
    """Positives at points 1 and 3 of A; a video without actions scores highest and costs both: (1/2 + 2/3) / 2."""
    videos = [video("A", 25, ("c000", 1, 1), ("c000", 3, 3)), video("B", 25)]
    scores = np.zeros((2, 25, 3))
    scores[1, 7, 0], scores[0, 1, 0], scores[0, 3, 0] = 0.9, 0.8, 0.7
    found = localisation(videos, scores, LABELS)
    assert found.average_precisions[0] == pytest.approx(7 / 12)
    assert found.mean_average_precision == found.average_precisions[0]
    assert (found.num_rows, found.num_videos, found.num_positives) == (50, 2, (2, 0, 0))
    assert found.labels_without_positives == ("c001", "c002")
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (written["map"], written["n_labels_without_positives"]) == (0.583333, 2)
    assert written["labels_without_positives"] == ["c001", "c002"]
    assert written["labels"][1] == {"label": "c001", "average_precision": None, "n_positives": 0}


def test_a_video_without_scores_ranks_last() -> None:
    """The only positive is in it: it ranks first of the 25 rows behind the other video's 25, so 1/26."""
    videos = [video("A", 25, ("c000", 0, 0)), video("B", 25)]
    scores = np.zeros((2, 25, 3))
    scores[0] = -np.inf
    assert localisation(videos, scores, LABELS).average_precisions[0] == pytest.approx(1 / 26)


def test_scores_may_come_from_a_function_of_the_points() -> None:
    """A function that knows the truth scores 1.0; it is asked at each video's own 25 times."""
    videos = [video("A", 25, ("c000", 2, 5)), video("B", 50, ("c001", 10, 30))]

    def known(of: AnnotatedVideo, times_s: Floats) -> Floats:
        assert times_s.shape == (25,)
        return np.stack(
            [
                np.max(
                    [(own.start_s <= times_s) & (times_s <= own.end_s) & (own.label == k) for own in of.intervals], 0
                )
                for k in LABELS
            ],
            axis=1,
        ).astype(np.float32)

    found = localisation(videos, known, LABELS)
    assert found.average_precisions[:2] == (1.0, 1.0)
    assert found.num_positives == (4, 11, 0)  # B: points every 2 s, at 10, 12 … 30


def test_classification_drops_videos_without_actions() -> None:
    """E has none, scores highest and costs nothing. O has others' labels only and stays; R's reversed interval counts.

    c000 is true of R alone, at rank 2 behind O: 1/2. c001 is true of A, at rank 1 of A, O, R.
    """
    videos = [
        video("A", 25, ("c001", 0, 5)),
        video("E", 25),
        video("O", 25, ("c156", 0, 5)),
        video("R", 25, ("c000", 9, 7)),
    ]
    scores = np.array([[0.1, 0.6, 0.0], [0.9, 0.9, 0.0], [0.5, 0.5, 0.0], [0.4, 0.4, 0.0]])
    found = classification(videos, scores, LABELS)
    assert found.average_precisions[:2] == (0.5, 1.0)
    assert math.isnan(found.average_precisions[2])
    assert found.mean_average_precision == 0.75
    assert (found.num_rows, found.num_videos) == (3, 3)


def test_no_videos_and_no_labels_are_nan() -> None:
    for found in (
        localisation([], np.zeros((0, 25, 3)), LABELS),
        localisation([], lambda *_: np.zeros((25, 3)), LABELS),
        localisation([video("A", 25)], np.zeros((1, 25, 0)), ()),
        classification([video("A", 25)], np.zeros((1, 3)), LABELS),
    ):
        assert math.isnan(found.mean_average_precision)
        assert found.labels_without_positives == found.labels


def test_scores_that_do_not_fit_raise() -> None:
    videos = [video("A", 25, ("c000", 0, 5))]
    with pytest.raises(ValueError, match=r"\(1, 25, 3\)"):
        localisation(videos, np.zeros((1, 24, 3)), LABELS)
    with pytest.raises(ValueError, match=r"\(1, 3\)"):
        classification(videos, np.zeros((2, 3)), LABELS)
    with pytest.raises(ValueError, match="not a number"):
        localisation(videos, np.full((1, 25, 3), np.nan), LABELS)
    with pytest.raises(ValueError, match="unique"):
        localisation([*videos, *videos], np.zeros((2, 25, 3)), LABELS)


@pytest.mark.slow
def test_the_size_of_charades_fits() -> None:
    """1,863 videos, 157 labels: scores that know nothing give each label's share of points, as chance has."""
    rng = np.random.default_rng(0)
    labels = [f"c{k:03d}" for k in range(157)]
    videos = []
    for number in range(1863):
        starts_s = rng.uniform(0, 30, 9)
        own = [(labels[rng.integers(157)], float(start), float(start) + 9.0) for start in starts_s]
        videos.append(video(f"V{number:04d}", 30.0, *own))
    found = localisation(videos, rng.random((1863, 25, 157)), labels)
    share = np.mean(found.num_positives) / found.num_rows
    assert found.num_rows == 46_575
    assert found.mean_average_precision == pytest.approx(share, rel=0.05)

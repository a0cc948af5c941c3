import json
import math

import numpy as np
import pytest

from heads.predictions import Predictions
from reports.metrics.average_precision import average_precisions
from reports.metrics.f1 import micro_f1, micro_f1_prior
from reports.metrics.summary import _HEADLINE, headline, label_scores, summary
from reports.thresholds import ThresholdGrid, best_threshold, decide, sweep

LABELS = ("c000", "c001", "c002")
GRID = ThresholdGrid(0.05, 0.95, 0.05, 1).values()


def predict(*, seed: int, n_videos: int) -> Predictions:
    """A random split with four windows a video and signal in two labels; c002 is true for the first video only."""
    rng = np.random.default_rng(seed)
    targets = rng.random((4 * n_videos, 3)) < [0.4, 0.15, 0.0]
    videos = np.array([f"V{k:03}" for k in range(n_videos)])
    video_targets = targets.reshape(n_videos, 4, 3).max(axis=1)
    video_targets[0, 2] = True
    return Predictions(
        labels=LABELS,
        video_ids=np.repeat(videos, 4),
        window=np.tile(np.arange(4, dtype=np.int32), n_videos),
        start_s=np.tile(np.arange(4) * 2.0, n_videos),
        end_s=np.tile(np.arange(4) * 2.0 + 4, n_videos),
        probabilities=(0.25 * targets + 0.5 * rng.random(targets.shape)).astype(np.float32),
        targets=targets,
        videos=videos,
        video_targets=video_targets,
    )


def test_average_precision_by_hand() -> None:
    """Positives at ranks 1 and 3 of 4 give (1/1 + 2/3) / 2; a label without positives is nan."""
    probabilities = np.array([[0.9, 0.2], [0.8, 0.9], [0.7, 0.1], [0.1, 0.3]])
    targets = np.array([[True, False], [False, False], [True, False], [False, False]])
    precisions = average_precisions(probabilities, targets)
    assert precisions[0] == pytest.approx(5 / 6)
    assert math.isnan(precisions[1])


def test_micro_f1_counts_only_what_is_recognised_or_true() -> None:
    """Two hits, one false alarm, one miss give 2/3, for many labels and for one alone; true negatives do not count."""
    probabilities = np.array([[0.9, 0.9], [0.9, 0.1], [0.1, 0.1], [0.1, 0.1]])
    targets = np.array([[True, True], [False, True], [False, False], [False, False]])
    assert micro_f1(probabilities, targets, thresholds=0.5) == pytest.approx(2 / 3)
    assert micro_f1(probabilities[:, :1], targets[:, :1], thresholds=0.5) == pytest.approx(2 / 3)
    assert micro_f1(probabilities, targets, thresholds=[0.5, 0.05]) == pytest.approx(6 / 9)
    assert micro_f1(probabilities, targets, thresholds=0.95) == 0.0


def test_the_label_table_says_what_it_cannot_say() -> None:
    """Nothing recognised: precision nan, F1 0. No positives: everything nan. Counts and thresholds always."""
    probabilities = np.array([[0.2, 0.9, 0.9], [0.3, 0.8, 0.1]])
    targets = np.array([[True, False, True], [False, False, True]])
    unseen, absent, half = label_scores(probabilities, targets, labels=LABELS, thresholds=[0.5, 0.5, 0.6])
    assert (unseen.n_positives, unseen.f1, unseen.recall) == (1, 0.0, 0.0)
    assert math.isnan(unseen.precision)
    assert absent.n_positives == 0
    assert all(math.isnan(value) for value in (absent.f1, absent.precision, absent.recall, absent.average_precision))
    assert (half.precision, half.recall, half.threshold) == (1.0, 0.5, 0.6)
    assert half.f1 == pytest.approx(2 / 3)


def test_the_prior_is_the_best_constant_answer() -> None:
    """The prior always recognises the most frequent labels, as many as are best on val."""
    rng = np.random.default_rng(3)
    val, test = rng.random((500, 3)) < [0.5, 0.3, 0.02], rng.random((400, 3)) < [0.5, 0.3, 0.02]

    def constant(targets: np.ndarray, answers: list[bool]) -> float:
        return micro_f1(np.tile(np.array(answers, dtype=float), (len(targets), 1)), targets, thresholds=0.5)

    by_frequency = [[True, False, False], [True, True, False], [True, True, True]]
    best_on_val = max(by_frequency, key=lambda answers: constant(val, answers))
    prior_f1 = micro_f1_prior(train_frequencies=np.array([0.51, 0.29, 0.02]), val_targets=val, test_targets=test)
    assert prior_f1 == constant(test, best_on_val)
    assert prior_f1 == constant(test, [True, True, False])


def test_the_summary_holds_every_key_for_windows_and_videos() -> None:
    """All keys, 6 digits, JSON without nan; thresholds come from val, counts and scores from test."""
    val, test = predict(seed=1, n_videos=40), predict(seed=2, n_videos=30)
    val_sweep = sweep(val.probabilities, val.targets, labels=LABELS, grid=GRID, half_way_positives=3)
    frequencies, video_frequencies = np.array([0.4, 0.15, 0.0]), np.array([0.9, 0.5, 0.02])
    metrics = summary(
        val,
        test,
        sweep_on_val=val_sweep,
        train_frequencies=frequencies,
        train_video_frequencies=video_frequencies,
    )
    keys = "micro_f1 micro_f1_at_half micro_f1_prior macro_f1 map threshold n_windows n_videos n_labels"
    wanted = {*keys.split(), "n_labels_without_positives"}
    assert wanted <= metrics.keys()
    assert metrics["video"].keys() == metrics.keys() - {"video"}
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics

    assert metrics["threshold"] == round(val_sweep.threshold, 6)
    assert metrics["micro_f1"] == round(micro_f1(test.probabilities, test.targets, thresholds=val_sweep.threshold), 6)
    assert (metrics["n_windows"], metrics["n_videos"], metrics["n_labels"]) == (120, 30, 3)
    assert metrics["n_labels_without_positives"] == 1
    assert metrics["video"]["n_labels_without_positives"] == 0
    assert metrics["micro_f1"] > metrics["micro_f1_prior"] > 0

    video_threshold = metrics["video"]["threshold"]
    probabilities, targets = val.by_video()
    exact = best_threshold(probabilities.ravel(), targets.ravel())
    assert video_threshold == round(exact, 6)
    assert metrics["video"]["micro_f1"] == round(micro_f1(*test.by_video(), thresholds=exact), 6)
    assert decide(test.probabilities, val_sweep.threshold).any()


def test_a_summary_of_nothing_to_find_is_null() -> None:
    """Where test has no positives, means over labels are None, not 0 and not nan."""
    val, test = predict(seed=1, n_videos=10), predict(seed=2, n_videos=5)
    empty = Predictions(
        labels=LABELS,
        video_ids=test.video_ids,
        window=test.window,
        start_s=test.start_s,
        end_s=test.end_s,
        probabilities=test.probabilities,
        targets=np.zeros_like(test.targets),
        videos=test.videos,
        video_targets=np.zeros_like(test.video_targets),
    )
    val_sweep = sweep(val.probabilities, val.targets, labels=LABELS, grid=GRID, half_way_positives=3)
    frequencies = np.array([0.4, 0.15, 0.0])
    metrics = summary(
        val, empty, sweep_on_val=val_sweep, train_frequencies=frequencies, train_video_frequencies=frequencies
    )
    assert metrics["map"] is None
    assert metrics["macro_f1"] is None
    assert metrics["n_labels_without_positives"] == 3


def test_labels_in_another_order_are_refused() -> None:
    """Predictions and sweep must have the same labels in the same order."""
    val = predict(seed=1, n_videos=10)
    val_sweep = sweep(val.probabilities, val.targets, labels=LABELS[::-1], grid=GRID, half_way_positives=3)
    with pytest.raises(ValueError, match="labels differ"):
        summary(val, val, sweep_on_val=val_sweep, train_frequencies=np.ones(3), train_video_frequencies=np.ones(3))


def test_the_headline_is_a_few_scores_as_they_are_nested() -> None:
    """At most twelve columns of `dvc metrics show`; what a model has no score of is left out."""
    scores = {
        "micro_f1": 0.5,
        "macro_f1": 0.4,
        "map": 0.6,
        "video": {"micro_f1": 0.7, "map": 0.8},
        "events": {"videos": {"f1": 0.3, "recall": 0.2, "careful": {"precision": 0.9}}},
    }
    assert headline(scores) == {
        "micro_f1": 0.5,
        "map": 0.6,
        "video": {"micro_f1": 0.7},
        "events": {"videos": {"f1": 0.3}},
    }
    assert len(_HEADLINE) <= 12

"""Numbers by protocol: by hand, and against definitions that are written out plainly."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from heads.predictions import Predictions
from pipeline.dataset.manifest import Interval, VideoEntry
from reports import baselines
from reports.metrics.charades import official_average_precisions
from reports.metrics.f1 import micro_f1, micro_f1_prior
from reports.metrics.intervals import draw_subjects, mean_average_precisions, official_mean_average_precisions
from reports.metrics.protocols import (
    NUM_PROTOTYPE_VIDEOS,
    charades_classify,
    charades_localize,
    held_out,
    protocol_blocks,
    prototype,
)

LABELS = ("c000", "c001", "c002", "c003")
STRIDE_S = 1.0


def video(video_id: str, length_s: float, *intervals: tuple[str, float, float], subject: str = "S") -> VideoEntry:
    own = tuple(Interval(*each) for each in intervals)
    return VideoEntry(video_id, f"{video_id}.mp4", subject, "", "test", length_s, own)


def predictions(videos: list[VideoEntry], probabilities: dict[str, np.ndarray]) -> Predictions:
    """Windows of one second, one after another; a window carries a label where its middle is inside an interval."""
    rows: list[tuple[str, int]] = [(name, k) for name in sorted(probabilities) for k in range(len(probabilities[name]))]
    by_id = {each.video_id: each for each in videos}
    starts_s = np.array([float(k) for _, k in rows])
    targets = np.array(
        [
            [
                any(i.label == label and i.start_s <= k + 0.5 < i.end_s for i in by_id[name].intervals)
                for label in LABELS
            ]
            for name, k in rows
        ]
    )
    names = sorted(probabilities)
    return Predictions(
        labels=LABELS,
        video_ids=np.array([name for name, _ in rows]),
        window=np.array([k for _, k in rows], dtype=np.int32),
        start_s=starts_s,
        end_s=starts_s + 1.0,
        probabilities=np.concatenate([probabilities[name] for name in names]).astype(np.float32),
        targets=targets,
        videos=np.array(names),
        video_targets=np.array([[label in by_id[name].classes for label in LABELS] for name in names]),
    )


def world(seed: int) -> tuple[Predictions, list[VideoEntry]]:
    """20 videos of 5 people, not sorted by id: ties everywhere, c003 nowhere, some without actions, one unread."""
    rng = np.random.default_rng(seed)
    videos = []
    for k in rng.permutation(20).tolist():
        own = [
            (LABELS[rng.integers(3)], float(start), float(start) + rng.uniform(0.5, 4))
            for start in rng.uniform(0, 9, size=rng.integers(0, 4))
        ]
        videos.append(video(f"V{k:02d}", 10.0, *own, subject=f"p{k % 5}"))
    read = {each.video_id: rng.integers(0, 5, (10, 4)) / 4 for each in videos[1:]}
    return predictions(videos, read), videos


def plain_average_precision(scored: list[tuple[float, bool]]) -> float:
    """Walk down the ranking, and note the precision at every hit."""
    precisions, hits = [], 0
    for rank, (_, positive) in enumerate(sorted(scored, key=lambda row: -row[0]), start=1):
        if positive:
            hits += 1
            precisions.append(hits / rank)
    return sum(precisions) / hits if hits else math.nan


def plain_map(columns: list[list[tuple[float, bool]]]) -> float:
    known = [own for own in map(plain_average_precision, columns) if not math.isnan(own)]
    return sum(known) / len(known)


@pytest.mark.parametrize("seed", range(8))
def test_classification_is_as_it_is_written_down(seed: int) -> None:
    test, videos = world(seed)
    columns: list[list[tuple[float, bool]]] = []
    for k, label in enumerate(LABELS):
        column = []
        for each in videos:
            if each.intervals:
                own = test.probabilities[test.video_ids == each.video_id, k].tolist()
                column.append((max(own, default=-math.inf), any(i.label == label for i in each.intervals)))
        columns.append(column)
    found = charades_classify(test, videos, seed=0)
    assert found.interval.value == pytest.approx(plain_map(columns), abs=1e-9)
    assert found.num_videos == found.num_rows == sum(bool(each.intervals) for each in videos)
    assert "c003" in found.labels_without_positives


@pytest.mark.parametrize("seed", range(8))
def test_localisation_is_as_it_is_written_down(seed: int) -> None:
    test, videos = world(seed)
    columns: list[list[tuple[float, bool]]] = [[] for _ in LABELS]
    for each in videos:
        for j in range(25):
            time_s = j / 25 * each.length_s
            window = next((k for k in range(10) if k <= time_s < k + 1), 9)
            is_row = (test.video_ids == each.video_id) & (test.window == window)
            for k, label in enumerate(LABELS):
                score = float(test.probabilities[is_row, k][0]) if is_row.any() else -math.inf
                on = any(i.label == label and i.start_s <= time_s <= i.end_s for i in each.intervals)
                columns[k].append((score, on))
    found = charades_localize(test, videos, stride_s=STRIDE_S, seed=0)
    assert found.interval.value == pytest.approx(plain_map(columns), abs=1e-9)
    assert (found.num_videos, found.num_rows, found.num_subjects) == (20, 500, 5)
    assert found.interval.low <= found.interval.high


def test_a_point_has_the_probabilities_of_the_window_in_whose_cell_it_lies() -> None:
    """A perfect video has localisation 1 for c000; a video that was not read ranks last and costs its positives."""
    seen = video("kitchen", 10.0, ("c000", 2.0, 4.9))
    unread = video("unread", 10.0, ("c000", 0.0, 0.1))
    probabilities = np.full((10, 4), 0.1)
    probabilities[2:5, 0] = 0.9
    test = predictions([seen], {"kitchen": probabilities})
    assert charades_localize(test, [seen], stride_s=STRIDE_S, seed=0).interval.value == 1.0
    both = charades_localize(test, [seen, unread], stride_s=STRIDE_S, seed=0).interval.value
    # Points every 0.4 s: 8 of c000 in the first video, ranked first; 1 in the other, the first of the last 25.
    assert both == pytest.approx((8 + 9 / 26) / 9)
    assert charades_classify(test, [seen, unread], seed=0).interval.value == 1.0


def test_draws_of_the_official_measure_rank_ties_in_order_and_else_agree() -> None:
    rng = np.random.default_rng(1)
    targets, subjects = rng.random((200, 3)) < 0.2, [f"p{k % 6}" for k in range(200)]
    draws = draw_subjects(subjects, seed=0, num_draws=50)
    tied = rng.integers(0, 4, (200, 3)) / 4
    own = official_mean_average_precisions(tied, targets, subjects, draws)
    assert own[0] == pytest.approx(np.mean(official_average_precisions(tied, targets)), abs=1e-12)
    assert own[0] != pytest.approx(mean_average_precisions(tied, targets, subjects, draws)[0])
    distinct = rng.permutation(600).reshape(200, 3) / 600
    assert official_mean_average_precisions(distinct, targets, subjects, draws) == pytest.approx(
        mean_average_precisions(distinct, targets, subjects, draws)
    )


def test_held_out_takes_its_threshold_from_val() -> None:
    val, _ = world(1)
    test, videos = world(2)
    found = held_out(val, test, videos, seed=0)
    assert found.threshold is not None
    assert found.threshold in val.probabilities
    assert found.interval.value == pytest.approx(micro_f1(test.probabilities, test.targets, thresholds=found.threshold))
    best_on_test = max(micro_f1(test.probabilities, test.targets, thresholds=own) for own in (0.25, 0.5, 0.75, 1.0))
    assert found.interval.value <= best_on_test


def test_the_prototype_takes_the_window_nearest_each_videos_centre() -> None:
    """Windows 4 and 5 of 10 are as near, so the earlier one counts; of 5 windows of 10 s it is the last."""
    videos = [video("A", 10.0, ("c000", 0, 1)), video("B", 10.0, ("c001", 0, 1))]
    whole, half = np.zeros((10, 4)), np.zeros((5, 4))
    whole[4, 0] = 0.32  # right, and above 0.30
    whole[5, 2] = 0.9  # wrong, and not looked at
    half[4, 3] = 0.12  # wrong
    half[0, 1] = 0.9  # right, and not looked at
    test = predictions(videos, {"A": whole, "B": half})
    found = prototype(test, test, videos, videos, seed=0)
    # From 0.15 to 0.30 one of two true labels is stated, and nothing else: the lowest of these is chosen.
    assert (found.threshold, found.interval.value) == (0.15, pytest.approx(2 / 3))
    assert (found.num_videos, found.num_rows) == (2, 2)


def test_the_prototypes_threshold_is_chosen_on_the_videos_that_it_reports() -> None:
    """What val would choose is told beside it, and is never better."""
    for seed in range(6):
        val, val_videos = world(seed)
        test, videos = world(seed + 20)
        found = prototype(val, test, val_videos, videos, seed=0)
        assert found.chosen_on_val is not None
        assert found.chosen_on_val <= found.interval.value
    unlike = replace(val, probabilities=np.where(val.targets, 0.9, 0.8).astype(np.float32))
    assert prototype(unlike, test, val_videos, videos, seed=0).chosen_on_val < found.interval.value  # type: ignore[operator]


def test_the_prototype_has_the_first_thousand_videos_in_the_files_order() -> None:
    """The last of 1,001, though its id is the first, is the only one that is right."""
    names = [f"V{k:04d}" for k in range(1, NUM_PROTOTYPE_VIDEOS + 1)] + ["V0000"]
    videos = [video(name, 1.0, ("c000", 0, 1), subject=name) for name in names]
    probabilities = {name: np.array([[0.0, 0.0, 0.0, 0.6]]) for name in names}
    probabilities["V0000"] = np.array([[0.9, 0.0, 0.0, 0.0]])
    test = predictions(videos, probabilities)
    found = prototype(test, test, videos, videos, seed=0)
    assert (found.num_videos, found.interval.value) == (1000, 0.0)
    assert prototype(test, test, videos, videos[::-1], seed=0).interval.value > 0


def test_baselines_go_through_the_same_protocols() -> None:
    val, val_videos = world(3)
    test, videos = world(4)
    frequencies = np.array([0.3, 0.2, 0.1, 0.0])
    prior = (baselines.prior(val, frequencies), baselines.prior(test, frequencies))
    random = (baselines.random(val, seed=0), baselines.random(test, seed=1))
    blocks = protocol_blocks(
        {"random": random, "prior": prior, "attentive": (val, test)},
        frozen=["attentive"],
        val_videos=val_videos,
        test_videos=videos,
        stride_s=STRIDE_S,
        seed=0,
    )
    assert list(blocks) == ["held_out", "prototype", "charades_classify", "charades_localize", "videoglue_frozen"]
    assert blocks["held_out"]["models"]["prior"]["value"] == pytest.approx(
        micro_f1_prior(train_frequencies=frequencies, val_targets=val.targets, test_targets=test.targets), abs=1e-6
    )
    assert list(blocks["videoglue_frozen"]["models"]) == ["attentive"]
    assert blocks["videoglue_frozen"]["models"]["attentive"] == blocks["charades_classify"]["models"]["attentive"]
    for block in blocks.values():
        assert (block["split"], block["n_subjects"], block["n_labels"]) == ("test", 5, 4)
    without = protocol_blocks(
        {"random": random}, frozen=(), val_videos=val_videos, test_videos=videos, stride_s=STRIDE_S, seed=0
    )
    assert "videoglue_frozen" not in without
    again = baselines.random(test, seed=1)
    assert np.array_equal(again.probabilities, random[1].probabilities)


def test_random_scores_know_nothing() -> None:
    """Their average precision at the points is each label's share of them, up to chance."""
    test, videos = world(5)
    maps = [
        charades_localize(baselines.random(test, seed=k), videos, stride_s=STRIDE_S, seed=0).interval.value
        for k in range(30)
    ]
    targets = [
        [any(i.label == label and i.start_s <= j / 2.5 <= i.end_s for i in each.intervals) for label in LABELS[:3]]
        for each in videos
        for j in range(25)
    ]
    assert np.mean(maps) == pytest.approx(np.mean(targets), rel=0.3)

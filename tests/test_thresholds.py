from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from reports.thresholds import NoThresholds, Sweep, ThresholdGrid, best_threshold, decide, sweep

GRID = ThresholdGrid(0.05, 0.95, 0.05, 1).values()

World = tuple[np.ndarray, np.ndarray, list[str]]
"""Probabilities (n, L), targets (n, L) and labels."""


@pytest.fixture
def world() -> World:
    """300 rows of 4 labels with some signal; probabilities often lie exactly on the grid; c003 has two positives."""
    rng = np.random.default_rng(7)
    targets = rng.random((300, 4)) < [0.4, 0.2, 0.1, 0.0]
    targets[:2, 3] = True
    probabilities = np.clip(0.35 * targets + rng.random(targets.shape) * 0.6, 0, 1)
    probabilities[::3] = np.round(probabilities[::3] / 0.05) * 0.05
    return probabilities.astype(np.float32), targets, ["c000", "c001", "c002", "c003"]


def test_the_grid_is_exact() -> None:
    """0.05 to 0.95 are 19 decimals without drift; steps that miss the end are refused."""
    assert GRID.tolist() == [float(f"{k * 5 / 100:.2f}") for k in range(1, 20)]
    with pytest.raises(ValueError, match="whole number of steps"):
        ThresholdGrid(0.05, 0.95, 0.2, 1)
    with pytest.raises(ValueError, match="whole number of steps"):
        ThresholdGrid(0.05, 0.95, 0.0, 1)


def test_reaching_a_threshold_is_enough() -> None:
    """A float32 probability that was written as 0.35 reaches the threshold 0.35."""
    probabilities = np.array([[0.35, 0.1]], dtype=np.float32)
    assert float(probabilities[0, 0]) < 0.35
    assert decide(probabilities, 0.35).tolist() == [[True, False]]
    assert decide(probabilities, [0.4, 0.1]).tolist() == [[False, True]]


def test_the_curve_says_what_scikit_learn_says(world: World) -> None:
    """Every point's scores equal scikit-learn's at that threshold."""
    probabilities, targets, labels = world
    for point in sweep(probabilities, targets, labels=labels, grid=GRID, half_way_positives=5).curve:
        recognised = decide(probabilities, point.threshold)
        assert point.micro_f1 == pytest.approx(f1_score(targets, recognised, average="micro", zero_division=0))
        assert point.macro_f1 == pytest.approx(f1_score(targets, recognised, average="macro", zero_division=0))
        assert point.recall == pytest.approx(recall_score(targets, recognised, average="micro"))
        if recognised.any():
            assert point.precision == pytest.approx(precision_score(targets, recognised, average="micro"))
        else:
            assert point.precision is None


def test_the_best_threshold_is_the_best_of_all(world: World) -> None:
    """No probability of the rows, as a threshold, has a better F1 by scikit-learn; of equal ones it is the lowest."""
    probabilities, targets, labels = world
    swept = sweep(probabilities, targets, labels=labels, grid=GRID, half_way_positives=5)

    def f1(threshold: float) -> float:
        return float(f1_score(targets.ravel(), decide(probabilities.ravel(), threshold)))

    scores = {float(value): f1(float(value)) for value in np.unique(probabilities)}
    assert swept.threshold == min(value for value, score in scores.items() if score == max(scores.values()))
    assert swept.best == max(swept.curve, key=lambda point: point.micro_f1)
    assert swept.best.micro_f1 == pytest.approx(max(scores.values()))
    assert swept.best.micro_f1 > max(f1(threshold) for threshold in GRID)  # the grid misses it here


def test_a_labels_threshold_is_as_far_its_own_as_it_has_rows_to_say_so(world: World) -> None:
    """With endless trust in few rows it is the label's best; with none it is the global one; in between, between."""
    probabilities, targets, labels = world
    by_trust = {
        positives: sweep(probabilities, targets, labels=labels, grid=GRID, half_way_positives=positives)
        for positives in (1, 30, 10**9)
    }
    own = [best_threshold(probabilities[:, k], targets[:, k]) for k in range(4)]
    every = by_trust[1].threshold
    assert by_trust[10**9].label_thresholds == pytest.approx([every] * 4, abs=1e-4)
    assert by_trust[1].label_thresholds[0] == pytest.approx(own[0], abs=0.01)
    for k in range(4):
        low, high = sorted([own[k], every])
        assert low - 1e-9 <= by_trust[30].label_thresholds[k] <= high + 1e-9
        assert abs(by_trust[30].label_thresholds[k] - every) <= abs(by_trust[1].label_thresholds[k] - every) + 1e-9
    half = sweep(probabilities, targets, labels=labels, grid=GRID, half_way_positives=int(targets[:, 1].sum()))
    odds = [value / (1 - value) for value in (every, own[1], half.label_thresholds[1])]
    assert odds[2] == pytest.approx((odds[0] * odds[1]) ** 0.5)


def test_certain_probabilities_are_thresholds_like_any() -> None:
    """Probabilities of exactly 0 and 1 give finite thresholds."""
    probabilities, targets = np.array([[1.0, 0.0], [0.0, 0.2]]), np.array([[True, True], [False, False]])
    swept = sweep(probabilities, targets, labels=["c000", "c001"], grid=GRID, half_way_positives=1)
    assert np.isfinite(swept.label_thresholds).all()
    assert 0 <= min(swept.label_thresholds) <= max(swept.label_thresholds) <= 1


def test_ties_go_to_the_lower_threshold() -> None:
    """0.4 has one hit of one, 0.2 two of four: both have an F1 of 2/3, and 0.2 is chosen."""
    probabilities, targets = np.array([[0.4], [0.2], [0.2], [0.2]]), np.array([[True], [True], [False], [False]])
    swept = sweep(probabilities, targets, labels=["c000"], grid=np.array([0.1, 0.2, 0.5, 0.8]), half_way_positives=1)
    assert swept.threshold == 0.2
    assert swept.label_thresholds == pytest.approx((0.2,))


def test_a_label_without_positives_never_chooses() -> None:
    """It gets the global threshold, and is in no macro mean."""
    probabilities, targets = np.array([[0.1, 0.9], [0.8, 0.9]]), np.array([[False, False], [True, False]])
    swept = sweep(probabilities, targets, labels=["c000", "c001"], grid=np.array([0.2, 0.95]), half_way_positives=1)
    assert swept.fallback_labels == ("c001",)
    assert swept.curve[0].macro_f1 == 1.0
    with pytest.raises(NoThresholds, match="none of 2 rows"):
        sweep(probabilities, ~targets & targets, labels=["c000", "c001"], grid=GRID, half_way_positives=1)


def test_a_sweep_comes_back_from_disk_and_draws(world: World, tmp_path: Path) -> None:
    """JSON gives the same sweep again; the CSV has a row for each threshold."""
    probabilities, targets, labels = world
    swept = sweep(probabilities * 0.9, targets, labels=labels, grid=GRID, half_way_positives=5)
    swept.save(tmp_path / "thresholds.json")
    assert Sweep.load(tmp_path / "thresholds.json") == swept
    np.testing.assert_array_equal(swept.grid, np.sort([*GRID, swept.threshold]))
    swept.save_curve(tmp_path / "curve.csv")
    rows = (tmp_path / "curve.csv").read_text().splitlines()
    assert rows[0] == "threshold,micro_f1,macro_f1,precision,recall"
    assert len(rows) == 21
    assert rows[1].startswith("0.05,")

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from reports.thresholds import NoThresholds, Sweep, ThresholdGrid, decide, sweep

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
    for point in sweep(probabilities, targets, labels=labels, grid=GRID, min_positives=5).curve:
        recognised = decide(probabilities, point.threshold)
        assert point.micro_f1 == pytest.approx(f1_score(targets, recognised, average="micro", zero_division=0))
        assert point.macro_f1 == pytest.approx(f1_score(targets, recognised, average="macro", zero_division=0))
        assert point.recall == pytest.approx(recall_score(targets, recognised, average="micro"))
        if recognised.any():
            assert point.precision == pytest.approx(precision_score(targets, recognised, average="micro"))
        else:
            assert point.precision is None


def test_the_best_thresholds_are_the_best_of_all_tried(world: World) -> None:
    """No threshold of the grid beats the global one, or a label's own one; the rare label falls back."""
    probabilities, targets, labels = world
    swept = sweep(probabilities, targets, labels=labels, grid=GRID, min_positives=5)
    assert swept.fallback_labels == ("c003",)
    assert swept.label_thresholds[3] == swept.threshold

    def f1(column: int, threshold: float) -> float:
        return f1_score(targets[:, column], decide(probabilities[:, column], threshold), zero_division=0)

    for column in range(3):
        assert f1(column, swept.label_thresholds[column]) == max(f1(column, threshold) for threshold in GRID)
    assert swept.best == max(swept.curve, key=lambda point: point.micro_f1)
    assert swept.best.threshold == swept.threshold


def test_ties_go_to_the_lower_threshold() -> None:
    """If 0.2 to 0.8 all separate perfectly, 0.2 is chosen."""
    probabilities, targets = np.array([[0.1], [0.8]]), np.array([[False], [True]])
    swept = sweep(probabilities, targets, labels=["c000"], grid=np.array([0.1, 0.2, 0.5, 0.8]), min_positives=1)
    assert swept.threshold == 0.2
    assert swept.label_thresholds == (0.2,)


def test_a_label_without_positives_never_chooses() -> None:
    """Even with min_positives 0 it gets the global threshold, and is in no macro mean."""
    probabilities, targets = np.array([[0.1, 0.9], [0.8, 0.9]]), np.array([[False, False], [True, False]])
    swept = sweep(probabilities, targets, labels=["c000", "c001"], grid=np.array([0.2, 0.95]), min_positives=0)
    assert swept.fallback_labels == ("c001",)
    assert swept.curve[0].macro_f1 == 1.0
    with pytest.raises(NoThresholds, match="none of 2 rows"):
        sweep(probabilities, ~targets & targets, labels=["c000", "c001"], grid=GRID, min_positives=1)


def test_a_sweep_comes_back_from_disk_and_draws(world: World, tmp_path: Path) -> None:
    """JSON gives the same sweep again; the CSV has a row for each threshold."""
    probabilities, targets, labels = world
    swept = sweep(probabilities * 0.9, targets, labels=labels, grid=GRID, min_positives=5)
    swept.save(tmp_path / "thresholds.json")
    assert Sweep.load(tmp_path / "thresholds.json") == swept
    np.testing.assert_array_equal(swept.grid, GRID)
    swept.save_curve(tmp_path / "curve.csv")
    rows = (tmp_path / "curve.csv").read_text().splitlines()
    assert rows[0] == "threshold,micro_f1,macro_f1,precision,recall"
    assert len(rows) == 20
    assert rows[1].startswith("0.05,")

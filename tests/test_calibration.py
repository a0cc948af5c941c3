from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from reports.calibration import (
    Calibration,
    expected_calibration_error,
    fit_calibration,
    label_calibration_errors,
    reliability,
)


def sigmoid(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1 / (1 + np.exp(-logits))


def drawn(
    slopes: list[float], offsets: list[float], count: int, seed: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Probabilities (count, L) and a truth that is drawn with slope · logit + offset."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, len(slopes)))
    return sigmoid(logits), random.random(logits.shape) < sigmoid(logits * slopes + offsets)


def test_a_known_slope_and_offset_are_found_again() -> None:
    """An overconfident label (slope 0.5) and a timid one (slope 2, offset -1) each get their own scaling back."""
    calibration = fit_calibration(*drawn([0.5, 2.0], [0.0, -1.0], 20_000))
    assert calibration.slopes == pytest.approx([0.5, 2.0], rel=0.1)
    assert calibration.offsets == pytest.approx([0.0, -1.0], abs=0.1)


def test_calibrated_probabilities_hold_what_they_say() -> None:
    """Fitted on one half, the error on the other half falls to a fifth at most."""
    probabilities, truth = drawn([0.4], [-1.0], 8000)
    calibrated = fit_calibration(probabilities[:4000], truth[:4000]).apply(probabilities[4000:])
    before = expected_calibration_error(probabilities[4000:], truth[4000:])
    assert expected_calibration_error(calibrated, truth[4000:]) < before / 5


def test_a_rare_label_takes_what_all_share() -> None:
    """A label without a positive gets the shared scaling, one with few lies between it and its own."""
    probabilities, truth = drawn([0.5, 0.5, 2.0], [0.0, 0.0, 0.0], 4000)
    truth[:, 1] = False
    shared = fit_calibration(probabilities, truth)
    many = fit_calibration(probabilities, truth, strength=1e9)
    assert many.slopes == pytest.approx([many.slopes[1]] * 3, abs=1e-3)
    assert shared.slopes[1] == pytest.approx(many.slopes[1], abs=1e-6)
    firm = fit_calibration(probabilities, truth, strength=100.0)
    assert shared.slopes[0] < firm.slopes[0] < many.slopes[0]
    assert many.slopes[2] < firm.slopes[2] < shared.slopes[2]


def test_the_order_of_probabilities_stays_even_where_they_say_nothing() -> None:
    """A label whose high probabilities are the false ones keeps its order: its slope stays above 0."""
    probabilities, truth = drawn([-1.0], [0.0], 2000)
    calibrated = fit_calibration(probabilities, truth, strength=0.01).apply(probabilities)
    order = np.argsort(probabilities[:, 0])
    assert (np.diff(calibrated[order, 0]) >= 0).all()


def test_0_and_1_and_float32_come_out_as_numbers_from_0_to_1() -> None:
    """Certain probabilities have no infinite logit here, and the identity changes nothing."""
    extreme = np.array([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    calibration = fit_calibration(extreme, np.array([[False, True], [True, True]]))
    assert ((calibration.apply(extreme) >= 0) & (calibration.apply(extreme) <= 1)).all()
    assert Calibration.identity(2).apply(np.array([[0.2, 0.9]])) == pytest.approx(np.array([[0.2, 0.9]]))


def test_a_calibration_checks_itself() -> None:
    """A slope of 0 or less would turn the order around, and each label needs both numbers."""
    with pytest.raises(ValueError, match="positive slope"):
        Calibration((0.0,), (1.0,))
    with pytest.raises(ValueError, match="positive slope"):
        Calibration((1.0, 1.0), (0.0,))


def test_reliability_and_expected_calibration_error_by_hand() -> None:
    """Two of four rows at 0.25 are true, one of one at 1.0: the error is (4 · 0.25 + 1 · 0) / 5."""
    probabilities = np.array([[0.25], [0.25], [0.25], [0.25], [1.0]])
    truth = np.array([[True], [True], [False], [False], [True]])
    low, high = reliability(probabilities, truth)
    assert (low.low, low.high, low.count, low.mean_probability, low.share_true) == (0.2, 0.3, 4, 0.25, 0.5)
    assert (high.low, high.high, high.count, high.mean_probability, high.share_true) == (0.9, 1.0, 1, 1.0, 1.0)
    assert expected_calibration_error(probabilities, truth) == pytest.approx(0.2)


def test_errors_of_single_labels_need_enough_positives() -> None:
    """An overconfident label falls to a fifth; one with 29 true rows has no error of its own."""
    probabilities, truth = drawn([0.4, 0.4], [-1.0, 0.0], 8000)
    truth[np.flatnonzero(truth[:, 1])[29:], 1] = False
    calibrated = fit_calibration(probabilities[:4000], truth[:4000]).apply(probabilities)
    many, few = label_calibration_errors(["many", "few"], probabilities, calibrated, truth)
    assert many.n_positives == truth[:, 0].sum()
    assert many.ece_before == pytest.approx(expected_calibration_error(probabilities[:, 0], truth[:, 0]))
    assert many.ece_before is not None
    assert many.ece_after is not None
    assert many.ece_after < many.ece_before / 5
    assert (few.n_positives, few.ece_before, few.ece_after) == (29, None, None)

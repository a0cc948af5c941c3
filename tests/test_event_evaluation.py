"""What a decoding gets right on test: events at both points, and calibration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.video import Segment
from reports.decoding import Decoding
from reports.event_evaluation import evaluate_calibration, evaluate_events
from reports.events import EventRule
from reports.metrics.matching import AnnotatedRecording, TrueEvent
from tests.model_folders import write_decoding

LABELS = ("c015", "c059")
WINDOWS = [Segment(float(k), k + 1.0) for k in range(10)]


@pytest.fixture
def decoding(tmp_path: Path) -> Decoding:
    """Events from 0.4 on; carefully, from 0.8 on."""
    plain = Decoding.load(write_decoding(tmp_path / "rules.json", LABELS, EventRule(0.4, 0.4, 0.0, 0.0)))
    return replace(plain, careful_rules=dict.fromkeys(LABELS, EventRule(0.8, 0.8, 0.0, 0.0)))


def kitchen() -> AnnotatedRecording:
    """c015 happens from 2 to 5 s, surely seen; c059 from 7 to 8 s, and is seen there unsurely and once by mistake."""
    probabilities = np.full((10, 2), 0.1, dtype=np.float32)
    probabilities[2:5, 0] = 0.9
    probabilities[[0, 7], 1] = 0.5
    truth = [TrueEvent("kitchen", "c015", Segment(2, 5)), TrueEvent("kitchen", "c059", Segment(7, 8))]
    return AnnotatedRecording("kitchen", "video", WINDOWS, probabilities, truth)


def test_both_points_are_compared_with_the_truth(decoding: Decoding) -> None:
    """Two of three stated events are right at the best point; at the careful one the only one is, of two true."""
    headline = evaluate_events(decoding, [kitchen()], stride_s=1.0).headline()
    assert (headline["precision"], headline["recall"]) == (pytest.approx(2 / 3, abs=1e-6), 1.0)
    assert (headline["careful"]["precision"], headline["careful"]["recall"]) == (1.0, 0.5)
    assert headline["precision_by_seconds"] == pytest.approx(4 / 5)
    assert headline["stated_per_hour"] == pytest.approx(3 * 360)


def test_calibration_is_measured_on_cells(decoding: Decoding) -> None:
    """Nothing is calibrated here, so before and after are the same: means of |probability - share| over bins."""
    reliability = evaluate_calibration(decoding, [kitchen()], stride_s=1.0)
    expected = (15 * 0.1 + 2 * 0.0 + 3 * 0.1) / 20
    assert reliability.ece_before == pytest.approx(expected, abs=1e-6)
    assert reliability.ece_after == pytest.approx(expected, abs=1e-4)

"""The benchmark's rows of the report and of the sweep, on a small made-up project."""

from __future__ import annotations

import pytest

from bench.real_size import Size
from bench.reporting import measure_report, measure_sweep


def test_the_sweep_gives_what_a_loop_over_sklearn_gives() -> None:
    """The loop raises if it finds other thresholds; the ratio is of both times."""
    row = measure_sweep(num_rows=30, num_labels=2, rounds=1)
    assert row.goal == 50
    assert row.measured is not None
    assert row.measured == pytest.approx(row.details["loop_median_s"] / row.details["sort_median_s"])


@pytest.mark.slow
def test_the_report_is_measured_on_made_up_predictions() -> None:
    """Seconds and megabytes of a page that was written, of all windows that were predicted."""
    seconds, megabytes = measure_report(Size(train_videos=30, test_videos=10, subjects=12, hidden_size=32))
    assert (seconds.goal, megabytes.goal) == (60, 5)
    assert seconds.measured is not None
    assert seconds.measured > 0
    assert megabytes.measured is not None
    assert 0.1 < megabytes.measured < 5
    assert seconds.details["test_windows"] > 200

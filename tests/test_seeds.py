"""Heads with other seeds: what chance in training does to the scores, and to nothing else."""

from __future__ import annotations

import math
from typing import Any

from reports.metrics.seeds import spreads


def test_spreads_are_means_and_standard_deviations() -> None:
    runs: dict[int, dict[str, Any]] = {
        0: {"micro_f1": 0.5, "map": None, "events": {"videos": {"f1": 0.2}}},
        7: {"micro_f1": 0.7, "map": 0.4, "events": {"videos": {"f1": 0.2}}},
    }
    found = spreads(runs)
    assert found["micro_f1"] == {"mean": 0.6, "std": round(math.sqrt(0.02), 6), "by_seed": {"0": 0.5, "7": 0.7}}
    assert found["events.videos.f1"]["std"] == 0.0
    assert found.keys() == {"micro_f1", "events.videos.f1"}  # a score that one run lacks says nothing of both

"""What chance in training does to a score: mean and spread over heads that were trained with other seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

SCORES = (
    "micro_f1",
    "map",
    "video.micro_f1",
    "events.recordings.f1",
    "events.videos.f1",
    "charades.localisation_map",
    "charades.classification_map",
)
"""The scores whose spread is told; a dot is a key inside another."""


def spreads(runs: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """For each score the mean, the standard deviation (n - 1) and the values by seed; six digits, JSON.

    `runs` has a model's metrics by seed. A score that a run lacks is left out.
    """
    spread_of = {}
    for name in SCORES:
        values = {seed: _at(metrics, name) for seed, metrics in runs.items()}
        known = {seed: value for seed, value in values.items() if value is not None}
        if len(known) == len(runs) and known:
            spread_of[name] = {
                "mean": round(statistics.fmean(known.values()), 6),
                "std": round(statistics.stdev(known.values()), 6) if len(known) > 1 else None,
                "by_seed": {str(seed): round(value, 6) for seed, value in known.items()},
            }
    return spread_of


def _at(metrics: Mapping[str, Any], name: str) -> float | None:
    value: Any = metrics
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if value is None or math.isnan(value) else float(value)

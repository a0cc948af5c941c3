"""The committed results agree with what the README says of the demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parents[1] / "results" / "demo"


def metrics_of(label_set: str) -> dict[str, dict[str, Any]]:
    models: dict[str, dict[str, Any]] = json.loads((RESULTS / label_set / "scores.json").read_text())["models"]
    return models


@pytest.mark.parametrize("label_set", ["diary", "handpicked"])
def test_each_step_earns_its_place(label_set: str) -> None:
    """On test windows: a head beats the prior by 0.12, the last block beats the head, a swept threshold beats 0.5."""
    metrics = metrics_of(label_set)
    assert metrics["linear"]["micro_f1"] >= metrics["linear"]["micro_f1_prior"] + 0.12
    assert metrics["finetune"]["micro_f1"] > metrics["linear"]["micro_f1"]
    assert any(model["micro_f1"] > model["micro_f1_at_half"] for model in metrics.values())


@pytest.mark.parametrize("label_set", ["diary", "handpicked"])
def test_what_comes_before_and_after_a_window_is_worth_most(label_set: str) -> None:
    """On test recordings temporal heads' events beat those of single windows, most of all on the finetuned block."""
    events = {model: metrics["events"]["recordings"] for model, metrics in metrics_of(label_set).items()}
    f1 = {model: own["f1"] for model, own in events.items()}
    assert f1["temporal"] > max(f1["linear"], f1["finetune"]) + 0.05
    assert f1["finetune_temporal"] > f1["temporal"] + 0.05
    assert all(own["careful"]["contradictions_per_hour"] == 0 for own in events.values())

"""The committed results agree with what the README says of the demo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / "results" / "demo"


@pytest.mark.parametrize("label_set", ["diary", "handpicked"])
def test_each_step_earns_its_place(label_set: str) -> None:
    """On test windows: a head beats the prior by 0.12, the last block beats the head, a swept threshold beats 0.5."""
    head, finetune = (json.loads((RESULTS / label_set / f"{model}.json").read_text()) for model in ("head", "finetune"))
    assert head["micro_f1"] >= head["micro_f1_prior"] + 0.12
    assert finetune["micro_f1"] > head["micro_f1"]
    assert any(model["micro_f1"] > model["micro_f1_at_half"] for model in (head, finetune))

"""Heads with other seeds: what chance in training does to the scores, and to nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from ruamel.yaml import YAML

from features.files import sha256_of
from pipeline.stages import report, seeds
from reports.metrics.seeds import spreads
from tests.test_finetune_temporal import run, stages
from tests.test_finetuning import Stages, world

__all__ = ["stages", "world"]


def test_spreads_are_means_and_standard_deviations() -> None:
    runs: dict[int, dict[str, Any]] = {
        0: {"micro_f1": 0.5, "map": None, "events": {"videos": {"f1": 0.2}}},
        7: {"micro_f1": 0.7, "map": 0.4, "events": {"videos": {"f1": 0.2}}},
    }
    found = spreads(runs)
    assert found["micro_f1"] == {"mean": 0.6, "std": round(math.sqrt(0.02), 6), "by_seed": {"0": 0.5, "7": 0.7}}
    assert found["events.videos.f1"]["std"] == 0.0
    assert found.keys() == {"micro_f1", "events.videos.f1"}  # a score that one run lacks says nothing of both


@pytest.mark.slow
def test_each_seed_has_scores_and_the_models_in_use_stay_as_they_are(stages: Stages) -> None:
    """The seed in use has the scores of the report; another one is trained, tuned and measured in the same way."""
    paths = stages.paths
    assert json.loads(paths.seeds.read_text()) == {}
    assert "What chance in training does" not in paths.report.read_text()
    models = {file: sha256_of(file) for file in paths.model("linear").parent.rglob("*.safetensors")}
    path = stages.root / "params" / "demo.yaml"
    values = YAML(typ="safe").load(path)
    values["seeds"] = [values["seed"], values["seed"] + 1]
    YAML(typ="safe").dump(values, path)
    run(stages, seeds, report)
    assert {file: sha256_of(file) for file in models} == models
    scores = json.loads(paths.scores.read_text())
    own, other = (str(seed) for seed in values["seeds"])
    for model in ("linear", "temporal"):
        found, reported = scores["seeds"]["models"][model], scores["models"][model]
        assert found["micro_f1"]["by_seed"][own] == reported["micro_f1"]
        assert found["events.recordings.f1"]["by_seed"][own] == reported["events"]["recordings"]["f1"]
        official = reported["charades"]
        assert found["charades.localisation_map"]["by_seed"][own] == official["localisation_map"]
        assert found["charades.classification_map"]["by_seed"][own] == official["classification_map"]
    by_seed = scores["seeds"]["models"]["temporal"]["map"]["by_seed"]
    assert by_seed[own] != by_seed[other]
    assert "What chance in training does" in paths.report.read_text()

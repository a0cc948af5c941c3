"""What a profile may ask for beside the models in use: all stages of a tiny project, and each of these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from features.clips import read_videos
from features.files import sha256_of
from features.store.block_inputs import open_block_inputs
from heads.action_model import AttentiveTail, predict_block_inputs
from heads.attentive import load_attentive_head
from heads.predictions import Predictions
from heads.zero_shot import load_zero_shot
from pipeline.stages import attentive, report, seeds, zero_shot
from tests.test_attentive import PARAMS
from tests.test_finetune_temporal import run, stages
from tests.test_finetuning import LABELS, READER, Stages, world
from tests.test_zero_shot import clip

__all__ = ["clip", "stages", "world"]


def ask_for(stages: Stages, **values: Any) -> None:
    path = stages.root / "params" / "demo.yaml"
    YAML(typ="safe").dump(YAML(typ="safe").load(path) | values, path)


@pytest.mark.slow
def test_each_seed_has_scores_and_the_models_in_use_stay_as_they_are(stages: Stages) -> None:
    """The seed in use has the scores of the report; another one is trained, tuned and measured in the same way."""
    paths = stages.paths
    assert json.loads(paths.seeds.read_text()) == {}
    assert "What chance in training does" not in paths.report.read_text()
    models = {file: sha256_of(file) for file in paths.model("linear").parent.rglob("*.safetensors")}
    ask_for(stages, seeds=[0, 1])
    run(stages, seeds, report)
    assert {file: sha256_of(file) for file in models} == models
    scores = json.loads(paths.scores.read_text())
    own, other = "0", "1"
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
    mean, std = (scores["seeds"]["models"]["temporal"]["micro_f1"][key] for key in ("mean", "std"))
    assert f"{mean:.3f} ± {std:.3f} |" in paths.report_text.read_text()


@pytest.mark.slow
def test_where_it_is_asked_for_it_is_measured_beside_the_models_in_use(stages: Stages) -> None:
    """Its probabilities are what the saved head makes of the frozen tokens; nothing else changes."""
    paths = stages.paths
    run(stages, attentive)
    assert [file.name for file in paths.attentive_predictions.iterdir()] == ["not_asked_for.txt"]
    assert "videoglue_frozen" not in json.loads(paths.scores.read_text())["protocols"]
    kept = {file: sha256_of(file) for file in paths.model("linear").parent.rglob("*.safetensors")}
    metrics = paths.metrics("linear").read_bytes()
    ask_for(stages, attentive=PARAMS)
    run(stages, attentive, report)
    assert {file: sha256_of(file) for file in kept} == kept
    assert paths.metrics("linear").read_bytes() == metrics

    head, _ = load_attentive_head(paths.model("attentive"), expected={})
    tail = AttentiveTail(stages.world.backbone(), head).eval()
    block_inputs, _ = open_block_inputs(paths.block_inputs)
    for split, path_of in (("val", paths.val_predictions), ("test", paths.test_predictions)):
        found, other = (
            Predictions.load(paths.attentive_predictions / f"{split}.npz"),
            Predictions.load(path_of("linear")),
        )
        keys = list(zip(found.video_ids.tolist(), found.window.tolist(), strict=True))
        expected = predict_block_inputs(
            tail, [block_inputs.read([block_inputs.row(*key) for key in keys])], device=torch.device("cpu")
        )
        assert np.allclose(found.probabilities, expected, atol=1e-5)
        assert found.labels == tuple(LABELS)
        assert np.array_equal(found.window, other.window)
        assert np.array_equal(found.targets, other.targets)

    protocols = json.loads(paths.scores.read_text())["protocols"]
    assert list(protocols["videoglue_frozen"]["models"]) == ["attentive"]
    assert protocols["charades_localize"]["models"].keys() >= {"random", "prior", "linear", "attentive"}
    assert "videoglue_frozen" in paths.report.read_text()


@pytest.mark.slow
def test_where_it_is_asked_for_it_goes_through_the_same_report(stages: Stages, clip: Path) -> None:
    """The windows of val and test, each by the frame in its middle; no other result changes."""
    paths = stages.paths
    run(stages, zero_shot, report)
    assert [file.name for file in paths.clip_predictions.iterdir()] == ["not_asked_for.txt"]
    before = json.loads(paths.scores.read_text())
    ask_for(stages, clip=str(clip))
    run(stages, zero_shot, report)

    found = Predictions.load(paths.clip_predictions / "test.npz")
    model, sha256 = load_zero_shot(clip, [f"Doing {label}" for label in LABELS])
    ((_, clips),) = read_videos([stages.world.sources["v5"]], READER, num_workers=0)
    middles = np.stack([each.frames[len(each.frames) // 2] for each in clips])
    assert np.allclose(found.probabilities, model(torch.from_numpy(middles)).numpy(), atol=1e-5)
    assert found.model_sha256 == sha256
    assert np.array_equal(found.targets, Predictions.load(paths.test_predictions("linear")).targets)

    after = json.loads(paths.scores.read_text())
    for name, block in before["protocols"].items():
        own = after["protocols"][name]["models"]
        assert {model: own[model] for model in block["models"]} == block["models"]
        assert ("clip" in own) == (name != "videoglue_frozen")
    assert {key: value for key, value in after.items() if key != "protocols"} == {
        key: value for key, value in before.items() if key != "protocols"
    }

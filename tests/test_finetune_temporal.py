"""Temporal heads on what the finetuned block gives: all stages of a tiny project, with them and without."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from ruamel.yaml import YAML

from features.backbone import load_backbone
from features.clips import Source, read_videos
from features.files import sha256_of, write_csv, write_json
from features.store.embeddings import read_embeddings
from heads import weights
from heads.action_model import load_action_model, predict_clips, replace_last_block
from heads.predictions import Predictions
from pipeline.cli.__main__ import main
from pipeline.dataset import manifest
from pipeline.dataset.recordings import recording_paths
from pipeline.layout import Layout
from pipeline.model_folder import load_recogniser, write_model_folder
from pipeline.recognition import SequenceModel
from pipeline.stages import (
    export,
    extract,
    extract_recordings,
    finetune,
    finetune_temporal,
    predict,
    report,
    seeds,
    sweep,
    train,
)
from reports.corrections import Correction, append_correction
from tests.test_finetuning import LABELS, PREPROCESSING, READER, Stages, World, world

pytestmark = pytest.mark.slow

__all__ = ["world"]

AFTER_EMBEDDINGS = (finetune_temporal, predict, sweep, seeds, report, export)


def run(stages: Stages, *modules: object) -> None:
    for module in modules:
        output = stages.run(module.main)  # type: ignore[attr-defined]
        assert not output.startswith("exit"), output


def ask_for(stages: Stages, *embeddings: str) -> None:
    path = stages.root / "params" / "demo.yaml"
    values = YAML(typ="safe").load(path)
    values["temporal"] |= {
        "embeddings": list(embeddings),
        "features": ["mean", "max"],
        "width": 8,
        "blocks": 1,
        "members": 2,
        "sequence_windows": 8,
        "batch_size": 2,
        "steps": 20,
        "evaluate_every_steps": 10,
    }
    YAML(typ="safe").dump(values, path)


@pytest.fixture(scope="module")
def stages(world: World, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """A project of six videos and two annotated recordings, whose temporal heads see both kinds of embeddings.

    Block inputs of train and val are stored; test and the recordings are decoded.
    """
    made = Stages.written(world, tmp_path_factory.mktemp("project"), source="block_inputs")
    paths = made.paths
    ask_for(made, "frozen", "finetuned")
    paths.label_sets.mkdir(parents=True)
    paths.label_set.write_text("".join(f"{label} Doing {label}\n" for label in LABELS))
    write_csv(paths.roles, ["label", "role", "thing", "phrase", "together"], [])
    write_json(paths.facts, {"splits": manifest.read(paths.manifest).facts()})
    for split, video_id in (("val", "v3"), ("test", "v5")):
        folder = paths.recordings / split
        folder.mkdir()
        shutil.copyfile(world.sources[video_id].path, folder / "day.mp4")
        write_csv(folder / "day.truth.csv", ["start_s", "end_s", "label"], [(0.5, 2.0, LABELS[0]), (1, 3, LABELS[2])])
    run(made, extract, extract_recordings, train, finetune, *AFTER_EMBEDDINGS)
    return made


def test_the_stores_hold_what_the_finetuned_block_gives(stages: Stages) -> None:
    """Stage 2's predictions come from there, and are what it makes of the frames, decoded or stored as block inputs."""
    paths = stages.paths
    backbone = load_backbone(paths.backbone, dtype=torch.float32)
    model, _ = load_action_model(paths.model("finetune"), backbone, PREPROCESSING, expected={})
    recordings = recording_paths(paths.recordings)
    sources = [*stages.world.sources.values(), *(Source(name, path) for name, path in recordings.items())]
    clips = ((source.video_id, clip) for source, clips in read_videos(sources, READER, num_workers=0) for clip in clips)
    rows = {
        (video_id, clip.window): row
        for video_id, clip, row in predict_clips(model, clips, batch_size=4, device=torch.device("cpu"))
    }
    for path_of in (paths.val_predictions, paths.test_predictions):
        for of in ("videos", "recordings"):
            found = Predictions.load(path_of("finetune", of))
            assert len(found.window) > 0
            decoded = [rows[key] for key in zip(found.video_ids.tolist(), found.window.tolist(), strict=True)]
            np.testing.assert_allclose(found.probabilities, np.stack(decoded), rtol=0, atol=1e-2)  # stored in fp16
    frozen, own = (read_embeddings(path)[0] for path in (paths.embeddings, paths.finetuned_embeddings("videos")))
    assert own.keys == frozen.keys
    assert np.abs(own.features(["mean"]) - frozen.features(["mean"])).max() > 0.01


def test_it_is_one_of_the_models_everywhere(stages: Stages) -> None:
    """Predictions, sweep, metrics, history, report, and the choice of what to export."""
    paths, model = stages.paths, "finetune_temporal"
    for of in ("videos", "recordings"):
        own = Predictions.load(paths.test_predictions(model, of))
        others = Predictions.load(paths.test_predictions("temporal", of))
        assert np.array_equal(own.window, others.window)
        assert np.array_equal(own.targets, others.targets)
        assert not np.array_equal(own.probabilities, others.probabilities)
        assert own.model_sha256 == weights.sha256(paths.model(model))
    metrics = json.loads(paths.metrics(model).read_text())
    assert metrics.keys() == json.loads(paths.metrics("temporal").read_text()).keys()
    assert paths.decoding(model).is_file()
    assert paths.history(model).read_text().startswith("step,train_loss")
    assert model in paths.report.read_text()


def export_it(paths: Layout, out: Path) -> None:
    """The model folder of it, whichever model was the best one."""
    model = "finetune_temporal"
    exported = json.loads((paths.diary_model / "diary.json").read_text())
    write_model_folder(
        out,
        model=paths.model(model),
        backbone=paths.backbone,
        decoding=paths.decoding(model),
        typicality=paths.typicality,
        limits=paths.limits,
        diary_model={key: value for key, value in exported.items() if key not in ("files", "sha256")}
        | {"model": model},
    )


def test_a_model_folder_with_it_is_one_of_a_diary_and_caches_apart(stages: Stages, tmp_path: Path) -> None:
    """The folder gives the probabilities of `predict`, from what is cached for the finetuned block alone."""
    paths, model = stages.paths, "finetune_temporal"
    export_it(paths, tmp_path / "diary")
    recogniser = load_recogniser(tmp_path / "diary")
    assert isinstance(recogniser.model, SequenceModel)
    own = recogniser.model.cache

    def embedded() -> set[Path]:
        return {path for path in own.root.glob("*/*.safetensors") if "thumbnails" not in path.name}

    before = embedded()
    found = recogniser.model.recognise(paths.recordings / "test" / "day.mp4", batch_size=4, num_workers=0)
    assert embedded() == before
    predictions = Predictions.load(paths.test_predictions(model, "recordings"))
    np.testing.assert_allclose(found.probabilities, predictions.probabilities, rtol=0, atol=1e-5)
    frozen = load_backbone(paths.backbone, dtype=torch.float32)
    before_it = frozen.weights_sha256
    replace_last_block(paths.model("temporal"), frozen, expected={})
    assert frozen.weights_sha256 == before_it  # a folder without a block changes nothing
    replace_last_block(paths.model(model), frozen, expected={})
    assert own.provenance["backbone"]["sha256"] == frozen.weights_sha256 != before_it


def diary(*words: str | Path) -> str:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def test_it_learns_from_corrections(stages: Stages, tmp_path: Path) -> None:
    """`diary learn` keeps the finetuned block, trains the head further, and states the diaries with it."""
    shutil.copytree(stages.root, tmp_path / "project", symlinks=True)
    paths = replace(stages.paths, root=tmp_path / "project")
    export_it(paths, paths.diary_model)
    write_json(paths.root / "params.yaml", {"profile": "demo", "label_sets": ["actions"]})
    video, out = tmp_path / "home.mp4", tmp_path / "diaries"
    shutil.copyfile(stages.world.sources["v4"].path, video)
    diary("write", video, "-o", out, "--project", paths.root)
    digest = sha256_of(video)
    when = "2026-03-14T20:00:00+01:00"
    for correction in (
        Correction("one", "add", digest, "ada", when, label=LABELS[0], end_s=2.0),
        Correction("two", "wrong", digest, "ada", when, label=LABELS[1], end_s=2.0),
    ):
        append_correction(out / "corrections.jsonl", correction)
    assert "of one reviewed recording." in diary("learn", out, "--project", paths.root)
    told = json.loads((out / "model" / "diary.json").read_text())
    assert told["model"] == "finetune_temporal"
    before, after = (weights.load(folder, expected={})[0] for folder in (paths.model(told["model"]), out / "model"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed
    assert not any(name.startswith(weights.LAST_BLOCK) for name in changed)
    first = json.loads((out / "home" / "events.jsonl").read_text().splitlines()[0])
    assert first["model_sha256"] == weights.sha256(out / "model")
    events = (out / "home" / "events.jsonl").read_bytes()
    diary("write", video, "-o", out, "--model", out / "model")
    assert (out / "home" / "events.jsonl").read_bytes() == events


def test_where_it_is_not_asked_for_there_is_none(stages: Stages, tmp_path: Path) -> None:
    """The folders say so, no later stage knows the model, and its metrics are empty."""
    shutil.copytree(stages.root, tmp_path / "project", symlinks=True)
    without = Stages(stages.world, tmp_path / "project")
    paths, model = without.paths, "finetune_temporal"
    ask_for(without, "frozen")
    shutil.rmtree(paths.val_predictions(model).parent)
    shutil.rmtree(paths.sweep(model).parent)
    run(without, *AFTER_EMBEDDINGS)
    for folder in (paths.model(model), paths.finetuned):
        (note,) = folder.iterdir()
        assert "temporal.embeddings" in note.read_text()
    assert not paths.val_predictions(model).exists()
    assert not paths.decoding(model).exists()
    assert json.loads(paths.metrics(model).read_text()) == {}
    assert model not in paths.report.read_text()

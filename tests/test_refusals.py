"""What a user may ask for and no model or device gives: a sentence of the stage's, exit status 1, and no traceback."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from ruamel.yaml import YAML

from features.backbone import best_device
from features.files import write_csv, write_json
from features.store.embeddings import VideoEmbeddings, read_embeddings, write_embeddings
from features.video import WindowPlan
from heads import weights
from heads.linear import load_linear_head
from heads.predictions import Predictions
from heads.typicality import Typicality
from pipeline.dataset import manifest
from pipeline.dataset.labels import read_label_set, warn_of_unseen
from pipeline.dataset.manifest import Interval, Manifest, VideoEntry
from pipeline.dataset.truth import split_truth
from pipeline.dataset.windows import block_input_windows
from pipeline.layout import MODELS, Layout
from pipeline.stages import export, extract, report, seeds, sweep, train
from reports.decoding import Decoding
from reports.thresholds import Sweep

REPOSITORY = Path(__file__).parents[1]
LABELS = {"c015": "Holding a phone", "c059": "Sitting down", "c097": "Walking"}
SPLITS = ("train",) * 6 + ("val",) * 3 + ("test",) * 3


def project(folder: Path, shown: Mapping[str, tuple[str, ...]], **values: Any) -> Layout:
    """A project up to the embeddings, whose videos carry the labels `shown` by split, one video after the other."""
    folder.mkdir(exist_ok=True)
    paths = Layout("demo", "set", folder)
    entries, embedded = [], {}
    for k, split in enumerate(SPLITS):
        own = shown[split][k % len(shown[split])] if shown[split] else None
        starts = np.arange(8, dtype=np.float64) * 2
        intervals = (Interval(own, 4.0, 9.0),) if own else ()
        entries.append(VideoEntry(f"v{k:02}", f"v{k:02}.mp4", f"s{k}", "Kitchen", split, 16.0, intervals))
        vectors = np.random.default_rng(k).normal(size=(8, 6))
        if own:
            vectors[2:5, list(LABELS).index(own)] += 3
        embedded[f"v{k:02}"] = VideoEmbeddings(
            np.arange(8, dtype=np.int32),
            starts,
            starts + 2,
            np.zeros(8, np.int32),
            {"mean": vectors.astype(np.float16)},
        )
    videos = Manifest(tuple(entries))
    manifest.write(paths.manifest, videos)
    provenance = {
        "backbone": {"id": "tiny", "sha256": "0" * 64},
        "windows": {"num_frames": 4, "sample_fps": 2.0, "stride_s": 2.0, "max_still_s": 1.0},
        "precision": "fp32",
    }
    write_embeddings(paths.embeddings, dict.fromkeys(embedded, 8), embedded.__getitem__, provenance=provenance)
    write_json(paths.facts, {"splits": videos.facts()})
    write_csv(paths.failed, ["video_id", "reason", "found"], [])
    paths.label_sets.mkdir(parents=True)
    paths.label_set.write_text("".join(f"{label} {name}\n" for label, name in LABELS.items()))
    write_csv(paths.roles, ["label", "role", "thing", "phrase", "together"], [])
    params = YAML(typ="safe").load(REPOSITORY / "params" / "demo.yaml")
    small = {"features": ["mean"], "loss": ["bce", "asymmetric", "class_balanced"], "batch_size": 16, "steps": 20}
    params["train"] |= small | {"evaluate_every_steps": 10} | values
    params["temporal"] |= {
        "embeddings": ["frozen"],
        "features": ["mean"],
        "width": 4,
        "blocks": 1,
        "steps": 20,
        "evaluate_every_steps": 10,
    }
    (folder / "params").mkdir()
    YAML(typ="safe").dump(params, folder / "params" / "demo.yaml")
    return paths


def run(stage: click.Command, paths: Layout) -> str:
    """What the stage says, where it succeeds."""
    with contextlib.chdir(paths.root):
        result = CliRunner().invoke(stage, ["demo", "set"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(stage: click.Command, paths: Layout) -> str:
    """The last line of a stage that refuses; a traceback fails the test."""
    with contextlib.chdir(paths.root):
        result = CliRunner().invoke(stage, ["demo", "set"], catch_exceptions=False)
    assert result.exit_code == 1
    line = result.output.splitlines()[-1]
    assert line.startswith("Error: ")
    return line


def predict(paths: Layout) -> None:
    """All models' predictions, of the linear head: what `predict` writes without a backbone or recordings."""
    shutil.copytree(paths.model("linear"), paths.model("finetune"))
    shutil.copyfile(paths.history("linear"), paths.history("finetune"))
    embeddings, _ = read_embeddings(paths.embeddings)
    typicality = Typicality.load(paths.typicality, backbone_sha256="0" * 64, remedy="")
    head, _ = load_linear_head(paths.model("linear"), expected={})
    videos = manifest.read(paths.manifest)
    for split, path_of in (("val", paths.val_predictions), ("test", paths.test_predictions)):
        truth = split_truth(embeddings, videos, split, tuple(LABELS), min_overlap_s=0.5)
        with torch.inference_mode():
            probabilities = head(torch.from_numpy(truth.embeddings.features(["mean"]))).sigmoid().numpy()
        distances = typicality.distances(truth.embeddings.features(["mean"]))
        for model in MODELS:
            all_videos = Predictions(
                labels=truth.labels,
                video_ids=truth.embeddings.video_ids,
                window=truth.embeddings.window,
                start_s=truth.embeddings.start_s,
                end_s=truth.embeddings.end_s,
                probabilities=probabilities,
                targets=truth.windows,
                videos=np.array(truth.video_ids),
                video_targets=truth.videos,
                model_sha256=weights.sha256(paths.model(model)),
                distances=distances,
            )
            all_videos.save(path_of(model, "videos"))
            none = {name: getattr(all_videos, name)[:0] for name in ROWS}
            dataclasses.replace(all_videos, **none).save(path_of(model, "recordings"))


ALL = tuple(LABELS)
ROWS = ("video_ids", "window", "start_s", "end_s", "probabilities", "targets", "videos", "video_targets", "distances")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A project up to the report, of a label that neither train nor val nor test shows everywhere."""
    shown = {"train": ("c015", "c059"), "val": ("c015", "c097"), "test": ("c059", "c097")}
    paths = project(tmp_path_factory.mktemp("reported"), shown)
    run(train.main, paths)
    predict(paths)
    run(sweep.main, paths)
    run(seeds.main, paths)
    run(report.main, paths)
    paths.backbone.mkdir(parents=True)
    return paths


@pytest.fixture
def finished(reported: Layout, tmp_path: Path) -> Layout:
    """A copy of it."""
    shutil.copytree(reported.root, tmp_path / "project")
    return Layout("demo", "set", tmp_path / "project")


def test_a_label_that_a_split_never_shows_is_carried_to_the_end(finished: Layout) -> None:
    """Trained, swept, reported and exported: it has the threshold of all labels, and no score where none can be."""
    swept = Sweep.load(finished.sweep("linear"))
    assert "c059" in swept.fallback_labels
    assert swept.label_thresholds[1] == swept.threshold
    assert json.loads(finished.scores.read_text())["models"]["linear"]["n_labels_without_positives"] == 1
    run(export.main, finished)
    assert sorted(Decoding.load(finished.diary_model / "decoding.json").rules) == sorted(LABELS)


def test_prepare_names_labels_that_a_split_never_shows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With file and split; where all are shown nothing is said."""
    paths = project(tmp_path / "some", {"train": ("c015", "c059"), "val": ("c015",), "test": ("c059",)})
    videos = manifest.read(paths.manifest)
    warn_of_unseen(read_label_set(paths.label_set), videos)
    assert [record.getMessage() for record in caplog.records] == [
        f"{paths.label_set}: no video of train carries 1 of 3 labels: c097",
        f"{paths.label_set}: no video of val carries 2 of 3 labels: c059, c097",
    ]
    caplog.clear()
    paths.label_set.write_text("c015 Holding a phone\n")
    warn_of_unseen(read_label_set(paths.label_set), videos)
    assert caplog.text == ""


@pytest.mark.parametrize(("split", "shown"), [("train", ((), ALL)), ("val", (ALL, ()))])
def test_labels_that_a_split_shows_none_of_are_refused(
    split: str, shown: tuple[tuple[str, ...], tuple[str, ...]], tmp_path: Path
) -> None:
    """Nothing can be learned, or chosen: `train` says which split."""
    paths = project(tmp_path / "none", {"train": shown[0], "val": shown[1], "test": ALL})
    line = refusal(train.main, paths)
    assert f"windows of {split} has one of the 3 labels of the label set" in line


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_of_which_every_video_failed_is_refused(split: str, tmp_path: Path) -> None:
    """It says where the reasons stand."""
    paths = project(tmp_path / "failed", dict.fromkeys(manifest.SPLITS, ALL))
    embeddings, provenance = read_embeddings(paths.embeddings)
    kept = {f"v{k:02}" for k, own in enumerate(SPLITS) if own != split}

    def load(video_id: str) -> VideoEmbeddings:
        rows = embeddings.select([video_id])
        return VideoEmbeddings(rows.window, rows.start_s, rows.end_s, rows.num_padded, rows.vectors)

    write_embeddings(paths.embeddings, dict.fromkeys(kept, 8), load, provenance=provenance)
    assert f"no video of {split} has been embedded: failed.csv" in refusal(train.main, paths)


@pytest.mark.skipif(best_device().type != "cpu", reason="this machine has an accelerator")
def test_half_precision_on_a_cpu_is_refused(tmp_path: Path) -> None:
    """The key to change is named."""
    paths = project(tmp_path / "half", dict.fromkeys(manifest.SPLITS, ALL), precision="fp16")
    assert "precision fp16 trains on an accelerator only" in refusal(train.main, paths)


def test_frames_that_the_backbone_does_not_take_are_refused(tmp_path: Path) -> None:
    """Before any video is read: there is none here."""
    paths = project(tmp_path / "odd", dict.fromkeys(manifest.SPLITS, ALL))
    shutil.copytree(REPOSITORY / "pipeline" / "demo" / "backbone", paths.backbone)
    file = tmp_path / "odd" / "params" / "demo.yaml"
    values = YAML(typ="safe").load(file)
    values["windows"]["num_frames"] = 7
    YAML(typ="safe").dump(values, file)
    assert "windows.num_frames must be a multiple of 2" in refusal(extract.main, paths)


def test_thresholds_of_another_model_are_refused(finished: Layout) -> None:
    """A sweep that was made before the model was trained again serves neither the report nor the export."""
    path, rules = finished.sweep("linear"), finished.decoding("linear")
    dataclasses.replace(Sweep.load(path), model_sha256="f" * 64).save(path)
    assert f"{path.relative_to(finished.root)} has the thresholds of another model" in refusal(report.main, finished)
    run(sweep.main, finished)
    dataclasses.replace(Decoding.load(rules), model_sha256="f" * 64).save(rules)
    for stage in (report.main, export.main):
        assert f"{rules.relative_to(finished.root)} has the rules of another model" in refusal(stage, finished)
    run(sweep.main, finished)
    run(export.main, finished)


def test_a_killed_training_is_asked_for_in_a_line(finished: Layout) -> None:
    """Tensors without config.json, which is written last, are no model."""
    config = finished.model("linear") / "config.json"
    config.unlink()
    for stage in (report.main, export.main):
        line = refusal(stage, finished)
        assert str(config.relative_to(finished.root)) in line
        assert "run the stage that trains it" in line


@pytest.mark.parametrize("length_s", [10_000.0, 86_400.0])
def test_one_long_video_does_not_take_the_room_of_all(length_s: float) -> None:
    """Among fifty videos of ten seconds it counts for ten of them; where there is room for all, nothing is lost."""
    entries = [VideoEntry(f"t{k:02}", "x.mp4", "a", "", "train", 10.0, ()) for k in range(50)]
    entries += [
        VideoEntry("long", "x.mp4", "b", "", "train", length_s, ()),
        VideoEntry("v", "x.mp4", "c", "", "val", 10.0, ()),
        VideoEntry("x", "x.mp4", "d", "", "test", 10.0, ()),
    ]
    plan = WindowPlan(num_frames=4, sample_fps=4, stride_s=1.0, max_still_s=1.0)  # a window a second
    selected = block_input_windows(Manifest(tuple(entries)), plan, num_clips=313, evaluate_windows=10)
    counts = {video_id: len(windows) for video_id, windows in selected.items()}
    assert counts["v"] == 10
    assert 40 <= counts["long"] <= 60
    assert all(4 <= counts[f"t{k:02}"] <= 6 for k in range(50))
    assert max(selected["long"]) > 0.9 * length_s
    everything = block_input_windows(Manifest(tuple(entries)), plan, num_clips=10**6, evaluate_windows=10)
    assert everything["long"] == frozenset(range(int(length_s)))

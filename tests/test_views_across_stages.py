"""A tiny project whose videos and recordings are seen in three views, from `extract` to `predict`."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from features.backbone import load_backbone
from features.clips import Source, read_videos
from features.files import write_csv, write_json
from features.store.embeddings import read_embeddings
from heads import weights
from heads.action_model import load_action_model, predict_clips
from heads.predictions import Predictions
from pipeline.dataset import manifest
from pipeline.dataset.recordings import recording_paths
from pipeline.stages import extract, extract_recordings, finetune, predict, train
from tests.test_finetuning import LABELS, PREPROCESSING, RATE, READER, Stages, World, num_frames, world
from tests.videos import evenly, write_video

pytestmark = pytest.mark.slow

__all__ = ["world"]


def test_three_views_reach_every_model(world: World, tmp_path: Path) -> None:
    """Stores and models say so; stage 2's answers are those to all views, in videos and recordings."""
    wide = World(tmp_path / "world")
    shutil.copytree(world.backbone_dir, wide.backbone_dir)
    for k, source in enumerate(wide.sources.values()):
        size = (128, 128) if k == 1 else (192, 112)  # batches of training hold both
        write_video(source.path, evenly(num_frames(k), RATE), rate=RATE, size=size)
    stages = Stages.written(wide, tmp_path, source="video", random_starts=True, flip=True)
    paths, path = stages.paths, tmp_path / "params" / "demo.yaml"
    values = YAML(typ="safe").load(path)
    values["extract"]["views"] = "three"
    values["temporal"] |= {"features": ["mean"], "width": 8, "blocks": 1, "members": 1, "batch_size": 2}
    values["temporal"] |= {"steps": 4, "evaluate_every_steps": 4}
    values["train"] |= {"steps": 10, "evaluate_every_steps": 5}
    YAML(typ="safe").dump(values, path)
    paths.label_sets.mkdir(parents=True)
    paths.label_set.write_text("".join(f"{label} Doing {label}\n" for label in LABELS))
    write_csv(paths.roles, ["label", "role", "thing", "phrase", "together"], [])
    write_json(paths.facts, {"splits": manifest.read(paths.manifest).facts()})
    (paths.recordings / "test").mkdir()
    shutil.copyfile(wide.sources["v5"].path, paths.recordings / "test" / "day.mp4")
    write_csv(paths.recordings / "test" / "day.truth.csv", ["start_s", "end_s", "label"], [(0.5, 2.0, LABELS[0])])
    for stage in (extract, extract_recordings, train, finetune, predict):
        output = stages.run(stage.main)
        assert not output.startswith("exit"), output

    centre = wide.embedded()["v0"].embeddings.vectors["mean"]
    embeddings, provenance = read_embeddings(paths.embeddings)
    assert provenance["views"] == read_embeddings(paths.recording_embeddings)[1]["views"] == "three"
    own = embeddings.vectors["mean"][embeddings.video_ids == "v0"]
    assert np.abs(own.astype(np.float32) - centre).max() > 0.05
    for model in ("linear", "temporal", "finetune"):
        assert weights.read_config(paths.model(model))["provenance"]["views"] == "three"

    reader = replace(READER, views="three")
    stage_2, _ = load_action_model(
        paths.model("finetune"), load_backbone(paths.backbone, dtype=torch.float32), PREPROCESSING, expected={}
    )
    recordings = [Source(name, file) for name, file in recording_paths(paths.recordings).items()]
    for of, sources in (("videos", [wide.sources["v5"]]), ("recordings", recordings)):
        found = Predictions.load(paths.test_predictions("finetune", of))
        clips = ((each.video_id, clip) for each, own in read_videos(sources, reader, num_workers=0) for clip in own)
        wanted = [row for *_, row in predict_clips(stage_2, clips, batch_size=3, device=torch.device("cpu"))]
        np.testing.assert_allclose(found.probabilities, np.stack(wanted), atol=1e-5)

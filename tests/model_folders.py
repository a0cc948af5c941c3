"""A model folder for tests: a tiny V-JEPA 2 with random weights and a random head, which sees something everywhere."""

from __future__ import annotations

from pathlib import Path

import torch

from features.backbone import create, load_backbone, save
from features.clips import ClipReader
from features.extraction import provenance
from features.preprocess import Preprocessing
from features.video import WindowPlan
from heads import weights
from heads.linear import LinearHead
from pipeline.model_folder import write_model_folder
from reports.events import EventRule

LABELS = {"sit": "sitting", "eat": "eating"}
PLAN = WindowPlan(num_frames=4, sample_fps=4, stride_s=0.5, max_still_s=1.0)


def make_model_folder(folder: Path) -> Path:
    """Write `folder/model`, and what it is made of beside it."""
    preprocessing = Preprocessing(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    made = create(
        seed=0,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        crop_size=32,
        num_frames=4,
        num_pooler_layers=1,
        num_labels=2,
    )
    save(made, folder / "backbone", name="tiny", preprocessing=preprocessing, dtype=torch.float32)
    backbone = load_backbone(folder / "backbone", dtype=torch.float32, attention="sdpa")
    made_by = provenance(backbone, ClipReader(PLAN, preprocessing, "pyav"))
    made_by["backbone"]["id"] = backbone.id
    weights.save(
        folder / "head",
        LinearHead(32, len(LABELS)).state_dict(),
        {
            "provenance": made_by,
            "labels": [{"id": label, "name": name} for label, name in LABELS.items()],
            "features": ["mean"],
        },
    )
    write_model_folder(
        folder / "model",
        model=folder / "head",
        backbone=folder / "backbone",
        diary_model={
            "profile": "test",
            "label_set": "test",
            "model": "head",
            "thresholds_sha256": "0" * 64,
            "test_micro_f1": 0.5,
            "decoder": "auto",
            "precision": "fp32",
            "min_quiet_s": 1.0,
        },
        rules={label: EventRule(onset=0.01, offset=0.01, min_duration_s=0, merge_gap_s=0) for label in LABELS},
    )
    return folder / "model"

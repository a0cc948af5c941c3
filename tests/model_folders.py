"""A model folder for tests: a tiny V-JEPA 2 with random weights and a random head, which sees something everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from features.backbone import load_backbone
from features.clips import ClipReader
from features.extraction import provenance
from features.video import Views, WindowPlan
from heads import weights
from heads.linear import LinearHead
from heads.shape import TemporalShape
from heads.temporal import TemporalHead
from heads.typicality import Typicality
from pipeline.model_folder import write_model_folder
from reports.calibration import Calibration
from reports.decoding import Decoding
from reports.events import EventRule
from reports.recognisable import Limits
from tests.tiny_backbone import PREPROCESSING, write_backbone

LABELS = {"sit": "sitting", "eat": "eating"}
PLAN = WindowPlan(num_frames=4, sample_fps=4, stride_s=0.5, max_still_s=1.0)


def write_decoding(path: Path, labels: Sequence[str], rule: EventRule, *, model_sha256: str = "") -> Path:
    """A decoding with one rule for all labels, nothing calibrated and nothing excluded."""
    rules = dict.fromkeys(labels, rule)
    Decoding(
        labels=tuple(labels),
        calibration=Calibration.identity(len(labels)),
        smoothing_windows=1,
        rules=rules,
        careful_rules=rules,
        exclusions=(),
        min_precision=0.5,
        scores={},
        careful_scores={},
        model_sha256=model_sha256,
    ).save(path)
    return path


def write_limits(folder: Path, *, backbone_sha256: str, size: int) -> dict[str, Path]:
    """Files of a model to which nothing is unknown: nothing is too far, too dark, of one colour or still."""
    paths = {"typicality": folder / "typicality.safetensors", "limits": folder / "limits.json"}
    Typicality(np.zeros(size, dtype=np.float32), np.eye(size, dtype=np.float32)).save(
        paths["typicality"], backbone_sha256=backbone_sha256
    )
    Limits(max_distance=1e9, dark=0.0, flat=0.0, still=0.0).save(paths["limits"])
    return paths


def make_model_folder(
    folder: Path, *, temporal: bool = False, views: Views = "center", card: str = "", seed: int | None = None
) -> Path:
    """Write `folder/model`, of a linear or a temporal head, and what it is made of beside it.

    Without a seed each has a head of its own.
    """
    write_backbone(folder / "backbone")
    backbone = load_backbone(folder / "backbone", dtype=torch.float32, attention="sdpa")
    made_by = provenance(backbone, ClipReader(PLAN, PREPROCESSING, "pyav", views=views))
    made_by["backbone"]["id"] = backbone.id
    config: dict[str, object] = {
        "provenance": made_by,
        "labels": [{"id": label, "name": name} for label, name in LABELS.items()],
        "features": ["mean"],
    }
    shape = TemporalShape(width=4, blocks=1, dropout=0.0)
    with torch.random.fork_rng([]):
        if seed is not None:
            torch.manual_seed(seed)
        head = TemporalHead(32, len(LABELS), shape) if temporal else LinearHead(32, len(LABELS))
    weights.save(folder / "head", head.state_dict(), config | ({"temporal": asdict(shape)} if temporal else {}))
    write_model_folder(
        folder / "model",
        model=folder / "head",
        backbone=folder / "backbone",
        decoding=write_decoding(folder / "decoding.json", list(LABELS), EventRule(0.01, 0.01, 0, 0)),
        **write_limits(folder, backbone_sha256=backbone.weights_sha256, size=32),
        roles={},
        card=card,
        diary_model={
            "profile": "test",
            "label_set": "test",
            "model": "linear",
            "test_precision": 0.5,
            "decoder": "auto",
            "precision": "fp32",
            "trained_on": "This model knows nothing.",
            "min_quiet_s": 1.0,
        },
    )
    return folder / "model"

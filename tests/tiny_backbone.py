"""A V-JEPA 2 with random weights that takes clips of four frames of 32 pixels a side."""

from __future__ import annotations

from pathlib import Path

import torch

from features.backbone import create, save
from features.preprocess import Preprocessing

PREPROCESSING = Preprocessing(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def write_backbone(folder: Path, *, seed: int = 0, num_hidden_layers: int = 2) -> Path:
    """Write its folder; another seed, other weights."""
    model = create(
        seed=seed,
        hidden_size=32,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=2,
        crop_size=32,
        num_frames=4,
        num_pooler_layers=1,
        num_labels=2,
    )
    save(model, folder, name="tiny", preprocessing=PREPROCESSING, dtype=torch.float32)
    return folder

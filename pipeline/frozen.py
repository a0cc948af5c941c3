"""The project's frozen backbone, with what it needs to embed videos into the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from features.backbone import DTYPES, Attention, Backbone, best_device, choose_precision, load_backbone
from features.cache import EmbeddingCache
from features.clips import ClipReader
from features.decode.grid import Decoder
from features.extraction import provenance
from features.gate import MotionGate
from features.preprocess import Preprocessing
from features.video import Views, WindowPlan


@dataclass(frozen=True)
class FrozenEncoder:
    """The backbone on its `device`, the `reader` of its clips, and the `cache` of what they give."""

    backbone: Backbone
    reader: ClipReader
    cache: EmbeddingCache
    device: torch.device

    @property
    def store_provenance(self) -> Mapping[str, Any]:
        """What a store of these embeddings says of how they were made: the cache's key, and the backbone's name."""
        backbone = {"id": self.backbone.id, "sha256": self.backbone.weights_sha256}
        return dict(self.cache.provenance) | {"backbone": backbone}

    def with_views(self, views: Views) -> FrozenEncoder:
        """The same encoder for pictures of which it sees these views, with the cache of those."""
        reader = replace(self.reader, views=views)
        return replace(self, reader=reader, cache=EmbeddingCache(self.cache.root, provenance(self.backbone, reader)))


def load_frozen_encoder(
    checkpoint: Path,
    cache: Path,
    plan: WindowPlan,
    *,
    decoder: Decoder,
    precision: str,
    attention: Attention,
    gate: MotionGate | None = None,
    views: Views = "center",
) -> FrozenEncoder:
    """Load the backbone onto this machine's best device, with the cache below `cache` for what it gives."""
    device = best_device()
    backbone = load_backbone(checkpoint, dtype=DTYPES[choose_precision(precision, device)], attention=attention)
    preprocessing = Preprocessing.from_checkpoint(checkpoint)
    backbone.require_fit(num_frames=plan.num_frames, crop_size=preprocessing.crop_size)
    backbone.to(device)
    reader = ClipReader(plan, preprocessing, decoder, gate, views)
    return FrozenEncoder(backbone, reader, EmbeddingCache(cache, provenance(backbone, reader)), device)

"""The project's frozen backbone, with what it needs to embed videos into the cache."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from features.backbone import DTYPES, Attention, Backbone, best_device, choose_precision, load_backbone
from features.cache import EmbeddingCache
from features.clips import ClipReader, Source
from features.decode.grid import Decoder
from features.extraction import BlockInputSelection, Extraction, extract, provenance
from features.gate import MotionGate
from features.pieces.places import pieces_at
from features.preprocess import Preprocessing
from features.video import Views, WindowPlan
from pipeline.layout import Layout

log = logging.getLogger(__name__)


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

    def warn_of_poolings(self) -> None:
        """Say what heads cannot be trained on, before hours of work."""
        if "pooler" not in self.backbone.poolings:
            log.warning(
                "%s has no attentive pooler: features of train and temporal in the params can be %s",
                *(self.backbone.id, " and ".join(self.backbone.poolings)),
            )


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
    shared: str | None = None,
) -> FrozenEncoder:
    """Load the backbone onto this machine's best device, with the cache below `cache` for what it gives.

    `shared` is the address of a place that other machines fill and read, too. Raises `PiecesError`.
    """
    place = pieces_at(shared) if shared else None
    device = best_device()
    backbone = load_backbone(checkpoint, dtype=DTYPES[choose_precision(precision, device)], attention=attention)
    preprocessing = Preprocessing.from_checkpoint(checkpoint)
    backbone.require_fit(num_frames=plan.num_frames, crop_size=preprocessing.crop_size)
    backbone.to(device)
    reader = ClipReader(plan, preprocessing, decoder, gate, views)
    return FrozenEncoder(backbone, reader, EmbeddingCache(cache, provenance(backbone, reader), place), device)


@dataclass(frozen=True)
class Extractor:
    """Brings videos of a data set into the encoder's cache; a video that failed is not tried again."""

    encoder: FrozenEncoder
    batch_size: int
    num_workers: int
    max_cache_gb: float

    @property
    def provenance(self) -> Mapping[str, Any]:
        return self.encoder.cache.provenance

    def extract(self, sources: Sequence[Source], selection: BlockInputSelection) -> Extraction:
        encoder = self.encoder
        with encoder.cache.locked():
            return extract(
                encoder.backbone,
                sources,
                encoder.reader,
                cache=encoder.cache,
                selection=selection,
                batch_size=self.batch_size,
                num_workers=self.num_workers,
                device=encoder.device,
                keeps_failures=True,
            )

    def shrink(self) -> int:
        """Keep this machine's folder within its quota; returns how many files went."""
        return self.encoder.cache.shrink(self.max_cache_gb * 1e9)


@dataclass(frozen=True)
class ExtractorLoader:
    """All that loads the same `Extractor` in another process, or on another machine that has these files.

    `cache` None is the account's own folder there.
    """

    checkpoint: Path
    cache: Path | None
    shared: str | None
    plan: WindowPlan
    decoder: Decoder
    precision: str
    attention: Attention
    views: Views
    batch_size: int
    num_workers: int
    max_cache_gb: float

    def __call__(self) -> Extractor:
        encoder = load_frozen_encoder(
            self.checkpoint,
            self.cache or Layout("").cache,
            self.plan,
            decoder=self.decoder,
            precision=self.precision,
            attention=self.attention,
            views=self.views,
            shared=self.shared,
        )
        return Extractor(encoder, self.batch_size, self.num_workers, self.max_cache_gb)

"""Embeddings that the finetuned last block gives: from stored block inputs where they are there, else from video."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from features.cache import EmbeddingCache
from features.clips import Source
from features.extraction import BlockInputSelection, extract, provenance
from features.store.block_inputs import BlockInputs
from features.store.embeddings import Embeddings, VideoEmbeddings, write_embeddings
from heads.action_model import replace_last_block
from heads.predictions import rows_by_video
from pipeline.frozen import FrozenEncoder


def finetuned_encoder(frozen: FrozenEncoder, model: Path, *, expected: Mapping[str, Any]) -> FrozenEncoder:
    """The encoder with the last block of stage 2's folder `model`; what it gives is cached under a key of its own."""
    replace_last_block(model, frozen.backbone, expected=expected)
    return dataclasses.replace(
        frozen, cache=EmbeddingCache(frozen.cache.root, provenance(frozen.backbone, frozen.reader))
    )


def write_finetuned(
    path: Path,
    encoder: FrozenEncoder,
    frozen: Embeddings,
    files: Mapping[str, Path],
    block_inputs: BlockInputs,
    *,
    batch_size: int,
    num_workers: int,
) -> int:
    """Write a store with the windows of `frozen`, embedded anew, and return of how many videos nothing was decoded.

    Videos with all their windows among the `block_inputs` are embedded from there, the others from `files`, by way of
    the cache. Raises `UnreadableVideo` where the frozen backbone read a video and this cannot.
    """
    rows_of = rows_by_video(frozen.video_ids)
    stored = {
        video_id
        for video_id, rows in rows_of.items()
        if block_inputs.windows.get(video_id) == tuple(frozen.window[rows].tolist())
    }
    with encoder.cache.locked():
        extraction = extract(
            encoder.backbone,
            [Source(video_id, files[video_id]) for video_id in rows_of if video_id not in stored],
            encoder.reader,
            cache=encoder.cache,
            selection=BlockInputSelection({}, "fp32"),
            batch_size=batch_size,
            num_workers=num_workers,
            device=encoder.device,
        )
        for failure in extraction.failures.values():
            raise failure

        def load(video_id: str) -> VideoEmbeddings:
            if video_id not in stored:
                return encoder.cache.load(extraction.sha256s[video_id])
            rows = rows_of[video_id]
            return VideoEmbeddings(
                frozen.window[rows],
                frozen.start_s[rows],
                frozen.end_s[rows],
                frozen.num_padded[rows],
                _vectors(
                    encoder,
                    block_inputs,
                    [block_inputs.row(video_id, window) for window in frozen.window[rows].tolist()],
                    batch_size,
                ),
            )

        write_embeddings(
            path,
            {video_id: len(frozen.window[rows]) for video_id, rows in rows_of.items()},
            load,
            provenance=encoder.store_provenance,
            sizes=dict.fromkeys(encoder.backbone.poolings, encoder.backbone.hidden_size),
        )
    return len(stored)


def _vectors(
    encoder: FrozenEncoder, block_inputs: BlockInputs, rows: list[int], batch_size: int
) -> dict[str, np.ndarray]:
    """Pooled vectors (n, D) float16 of stored windows, by pooling."""
    backbone = encoder.backbone

    @torch.inference_mode()
    def batches() -> Iterator[dict[str, torch.Tensor]]:
        for first in range(0, len(rows), batch_size):
            inputs = block_inputs.read(rows[first : first + batch_size]).to(encoder.device, backbone.dtype)
            yield backbone.pool_each(backbone.last_block(inputs), backbone.poolings)

    pooled = list(batches())
    return {name: torch.cat([part[name].to("cpu", torch.float16) for part in pooled]).numpy() for name in pooled[0]}

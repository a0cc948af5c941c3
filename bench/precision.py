"""How far half precision and eager attention move embeddings: cosine similarity on the demo's backbone and videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from bench import Row
from bench.extraction import Work, pixel_batches
from bench.worlds import DEMO_WINDOWS, TINY_BACKBONE, demo_videos
from features.backbone import DTYPES, Attention, Backbone, load_backbone
from features.clips import ClipReader, Source
from features.pooling import POOLINGS
from features.preprocess import Preprocessing
from features.video import WindowPlan

_VARIANTS: tuple[tuple[str, Attention], ...] = (("bf16", "sdpa"), ("fp16", "sdpa"), ("fp32", "eager"))


def measure(
    *, folder: Path = TINY_BACKBONE, videos: Sequence[Path] | None = None, plan: WindowPlan = DEMO_WINDOWS
) -> list[Row]:
    """A row for each of `_VARIANTS`, compared with fp32 and sdpa attention. On a CPU."""
    reader = ClipReader(plan, Preprocessing.from_checkpoint(folder), "auto")
    sources = [Source(path.stem, path) for path in (demo_videos(8) if videos is None else videos)]
    work = Work(sources, reader, batch_size=16, num_workers=0)
    exact = embed(load_backbone(folder, dtype=torch.float32), work)
    rows = []
    for precision, attention in _VARIANTS:
        vectors = embed(load_backbone(folder, dtype=DTYPES[precision], attention=attention), work)
        distances = {name: 1 - F.cosine_similarity(vectors[name], exact[name], dim=1) for name in POOLINGS}
        mean = {name: distance.mean().item() for name, distance in distances.items()}
        worst = {name: distance.max().item() for name, distance in distances.items()}
        rows.append(
            Row(
                f"Embeddings in {precision} with {attention} attention, compared with fp32 and sdpa",
                "1 - cosine similarity, worst window and pooling",
                max(worst.values()),
                better="lower",
                note="mean over windows: " + ", ".join(f"{name} {distance:.1e}" for name, distance in mean.items()),
                details={"windows": len(exact["mean"]), "mean": mean, "worst": worst},
            )
        )
    return rows


@torch.inference_mode()
def embed(backbone: Backbone, work: Work) -> dict[str, torch.Tensor]:
    """All windows' vectors by pooling, (n, D), in float64: differences from 1 are below float32's precision."""
    pooled = [backbone.pool(backbone.tokens(pixels), POOLINGS) for pixels in pixel_batches(backbone, work)]
    return {name: torch.cat([batch[name] for batch in pooled]).double() for name in POOLINGS}

"""From video files to embedding rows: decoding beside the forward pass. Knows failures by video; knows no store."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from features.clips import Finished, Reading, Source, stream_clips
from features.decode import UnreadableVideo
from features.encoder import Backbone, embed
from features.store import Row
from features.video import Clip


@dataclass(frozen=True)
class Extraction:
    """Rows of every video that could be read to its end, and why each other one could not."""

    rows: list[Row]
    failures: dict[str, UnreadableVideo]


def extract(
    backbone: Backbone, sources: Sequence[Source], reading: Reading, *, batch_size: int, num_workers: int,
    device: torch.device,
) -> Extraction:  # fmt: skip
    """Embed every window of every source. A video that fails half way leaves no rows, and its reason."""
    failures: dict[str, UnreadableVideo] = {}

    def clips() -> Iterator[tuple[str, Clip]]:
        with tqdm(total=len(sources), desc="extract", unit="video", file=sys.stderr) as bar:
            for item in stream_clips(sources, reading, num_workers=num_workers):
                if not isinstance(item, Finished):
                    yield item
                    continue
                bar.update()
                if item.failure is not None:
                    failures[item.video_id] = item.failure

    rows = list(embed(backbone, clips(), preprocessing=reading.preprocessing, batch_size=batch_size, device=device))
    return Extraction([row for row in rows if row.video_id not in failures], failures)

"""Stored block inputs, for the stages that train on them, and probabilities of windows from them or from video."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from features.clips import ClipReader, Source, read_videos
from features.provenance import require_provenance
from features.store.block_inputs import BlockInputs, open_block_inputs
from features.video import Clip
from heads.action_model import ActionModel, Tail, predict_block_inputs, predict_clips
from pipeline.dataset.truth import SplitTruth

log = logging.getLogger(__name__)


class TooFewBlockInputs(Exception):
    """No window of a split that is trained or evaluated on has its block input stored."""


def require_block_inputs(path: Path, provenance: Mapping[str, Any], splits: Sequence[SplitTruth]) -> BlockInputs:
    """The store at `path`, which must belong to these embeddings and hold windows of each of the splits.

    Raises `TooFewBlockInputs` or `ProvenanceMismatch`.
    """
    block_inputs, found = open_block_inputs(path)
    require_provenance(found, expected=provenance, path=path)
    for split in splits:
        num_stored = [len(block_inputs.windows.get(video_id, ())) for video_id in split.video_ids]
        if not any(num_stored):
            raise TooFewBlockInputs(
                f"{path} holds {block_inputs.shape[0]} windows and none of {split.name}: raise finetune.block_inputs_gb"
            )
        log.info(
            "%s: block inputs of %d of %d windows are stored, of %d of %d videos",
            *(split.name, sum(num_stored), len(split.windows), sum(map(bool, num_stored)), len(num_stored)),
        )
    return block_inputs


def window_probabilities(
    model: ActionModel,
    truth: SplitTruth,
    block_inputs: BlockInputs,
    files: Mapping[str, Path],
    reader: ClipReader,
    *,
    batch_size: int,
    num_workers: int,
    device: torch.device,
) -> tuple[npt.NDArray[np.float32], int]:
    """The model's probabilities of all windows, (n, L), and of how many of them block inputs were stored.

    Videos with all their windows among the `block_inputs` are predicted from there, the others from `files`; one that
    `extract` read and this cannot read raises `UnreadableVideo`.
    """
    rows = _from_block_inputs(model.tail, block_inputs, truth, batch_size=batch_size, device=device)
    num_stored, done = len(rows), {video_id for video_id, _ in rows}
    sources = [Source(video_id, files[video_id]) for video_id in truth.video_ids if video_id not in done]
    clips = clips_of(sources, reader, num_workers=num_workers, description=truth.name)
    for video_id, clip, row in predict_clips(model, clips, batch_size=batch_size, device=device):
        rows[video_id, clip.window] = row
    ordered = [rows[key] for key in truth.embeddings.keys]
    return np.array(ordered, dtype=np.float32).reshape(-1, len(truth.labels)), num_stored


def _from_block_inputs(
    tail: Tail, block_inputs: BlockInputs, truth: SplitTruth, *, batch_size: int, device: torch.device
) -> dict[tuple[str, int], np.ndarray]:
    """Probabilities (L,) by key, of the windows of each video that is stored with all its windows."""
    keys = [
        (video_id, window)
        for video_id, windows in truth.windows_of.items()
        if block_inputs.windows.get(video_id) == windows
        for window in windows
    ]
    rows = [block_inputs.row(*key) for key in keys]
    batches = (block_inputs.read(rows[first : first + batch_size]) for first in range(0, len(rows), batch_size))
    return dict(zip(keys, predict_block_inputs(tail, batches, device=device), strict=True))


def clips_of(
    sources: list[Source], reader: ClipReader, *, num_workers: int, description: str
) -> Iterator[tuple[str, Clip]]:
    """Every clip of every source; a video that cannot be read raises `UnreadableVideo`."""
    with tqdm(total=len(sources), desc=description, unit="video", file=sys.stderr) as bar:
        for source, clips in read_videos(sources, reader, num_workers=num_workers):
            for clip in clips:
                yield source.video_id, clip
            bar.update()

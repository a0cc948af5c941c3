"""Stage `zero_shot`: CLIP with label names as prompts on val's and test's windows, where a profile asks for it."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from features.backbone import best_device
from features.clips import ClipReader, Source
from features.files import atomic_folder
from features.preprocess import Preprocessing
from heads.zero_shot import load_zero_shot
from pipeline.block_inputs import clips_of
from pipeline.dataset import labels, manifest
from pipeline.dataset.truth import read_splits
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.probabilities import predictions_of
from pipeline.stage import stage, write_not_asked_for

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """Predict from the frame in the middle of each window, cropped as the backbone sees it."""
    if params.clip is None:
        write_not_asked_for("`clip` of the profile's params is null", [paths.clip_predictions])
        return
    label_set = labels.read_label_set(paths.label_set)
    videos = manifest.read(paths.manifest)
    truths, _ = read_splits(
        paths.embeddings,
        videos,
        ("val", "test"),
        label_set.ids,
        poolings=(),
        min_overlap_s=params.targets.min_overlap_s,
    )
    device = best_device()
    model, sha256 = load_zero_shot(Path(params.clip).expanduser(), [each.name for each in label_set.labels])
    model.to(device)
    reader = ClipReader(params.windows, Preprocessing.from_checkpoint(paths.backbone), params.extract.decoder)
    with atomic_folder(paths.clip_predictions) as folder:
        for truth in truths:
            sources = [Source(name, paths.dataset / videos.by_id[name].path) for name in truth.video_ids]
            clips = clips_of(sources, reader, num_workers=params.extract.num_workers, description=truth.name)
            middles = ((video_id, clip.window, clip.frames[len(clip.frames) // 2]) for video_id, clip in clips)
            rows: dict[tuple[str, int], np.ndarray] = {}
            while batch := list(islice(middles, params.extract.batch_size)):
                pictures = torch.from_numpy(np.stack([picture for _, _, picture in batch])).to(device)
                keys = [(video_id, window) for video_id, window, _ in batch]
                rows |= zip(keys, model(pictures).cpu().numpy(), strict=True)
            probabilities = np.array([rows[key] for key in truth.embeddings.keys], dtype=np.float32)
            predictions_of(truth, probabilities, model_sha256=sha256).save(folder / f"{truth.name}.npz")
            log.info("%s: %d windows of %d videos", truth.name, len(probabilities), len(truth.video_ids))


if __name__ == "__main__":
    main()

"""Stage `predict`: both models' probabilities for every window of val and test, one file for each model and split."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import numpy as np
import torch
from tqdm import tqdm

from features.backbone import DTYPES, best_device, load_backbone
from features.clips import ClipReader, Source, read_videos
from features.preprocess import Preprocessing
from features.provenance import require_provenance
from features.store.block_inputs import BlockInputs, open_block_inputs
from features.store.embeddings import read_embeddings
from features.video import Clip
from heads import weights
from heads.action_model import Tail, load_action_model, predict_block_inputs, predict_clips
from heads.linear import load_linear_head
from heads.predictions import Predictions
from pipeline.dataset import manifest
from pipeline.dataset.truth import SplitTruth, split_truth
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.stage import stage

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """Predict val and test: the head from embeddings, stage 2 from block inputs where stored, else from video."""
    videos = manifest.read(paths.manifest)
    embeddings, provenance = read_embeddings(paths.embeddings)
    head, config = load_linear_head(paths.model("head"), expected=provenance)
    label_ids = [label["id"] for label in config["labels"]]
    preprocessing = Preprocessing.from_checkpoint(paths.backbone)
    # In the precision of the embeddings, which the head that stage 2 began from has seen.
    dtype = DTYPES[provenance["precision"]]
    backbone = load_backbone(paths.backbone, dtype=dtype, attention=provenance["attention"])
    model, finetune_config = load_action_model(paths.model("finetune"), backbone, preprocessing, expected=provenance)
    require_provenance(finetune_config, expected={"labels": config["labels"]}, path=paths.model("finetune"))
    block_inputs, block_provenance = open_block_inputs(paths.block_inputs)
    if block_inputs.windows:
        require_provenance(block_provenance, expected=provenance, path=paths.block_inputs)
    reader = ClipReader(params.windows, preprocessing, params.extract.decoder)
    device, batch_size = best_device(), params.extract.batch_size

    for split, path_of in (("val", paths.val_predictions), ("test", paths.test_predictions)):
        truth = split_truth(embeddings, videos, split, label_ids, min_overlap_s=params.targets.min_overlap_s)
        features = torch.from_numpy(truth.embeddings.features(config["features"]))
        with torch.inference_mode():
            from_embeddings = head(features).sigmoid().numpy()
        _predictions(truth, from_embeddings, weights.sha256(paths.model("head"))).save(path_of("head"))

        rows = _from_block_inputs(model.tail, block_inputs, truth, batch_size=batch_size, device=device)
        num_stored, done = len(rows), {video_id for video_id, _ in rows}
        sources = [
            Source(video_id, paths.dataset / videos.by_id[video_id].path)
            for video_id in truth.video_ids
            if video_id not in done
        ]
        clips = _clips(sources, reader, num_workers=params.extract.num_workers, description=split)
        for video_id, clip, row in predict_clips(model, clips, batch_size=batch_size, device=device):
            rows[video_id, clip.window] = row
        finetuned = np.stack([rows[key] for key in truth.embeddings.keys])
        _predictions(truth, finetuned, weights.sha256(paths.model("finetune"))).save(path_of("finetune"))
        log.info(
            "%s: %d windows of %d videos, %d from stored block inputs (%s), %d from video",
            *(split, len(finetuned), len(truth.video_ids)),
            *(num_stored, block_inputs.dtype, len(finetuned) - num_stored),
        )


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


def _clips(
    sources: list[Source], reader: ClipReader, *, num_workers: int, description: str
) -> Iterator[tuple[str, Clip]]:
    """Every clip of every source; a video that `extract` read and this cannot read raises."""
    with tqdm(total=len(sources), desc=description, unit="video", file=sys.stderr) as bar:
        for source, clips in read_videos(sources, reader, num_workers=num_workers):
            for clip in clips:
                yield source.video_id, clip
            bar.update()


def _predictions(truth: SplitTruth, probabilities: np.ndarray, model_sha256: str) -> Predictions:
    rows = truth.embeddings
    return Predictions(
        labels=truth.labels,
        video_ids=rows.video_ids,
        window=rows.window,
        start_s=rows.start_s,
        end_s=rows.end_s,
        probabilities=probabilities,
        targets=truth.windows,
        videos=np.array(truth.video_ids),
        # Reversed intervals have no time, so a video may carry a label that none of its windows does.
        video_targets=truth.videos,
        model_sha256=model_sha256,
    )


if __name__ == "__main__":
    main()

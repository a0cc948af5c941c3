"""Stage `predict`: both models' probabilities for every window of val and test, one file for each model and split."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from features.backbone import DTYPES, Backbone, BackboneError, best_device
from features.clips import Finished, Reading, Source, stream_clips
from features.decode.grid import UnreadableVideo
from features.preprocess import Preprocessing, PreprocessingError
from features.store import embeddings as store
from features.store.block_inputs import Tokens, open_tokens
from features.video import Clip
from heads import weights
from heads.action_model import Tail, load_action_model, predict_clips, predict_tokens, require_same_prefix
from heads.linear import load_head
from heads.predictions import Predictions
from pipeline import params
from pipeline.dataset import manifest
from pipeline.dataset.truth import SplitTargets, split_targets
from pipeline.stage import params_option, path_option, stage

log = logging.getLogger(__name__)


@stage(
    params.ParamsError, manifest.ManifestError, store.StoreError, BackboneError, PreprocessingError,
    weights.WeightsMismatch, UnreadableVideo,
)  # fmt: skip
@path_option("--dataset", "Folder of the videos.")
@path_option("--embeddings", "Zarr group of embeddings.")
@path_option("--tokens", "Zarr group of what enters the last block, for some windows.", "tokens_path")
@path_option("--manifest", "Folder of the manifest.", "manifest_dir")
@path_option("--backbone", "Folder of the backbone.", "backbone_dir")
@path_option("--head", "Folder of the stage-1 head.", "head_dir")
@path_option("--finetune", "Folder of stage 2.", "finetune_dir")
@path_option("--out", "Folder of predictions, to be written.")
@params_option
def main(
    dataset: Path, embeddings: Path, tokens_path: Path, manifest_dir: Path, backbone_dir: Path, head_dir: Path,
    finetune_dir: Path, out: Path, params_file: Path,
) -> None:  # fmt: skip
    """Predict val and test: the head from embeddings, the finetuned model from tokens where stored, else from video."""
    chosen = params.load(params_file).active
    videos = manifest.read(manifest_dir)
    stored, made_by = store.read(embeddings)
    head, description = load_head(head_dir, expect=made_by)
    label_ids = tuple(label["id"] for label in description["labels"])
    preprocessing = Preprocessing.from_checkpoint(backbone_dir)
    # As the embeddings were made: the head that stage 2 began from knows those.
    backbone = Backbone.load(backbone_dir, dtype=DTYPES[made_by["precision"]], attention=made_by["attention"])
    model, _ = load_action_model(
        finetune_dir, backbone, preprocessing, expect=made_by | {"labels": description["labels"]}
    )
    tokens, tokens_made_by = open_tokens(tokens_path)
    if tokens.windows:
        require_same_prefix(tokens_made_by, expect=made_by, path=tokens_path)
    reading = Reading(chosen.windows.plan, preprocessing, chosen.extract.decoder)
    device, batch_size = best_device(), chosen.extract.batch_size

    out.mkdir(parents=True, exist_ok=True)
    for split in ("val", "test"):
        true = split_targets(stored, videos, split, label_ids, min_overlap_s=chosen.targets.min_overlap_s)
        features = torch.from_numpy(true.embeddings.features(description["features"]))
        with torch.inference_mode():
            probabilities = head(features).sigmoid().numpy()
        _predictions(true, label_ids, probabilities).save(out / f"head.{split}.npz")

        found = _from_tokens(model.tail, tokens, true, batch_size=batch_size, device=device)
        num_from_tokens, done = len(found), {video_id for video_id, _ in found}
        sources = [Source(each, dataset / videos.by_id[each].path) for each in true.video_ids if each not in done]
        clips = _all_clips(sources, reading, num_workers=chosen.extract.num_workers, description=split)
        for video_id, clip, row in predict_clips(model, clips, batch_size=batch_size, device=device):
            found[video_id, clip.segment.start_s] = row
        finetuned = np.stack([found.pop(key) for key in true.embeddings.keys])
        _predictions(true, label_ids, finetuned).save(out / f"finetune.{split}.npz")
        log.info(
            "%s: %d windows of %d videos, %d from stored tokens (%s), %d from video",
            split, len(finetuned), len(true.video_ids), num_from_tokens, tokens.dtype, len(finetuned) - num_from_tokens,
        )  # fmt: skip


def _from_tokens(
    tail: Tail, tokens: Tokens, true: SplitTargets, *, batch_size: int, device: torch.device
) -> dict[tuple[str, float], np.ndarray]:
    """Probabilities (L,) by key of the windows of each video of which all are stored."""
    stored = {each for each, count in true.num_windows.items() if tokens.windows.get(each) == tuple(range(count))}
    rows = [tokens.row(each, window) for each in sorted(stored) for window in tokens.windows[each]]
    batches = (tokens.read(rows[first : first + batch_size]) for first in range(0, len(rows), batch_size))
    keys = [key for key in true.embeddings.keys if key[0] in stored]
    return dict(zip(keys, predict_tokens(tail, batches, device=device), strict=True))


def _all_clips(
    sources: list[Source], reading: Reading, *, num_workers: int, description: str
) -> Iterator[tuple[str, Clip]]:
    """Every clip of every source; a video that `extract` could read and this cannot is an error, not a gap."""
    with tqdm(total=len(sources), desc=description, unit="video", file=sys.stderr) as bar:
        for item in stream_clips(sources, reading, num_workers=num_workers):
            if not isinstance(item, Finished):
                yield item
                continue
            bar.update()
            if item.failure is not None:
                raise item.failure


def _predictions(true: SplitTargets, labels: tuple[str, ...], probabilities: np.ndarray) -> Predictions:
    rows = true.embeddings
    return Predictions(
        labels=labels,
        video_ids=rows.video_ids,
        start_s=rows.start_s,
        end_s=rows.end_s,
        probabilities=probabilities,
        targets=true.windows,
        videos=np.array(true.video_ids),
        # Reversed intervals have no time, so a video may carry what no window does; and the other way round, never.
        video_targets=true.videos,
    )


if __name__ == "__main__":
    main()

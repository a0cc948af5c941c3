"""Stage `predict`: all models' probabilities for every window of val and test, a file for each model and split."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from features.backbone import DTYPES, best_device, load_backbone
from features.clips import ClipReader, Source, read_videos
from features.preprocess import Preprocessing
from features.provenance import require_provenance
from features.store.block_inputs import BlockInputs, open_block_inputs
from features.store.embeddings import read_embeddings
from features.store.rows import StoreError
from features.video import Clip
from heads import weights
from heads.action_model import Tail, load_action_model, predict_block_inputs, predict_clips
from heads.linear import LinearHead, load_linear_head
from heads.predictions import Predictions
from heads.temporal import TemporalEnsemble, load_temporal_head, predict_sequence
from heads.training.sequences import sequences_of
from heads.typicality import Typicality
from pipeline.dataset import manifest
from pipeline.dataset.recordings import recording_paths, true_actions
from pipeline.dataset.truth import SplitTruth, recording_truth, split_truth
from pipeline.layout import Layout, models_of
from pipeline.params import Params
from pipeline.stage import stage

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """Predict val and test, videos and annotated recordings.

    The heads predict from embeddings; stage 2 from those of its block where `finetune_temporal` stored them, else from
    block inputs where they are stored, else from video.
    """
    videos = manifest.read(paths.manifest)
    embeddings, provenance = read_embeddings(
        paths.embeddings, video_ids=[video.video_id for split in ("val", "test") for video in videos.split(split)]
    )
    recordings, recordings_provenance = read_embeddings(paths.recording_embeddings)
    require_provenance(recordings_provenance, expected=provenance, path=paths.recording_embeddings)
    linear, config = load_linear_head(paths.model("linear"), expected=provenance)
    temporal, temporal_config = load_temporal_head(paths.model("temporal"), expected=provenance)
    typicality = Typicality.load(
        paths.typicality, backbone_sha256=provenance["backbone"]["sha256"], remedy="run `dvc repro train`"
    )
    preprocessing = Preprocessing.from_checkpoint(paths.backbone)
    # In the precision of the embeddings, which the head that stage 2 began from has seen.
    dtype = DTYPES[provenance["precision"]]
    backbone = load_backbone(paths.backbone, dtype=dtype, attention=provenance["attention"])
    finetuned, finetune_config = load_action_model(
        paths.model("finetune"), backbone, preprocessing, expected=provenance
    )
    on_finetuned, on_finetuned_config = None, temporal_config
    if "finetune_temporal" in models_of(params.temporal.embeddings):
        on_finetuned, on_finetuned_config = load_temporal_head(paths.model("finetune_temporal"), expected=provenance)
    for model, other in (
        ("temporal", temporal_config),
        ("finetune", finetune_config),
        ("finetune_temporal", on_finetuned_config),
    ):
        require_provenance(other, expected={"labels": config["labels"]}, path=paths.model(model))
    block_inputs, block_provenance = open_block_inputs(paths.block_inputs)
    if block_inputs.windows:
        require_provenance(block_provenance, expected=provenance, path=paths.block_inputs)
    views = provenance.get("views", "center")
    reader = ClipReader(params.windows, preprocessing, params.extract.decoder, views=views)
    device, batch_size = best_device(), params.extract.batch_size

    label_ids, min_overlap_s = [label["id"] for label in config["labels"]], params.targets.min_overlap_s
    files = {video.video_id: paths.dataset / video.path for video in videos.videos} | recording_paths(paths.recordings)

    def truth_of_videos(split: str) -> SplitTruth:
        return split_truth(embeddings, videos, split, label_ids, min_overlap_s=min_overlap_s)

    def truth_of_recordings(split: str) -> SplitTruth:
        actions = true_actions(paths.recordings, split, set(recordings.video_ids.tolist()))
        return recording_truth(recordings, actions, split, label_ids, min_overlap_s=min_overlap_s)

    for truth, path_of, of in (
        (truth_of_videos("val"), paths.val_predictions, "videos"),
        (truth_of_videos("test"), paths.test_predictions, "videos"),
        (truth_of_recordings("val"), paths.val_predictions, "recordings"),
        (truth_of_recordings("test"), paths.test_predictions, "recordings"),
    ):
        by_model = {
            "linear": _linear(linear, truth, config["features"]),
            "temporal": _temporal(temporal, truth, temporal_config["features"], params.windows.stride_s),
        }
        if on_finetuned is not None:
            own = _finetuned(truth, paths.finetuned_embeddings(of), expected=on_finetuned_config["embeddings"])
            by_model["finetune"] = _linear(finetuned.tail.head, own, finetune_config["features"])
            by_model["finetune_temporal"] = _temporal(
                on_finetuned, own, on_finetuned_config["features"], params.windows.stride_s
            )
            source = "all from stored embeddings"
        else:
            rows = _from_block_inputs(finetuned.tail, block_inputs, truth, batch_size=batch_size, device=device)
            num_stored, done = len(rows), {video_id for video_id, _ in rows}
            sources = [Source(video_id, files[video_id]) for video_id in truth.video_ids if video_id not in done]
            clips = _clips(sources, reader, num_workers=params.extract.num_workers, description=truth.name)
            for video_id, clip, row in predict_clips(finetuned, clips, batch_size=batch_size, device=device):
                rows[video_id, clip.window] = row
            ordered = [rows[key] for key in truth.embeddings.keys]
            by_model["finetune"] = np.array(ordered, dtype=np.float32).reshape(-1, len(label_ids))
            num_decoded = len(ordered) - num_stored
            source = f"{num_stored} from stored block inputs ({block_inputs.dtype}), {num_decoded} from video"
        distances = typicality.distances(truth.embeddings.side_by_side([Typicality.pooling]))
        for model, probabilities in by_model.items():
            _predictions(truth, probabilities, distances, weights.sha256(paths.model(model))).save(path_of(model, of))
        log.info(
            "%s: %d windows of %d videos; finetune: %s",
            *(truth.name, len(truth.windows), len(truth.video_ids), source),
        )


def _linear(head: LinearHead, truth: SplitTruth, features: Sequence[str]) -> np.ndarray:
    with torch.inference_mode():
        return head(torch.from_numpy(truth.embeddings.side_by_side(features))).sigmoid().numpy()


def _temporal(head: TemporalEnsemble, truth: SplitTruth, features: Sequence[str], stride_s: float) -> np.ndarray:
    """Each video by itself: they lie further apart than the head reaches."""
    if not truth.video_ids:
        return np.empty((0, len(truth.labels)), dtype=np.float32)
    sequences = sequences_of(truth.embeddings, truth.windows, features=features, stride_s=stride_s)
    steps = sequences.steps_apart(head.shape.reach)
    return predict_sequence(head, sequences.features, steps).sigmoid().numpy()


def _finetuned(truth: SplitTruth, store: Path, *, expected: Mapping[str, Any]) -> SplitTruth:
    """The same windows with what the finetuned block gives of them."""
    embeddings, provenance = read_embeddings(store, video_ids=truth.video_ids)
    require_provenance(provenance, expected=expected, path=store)
    rows = embeddings.select(truth.video_ids)
    if rows.keys != truth.embeddings.keys:
        raise StoreError(f"{store} has other windows than the frozen embeddings: run `dvc repro finetune_temporal`")
    return replace(truth, embeddings=rows)


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


def _predictions(truth: SplitTruth, probabilities: np.ndarray, distances: np.ndarray, model_sha256: str) -> Predictions:
    rows = truth.embeddings
    return Predictions(
        labels=truth.labels,
        video_ids=rows.video_ids,
        window=rows.window,
        start_s=rows.start_s,
        end_s=rows.end_s,
        probabilities=probabilities,
        targets=truth.windows,
        videos=np.array(truth.video_ids, dtype=np.str_),
        # Reversed intervals have no time, so a video may carry a label that none of its windows does.
        video_targets=truth.videos,
        model_sha256=model_sha256,
        distances=distances,
    )


if __name__ == "__main__":
    main()

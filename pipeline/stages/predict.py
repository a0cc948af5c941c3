"""Stage `predict`: all models' probabilities for every window of val and test, a file for each model and split."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from features.backbone import DTYPES, best_device, load_backbone
from features.clips import ClipReader
from features.preprocess import Preprocessing
from features.provenance import require_provenance
from features.store.block_inputs import open_block_inputs
from features.store.embeddings import read_embeddings
from features.store.rows import StoreError
from heads import weights
from heads.action_model import load_action_model
from heads.linear import LinearHead, load_linear_head
from heads.temporal import load_temporal_head
from heads.typicality import Typicality
from pipeline.block_inputs import window_probabilities
from pipeline.dataset import manifest
from pipeline.dataset.recordings import recording_paths, true_actions
from pipeline.dataset.truth import SplitTruth, recording_truth, split_truth
from pipeline.layout import Layout, models_of
from pipeline.params import Params
from pipeline.probabilities import linear_probabilities, predictions_of, temporal_probabilities
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
    finetuned_head = finetuned.tail.head
    assert isinstance(finetuned_head, LinearHead)
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
            "linear": linear_probabilities(linear, truth.embeddings, config["features"]),
            "temporal": temporal_probabilities(
                temporal, truth.embeddings, temporal_config["features"], stride_s=params.windows.stride_s
            ),
        }
        if on_finetuned is not None:
            own = _finetuned(truth, paths.finetuned_embeddings(of), expected=on_finetuned_config["embeddings"])
            by_model["finetune"] = linear_probabilities(finetuned_head, own.embeddings, finetune_config["features"])
            by_model["finetune_temporal"] = temporal_probabilities(
                on_finetuned, own.embeddings, on_finetuned_config["features"], stride_s=params.windows.stride_s
            )
            source = "all from stored embeddings"
        else:
            by_model["finetune"], num_stored = window_probabilities(
                finetuned,
                truth,
                block_inputs,
                files,
                reader,
                batch_size=batch_size,
                num_workers=params.extract.num_workers,
                device=device,
            )
            num_decoded = len(truth.windows) - num_stored
            source = f"{num_stored} from stored block inputs ({block_inputs.dtype}), {num_decoded} from video"
        distances = typicality.distances(truth.embeddings.side_by_side([Typicality.pooling]))
        for model, probabilities in by_model.items():
            sha256 = weights.sha256(paths.model(model))
            predictions_of(truth, probabilities, model_sha256=sha256, distances=distances).save(path_of(model, of))
        log.info(
            "%s: %d windows of %d videos; finetune: %s",
            *(truth.name, len(truth.windows), len(truth.video_ids), source),
        )


def _finetuned(truth: SplitTruth, store: Path, *, expected: Mapping[str, Any]) -> SplitTruth:
    """The same windows with what the finetuned block gives of them."""
    embeddings, provenance = read_embeddings(store, video_ids=truth.video_ids)
    require_provenance(provenance, expected=expected, path=store)
    rows = embeddings.select(truth.video_ids)
    if rows.keys != truth.embeddings.keys:
        raise StoreError(f"{store} has other windows than the frozen embeddings: run `dvc repro finetune_temporal`")
    return replace(truth, embeddings=rows)


if __name__ == "__main__":
    main()

"""Stage `finetune_temporal`: temporal heads on what the finetuned block gives, where a profile asks for them."""

from __future__ import annotations

import logging

from features.files import atomic_folder, private_files
from features.provenance import require_provenance
from features.store.block_inputs import open_block_inputs
from features.store.embeddings import read_embeddings
from heads import weights
from heads.training.grid import best_of, save_table
from pipeline.dataset import manifest
from pipeline.dataset.recordings import recording_paths, true_actions
from pipeline.dataset.truth import read_splits
from pipeline.finetuned import finetuned_encoder, write_finetuned
from pipeline.frozen import load_frozen_encoder
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.stage import stage, write_not_asked_for
from pipeline.training import temporal_config, temporal_trials

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """Embed videos and annotated recordings with the finetuned block, and train temporal heads on that."""
    if "finetuned" not in params.temporal.embeddings:
        outs = (paths.model("finetune_temporal"), paths.finetuned)
        tables = (paths.history("finetune_temporal"), paths.grid("finetune_temporal"))
        write_not_asked_for("`temporal.embeddings` of the profile's params does not name `finetuned`", outs, tables)
        return
    embed(params, paths)
    train(params, paths)


def embed(params: Params, paths: Layout) -> None:
    """Write the stores of videos and annotated recordings."""
    frozen, provenance = read_embeddings(paths.embeddings, poolings=())
    recordings, recordings_provenance = read_embeddings(paths.recording_embeddings)
    require_provenance(recordings_provenance, expected=provenance, path=paths.recording_embeddings)
    block_inputs, block_provenance = open_block_inputs(paths.block_inputs)
    if block_inputs.windows:
        require_provenance(block_provenance, expected=provenance, path=paths.block_inputs)
    encoder = load_frozen_encoder(
        paths.backbone,
        paths.cache,
        params.windows,
        decoder=params.extract.decoder,
        precision=provenance["precision"],
        attention=provenance["attention"],
        views=provenance.get("views", "center"),
    )
    encoder = finetuned_encoder(encoder, paths.model("finetune"), expected=provenance)
    ids = set(recordings.video_ids.tolist())
    annotated = [*true_actions(paths.recordings, "val", ids), *true_actions(paths.recordings, "test", ids)]
    files = {video.video_id: paths.dataset / video.path for video in manifest.read(paths.manifest).videos}
    batch_size, num_workers = params.extract.batch_size, params.extract.num_workers
    with private_files():  # what is kept of a person's day is theirs alone
        for of, rows, files_of in (
            ("videos", frozen, files),
            ("recordings", recordings.select(annotated), recording_paths(paths.recordings)),
        ):
            num_stored = write_finetuned(
                paths.finetuned_embeddings(of),
                encoder,
                rows,
                files_of,
                block_inputs,
                batch_size=batch_size,
                num_workers=num_workers,
            )
            log.info("embedded %d windows of %s; %d files from stored block inputs", len(rows), of, num_stored)


def train(params: Params, paths: Layout) -> None:
    """Train temporal heads, as stage `train` does, and keep the best with the block that they belong to."""
    tensors, stage_2 = weights.load(paths.model("finetune"), expected={})
    label_ids = [label["id"] for label in stage_2["labels"]]
    videos = manifest.read(paths.manifest)
    (train, val), provenance = read_splits(
        paths.finetuned_embeddings("videos"),
        videos,
        ("train", "val"),
        label_ids,
        poolings=params.temporal.features,
        min_overlap_s=params.targets.min_overlap_s,
    )
    trials = temporal_trials(params.temporal, train, val, stride_s=params.windows.stride_s, seed=params.seed)
    block = {name: tensor for name, tensor in tensors.items() if name.startswith(weights.LAST_BLOCK)}
    config = {"provenance": stage_2["provenance"], "labels": stage_2["labels"], "embeddings": provenance}
    with atomic_folder(paths.model("finetune_temporal")) as folder:
        weights.save(
            folder, block | best_of(trials).head.state_dict(), config | temporal_config(trials, train, params.temporal)
        )
    best_of(trials).history.save(paths.history("finetune_temporal"))
    save_table(paths.grid("finetune_temporal"), trials)


if __name__ == "__main__":
    main()

"""Stage `finetune`: stage 2, the last encoder block and the head, from video or stored tokens and the stage-1 head."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from features.backbone import Backbone, BackboneError
from features.clips import Reading, Source
from features.decode.grid import UnreadableVideo
from features.preprocess import Preprocessing, PreprocessingError
from features.store import embeddings as store
from features.store.block_inputs import Tokens, open_tokens
from heads import weights
from heads.action_model import ActionModel, Tail, require_same_prefix
from heads.linear import load_head
from heads.losses import bce
from heads.training.batches import frame_batches, on_frames, on_tokens, plan_batches, token_batches
from heads.training.loop import Candidate, NonFiniteLoss, TrainingSchedule, fit
from heads.training.state import Checkpoint
from pipeline import params
from pipeline.dataset import manifest
from pipeline.dataset.truth import SplitTargets, split_targets
from pipeline.stage import params_option, path_option, stage

log = logging.getLogger(__name__)


class TooFewTokens(Exception):  # noqa: N818, named as what it is
    """Of a split that is to be trained or judged on, no window's tokens are stored."""


@stage(
    params.ParamsError, manifest.ManifestError, store.StoreError, BackboneError, PreprocessingError,
    weights.WeightsMismatch, UnreadableVideo, NonFiniteLoss, TooFewTokens,
)  # fmt: skip
@path_option("--dataset", "Folder of the videos.")
@path_option("--embeddings", "Zarr group: which windows there are.")
@path_option("--tokens", "Zarr group of what enters the last block, for the windows that were chosen.", "tokens_path")
@path_option("--manifest", "Folder of the manifest.", "manifest_dir")
@path_option("--backbone", "Folder of the backbone.", "backbone_dir")
@path_option("--head", "Folder of the stage-1 head.", "head_dir")
@path_option("--checkpoint", "Folder of the training's state while it runs; a killed one goes on from there.")
@path_option("--out", "Folder of block and head, to be written.")
@path_option("--history", "CSV of the training, to be written.")
@params_option
def main(
    dataset: Path, embeddings: Path, tokens_path: Path, manifest_dir: Path, backbone_dir: Path, head_dir: Path,
    checkpoint: Path, out: Path, history: Path, params_file: Path,
) -> None:  # fmt: skip
    """Finetune the last encoder block and the head."""
    chosen = params.load(params_file).active
    tuning, batch_size, num_workers = chosen.finetune, chosen.extract.batch_size, chosen.extract.num_workers
    videos = manifest.read(manifest_dir)
    stored, made_by = store.read(embeddings)
    head, description = load_head(head_dir, expect=made_by)
    label_ids = [label["id"] for label in description["labels"]]
    train, val = (
        split_targets(stored, videos, split, label_ids, min_overlap_s=chosen.targets.min_overlap_s)
        for split in ("train", "val")
    )
    preprocessing = Preprocessing.from_checkpoint(backbone_dir)
    # The weights stay fp32 while they train; `precision` is that of the arithmetic.
    backbone = Backbone.load(backbone_dir, dtype=torch.float32, attention=made_by["attention"])
    backbone.last.requires_grad_(True)
    tail = Tail(backbone, head, features=description["features"])
    generator = torch.Generator().manual_seed(chosen.seed)

    tokens = _stored_tokens(tokens_path, made_by, (train, val)) if tuning.source == "tokens" else None
    everything = {each: range(count) for split in (train, val) for each, count in split.num_windows.items()}
    windows: Mapping[str, Sequence[int]] = everything if tokens is None else tokens.windows

    def sources(video_ids: Iterable[str]) -> list[Source]:
        return [Source(video_id, dataset / videos.by_id[video_id].path) for video_id in video_ids]

    plan = plan_batches(
        sources(train.video_ids),
        windows,
        steps=tuning.steps,
        batch_size=tuning.batch_size,
        windows_per_pass=tuning.windows_per_video,
        buffer_size=tuning.shuffle_windows,
        start_frames=chosen.windows.plan.stride_frames if tuning.random_starts else 1,
        mirrored_share=0.5 if tuning.flip else 0.0,
        generator=generator,
    )
    judged = val.spread(tuning.evaluate_windows, among=windows)
    model: nn.Module
    if tokens is None:
        model = ActionModel(backbone, tail, preprocessing=preprocessing)
        reading = Reading(chosen.windows.plan, preprocessing, chosen.extract.decoder)
        train_batches = frame_batches(plan, reading, train.target_of, num_workers=num_workers)
        val_sources = [replace(each, windows=judged[each.video_id]) for each in sources(judged)]
        evaluate = on_frames(val_sources, reading, val.target_of, batch_size=batch_size, num_workers=num_workers)
    else:
        model = tail
        train_batches = token_batches(plan, tokens, train.target_at)
        evaluate = on_tokens(tokens, judged, val.target_at, batch_size=batch_size)
    (trained,) = fit(
        model,
        train_batches=train_batches,
        evaluate=evaluate,
        candidates=[
            Candidate(
                "finetune",
                [
                    {
                        "params": list(parameters.parameters()),
                        "lr": learning_rate,
                        "weight_decay": tuning.weight_decay,
                        "name": name,
                    }
                    for name, parameters, learning_rate in (
                        ("head", head, tuning.head_learning_rate),
                        ("last_block", backbone.last, tuning.backbone_learning_rate),
                    )
                ],
                bce,
            )
        ],
        schedule=TrainingSchedule(**tuning.schedule()),
        generator=generator,
        checkpoint=Checkpoint(
            checkpoint,
            {
                "plan": plan.sha256,
                "judged": {video_id: sorted(numbers) for video_id, numbers in judged.items()},
                "seed": chosen.seed,
                "targets": chosen.targets.model_dump(),
                "finetune": tuning.model_dump(exclude={"checkpoint_every_steps"}),
                "decoder": chosen.extract.decoder,
                "batch_size": batch_size,
                "head": weights.sha256(head_dir),
                "embeddings": made_by,
            },
            tuning.checkpoint_every_steps,
        ),
        cpu=False,
    )

    weights.save(out, tail.trained_tensors(), description)
    trained.save(history)
    log.info(
        "finetuned from %s for %d steps of %d windows; val mAP %.3f at step %d",
        tuning.source, trained.rows[-1].step, tuning.batch_size, trained.best.val_map, trained.best.step,
    )  # fmt: skip


def _stored_tokens(path: Path, made_by: Mapping[str, Any], splits: Sequence[SplitTargets]) -> Tokens:
    """The tokens at `path`, which belong to these embeddings and hold windows of each of the splits."""
    tokens, tokens_made_by = open_tokens(path)
    require_same_prefix(tokens_made_by, expect=made_by, path=path)
    for split in splits:
        stored = [len(tokens.windows.get(video_id, ())) for video_id in split.video_ids]
        if not any(stored):
            raise TooFewTokens(
                f"{path} holds {tokens.shape[0]} windows and none of {split.name}: raise finetune.tokens_gb"
            )
        log.info(
            "%s: tokens of %d of %d windows are stored, of %d of %d videos",
            split.name, sum(stored), len(split.windows), sum(map(bool, stored)), len(stored),
        )  # fmt: skip
    return tokens


if __name__ == "__main__":
    main()

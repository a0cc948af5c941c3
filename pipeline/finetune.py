"""Stage `finetune`: stage 2, the last encoder block and the head, from raw video and from the stage-1 head."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from features import store
from features.clips import Reading, Source, read_passes
from features.decode import UnreadableVideo
from features.encoder import Backbone, BackboneError
from features.preprocess import Preprocessing, PreprocessingError
from heads import weights
from heads.finetuning import clip_batches, on_frames, plan_passes, windows_in_memory
from heads.head import load_head
from heads.model import ActionModel
from heads.training import NonFiniteLoss, TrainingSchedule, fit
from pipeline import manifest, params
from pipeline.stage import params_option, path_option, stage
from pipeline.targets import split_targets

log = logging.getLogger(__name__)


@stage(
    params.ParamsError, manifest.ManifestError, store.StoreError, BackboneError, PreprocessingError,
    weights.WeightsMismatch, UnreadableVideo, NonFiniteLoss,
)  # fmt: skip
@path_option("--dataset", "Folder of the videos.")
@path_option("--embeddings", "Zarr group: which windows there are.")
@path_option("--manifest", "Folder of the manifest.", "manifest_dir")
@path_option("--backbone", "Folder of the backbone.", "backbone_dir")
@path_option("--head", "Folder of the stage-1 head.", "head_dir")
@path_option("--out", "Folder of block and head, to be written.")
@path_option("--history", "CSV of the training, to be written.")
@params_option
def main(
    dataset: Path, embeddings: Path, manifest_dir: Path, backbone_dir: Path, head_dir: Path, out: Path, history: Path,
    params_file: Path,
) -> None:  # fmt: skip
    """Finetune the last encoder block and the head."""
    chosen = params.load(params_file).active
    tuning = chosen.finetune
    videos = manifest.read(manifest_dir)
    stored, made_by = store.read(embeddings)
    head, description = load_head(head_dir, expect=made_by)
    label_ids = [label["id"] for label in description["labels"]]
    train, val = (
        split_targets(stored, videos, split, label_ids, min_overlap_s=chosen.targets.min_overlap_s)
        for split in ("train", "val")
    )
    preprocessing = Preprocessing.from_checkpoint(backbone_dir)
    reading = Reading(chosen.windows.plan, preprocessing, chosen.extract.decoder)
    # The weights stay fp32 while they train; `precision` is that of the arithmetic.
    backbone = Backbone.load(backbone_dir, dtype=torch.float32)
    backbone.last.requires_grad_(True)
    model = ActionModel(backbone, head, preprocessing=preprocessing, features=description["features"])
    generator = torch.Generator().manual_seed(chosen.seed)

    def source(video_id: str, windows: frozenset[int] | None = None) -> Source:
        return Source(video_id, dataset / videos.by_id[video_id].path, windows)

    passes = plan_passes(
        [source(video_id) for video_id in train.video_ids],
        train.num_windows,
        windows_per_pass=tuning.windows_per_video,
        num_clips=tuning.steps * tuning.batch_size + tuning.shuffle_windows,
        generator=generator,
    )
    judged = [source(video_id, windows) for video_id, windows in val.spread(tuning.evaluate_windows).items()]
    val_frames, val_targets = windows_in_memory(
        read_passes(judged, reading, num_workers=tuning.num_workers), val.target_of
    )
    trained = fit(
        model,
        train_batches=clip_batches(
            read_passes(passes, reading, num_workers=tuning.num_workers),
            train.target_of,
            batch_size=tuning.batch_size,
            buffer_size=tuning.shuffle_windows,
            generator=generator,
        ),
        evaluate=on_frames(val_frames, val_targets, batch_size=chosen.extract.batch_size),
        parameter_groups=[
            {"params": list(head.parameters()), "lr": tuning.head_learning_rate, "name": "head"},
            {"params": list(backbone.last.parameters()), "lr": tuning.backbone_learning_rate, "name": "last_block"},
        ],
        schedule=TrainingSchedule(**tuning.schedule()),
        generator=generator,
        cpu=False,
    )

    weights.save(out, model.trained_tensors(), description)
    trained.save(history)
    log.info(
        "finetuned for %d steps of %d windows; val mAP %.3f at step %d",
        trained.rows[-1].step, tuning.batch_size, trained.best.val_map, trained.best.step,
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""Stage `train`: stage 1, a head on the frozen embeddings. The backbone is never loaded."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from features import store
from heads import weights
from heads.evaluation import on_features
from heads.head import Head
from heads.training import NonFiniteLoss, TrainingSchedule, fit, shuffled_batches
from pipeline import labels, manifest, params
from pipeline.stage import params_option, path_option, stage
from pipeline.targets import split_targets

log = logging.getLogger(__name__)


@stage(params.ParamsError, labels.LabelError, manifest.ManifestError, store.StoreError, NonFiniteLoss)
@path_option("--embeddings", "Zarr group of embeddings.")
@path_option("--manifest", "Folder of the manifest.", "manifest_dir")
@path_option("--labels", "The label set.", "labels_file")
@path_option("--out", "Folder of the head, to be written.")
@path_option("--history", "CSV of the training, to be written.")
@params_option
def main(embeddings: Path, manifest_dir: Path, labels_file: Path, out: Path, history: Path, params_file: Path) -> None:
    """Train a head on stored embeddings."""
    chosen = params.load(params_file).active
    label_set = labels.read_label_set(labels_file)
    videos = manifest.read(manifest_dir)
    stored, made_by = store.read(embeddings)
    train, val = (
        split_targets(stored, videos, split, label_set.ids, min_overlap_s=chosen.targets.min_overlap_s)
        for split in ("train", "val")
    )
    features, val_features = (
        torch.from_numpy(each.embeddings.features(chosen.train.features)) for each in (train, val)
    )
    targets, val_targets = (torch.from_numpy(each.windows) for each in (train, val))
    generator = torch.Generator().manual_seed(chosen.seed)

    head = Head(features.shape[1], len(label_set.ids))
    head.start_from(features, targets)
    trained = fit(
        head,
        train_batches=shuffled_batches(features, targets, batch_size=chosen.train.batch_size, generator=generator),
        evaluate=on_features(val_features, val_targets),
        parameter_groups=[{"params": list(head.parameters()), "lr": chosen.train.learning_rate, "name": "head"}],
        schedule=TrainingSchedule(**chosen.train.schedule()),
        generator=generator,
        cpu=False,
    )

    weights.save(
        out,
        head.state_dict(),
        made_by
        | {
            "labels": [{"id": label.id, "name": label.name} for label in label_set.labels],
            "features": list(chosen.train.features),
            "train": {
                "num_videos": len(train.video_ids),
                "num_windows": len(train.windows),
                "window_frequencies": train.windows.mean(axis=0).tolist(),
                "video_frequencies": train.videos.mean(axis=0).tolist(),
            },
        },
    )
    history.parent.mkdir(parents=True, exist_ok=True)
    trained.save(history)
    log.info(
        "trained on %d windows of %d videos; val mAP %.3f at step %d",
        len(targets), len(train.video_ids), trained.best.val_map, trained.best.step,
    )  # fmt: skip


if __name__ == "__main__":
    main()

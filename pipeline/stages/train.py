"""Stage `train`: stage 1, heads on the frozen embeddings, one of them chosen on val. The backbone is never loaded."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path

import torch

from features.store import embeddings as store
from heads import weights
from heads.training.grid import best_of, save_table, settings_of, train_heads
from heads.training.loop import NonFiniteLoss, TrainingSchedule
from pipeline import params
from pipeline.dataset import labels, manifest
from pipeline.dataset.truth import split_targets
from pipeline.stage import params_option, path_option, stage

log = logging.getLogger(__name__)


@stage(params.ParamsError, labels.LabelError, manifest.ManifestError, store.StoreError, NonFiniteLoss)
@path_option("--embeddings", "Zarr group of embeddings.")
@path_option("--manifest", "Folder of the manifest.", "manifest_dir")
@path_option("--labels", "The label set.", "labels_file")
@path_option("--out", "Folder of the head, to be written.")
@path_option("--history", "CSV of its training, to be written.")
@path_option("--grid", "CSV of all that were trained beside it, to be written.")
@params_option
def main(
    embeddings: Path, manifest_dir: Path, labels_file: Path, out: Path, history: Path, grid: Path, params_file: Path
) -> None:
    """Train heads on stored embeddings and keep the best."""
    chosen = params.load(params_file).active
    label_set = labels.read_label_set(labels_file)
    videos = manifest.read(manifest_dir)
    stored, made_by = store.read(embeddings)
    train, val = (
        split_targets(stored, videos, split, label_set.ids, min_overlap_s=chosen.targets.min_overlap_s)
        for split in ("train", "val")
    )
    trials = train_heads(
        *(
            (torch.from_numpy(each.embeddings.features(chosen.train.features)), torch.from_numpy(each.windows))
            for each in (train, val)
        ),
        settings=settings_of(chosen.train.loss, chosen.train.learning_rate, chosen.train.weight_decay),
        schedule=TrainingSchedule(**chosen.train.schedule()),
        batch_size=chosen.train.batch_size,
        generator=torch.Generator().manual_seed(chosen.seed),
        cpu=False,
    )
    best = best_of(trials)

    weights.save(
        out,
        best.head.state_dict(),
        made_by
        | {
            "labels": [{"id": label.id, "name": label.name} for label in label_set.labels],
            "features": list(chosen.train.features),
            "train": {
                "num_videos": len(train.video_ids),
                "num_windows": len(train.windows),
                "window_frequencies": train.windows.mean(axis=0).tolist(),
                "video_frequencies": train.videos.mean(axis=0).tolist(),
            }
            | asdict(best.setting),
        },
    )
    history.parent.mkdir(parents=True, exist_ok=True)
    best.history.save(history)
    save_table(grid, trials)
    log.info(
        "trained %d heads on %d windows of %d videos; val mAP %.3f at step %d with %s",
        len(trials), len(train.windows), len(train.video_ids), best.history.best.val_map, best.history.best.step,
        best.setting,
    )  # fmt: skip


if __name__ == "__main__":
    main()

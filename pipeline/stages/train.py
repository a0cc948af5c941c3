"""Stage `train`: stage 1, heads on the frozen embeddings, of which val chooses one. No backbone is loaded."""

from __future__ import annotations

import logging
from dataclasses import asdict

import torch

from features.store.embeddings import read_embeddings
from heads import weights
from heads.training.grid import best_of, save_table, settings_of, train_heads
from pipeline.dataset import labels, manifest
from pipeline.dataset.truth import split_truth
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.stage import stage

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """Train heads on stored embeddings and keep the best."""
    label_set = labels.read_label_set(paths.label_set)
    videos = manifest.read(paths.manifest)
    embeddings, provenance = read_embeddings(paths.embeddings)
    train, val = (
        split_truth(embeddings, videos, split, label_set.ids, min_overlap_s=params.targets.min_overlap_s)
        for split in ("train", "val")
    )
    trials = train_heads(
        *(
            (torch.from_numpy(truth.embeddings.features(params.train.features)), torch.from_numpy(truth.windows))
            for truth in (train, val)
        ),
        settings=settings_of(params.train.loss, params.train.learning_rate, params.train.weight_decay),
        schedule=params.train.schedule,
        batch_size=params.train.batch_size,
        generator=torch.Generator().manual_seed(params.seed),
        cpu=False,
    )
    best = best_of(trials)

    train_facts = {
        "num_videos": len(train.video_ids),
        "num_windows": len(train.windows),
        "window_frequencies": train.windows.mean(axis=0).tolist(),
        "video_frequencies": train.videos.mean(axis=0).tolist(),
    }
    weights.save(
        paths.model("head"),
        best.head.state_dict(),
        {
            "provenance": provenance,
            "labels": [{"id": label.id, "name": label.name} for label in label_set.labels],
            "features": list(params.train.features),
            "train": train_facts | asdict(best.setting),
        },
    )
    best.history.save(paths.history("head"))
    save_table(paths.grid, trials)
    log.info(
        "trained %d heads on %d windows of %d videos; val mAP %.3f at step %d with %s",
        *(len(trials), len(train.windows), len(train.video_ids)),
        *(best.history.best.val_map, best.history.best.step, best.setting),
    )


if __name__ == "__main__":
    main()

"""Stage `train`: stage 1, heads on the frozen embeddings; of each kind val chooses one. No backbone is loaded.

`linear` heads look at each window alone, `temporal` ones at the windows of a whole video.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from features.store.embeddings import read_embeddings
from heads import weights
from heads.training.grid import Trial, best_of, save_table, settings_of, train_heads, train_temporal_heads
from heads.training.sequences import Sequences, sequences_of
from heads.typicality import Typicality
from pipeline.dataset import labels, manifest
from pipeline.dataset.truth import SplitTruth, split_truth
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.stage import stage

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """Train heads on stored embeddings and keep the best of each kind; and what is typical of train."""
    label_set = labels.read_label_set(paths.label_set)
    videos = manifest.read(paths.manifest)
    embeddings, provenance = read_embeddings(paths.embeddings)
    train, val = (
        split_truth(embeddings, videos, split, label_set.ids, min_overlap_s=params.targets.min_overlap_s)
        for split in ("train", "val")
    )
    facts = {
        "num_videos": len(train.video_ids),
        "num_windows": len(train.windows),
        "window_frequencies": train.windows.mean(axis=0).tolist(),
        "video_frequencies": train.videos.mean(axis=0).tolist(),
    }
    config = {"provenance": provenance, "labels": [{"id": each.id, "name": each.name} for each in label_set.labels]}
    typicality = Typicality.fit(train.embeddings.features([Typicality.pooling]))
    typicality.save(paths.typicality, backbone_sha256=provenance["backbone"]["sha256"])
    linear, temporal = _linear(params, train, val), _temporal(params, train, val)
    weights.save(
        paths.model("linear"),
        best_of(linear).head.state_dict(),
        config | _trained(linear, params.train.features, facts),
    )
    best_of(linear).history.save(paths.history("linear"))
    save_table(paths.grid("linear"), linear)
    weights.save(
        paths.model("temporal"),
        best_of(temporal).head.state_dict(),
        config | _trained(temporal, params.temporal.features, facts) | {"temporal": asdict(params.temporal.shape)},
    )
    best_of(temporal).history.save(paths.history("temporal"))
    save_table(paths.grid("temporal"), temporal)


def _linear(params: Params, train: SplitTruth, val: SplitTruth) -> list[Trial]:
    """Heads on single windows, against what overlaps them."""
    return train_heads(
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


def _temporal(params: Params, train: SplitTruth, val: SplitTruth) -> list[Trial]:
    """Heads on whole videos, against what is on in each window's cell."""
    temporal, stride_s = params.temporal, params.windows.stride_s

    def sequences(truth: SplitTruth) -> Sequences:
        cells = truth.cells(stride_s=stride_s)
        return sequences_of(truth.embeddings, cells, features=temporal.features, stride_s=stride_s)

    return train_temporal_heads(
        sequences(train),
        sequences(val),
        shape=temporal.shape,
        settings=settings_of(temporal.loss, temporal.learning_rate, temporal.weight_decay),
        schedule=temporal.schedule,
        batch_size=temporal.batch_size,
        sequence_windows=temporal.sequence_windows,
        generator=torch.Generator().manual_seed(params.seed),
        cpu=False,
    )


def _trained(trials: Sequence[Trial], features: Sequence[str], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a model's config says of its training: of the best of the trials."""
    best = best_of(trials)
    log.info(
        "trained %d heads on %d windows of %d videos; val mAP %.3f at step %d with %s",
        *(len(trials), facts["num_windows"], facts["num_videos"]),
        *(best.history.best.val_map, best.history.best.step, best.setting),
    )
    return {"features": list(features), "train": {**facts, **asdict(best.setting)}}


if __name__ == "__main__":
    main()

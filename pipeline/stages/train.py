"""Stage `train`: stage 1, heads on the frozen embeddings; of each kind val chooses one. No backbone is loaded.

`linear` heads look at each window alone, `temporal` ones at the windows of a whole video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from features.provenance import require_provenance
from features.store.embeddings import Embeddings, read_embeddings
from heads import weights
from heads.training.grid import Trial, best_of, save_table, settings_of, train_heads
from heads.typicality import Typicality
from pipeline.dataset import labels, manifest
from pipeline.dataset.judged import write_judged
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.truth import SplitTruth, read_split
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.reviewed import ReviewedWindows, corrections_here, read_hashes, reviewed_windows
from pipeline.stage import stage
from pipeline.training import temporal_config, temporal_trials, training_config
from reports.corrections import read_corrections
from reports.exclusions import find_exclusions


@stage
def main(params: Params, paths: Layout) -> None:
    """Train heads on stored embeddings and keep the best of each kind; and what is typical of train."""
    label_set = labels.read_label_set(paths.label_set)
    videos = manifest.read(paths.manifest)
    poolings = tuple(dict.fromkeys((*params.temporal.features, *params.train.features, Typicality.pooling)))
    (train, provenance), (val, _) = (
        read_split(
            paths.embeddings,
            videos,
            split,
            label_set.ids,
            poolings=poolings,
            min_overlap_s=params.targets.min_overlap_s,
        )
        for split in ("train", "val")
    )
    reviewed = _reviewed(params, paths, train.embeddings, provenance, videos, label_set.ids)
    repeats = params.corrections.repeats
    config = {"provenance": provenance, "labels": [{"id": each.id, "name": each.name} for each in label_set.labels]}
    typicality = Typicality.fit(train.embeddings.side_by_side([Typicality.pooling]))
    typicality.save(paths.typicality, backbone_sha256=provenance["backbone"]["sha256"])
    config |= reviewed.facts(repeats=repeats)
    # Nothing where stage 2 is not to see it: what people say then leaves stage 2 as it is.
    judged = reviewed.recordings(read_hashes(paths.recording_hashes)) if params.corrections.finetune else {}
    write_judged(paths.judged, judged, repeats=repeats)
    linear = _linear(params, train, val, reviewed)
    temporal = temporal_trials(
        params.temporal,
        train,
        val,
        stride_s=params.windows.stride_s,
        seed=params.seed,
        reviewed=reviewed.sequences(params.temporal.features, stride_s=params.windows.stride_s, repeats=repeats),
    )
    weights.save(
        paths.model("linear"),
        best_of(linear).head.state_dict(),
        config | training_config(linear, train, params.train.features),
    )
    best_of(linear).history.save(paths.history("linear"))
    save_table(paths.grid("linear"), linear)
    weights.save(
        paths.model("temporal"),
        best_of(temporal).head.state_dict(),
        config | temporal_config(temporal, train, params.temporal),
    )
    best_of(temporal).history.save(paths.history("temporal"))
    save_table(paths.grid("temporal"), temporal)


def _reviewed(
    params: Params,
    paths: Layout,
    embeddings: Embeddings,
    provenance: Mapping[str, Any],
    videos: Manifest,
    label_ids: Sequence[str],
) -> ReviewedWindows:
    """What people said of recordings that are neither val nor test; where nobody did, none of the `embeddings`."""
    corrections = {}
    if said := read_corrections(paths.corrections_file):
        corrections = corrections_here(said, read_hashes(paths.recording_hashes))
        embeddings, own_provenance = read_embeddings(paths.recording_embeddings)
        require_provenance(own_provenance, expected=provenance, path=paths.recording_embeddings)
    return reviewed_windows(
        corrections,
        embeddings,
        label_ids,
        exclusions=find_exclusions([(video.length_s, video.actions) for video in videos.split("train")], label_ids),
        min_overlap_s=params.targets.min_overlap_s,
        stride_s=params.windows.stride_s,
    )


def _linear(params: Params, train: SplitTruth, val: SplitTruth, reviewed: ReviewedWindows) -> list[Trial]:
    """Heads on single windows, against what overlaps them."""
    features, targets = train.embeddings.side_by_side(params.train.features), train.windows
    if len(reviewed):
        repeated = [reviewed] * params.corrections.repeats
        features = np.concatenate(
            [features, *(each.embeddings.side_by_side(params.train.features) for each in repeated)]
        )
        targets = np.concatenate([targets, *(each.windows for each in repeated)])
    return train_heads(
        (torch.from_numpy(features), torch.from_numpy(targets)),
        (torch.from_numpy(val.embeddings.side_by_side(params.train.features)), torch.from_numpy(val.windows)),
        settings=settings_of(params.train.loss, params.train.learning_rate, params.train.weight_decay),
        schedule=params.train.schedule,
        batch_size=params.train.batch_size,
        generator=torch.Generator().manual_seed(params.seed),
        cpu=False,
    )


if __name__ == "__main__":
    main()

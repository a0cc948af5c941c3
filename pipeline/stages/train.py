"""Stage `train`: stage 1, heads on the frozen embeddings; of each kind val chooses one. No backbone is loaded.

`linear` heads look at each window alone, `temporal` ones at the windows of a whole video.
"""

from __future__ import annotations

from heads import weights
from heads.training.grid import best_of, save_table
from heads.typicality import Typicality
from pipeline.dataset import labels, manifest
from pipeline.dataset.judged import write_judged
from pipeline.dataset.truth import read_splits
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.reviewed import read_hashes, read_reviewed
from pipeline.stage import stage
from pipeline.training import linear_trials, temporal_config, temporal_trials, training_config


@stage
def main(params: Params, paths: Layout) -> None:
    """Train heads on stored embeddings and keep the best of each kind; and what is typical of train."""
    label_set = labels.read_label_set(paths.label_set)
    videos = manifest.read(paths.manifest)
    poolings = tuple(dict.fromkeys((*params.temporal.features, *params.train.features, Typicality.pooling)))
    (train, val), provenance = read_splits(
        paths.embeddings,
        videos,
        ("train", "val"),
        label_set.ids,
        poolings=poolings,
        min_overlap_s=params.targets.min_overlap_s,
    )
    reviewed = read_reviewed(
        paths.corrections_file,
        paths.recording_hashes,
        paths.recording_embeddings,
        videos,
        train.embeddings,
        label_set.ids,
        expected=provenance,
        min_overlap_s=params.targets.min_overlap_s,
        stride_s=params.windows.stride_s,
    )
    repeats = params.corrections.repeats
    config = {"provenance": provenance, "labels": label_set.to_json()}
    typicality = Typicality.fit(train.embeddings.side_by_side([Typicality.pooling]))
    typicality.save(paths.typicality, backbone_sha256=provenance["backbone"]["sha256"])
    config |= reviewed.facts(repeats=repeats)
    # Nothing where stage 2 is not to see it: what people say then leaves stage 2 as it is.
    judged = reviewed.recordings(read_hashes(paths.recording_hashes)) if params.corrections.finetune else {}
    write_judged(paths.judged, judged, repeats=repeats)
    linear = linear_trials(
        params.train, train, val, seed=params.seed, reviewed=reviewed.repeated(params.train.features, repeats=repeats)
    )
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


if __name__ == "__main__":
    main()

"""Stage `seeds`: linear and temporal heads once more with other seeds, where a profile asks for them, and their scores.

No model that anything else uses comes from here: what is exported and reported is of `seed`.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np

from features.files import write_json
from features.provenance import require_provenance
from features.store.embeddings import Embeddings, read_embeddings
from heads import weights
from heads.linear import LinearHead
from heads.predictions import Predictions
from heads.temporal import TemporalEnsemble
from heads.training.grid import best_of
from pipeline.dataset import manifest
from pipeline.dataset.annotated import annotated, video_actions
from pipeline.dataset.recordings import true_actions
from pipeline.dataset.truth import read_splits
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.probabilities import linear_probabilities, temporal_probabilities
from pipeline.reviewed import read_reviewed
from pipeline.stage import stage
from pipeline.training import linear_trials, temporal_trials
from reports import thresholds
from reports.event_evaluation import evaluate_events
from reports.exclusions import find_exclusions
from reports.metrics.charades import classification, localisation
from reports.metrics.protocols import point_scores, video_scores
from reports.metrics.seeds import spreads
from reports.metrics.summary import summary
from reports.recognisable import Limits
from reports.tuning import tune

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """Train, tune on val and measure on test as the stages do that make the reported models, for each of `seeds`."""
    if params.seeds is None:
        write_json(paths.seeds, {})
        log.info("nothing to do: seeds is null")
        return
    videos, stride_s = manifest.read(paths.manifest), params.windows.stride_s
    of_recordings, recordings_provenance = read_embeddings(paths.recording_embeddings)
    config = weights.read_config(paths.model("linear"))
    label_ids = [label["id"] for label in config["labels"]]
    poolings = tuple(dict.fromkeys((*params.temporal.features, *params.train.features)))
    (train, val, test), provenance = read_splits(
        paths.embeddings,
        videos,
        manifest.SPLITS,
        label_ids,
        poolings=poolings,
        min_overlap_s=params.targets.min_overlap_s,
    )
    require_provenance(recordings_provenance, expected=provenance, path=paths.recording_embeddings)
    reviewed = read_reviewed(
        paths.corrections_file,
        paths.recording_hashes,
        paths.recording_embeddings,
        videos,
        train.embeddings,
        label_ids,
        expected=provenance,
        min_overlap_s=params.targets.min_overlap_s,
        stride_s=stride_s,
    )
    repeats = params.corrections.repeats
    # In this order: val and test, videos and recordings.
    stored = {
        model: (
            Predictions.load(paths.val_predictions(model)),
            Predictions.load(paths.test_predictions(model)),
            Predictions.load(paths.val_predictions(model, "recordings")),
            Predictions.load(paths.test_predictions(model, "recordings")),
        )
        for model in ("linear", "temporal")
    }
    rows = [
        store.select(predictions.videos.tolist())
        for store, predictions in zip(
            (val.embeddings, test.embeddings, of_recordings, of_recordings), stored["linear"], strict=True
        )
    ]
    actions = {
        split: true_actions(paths.recordings, split, set(of_recordings.video_ids.tolist())) for split in ("val", "test")
    }
    exclusions = find_exclusions([(video.length_s, video.actions) for video in videos.split("train")], tuple(label_ids))
    limits = Limits.load(paths.limits)

    def trained(model: str, seed: int) -> LinearHead | TemporalEnsemble:
        if model == "linear":
            trials = linear_trials(
                params.train, train, val, seed=seed, reviewed=reviewed.repeated(params.train.features, repeats=repeats)
            )
        else:
            sequences = reviewed.sequences(params.temporal.features, stride_s=stride_s, repeats=repeats)
            trials = temporal_trials(params.temporal, train, val, stride_s=stride_s, seed=seed, reviewed=sequences)
        return best_of(trials).head

    def probabilities(head: LinearHead | TemporalEnsemble, embeddings: Embeddings) -> np.ndarray:
        if isinstance(head, LinearHead):
            return linear_probabilities(head, embeddings, params.train.features)
        return temporal_probabilities(head, embeddings, params.temporal.features, stride_s=stride_s)

    def scores(
        val: Predictions, test: Predictions, val_recordings: Predictions, test_recordings: Predictions
    ) -> dict[str, Any]:
        sweep = thresholds.sweep(
            val.probabilities,
            val.targets,
            labels=val.labels,
            grid=params.sweep.values(),
            half_way_positives=params.sweep.half_way_positives,
        )
        decoding = tune(
            [
                *annotated("video", val, video_actions(videos, "val")),
                *annotated("recording", val_recordings, actions["val"]),
            ],
            val.labels,
            stride_s=stride_s,
            exclusions=exclusions,
            min_precision=params.diary.min_precision,
            model_sha256="",
        )
        events = {
            name: evaluate_events(decoding, recordings, stride_s=stride_s, limits=limits).headline()
            for name, recordings in (
                ("recordings", list(annotated("recording", test_recordings, actions["test"]))),
                ("videos", list(annotated("video", test, video_actions(videos, "test")))),
            )
            if recordings
        }
        metrics = summary(
            val,
            test,
            sweep_on_val=sweep,
            train_frequencies=np.array(config["train"]["window_frequencies"]),
            train_video_frequencies=np.array(config["train"]["video_frequencies"]),
        )
        listed = videos.listed("test")
        at_points = point_scores(test, listed, stride_s=stride_s)
        official = {
            "localisation_map": localisation(listed, at_points, test.labels).mean_average_precision,
            "classification_map": classification(
                listed, video_scores(test, listed), test.labels
            ).mean_average_precision,
        }
        return metrics | {"events": events, "charades": official}

    spread_of = {}
    for model, stored_predictions in stored.items():
        runs = {}
        for seed in params.seeds:
            predictions: tuple[Predictions, ...] = stored_predictions
            if seed != params.seed:  # whose probabilities are there
                head = trained(model, seed)
                predictions = tuple(
                    replace(in_use, probabilities=probabilities(head, embeddings), model_sha256="")
                    for in_use, embeddings in zip(stored_predictions, rows, strict=True)
                )
            runs[seed] = scores(*predictions)
            log.info("%s, seed %d: micro-F1 %.3f, mAP %.3f", model, seed, runs[seed]["micro_f1"], runs[seed]["map"])
        spread_of[model] = spreads(runs)
    write_json(paths.seeds, {"seeds": list(params.seeds), "models": spread_of})


if __name__ == "__main__":
    main()

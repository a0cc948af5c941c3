"""Stage `report`: metrics on test, and the page that shows them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from features.files import write_json
from heads import weights
from heads.predictions import Predictions
from heads.shape import TemporalShape
from pipeline.dataset import manifest
from pipeline.dataset.annotated import annotated, video_actions
from pipeline.dataset.recordings import true_actions
from pipeline.layout import Layout, models_of
from pipeline.params import Params
from pipeline.stage import stage
from reports.certainty import Scored, certainty
from reports.decoding import Decoding
from reports.evaluation.page import FailedVideo, ModelResult, SplitFacts, write_page
from reports.event_evaluation import evaluate_calibration, evaluate_events, official_maps
from reports.exclusions import Exclusion
from reports.metrics.summary import LabelScore, headline, label_scores, summary
from reports.recognisable import Limits
from reports.thresholds import Sweep


@stage
def main(params: Params, paths: Layout) -> None:
    """Measure all models on test."""
    config = weights.read_config(paths.model("linear"))
    names = {label["id"]: label["name"] for label in config["labels"]}
    num_windows = {"train": config["train"]["num_windows"]}
    videos, stride_s = manifest.read(paths.manifest), params.windows.stride_s
    subject_of = {video.video_id: video.subject for video in videos.split("test")}
    limits = Limits.load(paths.limits)
    results: dict[str, ModelResult] = {}
    scored: dict[str, Scored] = {}
    exclusions: tuple[Exclusion, ...] = ()
    models = models_of(params.temporal.embeddings)
    if "finetune_temporal" not in models:
        write_json(paths.metrics("finetune_temporal"), {})  # DVC wants a file
    for model in models:
        val, test = (
            Predictions.load(path) for path in (paths.val_predictions(model), paths.test_predictions(model, "videos"))
        )
        recordings = Predictions.load(paths.test_predictions(model, "recordings"))
        num_windows |= {"val": len(val.video_ids), "test": len(test.video_ids)}
        sweep, decoding = Sweep.load(paths.sweep(model)), Decoding.load(paths.decoding(model))
        for predictions in (val, test, recordings):
            sweep.require_model(predictions.model_sha256, paths.sweep(model))
            decoding.require_model(predictions.model_sha256, paths.decoding(model))
        metrics = summary(
            val,
            test,
            sweep_on_val=sweep,
            train_frequencies=np.array(config["train"]["window_frequencies"]),
            train_video_frequencies=np.array(config["train"]["video_frequencies"]),
        )
        of_recordings = true_actions(paths.recordings, "test", set(recordings.videos.tolist()))
        test_videos = list(annotated("video", test, video_actions(videos, "test")))
        test_recordings = list(annotated("recording", recordings, of_recordings))
        events = {
            name: evaluate_events(decoding, own, stride_s=stride_s, limits=limits)
            for name, own in (("recordings", test_recordings), ("videos", test_videos))
            if own
        }
        exclusions = decoding.exclusions
        metrics = metrics | {
            "events": {name: own.headline() for name, own in events.items()},
            "charades": official_maps(videos.split("test"), test_videos, test.labels, stride_s=stride_s),
        }
        write_json(paths.metrics(model), headline(metrics))
        scored[model] = Scored(
            test.probabilities,
            test.targets,
            [subject_of[video_id] for video_id in test.video_ids.tolist()],
            sweep.threshold,
            subject_of,
            {name: own.best for name, own in events.items()},
        )
        scores = label_scores(test.probabilities, test.targets, labels=test.labels, thresholds=sweep.label_thresholds)
        results[model] = ModelResult(
            metrics=metrics,
            labels=[_row(score, names[score.label]) for score in scores],
            sweep=[vars(point) for point in sweep.curve],
            history=_numbers(paths.history(model)),
            events={name: own.best.to_json() for name, own in events.items()},
            events_careful={name: own.careful.to_json() for name, own in events.items()},
            reliability=evaluate_calibration(decoding, test_videos + test_recordings, stride_s=stride_s),
        )
    sure = certainty(scored, seed=params.seed)
    write_json(paths.scores, sure.to_json() | {"models": {name: result.metrics for name, result in results.items()}})
    facts = json.loads(paths.facts.read_text(encoding="utf-8"))
    provenance = config["provenance"]
    temporal = weights.read_config(paths.model("temporal"))
    reach = TemporalShape(**temporal["temporal"]).reach
    write_page(
        paths.report,
        profile=paths.profile,
        label_set=paths.labels,
        models=results,
        splits=[
            SplitFacts(name, counts["num_videos"], num_windows[name], counts["num_subjects"])
            for name, counts in facts["splits"].items()
        ],
        failed=[FailedVideo(row["video_id"], row["reason"]) for row in _rows(paths.failed)],
        provenance={
            "backbone": f"{provenance['backbone']['id']} (sha256 {provenance['backbone']['sha256'][:16]}…)",
            "windows": ", ".join(f"{key} {value:g}" for key, value in provenance["windows"].items()),
            "features of the head": ", ".join(config["features"]),
            "temporal heads": f"{temporal['members']}; each sees {reach} windows, {reach * stride_s:g} s, on a side",
            "precision": provenance["precision"],
            "seed": str(params.seed),
            **({"data set": " ".join(facts["notes"])} if "notes" in facts else {}),
        },
        certainty=sure,
        exclusions=[
            (names[pair.first], names[pair.second], pair.num_videos, pair.expected_videos) for pair in exclusions
        ],
    )


def _row(score: LabelScore, name: str) -> dict[str, Any]:
    return {
        "label": score.label,
        "name": name,
        "n_positives": score.n_positives,
        "ap": score.average_precision,
        "f1": score.f1,
        "precision": score.precision,
        "recall": score.recall,
        "threshold": score.threshold,
    }


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _numbers(path: Path) -> list[dict[str, Any]]:
    return [{key: float(value) if value else None for key, value in row.items()} for row in _rows(path)]


if __name__ == "__main__":
    main()

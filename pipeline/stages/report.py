"""Stage `report`: metrics on test, and the page that shows them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
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
from pipeline.layout import MODELS, Layout, models_of
from pipeline.params import Params
from pipeline.report_facts import machine, shown_params, write_pictures
from pipeline.stage import stage
from reports import baselines
from reports.certainty import Scored, certainty
from reports.decoding import Decoding
from reports.evaluation.closer_look import chosen_point, closer_look
from reports.evaluation.curve_files import write_curves
from reports.evaluation.markdown import write_markdown
from reports.evaluation.page import write_page
from reports.evaluation.results import FailedVideo, ModelResult, Report, SplitFacts
from reports.evaluation.rows import chosen_model, scored_labels
from reports.event_evaluation import EventEvaluation, evaluate_calibration, evaluate_events
from reports.exclusions import Exclusion
from reports.metrics.matching import AnnotatedRecording
from reports.metrics.precision_recall import precision_recall
from reports.metrics.protocols import protocol_blocks
from reports.metrics.summary import headline, summary
from reports.recognisable import Limits
from reports.thresholds import Sweep

_DROPPED = {
    "num_videos_without_actions": "Videos without actions",
    "num_intervals": "Intervals",
    "num_intervals_clipped": "cut at the video's end",
    "num_intervals_reversed_or_empty": "dropped: empty or reversed",
    "num_intervals_past_the_end": "dropped: past the end",
}
"""What facts.json counts of each split, in the words of the report."""

LookedAt = tuple[Predictions, float, Decoding, EventEvaluation | None, list[AnnotatedRecording]]
"""What a closer look at a model needs: test windows, the threshold, and events of test videos."""


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
    looked_at: dict[str, LookedAt] = {}
    models = models_of(params.temporal.embeddings)
    if "finetune_temporal" not in models:
        write_json(paths.metrics("finetune_temporal"), {})  # DVC wants a file
    predictions = {
        model: (Predictions.load(paths.val_predictions(model)), Predictions.load(paths.test_predictions(model)))
        for model in models
    }
    beside = {
        name: (Predictions.load(folder / "val.npz"), Predictions.load(folder / "test.npz"))
        for name, folder in (("clip", paths.clip_predictions), ("attentive", paths.attentive_predictions))
        if (folder / "test.npz").is_file()
    }
    protocols = protocol_blocks(
        _baselines(*predictions[models[0]], np.array(config["train"]["window_frequencies"]), seed=params.seed)
        | predictions
        | beside,
        frozen={"attentive"},
        val_videos=videos.listed("val"),
        test_videos=videos.listed("test"),
        stride_s=stride_s,
        seed=params.seed,
    )
    for model, (val, test) in predictions.items():
        num_val_recordings = len(Predictions.load(paths.val_predictions(model, "recordings")).videos)
        recordings = Predictions.load(paths.test_predictions(model, "recordings"))
        num_windows |= {"val": len(val.video_ids), "test": len(test.video_ids)}
        sweep, decoding = Sweep.load(paths.sweep(model)), Decoding.load(paths.decoding(model))
        for each in (val, test, recordings):
            sweep.require_model(each.model_sha256, paths.sweep(model))
            decoding.require_model(each.model_sha256, paths.decoding(model))
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
            "charades": {
                "localisation_map": protocols["charades_localize"]["models"][model]["value"],
                "classification_map": protocols["charades_classify"]["models"][model]["value"],
            },
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
        looked_at[model] = (test, sweep.threshold, decoding, events.get("videos"), test_videos)
        results[model] = ModelResult(
            metrics=metrics,
            labels=scored_labels(val, test, sweep, names),
            sweep=[vars(point) for point in sweep.curve],
            history=_numbers(paths.history(model)),
            events={name: own.best.to_json() for name, own in events.items()},
            events_careful={name: own.careful.to_json() for name, own in events.items()},
            reliability=evaluate_calibration(decoding, test_videos + test_recordings, stride_s=stride_s),
            curve=precision_recall(test.probabilities, test.targets),
            chosen=chosen_point(test, sweep.threshold),
            val_event_f1=decoding.event_f1,
        )
    seeds = json.loads(paths.seeds.read_text(encoding="utf-8"))
    sure = certainty(scored, seed=params.seed)
    write_json(
        paths.scores,
        sure.to_json()
        | {
            "protocols": protocols,
            "seeds": seeds,
            "calibration": {
                name: result.reliability.to_json() for name, result in results.items() if result.reliability is not None
            },
            "models": {name: result.metrics for name, result in results.items()},
        },
    )
    facts = json.loads(paths.facts.read_text(encoding="utf-8"))
    provenance = config["provenance"]
    temporal = weights.read_config(paths.model("temporal"))
    reach = TemporalShape(**temporal["temporal"]).reach
    closer = closer_look(*looked_at[chosen_model(results)], stride_s=stride_s)
    files = {video.video_id: paths.dataset / video.path for video in videos.split("test")}
    pictures, addresses = write_pictures(paths.examples, closer.examples, files, page=paths.report)
    report = Report(
        profile=paths.profile,
        label_set=paths.labels,
        models=results,
        splits=[
            SplitFacts(
                *(name, counts["num_videos"], num_windows[name], counts["num_subjects"], counts["hours"]),
                dropped={reason: counts[key] for key, reason in _DROPPED.items()},
            )
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
        protocols=protocols,
        seeds=seeds,
        exclusions=[
            (names[pair.first], names[pair.second], pair.num_videos, pair.expected_videos) for pair in exclusions
        ],
        closer=replace(closer, pictures=pictures, videos=addresses),
        num_val_recordings=num_val_recordings,
        machine=machine(),
        params=shown_params(params),
    )
    write_curves(paths.curves, results, names=(*MODELS, "finetune_temporal"))
    write_page(paths.report, report)
    write_markdown(paths.report_text, report)


def _baselines(
    val: Predictions, test: Predictions, train_frequencies: np.ndarray, *, seed: int
) -> dict[str, tuple[Predictions, Predictions]]:
    """What every model has to beat, on the windows of a model's predictions."""
    return {
        "random": (baselines.random(val, seed=seed), baselines.random(test, seed=seed + 1)),
        "prior": (baselines.prior(val, train_frequencies), baselines.prior(test, train_frequencies)),
    }


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _numbers(path: Path) -> list[dict[str, Any]]:
    return [{key: float(value) if value else None for key, value in row.items()} for row in _rows(path)]


if __name__ == "__main__":
    main()

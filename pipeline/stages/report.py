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
from pipeline.layout import MODELS, Layout
from pipeline.params import Params
from pipeline.stage import stage
from reports.evaluation.page import FailedVideo, ModelResult, SplitFacts, write_page
from reports.metrics.summary import LabelScore, label_scores, summary
from reports.thresholds import Sweep


@stage
def main(params: Params, paths: Layout) -> None:
    """Measure both models on test."""
    config = weights.read_config(paths.model("head"))
    names = {label["id"]: label["name"] for label in config["labels"]}
    num_windows = {"train": config["train"]["num_windows"]}
    results = {}
    for model in MODELS:
        val, test = Predictions.load(paths.val_predictions(model)), Predictions.load(paths.test_predictions(model))
        num_windows |= {"val": len(val.video_ids), "test": len(test.video_ids)}
        sweep = Sweep.load(paths.sweep(model))
        for predictions in (val, test):
            sweep.require_model(predictions.model_sha256, paths.sweep(model))
        metrics = summary(
            val,
            test,
            sweep_on_val=sweep,
            train_frequencies=np.array(config["train"]["window_frequencies"]),
            train_video_frequencies=np.array(config["train"]["video_frequencies"]),
        )
        write_json(paths.metrics(model), metrics)
        scores = label_scores(test.probabilities, test.targets, labels=test.labels, thresholds=sweep.label_thresholds)
        results[model] = ModelResult(
            metrics=metrics,
            labels=[_row(score, names[score.label]) for score in scores],
            sweep=[vars(point) for point in sweep.curve],
            history=_numbers(paths.history(model)),
        )
    splits = json.loads(paths.facts.read_text(encoding="utf-8"))["splits"]
    provenance = config["provenance"]
    write_page(
        paths.report,
        profile=paths.profile,
        label_set=paths.labels,
        models=results,
        splits=[
            SplitFacts(name, counts["num_videos"], num_windows[name], counts["num_subjects"])
            for name, counts in splits.items()
        ],
        failed=[FailedVideo(row["video_id"], row["reason"]) for row in _rows(paths.failed)],
        provenance={
            "backbone": f"{provenance['backbone']['id']} (sha256 {provenance['backbone']['sha256'][:16]}…)",
            "windows": ", ".join(f"{key} {value:g}" for key, value in provenance["windows"].items()),
            "features of the head": ", ".join(config["features"]),
            "precision": provenance["precision"],
            "seed": str(params.seed),
        },
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

"""Stage `report`: metrics on test, and the page that shows them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from heads import weights
from heads.predictions import Predictions
from pipeline import params
from pipeline.stage import params_option, path_option, stage
from reports.evaluation.page import FailedVideo, ModelResult, SplitFacts, write_report
from reports.metrics.windows import label_scores, summary
from reports.thresholds import Sweep

MODELS = ("head", "finetune")


@stage(params.ParamsError, weights.WeightsMismatch)
@path_option("--predictions", "Folder of <model>.<split>.npz.")
@path_option("--sweeps", "Folder of <model>.json.")
@path_option("--histories", "Folder of <model>.csv.")
@path_option("--head", "Folder of the stage-1 head.", "head_dir")
@path_option("--facts", "JSON of counts of `prepare`.")
@path_option("--failed", "failed.csv of `extract`.")
@click.option("--label-set", required=True, help="Name of the label set.")
@path_option("--out", "Folder of metrics and page.")
@params_option
def main(
    predictions: Path, sweeps: Path, histories: Path, head_dir: Path, facts: Path, failed: Path, label_set: str,
    out: Path, params_file: Path,
) -> None:  # fmt: skip
    """Measure both models on test."""
    everything = params.load(params_file)
    _, description = weights.load(head_dir, expect={})
    names = {label["id"]: label["name"] for label in description["labels"]}
    trained_on = description["train"]
    num_windows = {"train": trained_on["num_windows"]}
    results = {}
    for model in MODELS:
        val, test = (Predictions.load(predictions / f"{model}.{split}.npz") for split in ("val", "test"))
        num_windows |= {"val": len(val.video_ids), "test": len(test.video_ids)}
        found = Sweep.load(sweeps / f"{model}.json")
        metrics = summary(
            val,
            test,
            sweep_on_val=found,
            train_frequencies=np.array(trained_on["window_frequencies"]),
            train_video_frequencies=np.array(trained_on["video_frequencies"]),
        )
        (out / f"{model}.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        results[model] = ModelResult(
            metrics=metrics,
            labels=[
                {
                    "label": each.label,
                    "name": names[each.label],
                    "n_positives": each.n_positives,
                    "ap": each.average_precision,
                    "f1": each.f1,
                    "precision": each.precision,
                    "recall": each.recall,
                    "threshold": each.threshold,
                }
                for each in label_scores(
                    test.probabilities, test.targets, labels=test.labels, thresholds=found.label_thresholds
                )
            ],
            sweep=[vars(point) for point in found.curve],
            history=_rows(histories / f"{model}.csv"),
        )
    splits = json.loads(facts.read_text(encoding="utf-8"))["splits"]
    write_report(
        out / "report.html",
        profile=everything.profile,
        label_set=label_set,
        models=results,
        splits=[
            SplitFacts(name, counts["num_videos"], num_windows[name], counts["num_subjects"])
            for name, counts in splits.items()
        ],
        failed=[FailedVideo(row["video_id"], row["reason"]) for row in _read(failed)],
        provenance={
            "backbone": f"{description['backbone']['id']} (sha256 {description['backbone']['sha256'][:16]}…)",
            "windows": ", ".join(f"{key} {value:g}" for key, value in description["windows"].items()),
            "features of the head": ", ".join(description["features"]),
            "precision": description["precision"],
            "seed": str(everything.active.seed),
        },
    )


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _rows(path: Path) -> list[dict[str, Any]]:
    return [{key: float(value) if value else None for key, value in row.items()} for row in _read(path)]


if __name__ == "__main__":
    main()

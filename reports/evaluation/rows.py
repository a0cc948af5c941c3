"""Rows of the report's tables, as numbers and text; the page and its Markdown twin share them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from heads.predictions import Predictions
from reports.certainty import RECORDINGS, Certainty
from reports.evaluation.results import ModelResult, SplitFacts
from reports.metrics.f1 import label_ratios
from reports.metrics.summary import label_scores
from reports.thresholds import Sweep, decide

MEANINGS = {
    "micro_f1": (
        "Micro-F1",
        "Of all the label decisions together: the balance of how many named ones are right, and how many right ones "
        "are named. At the threshold chosen on validation.",
    ),
    "micro_f1_at_half": ("Micro-F1 at 0.5", "The same with the threshold that nobody had to choose."),
    "micro_f1_prior": (
        "Micro-F1 without looking",
        "Answering every time with how often each label occurs in training: what a model has to beat.",
    ),
    "macro_f1": (
        "Macro-F1",
        "F1 of each label at the same one threshold, then their plain mean: rare labels count as much as common ones.",
    ),
    "macro_f1_at_label_thresholds": (
        "Macro-F1, own thresholds",
        "The same, each label at a threshold of its own; what few validation windows say of it is held back.",
    ),
    "map": (
        "mAP",
        "How well each label's probability sorts right above wrong, averaged over the labels; no threshold involved.",
    ),
    "threshold": (
        "Threshold",
        "A label is named where its probability reaches this; chosen on validation, never on test.",
    ),
}
"""What the metrics are called and what they mean, in the order of the table."""

SCORES = {
    "micro_f1": "Micro-F1 of windows",
    RECORDINGS: "Events of recordings, F1 at IoU 0.3",
    "events.videos.f1": "Events of videos, F1 at IoU 0.3",
    "map": "mAP of windows",
}
"""What the scores with intervals are called, in the order of their table."""

_NOT_COMPARED = ("threshold", "micro_f1_prior")


def chosen_model(models: Mapping[str, ModelResult]) -> str:
    """The model that is exported: the best events on val, the simpler one where they are equal; else the last."""
    known = {name: model.val_event_f1 for name, model in models.items() if not math.isnan(model.val_event_f1)}
    return max(known, key=lambda name: known[name]) if known else list(models)[-1]


def headline(models: Mapping[str, ModelResult], certainty: Certainty | None) -> list[dict[str, Any]]:
    """Micro-F1 of the prior, then of each model with its interval; `low` and `high` are nan where it is not known."""
    first = next(iter(models.values())).metrics
    rows = [{"name": "without looking", "value": _or_nan(first.get("micro_f1_prior")), "low": math.nan}]
    for name, model in models.items():
        own = certainty.models[name].get("micro_f1") if certainty else None
        bounds = {"low": own.low, "high": own.high} if own else {"low": math.nan}
        rows.append({"name": name, "value": _or_nan(model.metrics.get("micro_f1"))} | bounds)
    return [{"high": math.nan} | row for row in rows]


def metric_rows(models: Mapping[str, ModelResult]) -> list[dict[str, Any]]:
    """One row per metric; its cells are the models on windows, then the models on videos."""
    rows = []
    for key, (name, meaning) in MEANINGS.items():
        cells: list[dict[str, Any]] = []
        for scope in ("windows", "videos"):
            values = [
                (model.metrics if scope == "windows" else model.metrics.get("video", {})).get(key)
                for model in models.values()
            ]
            known = [value for value in values if value is not None and not math.isnan(value)]
            best = max(known) if len(set(known)) > 1 and key not in _NOT_COMPARED else None
            cells += [
                {"value": value, "is_best": best is not None and value == best, "model": model, "scope": scope}
                for model, value in zip(models, values, strict=True)
            ]
        if any(cell["value"] is not None for cell in cells) or key in models[next(iter(models))].metrics:
            rows.append({"name": name, "meaning": meaning, "cells": cells, "digits": 2 if key == "threshold" else 3})
    return rows


def label_rows(models: Mapping[str, ModelResult], *, by: str) -> list[dict[str, Any]]:
    """One row per label with every model's scores, sorted by the AP of the model `by`, the highest first.

    Models whose labels differ raise ValueError.
    """
    by_model = {
        name: {row["label"]: {**row, **_calibration_errors(model, row["label"])} for row in model.labels}
        for name, model in models.items()
    }
    rows_of_chosen = by_model[by]
    for name, rows in by_model.items():
        if rows.keys() != rows_of_chosen.keys():
            raise ValueError(
                f"{name}: labels differ from another model's: {sorted(rows.keys() ^ rows_of_chosen.keys())}"
            )
    merged = [
        {
            "label": label,
            "name": row["name"],
            "n_positives": row["n_positives"],
            "n_videos": row.get("n_videos"),
            "n_val": row.get("n_val"),
            "models": {name: rows[label] for name, rows in by_model.items()},
        }
        for label, row in rows_of_chosen.items()
    ]

    def rank(row: dict[str, Any]) -> tuple[float, str]:
        ap = rows_of_chosen[row["label"]]["ap"]
        return (math.inf if ap is None or math.isnan(ap) else -ap, row["label"])

    return sorted(merged, key=rank)


def _calibration_errors(model: ModelResult, label: str) -> dict[str, float | None]:
    """The label's expected calibration error before and after calibration; None where it is not known."""
    calibrations = [each for each in model.reliability.labels if each.label == label] if model.reliability else []
    return {
        "ece_before": calibrations[0].ece_before if calibrations else None,
        "ece_after": calibrations[0].ece_after if calibrations else None,
    }


def scored_labels(val: Predictions, test: Predictions, sweep: Sweep, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each label, of test windows: `precision`, `recall` and `f1` at the sweep's one threshold, as macro-F1.

    `own_f1` is at the label's own `threshold`. `n_videos` test videos have the `n_positives` windows; `n_val`
    windows of val chose the label's threshold and calibration.
    """
    at_one = label_scores(test.probabilities, test.targets, labels=test.labels, thresholds=sweep.threshold)
    at_own = label_ratios(decide(test.probabilities, sweep.label_thresholds), test.targets)
    n_val = val.targets.sum(axis=0).tolist()
    return [
        {
            "label": one.label,
            "name": names[one.label],
            "n_positives": one.n_positives,
            "n_videos": len(set(test.video_ids[test.targets[:, k]].tolist())),
            "n_val": n_val[k],
            "ap": one.average_precision,
            "f1": one.f1,
            "precision": one.precision,
            "recall": one.recall,
            "own_f1": float(at_own.f1[k]),
            "threshold": sweep.label_thresholds[k],
        }
        for k, one in enumerate(at_one)
    ]


def choices(splits: Sequence[SplitFacts], *, num_val_recordings: int) -> list[tuple[str, str, str]]:
    """What was chosen, on which split, and how much that rests on."""
    sizes = {split.name: split for split in splits}

    def rests_on(name: str) -> str:
        split = sizes.get(name)
        return f"{split.num_videos:,} videos of {split.num_subjects:,} people" if split else "–"

    recordings = f" and {num_val_recordings} recordings" if num_val_recordings else ""
    return [
        ("Weights; which labels exclude each other", "train", rests_on("train")),
        ("Learning rate, weight decay and loss of the heads, by mAP of windows", "val", rests_on("val")),
        ("When each training stops, by mAP of windows", "val", rests_on("val")),
        ("The threshold of each model and label, by F1 of windows", "val", rests_on("val")),
        ("Calibration and event rules, by F1 of events", "val", rests_on("val") + recordings),
        ("From where a window is not recognisable", "val", rests_on("val") + recordings),
        ("The model that is exported, by F1 of events", "val", rests_on("val") + recordings),
        ("Nothing: every number of this report", "test", rests_on("test")),
    ]


def dropped_reasons(splits: Sequence[SplitFacts]) -> list[str]:
    """What is counted of any split, in order."""
    return list(dict.fromkeys(reason for split in splits for reason in split.dropped))


def clock(seconds: float) -> str:
    """Minutes, seconds and tenths: "1:02.5"."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value

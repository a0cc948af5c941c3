"""The evaluation page. Knows metrics, curves and counts as rows of numbers; knows neither models nor data sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from features.files import write_text
from reports.certainty import RECORDINGS, Certainty
from reports.evaluation.colours import INK, LINE, MODEL_COLOURS, MODEL_COLOURS_ON_DARK, MUTED
from reports.evaluation.event_tables import (
    BEST_F1,
    CAREFUL,
    Reliability,
    event_table,
    label_tables,
    reliability_rows,
    score,
)
from reports.evaluation.protocols import protocol_table
from reports.templating import load_template

_MEANINGS = {
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
    "macro_f1": ("Macro-F1", "F1 of each label, then their plain mean: rare labels count as much as common ones."),
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

_SCORES = {
    RECORDINGS: "Events of recordings, F1 at IoU 0.3",
    "events.videos.f1": "Events of videos, F1 at IoU 0.3",
    "micro_f1": "Micro-F1 of windows",
    "map": "mAP of windows",
}
"""What the scores with intervals are called, in the order of their table."""


@dataclass(frozen=True)
class ModelResult:
    """One model's scores on test, its sweep on val and its training history.

    `metrics` has micro_f1, micro_f1_at_half, micro_f1_prior, macro_f1, map, threshold, n_windows, n_videos, n_labels
    and n_labels_without_positives for windows, and under "video" the same for videos. `labels` are rows of label, name,
    n_positives, ap, f1, precision, recall, threshold (test windows); `sweep` rows of threshold, micro_f1, macro_f1,
    precision, recall (validation windows); `history` rows of step, train_loss, val_loss, val_map. None or nan is an
    unknown value.

    `events` has under "recordings" and "videos", or one of them, what `EventScores.to_json` gives for test at the point
    of the best F1; `events_careful` the same at the diary's point.
    """

    metrics: Mapping[str, Any]
    labels: Sequence[Mapping[str, Any]]
    sweep: Sequence[Mapping[str, float | None]]
    history: Sequence[Mapping[str, float | None]]
    events: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    events_careful: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reliability: Reliability | None = None


@dataclass(frozen=True)
class SplitFacts:
    """The size of one split."""

    name: str
    num_videos: int
    num_windows: int
    num_subjects: int


@dataclass(frozen=True)
class FailedVideo:
    """A video that could not be read; no number on the page includes it."""

    video_id: str
    reason: str


def write_page(
    path: Path,
    *,
    profile: str,
    label_set: str,
    models: Mapping[str, ModelResult],
    splits: Sequence[SplitFacts],
    failed: Sequence[FailedVideo],
    provenance: Mapping[str, str],
    exclusions: Sequence[tuple[str, str, int, float]] = (),
    certainty: Certainty | None = None,
    protocols: Mapping[str, Mapping[str, Any]] | None = None,
    seeds: Mapping[str, Any] | None = None,
) -> None:
    """Write one self-contained HTML page that compares `models`, in this order, on one label set.

    Labels are sorted by the last model's scores. `provenance` is shown unchanged, one line per pair. Labels without
    positives are listed by name and have no score; models whose labels differ raise ValueError. `exclusions` are pairs
    of labels that exclude each other: both names, how many training videos have both, and in how many of them chance
    would show them at once. Without event scores of any model the page has no section of events, and none of how sure
    the numbers are without `certainty`, nor of the `protocols` (`protocol_blocks`) without these, nor of other `seeds`.
    """
    from reports.evaluation import plots

    if not models:
        raise ValueError("a report needs at least one model")
    rows = _label_rows(models)
    measured = [row for row in rows if row["n_positives"]]
    newest = list(models.values())[-1].metrics
    events = {name: model.events for name, model in models.items()}
    reliability = {name: model.reliability for name, model in models.items() if model.reliability is not None}
    bin_names, bin_rows = reliability_rows(reliability)
    protocol_models, protocol_rows = protocol_table(protocols or {})
    figures = {
        "thresholds": plots.threshold_curves(
            {name: model.sweep for name, model in models.items()},
            {name: model.metrics["threshold"] for name, model in models.items()},
        ),
        "labels": plots.average_precision_bars(
            [row["name"] for row in measured],
            [row["n_positives"] for row in measured],
            {name: [row["models"][name]["ap"] for row in measured] for name in models},
            num_windows=newest["n_windows"],
        ),
        "training": plots.training_curves({name: model.history for name, model in models.items()}),
        "reliability": plots.reliability_diagrams({name: model.reliability for name, model in models.items()}),
    }
    text = load_template("reports.evaluation", "evaluation.html", {"score": score}).render(
        profile=profile,
        label_set=label_set,
        models=models,
        colours=_colours(models),
        palettes=(MODEL_COLOURS, MODEL_COLOURS_ON_DARK),
        newest=newest,
        headline=_headline(models),
        metric_rows=_metric_rows(models),
        labels=measured,
        unmeasured=[row for row in rows if not row["n_positives"]],
        event_table=event_table(events, BEST_F1),
        careful_table=event_table({name: model.events_careful for name, model in models.items()}, CAREFUL),
        event_labels=label_tables(events, {row["label"]: row["name"] for row in rows}),
        bin_names=bin_names,
        bin_rows=bin_rows,
        exclusions=exclusions,
        certainty=certainty,
        protocol_models=protocol_models,
        protocol_rows=protocol_rows,
        seeds=seeds or {},
        score_names=_SCORES,
        splits=splits,
        failed=failed,
        provenance=provenance,
        figures={name: _inline(plots.as_svg(figure)) for name, figure in figures.items()},
    )
    write_text(path, text)


def _inline(svg: str) -> Markup:
    """The figure in the page's colours, so that it is readable on a dark background too."""
    variables = {INK: "--ink", MUTED: "--muted", LINE: "--line"}
    variables |= {colour: f"--model-{i}" for i, colour in enumerate(MODEL_COLOURS, start=1)}
    for colour, variable in variables.items():
        svg = svg.replace(colour, f"var({variable})")
    return Markup(svg)  # made by plots.py alone, which escapes the names in it


def _colours(models: Mapping[str, ModelResult]) -> dict[str, str]:
    """Each model's colour in the page's style. They repeat after the last one, as in the figures."""
    return {name: f"var(--model-{i % len(MODEL_COLOURS) + 1})" for i, name in enumerate(models)}


def _headline(models: Mapping[str, ModelResult]) -> list[dict[str, Any]]:
    """The bars at the top: the prior, then each model."""
    first = next(iter(models.values())).metrics
    bars: list[dict[str, Any]] = [
        {"name": "without looking", "colour": "var(--muted)", "value": first.get("micro_f1_prior")}
    ]
    for (name, model), colour in zip(models.items(), _colours(models).values(), strict=True):
        bars.append({"name": name, "colour": colour, "value": model.metrics.get("micro_f1")})
    for bar in bars:
        value = bar["value"]
        bar["width"] = 0.0 if value is None or math.isnan(value) else 100 * value
    return bars


def _metric_rows(models: Mapping[str, ModelResult]) -> list[dict[str, Any]]:
    """One row per metric; its cells are the models on windows, then the models on videos."""
    rows = []
    for key, (name, meaning) in _MEANINGS.items():
        cells = []
        for scope in ("windows", "videos"):
            values = []
            for model in models.values():
                metrics = model.metrics if scope == "windows" else model.metrics.get("video", {})
                values.append(metrics.get(key))
            known = [value for value in values if value is not None and not math.isnan(value)]
            best = max(known) if len(set(known)) > 1 and key not in ("threshold", "micro_f1_prior") else None
            cells += [{"value": value, "is_best": best is not None and value == best} for value in values]
        rows.append({"name": name, "meaning": meaning, "cells": cells, "digits": 2 if key == "threshold" else 3})
    return rows


def _label_rows(models: Mapping[str, ModelResult]) -> list[dict[str, Any]]:
    """One row per label with every model's scores, sorted by the last model's AP, the highest first."""
    by_model = {name: {row["label"]: row for row in model.labels} for name, model in models.items()}
    *_, newest = by_model.values()
    for name, rows in by_model.items():
        if rows.keys() != newest.keys():
            raise ValueError(f"{name}: labels differ from another model's: {sorted(rows.keys() ^ newest.keys())}")
    merged = [
        {
            "label": label,
            "name": row["name"],
            "n_positives": row["n_positives"],
            "models": {name: rows[label] for name, rows in by_model.items()},
        }
        for label, row in newest.items()
    ]

    def rank(row: dict[str, Any]) -> tuple[float, str]:
        ap = newest[row["label"]]["ap"]
        return (math.inf if ap is None or math.isnan(ap) else -ap, row["label"])

    return sorted(merged, key=rank)

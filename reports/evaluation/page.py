"""The evaluation page. Knows metrics, curves and counts as rows of numbers; knows neither models nor data sets."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from features.files import write_text
from reports.evaluation.bars import Bar, bar, bars
from reports.evaluation.colours import INK, LINE, MODEL_COLOURS, MODEL_COLOURS_ON_DARK, MUTED
from reports.evaluation.event_tables import BEST_F1, CAREFUL, event_table, label_tables, reliability_rows, score
from reports.evaluation.examples import Example
from reports.evaluation.protocols import protocol_table
from reports.evaluation.results import ModelResult, Report
from reports.evaluation.rows import (
    SCORES,
    choices,
    chosen_model,
    clock,
    dropped_reasons,
    headline,
    label_rows,
    metric_rows,
)
from reports.metrics.precision_recall import PrecisionRecall
from reports.templating import load_template

_KINDS = {
    "hit": ("The surest hits", "Stated and true, the highest probability first."),
    "miss": ("The worst misses", "True and not stated, the lowest probability first."),
    "false_alarm": ("The worst false alarms", "Stated and not true, the highest probability first."),
}
"""What the examples are called, in their order."""


def write_page(path: Path, report: Report) -> None:
    """Write one self-contained HTML page that compares the report's models on one label set.

    Labels are sorted by the scores of the chosen model. Labels without positives are listed by name and have no score;
    models whose labels differ raise ValueError. A section is there where something is known of it: events, how sure the
    numbers are, reliability, precision over recall, pairs of labels, examples.
    """
    models = report.models
    chosen = chosen_model(models)
    colours = _colours(models)
    rows = label_rows(models, by=chosen)
    measured = [row for row in rows if row["n_positives"]]
    newest = models[chosen].metrics
    events = {name: model.events for name, model in models.items()}
    bin_names, bin_rows = reliability_rows(
        {name: model.reliability for name, model in models.items() if model.reliability is not None}
    )
    protocol_models, protocol_rows = protocol_table(report.protocols)
    script = (files("reports.evaluation") / "templates" / "sorting.js").read_text(encoding="utf-8")
    names = {row["label"]: row["name"] for row in rows}
    text = load_template(
        "reports.evaluation", "evaluation.html", {"score": score, "clock": clock, "count": "{:,}".format}
    ).render(
        report=report,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        models=models,
        chosen=chosen,
        colours=colours,
        palettes=(MODEL_COLOURS, MODEL_COLOURS_ON_DARK),
        newest=newest,
        headline=[
            row | {"bar": bar(row["value"], colours.get(row["name"], "var(--muted)"), low=row["low"], high=row["high"])}
            for row in headline(models, report.certainty)
        ],
        metric_rows=metric_rows(models),
        labels=[
            row | {"bars": bars(_label_bars(row, colours), tick=_chance(row["n_positives"], newest["n_windows"]))}
            for row in measured
        ],
        unmeasured=[row for row in rows if not row["n_positives"]],
        event_table=event_table(events, BEST_F1),
        careful_table=event_table({name: model.events_careful for name, model in models.items()}, CAREFUL),
        event_labels=label_tables(events, names),
        bin_names=bin_names,
        bin_rows=bin_rows,
        protocol_models=protocol_models,
        protocol_rows=protocol_rows,
        score_names=SCORES,
        names=names,
        curves=[(row["name"], _polyline(report.closer.curves[row["label"]])) for row in measured]
        if report.closer.curves
        else [],
        kinds=_kinds(report),
        choices=choices(report.splits, num_val_recordings=report.num_val_recordings),
        dropped=dropped_reasons(report.splits),
        figures=_figures(models),
    )
    write_text(path, text)


def _figures(models: Mapping[str, ModelResult]) -> dict[str, list[Markup]]:
    """The panels of each figure."""
    from reports.evaluation import plots

    made = {
        "thresholds": plots.threshold_curves(
            {name: model.sweep for name, model in models.items()},
            {name: model.metrics["threshold"] for name, model in models.items()},
        ),
        "precision_recall": plots.precision_recall_curves(
            {name: model.curve for name, model in models.items()},
            {name: model.chosen for name, model in models.items()},
        ),
        "training": plots.training_curves({name: model.history for name, model in models.items()}),
        "reliability": plots.reliability_diagrams({name: model.reliability for name, model in models.items()}),
    }
    return {name: [_inline(plots.as_svg(panel)) for panel in panels] for name, panels in made.items()}


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


def _label_bars(row: Mapping[str, Any], colours: Mapping[str, str]) -> list[Bar]:
    return [Bar(row["models"][name]["ap"], colour) for name, colour in colours.items()]


def _chance(num_positives: int, num_windows: int) -> float:
    """What ranking the windows at random reaches."""
    return num_positives / num_windows if num_windows else math.nan


def _polyline(curve: PrecisionRecall) -> str:
    """The points of a curve in a box of 100 by 100, y downwards."""
    return " ".join(f"{100 * x:.1f},{100 - 100 * y:.1f}" for x, y in zip(curve.recall, curve.precision, strict=True))


def _kinds(report: Report) -> list[tuple[str, str, list[tuple[Example, Sequence[str], str]]]]:
    """The examples of each kind: title, sentence, and the examples with the addresses of their pictures and video."""
    closer = report.closer
    pictures = closer.pictures or [()] * len(closer.examples)
    videos = closer.videos or [""] * len(closer.examples)
    shown = list(zip(closer.examples, pictures, videos, strict=True))
    return [
        (title, sentence, own)
        for kind, (title, sentence) in _KINDS.items()
        if (own := [each for each in shown if each[0].kind == kind])
    ]

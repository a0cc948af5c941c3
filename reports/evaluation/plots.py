"""Figures of the evaluation, panel by panel: a narrow screen stacks what a wide one puts side by side.

Every figure is built without pyplot and written without dates, so that the same numbers give the same bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.evaluation.colours import INK, LINE, MODEL_COLOURS, MUTED
from reports.evaluation.event_tables import Reliability
from reports.metrics.precision_recall import PrecisionRecall

Row = Mapping[str, float | None]

_MARKERS = "osD^"
"""Of the models, in their order."""


def threshold_curves(
    sweeps: Mapping[str, Sequence[Row]], chosen_thresholds: Mapping[str, float | None]
) -> list[Figure]:
    """Micro-F1 and macro-F1 over the threshold, a panel each with a line for each model, its chosen threshold marked.

    Rows of a sweep have `threshold`, `micro_f1` and `macro_f1`. A model without rows is left out, a threshold that is
    None is not marked.
    """
    panels = []
    for key, title in (("micro_f1", "micro-F1 on validation windows"), ("macro_f1", "macro-F1 on validation windows")):
        figure, axes = _panel()
        for (model, rows), colour in zip(sweeps.items(), cycle(MODEL_COLOURS), strict=False):
            if not rows:
                continue
            thresholds, scores = _columns(rows, "threshold", key)
            axes.plot(thresholds, scores, color=colour, linewidth=2.0)
            threshold = chosen_thresholds[model]
            if threshold is not None:
                _, x, y = min((abs(x - threshold), x, y) for x, y in zip(thresholds, scores, strict=True))
                _mark(axes, x, y, colour)
        axes.set(xlim=(0, 1), xlabel="threshold")
        axes.set_ylim(bottom=0)
        _title(axes, title)
        panels.append(figure)
    return panels


def precision_recall_curves(
    curves: Mapping[str, PrecisionRecall | None], chosen: Mapping[str, tuple[float, float] | None]
) -> list[Figure]:
    """Precision over recall, a line for each model, its chosen (recall, precision) marked; no panel without any."""
    if not any(curves.values()):
        return []
    figure, axes = _panel(width_in=7.0, height_in=4.6)
    for (model, curve), colour in zip(curves.items(), cycle(MODEL_COLOURS), strict=False):
        if curve is None:
            continue
        axes.plot(curve.recall, curve.precision, color=colour, linewidth=2.0)
        point = chosen[model]
        if point is not None:
            _mark(axes, *point, colour)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    return [figure]


def training_curves(histories: Mapping[str, Sequence[Row]]) -> list[Figure]:
    """Losses and validation mAP over the steps, two panels for each model, the best mAP marked.

    Rows have `step`, `train_loss`, `val_loss` and `val_map`; a value that is missing, None or nan leaves a gap in its
    line only.
    """
    panels = []
    for (model, rows), colour in zip(histories.items(), cycle(MODEL_COLOURS), strict=False):
        figure, losses = _panel(height_in=2.6)
        losses.plot(*_known(rows, "step", "train_loss"), color=colour, linewidth=1.6, alpha=0.75)
        losses.plot(*_known(rows, "step", "val_loss"), color=INK, linewidth=1.6)
        losses.set(xlabel="step")
        _title(losses, f"{model}: loss")
        figure_of_maps, scores = _panel(height_in=2.6)
        steps, maps = _known(rows, "step", "val_map")
        scores.plot(steps, maps, color=colour, linewidth=2.0)
        best = ""
        if maps:
            place = max(range(len(maps)), key=maps.__getitem__)
            _mark(scores, steps[place], maps[place], colour)
            best = f", best {maps[place]:.3f} at step {steps[place]:g}"
        scores.set(xlabel="step")
        _title(scores, f"{model}: validation mAP{best}")
        for axes in (losses, scores):
            axes.set_ylim(bottom=0)
        panels += [figure, figure_of_maps]
    return panels


def reliability_diagrams(reliability: Mapping[str, Reliability | None]) -> list[Figure]:
    """Share that is true over the mean probability of each bin, a panel before and one after calibration.

    A model without reliability is left out and keeps its colour. On the diagonal, probabilities hold what they say.
    """
    panels = []
    for is_before, title in ((True, "before calibration"), (False, "after calibration")):
        figure, axes = _panel(height_in=4.8)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        for k, result in enumerate(reliability.values()):
            if result is None:
                continue
            bins = result.before if is_before else result.after
            axes.plot(
                [each.mean_probability for each in bins],
                [each.share_true for each in bins],
                color=MODEL_COLOURS[k % len(MODEL_COLOURS)],
                linewidth=2.0,
                marker=_MARKERS[k % len(_MARKERS)],
                markersize=6,
            )
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set(xlabel="mean probability", ylabel="share that is true")
        _title(axes, title)
        panels.append(figure)
    return panels


def as_svg(figure: Figure) -> str:
    """The figure as one `<svg>` element, text kept as text, without prolog, date or the program's version."""
    out = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "report", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue().decode("utf-8")
    return text[text.index("<svg") :]


def _panel(*, width_in: float = 5.2, height_in: float = 3.4) -> tuple[Figure, Axes]:
    """A figure of one panel. It has no legend, which would cover curves: the page names the models above it."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.grid(visible=True, color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0, labelsize=10)
    axes.xaxis.label.set(color=MUTED, size=10)
    axes.yaxis.label.set(color=MUTED, size=10)
    return figure, axes


def _mark(axes: Axes, x: float, y: float, colour: str) -> None:
    """A dot that stays whole at the edge of the panel."""
    axes.plot([x], [y], linestyle="none", marker="o", markersize=8, color=colour, markeredgecolor=INK, clip_on=False)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", color=INK, fontsize=11, fontweight="bold", parse_math=False)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _columns(rows: Sequence[Row], x: str, y: str) -> tuple[list[float], list[float]]:
    return [_or_nan(row[x]) for row in rows], [_or_nan(row[y]) for row in rows]


def _known(rows: Sequence[Row], x: str, y: str) -> tuple[list[float], list[float]]:
    pairs = [(_or_nan(row[x]), _or_nan(row.get(y))) for row in rows]
    pairs = [(step, value) for step, value in pairs if not math.isnan(value)]
    return [step for step, _ in pairs], [value for _, value in pairs]

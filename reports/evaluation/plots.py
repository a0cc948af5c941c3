"""Figures of the evaluation: threshold and training curves, AP bars, reliability. Knows numbers, and no model.

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

Row = Mapping[str, float | None]

_MARKERS = "osD^"
"""Of the models, in their order."""


def threshold_curves(sweeps: Mapping[str, Sequence[Row]], chosen_thresholds: Mapping[str, float | None]) -> Figure:
    """Micro-F1 (solid) and macro-F1 (dotted) over the threshold for each model, with its chosen threshold marked.

    Rows of a sweep have `threshold`, `micro_f1` and `macro_f1`. A model without rows is left out, a threshold that is
    None is not marked.
    """
    figure, (axes,) = _figure(columns=1, height_in=4.0)
    for (model, rows), colour in zip(sweeps.items(), cycle(MODEL_COLOURS), strict=False):
        if not rows:
            continue
        thresholds, micro = _columns(rows, "threshold", "micro_f1")
        threshold = chosen_thresholds[model]
        label = model if threshold is None else f"{model}, chosen: {threshold:.2f}"
        axes.plot(thresholds, micro, color=colour, linewidth=2.2, label=label)
        axes.plot(*_columns(rows, "threshold", "macro_f1"), color=colour, linewidth=1.4, linestyle=(0, (1, 1.6)))
        if threshold is not None:
            _, x, y = min((abs(x - threshold), x, y) for x, y in zip(thresholds, micro, strict=True))
            _mark(axes, x, y, colour)
    axes.plot([], [], color=MUTED, linewidth=1.4, linestyle=(0, (1, 1.6)), label="dotted: macro-F1")
    axes.set(xlim=(0, 1), xlabel="threshold", ylabel="F1 on validation windows")
    axes.set_ylim(bottom=0)
    _legend_above(figure, columns=3)
    return figure


def average_precision_bars(
    names: Sequence[str],
    num_positives: Sequence[int],
    average_precision: Mapping[str, Sequence[float | None]],
    *,
    num_windows: int,
) -> Figure:
    """One bar for each label and model, from top to bottom in the order of `names`, and a tick at the score of chance.

    `average_precision` has for each model one value per label; None and nan leave the bar out. Ranking the windows at
    random gives an average precision of positives / `num_windows`.
    """
    row_in = max(0.34, 0.12 + 0.11 * len(average_precision))
    figure, (axes,) = _figure(columns=1, height_in=1.0 + row_in * max(1, len(names)))
    height = 0.72 / max(1, len(average_precision))
    for k, ((model, values), colour) in enumerate(zip(average_precision.items(), cycle(MODEL_COLOURS), strict=False)):
        middles = [i - 0.36 + height * (k + 0.5) for i in range(len(names))]
        widths = [_or_nan(value) for value in values]
        axes.barh(middles, widths, height=height * 0.94, color=colour, label=model)
    chance = [count / num_windows if num_windows else math.nan for count in num_positives]
    bottoms, tops = [i - 0.4 for i in range(len(names))], [i + 0.4 for i in range(len(names))]
    axes.vlines(chance, bottoms, tops, color=INK, linewidth=1.4, label="by chance")
    ticks = [f"{name}  ({count})" for name, count in zip(names, num_positives, strict=True)]
    axes.set_yticks(range(len(names)), ticks, parse_math=False)
    axes.set(xlim=(0, 1), ylim=(max(1, len(names)) - 0.4, -0.6), xlabel="average precision on test windows")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", labelcolor=INK)
    _legend_above(figure, columns=5)
    return figure


def training_curves(histories: Mapping[str, Sequence[Row]]) -> Figure:
    """Losses (left) and validation mAP (right) over the steps, a row for each model, the best mAP marked.

    Rows have `step`, `train_loss`, `val_loss` and `val_map`; a value that is missing, None or nan leaves a gap in its
    line only.
    """
    figure, panels = _figure(columns=2, height_in=0.3 + 2.6 * max(1, len(histories)), rows=max(1, len(histories)))
    for k, ((model, rows), colour) in enumerate(zip(histories.items(), cycle(MODEL_COLOURS), strict=False)):
        losses, scores = panels[2 * k], panels[2 * k + 1]
        losses.plot(*_known(rows, "step", "train_loss"), color=colour, linewidth=1.6, alpha=0.75, label="train")
        losses.plot(*_known(rows, "step", "val_loss"), color=INK, linewidth=1.6, label="validation")
        losses.set(ylabel="loss", xlabel="step")
        losses.set_title(model, loc="left", color=INK, fontsize=11, fontweight="bold")
        _legend(losses, columns=2)
        steps, maps = _known(rows, "step", "val_map")
        scores.plot(steps, maps, color=colour, linewidth=2.0)
        if maps:
            best = max(range(len(maps)), key=maps.__getitem__)
            _mark(scores, steps[best], maps[best], colour, f"best: {maps[best]:.3f} at step {steps[best]:g}")
            _legend(scores, columns=1, where="lower right")
        scores.set(ylabel="validation mAP", xlabel="step")
        for axes in (losses, scores):
            axes.set_ylim(bottom=0)
    return figure


def reliability_diagrams(reliability: Mapping[str, Reliability | None]) -> Figure:
    """Share that is true over the mean probability of each bin, before (left) and after calibration (right).

    A model without reliability is left out and keeps its colour. On the diagonal, probabilities hold what they say.
    """
    figure, panels = _figure(columns=2, height_in=4.6)
    for axes, title in zip(panels, ("before calibration", "after calibration"), strict=True):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        for k, (model, result) in enumerate(reliability.items()):
            if result is None:
                continue
            is_before = axes is panels[0]
            bins, ece = (result.before, result.ece_before) if is_before else (result.after, result.ece_after)
            axes.plot(
                [each.mean_probability for each in bins],
                [each.share_true for each in bins],
                color=MODEL_COLOURS[k % len(MODEL_COLOURS)],
                linewidth=2.0,
                marker=_MARKERS[k % len(_MARKERS)],
                markersize=6,
                label=f"{model}, ECE {ece:.3f}",
            )
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set(xlabel="mean probability", ylabel="share that is true")
        axes.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
        if any(reliability.values()):
            _legend(axes, columns=1, where="best")
    return figure


def as_svg(figure: Figure) -> str:
    """The figure as one `<svg>` element, text kept as text, without prolog, date or the program's version."""
    out = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "report", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue().decode("utf-8")
    return text[text.index("<svg") :]


def _figure(*, columns: int, height_in: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(10, height_in), layout="constrained")
    panels = [figure.add_subplot(rows, columns, i + 1) for i in range(rows * columns)]
    for axes in panels:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(LINE)
        axes.grid(visible=True, color=LINE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=MUTED, length=0, labelsize=10)
        axes.xaxis.label.set(color=MUTED, size=10)
        axes.yaxis.label.set(color=MUTED, size=10)
    return figure, panels


def _mark(axes: Axes, x: float, y: float, colour: str, label: str | None = None) -> None:
    axes.plot([x], [y], linestyle="none", marker="o", markersize=8, color=colour, markeredgecolor=INK, label=label)


def _legend_above(figure: Figure, *, columns: int) -> None:
    """All labels of the figure above its panels, where they cover nothing."""
    figure.legend(loc="outside upper right", ncols=columns, frameon=False, labelcolor=INK, fontsize=10)


def _legend(axes: Axes, *, columns: int, where: str = "upper right") -> None:
    axes.legend(frameon=False, labelcolor=INK, fontsize=10, ncols=columns, loc=where)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _columns(rows: Sequence[Row], x: str, y: str) -> tuple[list[float], list[float]]:
    return [_or_nan(row[x]) for row in rows], [_or_nan(row[y]) for row in rows]


def _known(rows: Sequence[Row], x: str, y: str) -> tuple[list[float], list[float]]:
    pairs = [(_or_nan(row[x]), _or_nan(row.get(y))) for row in rows]
    pairs = [(step, value) for step, value in pairs if not math.isnan(value)]
    return [step for step, _ in pairs], [value for _, value in pairs]

"""The event part of the evaluation page: tables of events, excluded pairs, reliability, and figures of many models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import to_hex, to_rgb

from features.video import Segment
from reports.calibration import ReliabilityBin
from reports.evaluation import plots
from reports.evaluation.colours import MODEL_COLOURS, MODEL_COLOURS_ON_DARK
from reports.evaluation.event_tables import Reliability
from reports.evaluation.page import write_page
from reports.evaluation.results import ModelResult, Report
from reports.metrics.events import event_scores
from reports.metrics.matching import StatedEvent, TrueEvent, event_truth

NAMES = {"c1": "Standing <up>", "c2": "Sitting down", "c3": "Reading"}
TRUE = [("c1", 10.0, 20.0), ("c1", 40.0, 50.0), ("c2", 60.0, 70.0)]
GOOD = [("c1", 10.0, 20.0), ("c1", 40.5, 50.0), ("c2", 60.0, 69.0)]
WEAK = [("c1", 12.0, 20.0), ("c1", 90.0, 95.0), ("c2", 15.0, 20.0)]


def scores(stated: Iterable[tuple[str, float, float]], excluded: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """Event scores of one recording of two minutes in which `TRUE` happens."""
    truth = event_truth(
        [TrueEvent("r", label, Segment(start, end)) for label, start, end in TRUE],
        {"r": [Segment(0, 120)]},
        list(NAMES),
    )
    events = [StatedEvent("r", label, Segment(start, end), 0.9) for label, start, end in stated]
    return event_scores(truth, events, excluded=excluded).to_json()


def model(**changes: Any) -> ModelResult:
    counts = {"n_windows": 50, "n_videos": 9, "n_labels": 3, "n_labels_without_positives": 0}
    metrics: dict[str, Any] = {"micro_f1": 0.5, "threshold": 0.3} | counts
    labels = [
        {"label": label, "name": name, "n_positives": 9, "ap": 0.5, "f1": 0.5, "precision": 0.5, "recall": 0.5}
        | {"threshold": 0.3}
        for label, name in NAMES.items()
    ]
    sweep = [{"threshold": 0.1 * k, "micro_f1": 0.5, "macro_f1": 0.4} for k in range(1, 10)]
    history = [{"step": 1.0, "train_loss": 1.0, "val_loss": 1.0, "val_map": 0.5}]
    return replace(ModelResult(metrics, labels, sweep, history), **changes)


def page(path: Path, models: dict[str, ModelResult], **more: Any) -> str:
    write_page(path / "report.html", Report("demo", "diary", models, [], [], {}, **more))
    return (path / "report.html").read_text(encoding="utf-8")


def section(text: str, name: str) -> str:
    found = re.search(rf'<section aria-labelledby="{name}">.*?</section>', text, flags=re.DOTALL)
    return found.group() if found else ""


def rows(html: str) -> list[list[str]]:
    """Each table row's cells as plain text."""
    return [
        [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in re.findall(r"<t[hd]\b.*?</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr\b.*?</tr>", html, re.DOTALL)
    ]


def tables(html: str) -> list[list[list[str]]]:
    return [rows(table) for table in re.findall(r"<table\b.*?</table>", html, re.DOTALL)]


GOOD_ROW = (
    "1.00 1.00 1.00",  # F1 at IoU 0.1, 0.3, 0.5
    "1.00 3 of 3 1.00 3 of 3",  # precision and recall at 0.3
    "1.00 28 of 28 s 0.95 28 of 30 s",  # by seconds
    "90 90 0.00 +0.00",  # stated and true for each hour, onset error
)
WEAK_ROW = (
    "0.33 0.33 0.33",
    "0.33 1 of 3 0.33 1 of 3",
    "0.44 8 of 18 s 0.27 8 of 30 s",
    "90 90 2.00 +2.00",
)


def test_events_of_each_model_stand_with_their_counts(tmp_path: Path) -> None:
    """Recordings come first, then videos; a row a model, with the counts behind each ratio."""
    pairs = [("c1", "c2")]
    weak = model(events={"videos": scores(WEAK, pairs), "recordings": scores(WEAK, pairs)})
    good = model(events={"recordings": scores(GOOD, pairs), "videos": scores(TRUE, pairs)})
    (first, *_) = tables(section(page(tmp_path, {"linear": weak, "temporal": good}), "events"))
    assert [row[0] for row in first[1:]] == [
        "Model",
        "Test recordings 2.0 min with 3 true events",
        "linear",
        "temporal",
        "Test videos 2.0 min with 3 true events",
        "linear",
        "temporal",
    ]
    assert " ".join(first[3]) == " ".join(("linear", *WEAK_ROW, "30.0 1 in all"))
    assert " ".join(first[4]) == " ".join(("temporal", *GOOD_ROW, "0.0 0 in all"))
    assert len({len(row) for row in (first[1], first[3], first[4])}) == 1


def test_the_best_of_each_column_is_bold(tmp_path: Path) -> None:
    """Higher scores, lower errors and fewer contradictions win; rates of events and equal numbers are never bold."""
    pairs = [("c1", "c2")]
    models = {
        "linear": model(events={"videos": scores(WEAK, pairs)}),
        "temporal": model(events={"videos": scores(GOOD, pairs)}),
    }
    table = section(page(tmp_path, models), "events").split("</table>")[0]
    assert len(re.findall(r"number best", table)) == 9
    same = {name: model(events={"videos": scores(GOOD, pairs)}) for name in ("linear", "temporal")}
    assert "number best" not in section(page(tmp_path, same), "events").split("</table>")[0]


def test_a_model_without_scores_of_a_scope_has_dashes(tmp_path: Path) -> None:
    """A scope that no model has is left out; what a model lacks, or cannot know, is a dash and not a number."""
    nothing = scores([])
    models = {"linear": model(), "temporal": model(events={"recordings": nothing})}
    text = section(page(tmp_path, models), "events")
    (first, *_) = tables(text)
    assert "Test videos" not in text
    assert set(first[3][1:]) == {"–"}
    assert " ".join(first[4]) == "temporal 0.00 0.00 0.00 – 0.00 0 of 3 – 0.00 0 of 30 s 0 90 – –"
    assert not re.search(r"\b(nan|None)\b", text)


def test_without_event_scores_there_is_no_section(tmp_path: Path) -> None:
    """Callers that know nothing of events and calibration get the page of windows alone."""
    text = page(tmp_path, {"linear": model()})
    assert 'id="events"' not in text
    assert 'id="reliability"' not in text


def test_the_diary_s_point_has_a_table_of_its_own(tmp_path: Path) -> None:
    """The careful point is a second table; without its scores it is not there."""
    both = model(events={"recordings": scores(WEAK)}, events_careful={"recordings": scores(TRUE[:1])})
    first, second, *_ = tables(section(page(tmp_path, {"temporal": both}), "events"))
    assert second[3][:4] == ["temporal", "1.00 1 of 1", "0.33 1 of 3", "0.50"]
    assert first[3][1:4] == ["0.33", "0.33", "0.33"]
    alone = page(tmp_path, {"temporal": model(events={"recordings": scores(WEAK)})})
    assert "careful" not in section(alone, "events")


def test_each_label_s_events_are_folded_and_sorted(tmp_path: Path) -> None:
    """The label with the last model's best F1 comes first; one that neither happens nor is stated is only named."""
    models = {
        "linear": model(events={"videos": scores(GOOD)}),
        "temporal": model(events={"videos": scores([*TRUE[2:], *WEAK[:2]])}),
    }
    (details,) = re.findall(r"<details.*?</details>", section(page(tmp_path, models), "events"), re.DOTALL)
    (table,) = tables(details)
    assert table[2:] == [
        ["Sitting down c2", "1", "1.00", "1.00", "1.00 1 of 1", "1.00 1 of 1", "1.00 1 of 1", "1.00 1 of 1"],
        ["Standing &lt;up&gt; c1", "2", "1.00", "0.50", "1.00 2 of 2", "0.50 1 of 2", "1.00 2 of 2", "0.50 1 of 2"],
    ]
    assert "Neither true nor stated, hence without a score: Reading" in details


def test_models_with_other_event_labels_are_not_compared(tmp_path: Path) -> None:
    """The label that only one model has is named."""
    other = scores(GOOD)
    other["labels"] = other["labels"][:2]
    models = {"linear": model(events={"videos": other}), "temporal": model(events={"videos": scores(GOOD)})}
    with pytest.raises(ValueError, match=r"linear, test videos: .*c3"):
        page(tmp_path, models)


def test_excluded_pairs_stand_with_what_they_rest_on(tmp_path: Path) -> None:
    """Both names, the videos that have both, and how many chance would show at once; nothing without pairs."""
    models = {"temporal": model(events={"videos": scores(GOOD)})}
    text = section(page(tmp_path, models, exclusions=[("Standing <up>", "Sitting down", 1234, 56.78)]), "events")
    assert "<summary>1 pair of labels that exclude each other</summary>" in text
    assert ["Standing &lt;up&gt;", "Sitting down", "1,234", "56.8"] in tables(text)[-1]
    assert "that exclude each other</summary>" not in page(tmp_path, models)


BEFORE = (ReliabilityBin(0.0, 0.1, 1200, 0.04, 0.02), ReliabilityBin(0.8, 0.9, 40, 0.85, 0.5))
AFTER = (ReliabilityBin(0.0, 0.1, 1190, 0.03, 0.03), ReliabilityBin(0.5, 0.6, 50, 0.55, 0.54))


def test_reliability_is_shown_before_and_after_calibration(tmp_path: Path) -> None:
    """The diagram's points and errors; the same numbers in a table, with how many cells each bin has."""
    result = Reliability(BEFORE, AFTER, ece_before=0.0306, ece_after=0.0004)
    panels = [panel.axes[0] for panel in plots.reliability_diagrams({"linear": None, "temporal": result})]
    for axes, bins in zip(panels, (BEFORE, AFTER), strict=True):
        (line,) = axes.lines[1:]
        assert np.asarray(line.get_xydata()).tolist() == [[each.mean_probability, each.share_true] for each in bins]
        assert line.get_color() == MODEL_COLOURS[1]
    text = section(page(tmp_path, {"linear": model(), "temporal": model(reliability=result)}), "reliability")
    assert "temporal 0.031, after calibration 0.000." in text
    (table,) = tables(text)
    assert table[1:] == [
        ["Model", "Calibration", "ECE", "0–0.1", "0.5–0.6", "0.8–0.9"],
        ["temporal", "before", "0.031", "0.02 1,200", "–", "0.50 40"],
        ["temporal", "after", "0.000", "0.03 1,190", "0.54 50", "–"],
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_figure_shows_every_model_in_a_colour_of_its_own(tmp_path: Path, count: int) -> None:
    """One to four models: each is named above each figure, and the page has its colour for light and for dark."""
    result = Reliability(BEFORE, AFTER, 0.03, 0.01)
    names = ["linear", "temporal", "finetune", "finetune + temporal"][:count]
    text = page(tmp_path, {name: model(events={"videos": scores(GOOD)}, reliability=result) for name in names})
    figures = re.findall(r"<figure.*?</figure>", text, re.DOTALL)
    assert len(figures) == 3
    for figure in figures:
        assert set(re.findall(r"--model-\d", figure)) == {f"--model-{k}" for k in range(1, count + 1)}
    legends = re.findall(r'<ul class="legend">.*?</ul>', text, re.DOTALL)
    assert len(legends) == 3
    for legend in legends:
        assert re.findall(r"</svg>([^<]+)</li>", legend) == names
    assert [name for name in names if f"{name}: loss" in figures[-1]] == names
    for k, (light, dark) in enumerate(zip(MODEL_COLOURS, MODEL_COLOURS_ON_DARK, strict=True), start=1):
        assert re.findall(rf"--model-{k}: (#\w+);", text) == [light, dark]


def test_wide_tables_scroll_inside_a_box_of_their_own(tmp_path: Path) -> None:
    """Each table lies in a scrolling box, so that the page itself is never wider than a phone."""
    result = Reliability(BEFORE, AFTER, 0.03, 0.01)
    full = model(events={"videos": scores(GOOD)}, events_careful={"videos": scores(GOOD)}, reliability=result)
    text = page(tmp_path, {"temporal": full}, exclusions=[("a", "b", 1, 0.5)])
    assert text.count("<table") == len(re.findall(r'<div class="card scroll">\s*<table', text)) == 9


def linear_light(colour: str) -> npt.NDArray[np.float64]:
    srgb = np.array(to_rgb(colour))
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2."""
    low, high = sorted(float(linear_light(colour) @ [0.2126, 0.7152, 0.0722]) + 0.05 for colour in (one, other))
    return high / low


def oklab(light: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.asarray(to_lab @ np.cbrt(to_cones @ light))


DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
"""Machado, Oliveira and Fernandes 2009, on linear RGB."""
STYLE = (Path(__file__).parents[1] / "reports/templates/style.css").read_text(encoding="utf-8")


@pytest.mark.parametrize(("colours", "place"), [(MODEL_COLOURS, 0), (MODEL_COLOURS_ON_DARK, 1)])
def test_model_colours_can_be_seen_and_told_apart(colours: tuple[str, ...], place: int) -> None:
    """A contrast of 3 or more on cards and tracks, and a distance that holds for colour-blind people too."""
    for background in (re.findall(rf"--{name}: (#\w+);", STYLE)[place] for name in ("card", "wash")):
        for colour in colours:
            assert contrast(colour, to_hex(background)) >= 3, (colour, background)
    for seen_by in (np.eye(3), DEUTERANOPIA):
        for one, other in combinations(colours, 2):
            points = [oklab(np.clip(seen_by @ linear_light(colour), 0, 1)) for colour in (one, other)]
            assert np.linalg.norm(points[0] - points[1]) >= 0.1, (one, other)

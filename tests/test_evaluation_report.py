from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.lines import Line2D

from reports.evaluation import colours, plots
from reports.evaluation.bars import Bar, bar, bars
from reports.evaluation.page import write_page
from reports.evaluation.results import FailedVideo, ModelResult, Report, SplitFacts

LABELS = (("c015", "Holding a <phone>", 40), ("c059", "Sitting, $5 a $chair", 90), ("c032", "Reading a book", 0))
SPLITS = [SplitFacts("train", 700, 2900, 18), SplitFacts("test", 302, 1204, 9)]


def result(micro_f1: float, **changes: Any) -> ModelResult:
    numbers: dict[str, Any] = {
        "micro_f1": micro_f1,
        "micro_f1_at_half": 0.4,
        "micro_f1_prior": 0.312,
        "macro_f1": math.nan,
        "map": None,
        "threshold": 0.35,
        "n_windows": 1204,
        "n_videos": 302,
        "n_labels": 3,
        "n_labels_without_positives": 1,
    } | changes
    labels = [
        {
            "label": label,
            "name": name,
            "n_positives": count,
            "ap": micro_f1 - count / 1000 if count else math.nan,
            "f1": 0.5 if count else None,
            "precision": 0.4,
            "recall": 0.6,
            "threshold": 0.35,
        }
        for label, name, count in LABELS
    ]
    sweep = [
        {"threshold": k / 20, "micro_f1": 0.5 - (k / 20 - 0.35) ** 2, "macro_f1": 0.3, "precision": 0.5, "recall": 0.5}
        for k in range(1, 20)
    ]
    history = [
        {
            "step": 10.0 * k,
            "train_loss": 1 / k,
            "val_loss": 0.5 if k % 2 else None,
            "val_map": 0.1 * k if k < 4 else None,
        }
        for k in range(1, 6)
    ]
    return ModelResult(numbers | {"video": numbers | {"micro_f1": micro_f1 + 0.1}}, labels, sweep, history)


def report(tmp_path: Path, models: dict[str, ModelResult], failed: tuple[FailedVideo, ...] = ()) -> str:
    own = Report("demo", "diary", models, SPLITS, failed, {"Backbone": "tiny & small", "Seed": "0"})
    write_page(tmp_path / "report.html", own)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


BOTH = {"head": result(0.498), "finetune": result(0.563)}


def xs(line: Line2D) -> list[float]:
    return np.asarray(line.get_xdata()).tolist()


def figures(page: str) -> list[str]:
    """The panels of the page's figures."""
    return re.findall(r"<svg[^>]*>", "".join(re.findall(r"<figure.*?</figure>", page, re.DOTALL)))


def plain(page: str) -> str:
    """The page's text, without figures and style."""
    page = re.sub(r"<(style|figure|script).*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_page_says_how_much_better_than_not_looking(tmp_path: Path) -> None:
    """The headline has the prior and each model; the table has windows and videos side by side, the best in bold."""
    page = report(tmp_path, BOTH)
    text = plain(page)
    assert "without looking 0.312 head 0.498 finetune 0.563" in text
    assert "At the threshold chosen on validation. 0.498 0.563 0.598 0.663" in text
    assert re.findall(r'<td[^>]* class="number best[^"]*">([^<]+)', page)[:2] == ["0.563", "0.663"]
    assert "1,204 windows of 302 test videos" in text


def test_what_is_not_known_is_a_dash(tmp_path: Path) -> None:
    """None and nan are shown as "–", never as a number."""
    page = report(tmp_path, {"head": result(0.498, threshold=None)})
    assert "rare labels count as much as common ones. – –" in plain(page)
    assert not re.search(r"\b(nan|None)\b", page)


def test_labels_come_best_first_and_those_without_positives_apart(tmp_path: Path) -> None:
    """Tables are sorted by the chosen model's AP; a label that never occurs is named and has no score."""
    text = plain(report(tmp_path, BOTH))
    first = "Holding a &lt;phone&gt; c015 40 – {} 0.400 0.600 0.500 – 0.35 – – – Sitting"
    assert text.index(first.format("0.523")) < text.index("The same of head") < text.index(first.format("0.458"))
    assert "hence without a score: Reading a book c032 ." in text


def test_failed_videos_are_named_and_counted(tmp_path: Path) -> None:
    """Each unreadable video is listed with its reason; without any, the page says so."""
    text = plain(report(tmp_path, BOTH, (FailedVideo("X7QPL", "no moov atom"), FailedVideo("A1B2C", "empty"))))
    assert "2 videos could not be read" in text
    assert "X7QPL no moov atom" in text
    assert "Every video could be read." in plain(report(tmp_path, BOTH))


def test_the_page_fetches_nothing_and_names_stay_text(tmp_path: Path) -> None:
    """Figures are in the page, in its own colours; no address is fetched, and a name is never markup or a formula."""
    page = report(tmp_path, BOTH)
    assert len(figures(page)) == 6
    assert not re.search(r'(src|href)="(?!#)', page)
    assert page.count("<script") == 1
    assert "<phone>" not in page
    assert "Sitting, $5 a $chair" in page
    assert not any(colour in page.split("</style>", 1)[1] for colour in (colours.INK, colours.LINE))
    assert "tiny &amp; small" in page


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    """Two reports are the same bytes, without dates or random ids, and no other file is left behind."""
    assert report(tmp_path, BOTH) == report(tmp_path, BOTH)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_models_on_different_labels_are_not_compared(tmp_path: Path) -> None:
    """A model whose labels differ raises, and says which."""
    other = ModelResult(BOTH["head"].metrics, BOTH["head"].labels[:2], [], [])
    with pytest.raises(ValueError, match="c032"):
        report(tmp_path, {"head": other, "finetune": BOTH["finetune"]})


def test_a_model_without_history_or_curve_still_has_a_page(tmp_path: Path) -> None:
    """Empty rows leave their figure empty; a set without any positive has no bars."""
    unlabelled = [dict(row, n_positives=0, ap=None) for row in BOTH["head"].labels]
    page = report(tmp_path, {"head": ModelResult(BOTH["head"].metrics, unlabelled, [], [])})
    assert len(figures(page)) == 4
    assert "Holding a &lt;phone&gt;" in page


def test_figures_show_the_rows_they_were_given() -> None:
    """The chosen threshold is marked on its curve, bars have the AP as width, gaps in the history are left out."""
    micro, macro = (panel.axes[0] for panel in plots.threshold_curves({"head": BOTH["head"].sweep}, {"head": 0.35}))
    (mark,) = [line for line in micro.lines if line.get_marker() == "o"]
    assert (xs(mark), np.asarray(mark.get_ydata()).tolist()) == ([0.35], [0.5])
    assert set(np.asarray(macro.lines[0].get_ydata()).tolist()) == {0.3}
    losses, scores = (panel.axes[0] for panel in plots.training_curves({"head": BOTH["head"].history}))
    assert xs(losses.lines[1]) == [10, 30, 50]
    assert xs(scores.lines[0]) == [10, 20, 30]
    best = scores.lines[1]
    assert (xs(best), best.get_clip_on()) == ([30], False)
    assert "best 0.300 at step 30" in scores.get_title(loc="left")


def test_bars_are_as_long_as_their_scores() -> None:
    """A rectangle for each known score, a line for its interval, and the tick of chance; nan leaves its bar out."""
    one = bar(0.5, "red", low=0.4, high=0.625)
    assert '<rect y="0" width="50.0" height="10" fill="red"/>' in one
    assert 'd="M40.0 5H62.5"' in one
    assert "whisker" not in bar(0.5, "red")
    many = bars([Bar(0.25, "red"), Bar(None, "blue"), Bar(1.0, "green")], tick=0.1)
    assert re.findall(r'width="([\d.]+)" height="2.6" fill="(\w+)"', many) == [("25.0", "red"), ("100.0", "green")]
    assert 'd="M10.0 0V9"' in many


def test_importing_the_page_imports_no_matplotlib() -> None:
    """matplotlib is imported only where a page is written, torch never."""
    code = "import sys, reports.evaluation.page; print(sorted({'matplotlib', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

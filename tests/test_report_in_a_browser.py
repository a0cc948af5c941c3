"""The report's page in a browser: at three widths, dark and printed, with and without its script."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from features.thumbnails import Thumbnail
from features.video import Segment
from reports.calibration import ReliabilityBin
from reports.evaluation.event_tables import Reliability
from reports.evaluation.examples import Example
from reports.evaluation.page import write_page
from reports.evaluation.pairs import Confusion, Together
from reports.evaluation.results import CloserLook, ModelResult, Report, SplitFacts
from reports.metrics.precision_recall import PrecisionRecall
from tests.browsers import browser, needs_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MODELS = ("linear", "temporal", "finetune", "finetune_temporal")
LABELS = {f"c{k:03d}": f"Doing <thing> number {k} with something in a long name" for k in range(12)}
SEEDS = {"seeds": [0, 1], "models": {name: {"map": {"mean": 0.5, "std": 0.01}} for name in ("linear", "temporal")}}

pytestmark = needs_chromium

__all__ = ["browser"]


def result(number: int) -> ModelResult:
    """A model with all that a page shows of it."""
    numbers = {"micro_f1": 0.5 + number / 10, "micro_f1_prior": 0.2, "macro_f1": 0.4, "map": 0.3, "threshold": 0.3}
    counts = {"n_windows": 900, "n_videos": 60, "n_labels": 12, "n_labels_without_positives": 0}
    labels: list[dict[str, Any]] = [
        {"label": label, "name": name, "n_positives": 5 + k, "n_videos": 9 - k % 4, "n_val": k, "ap": 0.9 - 0.05 * k}
        | {"precision": None if k == 3 else 0.5, "recall": 0.5, "f1": 0.5, "own_f1": 0.4, "threshold": 0.2}
        for k, (label, name) in enumerate(LABELS.items())
    ]
    curve = PrecisionRecall((0.1, 0.5, 1.0), (1.0, 0.7, 0.1))
    bins = (ReliabilityBin(0.0, 0.1, 1200, 0.04, 0.02), ReliabilityBin(0.8, 0.9, 40, 0.85, 0.5))
    sweep = [{"threshold": 0.1 * k, "micro_f1": 0.5, "macro_f1": 0.4} for k in range(1, 10)]
    history = [{"step": 100.0 * k, "train_loss": 1 / k, "val_loss": 1 / k, "val_map": 0.1 * k} for k in range(1, 5)]
    return ModelResult(
        numbers | counts | {"video": numbers | counts},
        labels,
        sweep,
        history,
        reliability=Reliability(bins, bins, 0.03, 0.01),
        curve=curve,
        chosen=(0.5, 0.7),
        val_event_f1=number / 10,
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a report")
    (folder / "picture.jpg").write_bytes(Thumbnail.of(np.zeros((90, 160, 3), np.uint8), 0.0).jpeg)
    first, second, *_ = LABELS
    closer = CloserLook(
        curves={label: PrecisionRecall((0.1, 1.0), (1.0, 0.5)) for label in LABELS},
        confusions=[Confusion(first, second, 9, 3, 20, 1.5)],
        together=[Together(first, second, 9, 3, 20, 1.5)],
        examples=[Example("miss", first, "V1", Segment(1, 2), 0.1, (second,))],
        pictures=[["picture.jpg"] * 3],
        videos=["film.mp4#t=1,2"],
    )
    models = {name: result(number) for number, name in enumerate(MODELS)}
    splits = [SplitFacts(name, 60, 900, 10) for name in ("train", "val", "test")]
    write_page(
        folder / "report.html",
        Report("demo", "diary", models, splits, [], {"seed": "0"}, closer=closer, seeds=SEEDS, params={"a.b": "1"}),
    )
    return folder / "report.html"


def opened(browser: Browser, path: Path, *, width: int = 1280, scripts: bool = True) -> Page:
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, java_script_enabled=scripts)
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("requestfailed", lambda request: faults.append(request.url))
    page.goto(path.as_uri())
    assert faults == []
    return page


def test_nothing_is_out_of_sight_at_any_width(browser: Browser, path: Path) -> None:
    """The page is never wider than its screen, and on a phone neither is any table: all numbers are in sight."""
    for width in (390, 768, 1280):
        page = opened(browser, path, width=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
        hidden = "[...document.querySelectorAll('td')].filter((cell) => cell.offsetParent && "
        hidden += "cell.getBoundingClientRect().right > innerWidth).length"
        if width == 390:
            assert page.evaluate(hidden) == 0
            row = page.locator("#numbers ~ .card tbody tr").first.inner_text()
            assert all(f"{name}, videos" in page.content() for name in MODELS)
            assert "0.800" in row
        page.context.close()


def test_tables_sort_and_read_without_a_script(browser: Browser, path: Path) -> None:
    """A heading sorts numbers from the highest, then from the lowest; what is not known stays last; names by letter."""
    page = opened(browser, path)
    table = page.locator("table.sortable").first
    column = table.locator("tbody tr td:nth-of-type(1)")
    assert column.all_inner_texts() == [str(5 + k) for k in range(12)]
    windows = table.get_by_role("button", name="Windows", exact=True)
    windows.click()
    assert column.all_inner_texts() == [str(16 - k) for k in range(12)]
    windows.click()
    assert column.all_inner_texts() == [str(5 + k) for k in range(12)]
    assert table.locator("th[aria-sort=ascending]").all_inner_texts() == ["Windows"]
    precision = table.get_by_role("button", name="Precision")
    for _ in range(2):
        precision.click()
        assert table.locator("tbody tr td:nth-of-type(4)").all_inner_texts()[-1] == "–"
    page.context.close()
    plain = opened(browser, path, scripts=False)
    assert plain.locator("table.sortable").first.locator("tbody tr").count() == 12
    assert plain.locator("table button").count() == 0
    plain.context.close()


def test_paper_has_bars_and_dark_has_light_text(browser: Browser, path: Path, tmp_path: Path) -> None:
    """Bars are filled shapes, which print; on a dark screen the text and the marks of figures are light."""
    page = opened(browser, path)
    page.emulate_media(media="print")
    filled = "[...document.querySelectorAll('svg.bar rect')].filter((bar) => bar.getBoundingClientRect().width > 0 && "
    filled += "getComputedStyle(bar).fill !== 'none').length"
    assert page.evaluate(filled) >= 2 * (len(MODELS) + 1) + len(MODELS) * len(LABELS)
    assert page.evaluate("getComputedStyle(document.querySelector('.stack tbody tr')).display") == "table-row"
    page.emulate_media(media="screen", color_scheme="dark")
    light = "getComputedStyle(document.querySelector('figure text')).fill.match(/\\d+/g).every((part) => part > 120)"
    assert page.evaluate(light)
    page.context.close()


def test_the_page_is_accessible(browser: Browser, path: Path) -> None:
    """axe finds nothing wrong with names, contrasts, headings and tables."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    for width in (390, 1280):
        page = opened(browser, path, width=width)
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        page.context.close()

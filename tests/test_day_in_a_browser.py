"""The page of a day of 2,000 events in a browser: without a network, by mouse and by keys, narrow, dark, printed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from features.thumbnails import Thumbnail
from features.video import Segment
from pipeline.dataset.roles import read_roles
from pipeline.layout import Layout
from reports.diary.day import make_day
from reports.diary.index import index_entry, write_index_page
from reports.diary.model import DiaryModel
from reports.diary.page import THUMBNAILS, Neighbours, thumbnail_name, write_day_page
from reports.diary.recording import Recording, Unrecognisable
from reports.diary.roles import Role
from reports.diary.stored import StoredRecording
from reports.events import Event, EventRule, EventsFound
from tests.browsers import browser, needs_chromium
from tests.diaries import stored
from tests.videos import evenly, write_video

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

REPOSITORY = Path(__file__).parents[1]
START = datetime(2026, 3, 14, 8, 2, 11, tzinfo=timezone(timedelta(hours=1)))
HOURS, EVENTS = 10, 2000

pytestmark = needs_chromium

__all__ = ["browser"]


def an_hour(number: int, roles: dict[str, Role], video: str) -> StoredRecording:
    """Fifty-five minutes with 200 events, a stretch that was too dark and a few doubtful events."""
    rng = random.Random(number)
    labels, name, duration_s = sorted(roles), f"camera-{number}", 3300.0
    starts = sorted(rng.uniform(0, duration_s - 60) for _ in range(EVENTS // HOURS))
    events = [
        Event(f"{name}-{i:03d}", rng.choice(labels), Segment(at, at + rng.uniform(1, 40)), 0.9, rng.uniform(0.4, 0.9))
        for i, at in enumerate(starts, start=1)
    ]
    doubtful = [replace(event, id=f"{event.id}-less") for event in events[:5]]
    recording = Recording(
        id=name,
        file_name=f"{name}.mp4",
        duration_s=duration_s,
        recorded_at=START + timedelta(hours=number),
        recorded_at_source="container metadata",
        observed=(Segment(0, duration_s - 5),),
        is_guess=number == 3,
        clock_note="It is two minutes off." if number == 3 else "",
        faults=("3 of 90 packets are damaged",) if number == 4 else (),
        unrecognisable=(Unrecognisable(Segment(duration_s - 20, duration_s - 5), "too dark"),),
    )
    names = {label: f"Doing {label}" for label in labels}
    rules = dict.fromkeys(labels, EventRule(0.5, 0.4, 2.0, 1.0))
    model = DiaryModel("demo", "diary", "temporal", "a" * 64, "b" * 64, rules, 0.77, "It knows a drawn world.")
    found = EventsFound(tuple(events), {labels[0]: 3}, tuple(doubtful))
    return stored(recording, found, names, model, roles=roles, video=video, thumbnails_ms=(60_000, 1_800_000))


@dataclass(frozen=True)
class Written:
    long: Path
    short: Path
    index: Path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A long day, a short one that plays a real video, and the index."""
    folder = tmp_path_factory.mktemp("videos and diaries")
    out = folder / "out"
    write_video(folder / "a film.mp4", evenly(120, 12), size=(64, 48), faststart=True)
    roles = dict(read_roles(Layout("demo", "diary", REPOSITORY).roles))
    hours = [an_hour(number, roles, "../a%20film.mp4") for number in range(HOURS)]
    picture = Thumbnail.of(np.zeros((90, 160, 3), np.uint8), 0.0)
    for hour in hours:
        for at_ms in hour.thumbnails_ms:
            place = out / hour.recording.id / THUMBNAILS / thumbnail_name(at_ms)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(picture.jpeg)
    own = hours[0]
    short = replace(
        own,
        recording=replace(own.recording, duration_s=10.0, observed=(Segment(0, 10),), unrecognisable=()),
        found=EventsFound((Event("camera-0-001", "c107", Segment(2, 5), 0.9, 0.8),), {}),
    )
    days = [make_day("2026-03-14", hours), make_day("2026-03-14", [short])]
    pages = Written(out / "2026-03-14.html", out / "2026-03-13.html", out / "index.html")
    write_day_page(pages.long, days[0], Neighbours("2026-03-13", ""))
    write_day_page(pages.short, days[1], Neighbours("", "2026-03-14"))
    write_index_page(pages.index, [index_entry(days[0]), replace(index_entry(days[1]), key="2026-02-01")])
    return pages


class Visit:
    """Opens pages without a network, and keeps what was asked for and what went wrong."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.asked: set[str] = set()
        self.faults: list[str] = []

    def open(self, path: Path, *, width: int = 1280, dark: bool = False, scripts: bool = True) -> Page:
        context = self.browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            offline=True,
        )
        page = context.new_page()
        page.on("request", lambda request: self.asked.add(request.url.partition("://")[0]))
        page.on("console", lambda message: self.faults.append(message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("requestfailed", self._add_failure)
        page.goto(path.as_uri())
        return page

    def _add_failure(self, request: Request) -> None:
        if "ERR_ABORTED" not in (request.failure or ""):  # what a closed player no longer asks for
            self.faults.append(f"{request.url}: {request.failure}")


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Nothing but files is asked for, and nothing goes wrong."""
    visiting = Visit(browser)
    yield visiting
    for context in browser.contexts:
        context.close()
    assert visiting.faults == []
    assert visiting.asked == {"file"}


def test_a_long_day_is_a_small_page(written: Written) -> None:
    """2,000 events of ten hours are under 5 MB, and no picture is in the page."""
    text = written.long.read_text(encoding="utf-8")
    assert len(text.encode()) < 5_000_000
    assert text.count('class="found"') == EVENTS + 5 * HOURS
    assert "data:" not in text


def test_it_opens_folded(written: Written, visit: Visit) -> None:
    """Each hour of the story is a line with its gist; bars are wide enough to be seen; pictures wait."""
    page = visit.open(written.long)
    hours = page.locator(".told > details.hour")
    assert hours.count() == HOURS
    assert page.locator(".told .line:visible").count() == 0
    assert all(len(text.split()) > 6 for text in hours.locator(".gist").all_inner_texts())
    widths = page.locator(".row b").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
    assert len(widths) == EVENTS + HOURS
    assert min(widths) >= 3
    assert page.locator("img").evaluate_all("all => all.filter(each => each.complete && each.naturalWidth).length") == 0
    hours.first.locator("summary").click()
    page.locator("img:visible").first.evaluate("picture => picture.decode()")


def test_the_filter_shows_what_has_its_words(written: Written, visit: Visit) -> None:
    """It opens the folds that hold some, says how many, and closes them again behind it."""
    page = visit.open(written.long)
    page.locator("#filter").fill("broom")
    shown = page.locator(".told .line:visible")
    assert 0 < shown.count() < page.locator(".line").count()
    assert all("broom" in text.lower() for text in shown.evaluate_all("all => all.map(each => each.dataset.text)"))
    assert re.fullmatch(r"\d+ of \d+ lines, \d+ events", page.locator("#count").inner_text())
    page.locator("#filter").fill("no such thing")
    assert shown.count() == 0
    assert page.locator("#count").inner_text().startswith("0 of ")
    page.locator("#filter").fill("")
    assert page.locator(".told details[open]").count() == 0
    assert page.locator(".line[hidden]").count() == 0


def test_keys_lead_through_the_day(written: Written, visit: Visit) -> None:
    """j and k go from line to line and open their folds, / to the filter, Escape out of it, [ to the day before."""
    page = visit.open(written.long)
    focused = "document.activeElement.id"
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate(focused) == "line-2"
    page.keyboard.press("k")
    assert page.evaluate(focused) == "line-1"
    assert page.locator("#line-1").is_visible()
    page.keyboard.press("/")
    page.keyboard.type("jk/p")
    assert page.locator("#filter").input_value() == "jk/p"
    page.keyboard.press("Escape")
    assert page.locator("#filter").input_value() == ""
    assert page.locator(".keys").is_visible()
    page.keyboard.press("]")
    page.keyboard.press("[")
    page.wait_for_url("**/2026-03-13.html")


def test_a_line_plays_its_stretch(written: Written, visit: Visit) -> None:
    """The policy lets the video in; it starts a second before; p and Escape close it, and the focus comes back."""
    page = visit.open(written.short)
    page.locator(".line.events a.play").click()
    page.locator("video").evaluate(
        "video => new Promise(done => { if (video.readyState) done(); else video.onloadedmetadata = done; })"
    )
    assert page.locator("video").evaluate("video => video.currentSrc").endswith("/a%20film.mp4#t=1,6")
    assert page.locator("video").evaluate("video => [video.videoWidth, video.currentTime >= 1]") == [64, True]
    page.keyboard.press("Escape")
    assert page.locator("video").count() == 0
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("p")
    assert page.locator("video").count() == 1
    page.keyboard.press("p")
    assert page.locator("video").count() == 0


def test_a_video_that_is_not_there_is_said(written: Written, browser: Browser) -> None:
    """With a link to where it should be."""
    moved = written.short.with_name("moved.html")
    moved.write_text(written.short.read_text(encoding="utf-8").replace("a%20film", "gone"), encoding="utf-8")
    page = Visit(browser).open(moved)
    page.locator(".line.events a.play").click()
    page.wait_for_selector(".player p")
    assert "This browser cannot play it here." in page.locator(".player").inner_text()
    assert (page.locator(".player a").get_attribute("href") or "").endswith("/gone.mp4#t=1,6")
    page.context.close()


def test_the_strip_zooms_and_leads_to_events(written: Written, visit: Visit) -> None:
    """An hour fills the strip; a bar opens the table at its event."""
    page = visit.open(written.long)
    page.get_by_role("button", name="12–13").click()
    sheet, frame = (page.locator(name).bounding_box() for name in (".sheet", ".window"))
    assert sheet is not None
    assert frame is not None
    assert sheet["width"] > 5 * frame["width"]
    assert sheet["x"] < frame["x"]
    ticks = page.locator(".axis .fine").evaluate_all(
        "(all, frame) => all.map(each => each.getBoundingClientRect())"
        ".filter(box => box.left >= frame.x && box.right < frame.x + frame.width).map(box => [box.left, box.right])",
        frame,
    )
    assert len(ticks) >= 3
    assert all(before[1] <= after[0] for before, after in pairwise(ticks))
    page.locator('b[data-ids="camera-4-010"]').dispatch_event("click")
    assert page.locator(".current").evaluate_all("rows => rows.map(row => row.id)") == ["camera-4-010"]
    assert page.locator("#camera-4-010").is_visible()


def test_a_line_leads_to_its_events(written: Written, visit: Visit) -> None:
    """All of them are marked in the table; one of them plays below its row."""
    page = visit.open(written.long)
    page.locator(".told summary").first.click()
    link = page.locator(".line.events:visible .ids").first
    ids = (link.get_attribute("data-ids") or "").split("\n")
    link.click()
    assert len(ids) > 1
    assert sorted(page.locator(".current").evaluate_all("rows => rows.map(row => row.id)")) == sorted(ids)
    page.locator(".current:visible a.play").first.click()
    assert page.locator(".current:visible + tr video").count() == 1


@pytest.mark.parametrize("name", ["long", "short", "index"])
def test_a_telephone_does_not_scroll_sideways(name: str, written: Written, visit: Visit) -> None:
    """With all folds open."""
    page = visit.open(getattr(written, name), width=390)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize(("name", "dark"), [("long", False), ("short", True), ("index", False), ("index", True)])
def test_axe_finds_nothing(name: str, dark: bool, written: Written, visit: Visit) -> None:
    """Names, roles, headings, contrast: on the whole page, one hour and the small folds open."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit.open(getattr(written, name), dark=dark)
    page.evaluate(
        "document.querySelectorAll('.told > details:first-of-type, .folds > details, #all > details:first-of-type')"
        ".forEach(each => { each.open = true; })"
    )
    # Of thousands that are alike, a few: axe takes minutes for all.
    alike = ".row b:nth-of-type(n+4), tr.found:nth-child(n+6), details.hour:nth-of-type(n+4)"
    page.evaluate("alike => document.querySelectorAll(alike).forEach(each => each.remove())", alike)
    results = axe.run(page)
    assert results.violations_count == 0, results.generate_report()


def test_a_long_day_prints_on_four_pages(written: Written, visit: Visit) -> None:
    """At most, folds closed, though it was zoomed."""
    page = visit.open(written.long)
    page.get_by_role("button", name="12–13").click()
    pdf = page.pdf(format="A4")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 4


def test_it_reads_without_scripts(written: Written, visit: Visit) -> None:
    """What only a script can do is not shown; the button is a link to the stretch."""
    page = visit.open(written.short, scripts=False)
    assert page.locator(".line p").first.is_visible()
    assert page.locator("#filter").is_hidden()
    assert page.locator(".keys").is_hidden()
    assert page.locator(".line.events a.play").get_attribute("href") == "../a%20film.mp4#t=1,6"


def test_the_index_leads_to_the_days(written: Written, visit: Visit) -> None:
    """A cell of the week and a heading each; weeks without a recording are counted."""
    page = visit.open(written.index)
    assert page.locator(".weeks a").evaluate_all("all => all.map(each => each.getAttribute('href'))") == [
        *("2026-03-14.html", "2026-02-01.html")
    ]
    assert "5 weeks without a recording" in page.locator(".weeks").inner_text()
    page.get_by_role("heading", name="Saturday, 14 March 2026").get_by_role("link").click()
    page.wait_for_url("**/2026-03-14.html")

"""A whole review in a browser, without a network: by keyboard, mouse and touch; what is played, asked and kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from pipeline.cli.__main__ import main
from reports.corrections import read_corrections
from tests.browsers import chromium, needs_chromium
from tests.reviews import KITCHEN, NAMES, made, out, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    Visit = Callable[..., Page]

pytestmark = needs_chromium

__all__ = ["made", "out"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that finds no machine but this one, which evil.example leads to as well."""
    no_network = "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with chromium("--no-sandbox", no_network) as started:
        yield started


@pytest.fixture
def address(out: Path) -> Iterator[str]:
    with served(out, "--name", "ada", "--by", "in-order") as (_, address):
        yield address


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    """Opens a page. None may ask another server, have an error in its script, open a dialog or break its policy."""
    faults: list[str] = []

    def opened(**options: Any) -> Page:
        page = browser.new_page(**options)
        page.on("request", lambda request: None if request.url.startswith(address) else faults.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.goto(address)
        shows(page, "#progress", " of ")
        return page

    yield opened
    for context in browser.contexts:
        context.close()
    assert faults == []


def shows(page: Page, selector: str, text: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator(selector).first).to_contain_text(text)


def press(page: Page, keys: str) -> None:
    """Keys by name, and words to type in quotes."""
    for key in keys.split():
        page.keyboard.type(key.strip("'")) if key[0] == "'" else page.keyboard.press(key)


def test_a_whole_review_by_keyboard(visit: Visit, out: Path) -> None:
    """Right, wrong, skip, undo, another label, other ends, an event that was missing, what is complete, a note."""
    page = visit(viewport={"width": 1280, "height": 860})
    shows(page, "#ask", "Is anything on here?")
    for keys, selector, text in [
        ("", "#progress", "0 of 10, about 1 minute left"),
        ("y", "#ask", "Opening a door?"),
        ("", "#sure", "The model gives it 70%."),
        ("n", "#progress", "2 of 10"),
        ("n", "#naming-for", "What is on from 00:03 to 00:05?"),
        ("'cup' Enter", "#message", "Added: Holding a cup, 00:03 to 00:05."),
        ("", "#right", "Nothing else"),
        ("y", "#ask", "Sitting in a chair?"),
        ("r", "#naming-for", "What is it instead?"),
        ("'in' ArrowDown ArrowDown ArrowUp", "#labels [aria-selected=true]", "Opening a door"),
        ("Enter", "#message", "Kept as Opening a door."),
        ("", "#progress", "4 of 10"),
        ("s", "#where", KITCHEN),
        ("", "#where", "08:00:01.0–08:00:05.0"),
    ]:
        press(page, keys)
        shows(page, selector, text)
    page.locator("#end").focus()
    for keys, selector, text in [
        ("ArrowRight ArrowRight ArrowRight ArrowRight ArrowRight", "#right", "Right, as moved"),
        ("y", "#ask", "Holding a cup?"),
        ("y", "#progress", "7 of 10"),
        ("u", "#message", "Undone: Holding a cup is right."),
        ("", "#ask", "Holding a cup?"),
        ("n", "#progress", "7 of 10"),
        ("t '<i>dark</i>' Enter", "#message", "The note is kept."),
        ("Shift+C", "#message", "Once more to say"),
        ("Shift+C", "#message", "is complete."),
        ("ArrowLeft", "#said", "You said: Holding a cup is wrong."),
        ("ArrowRight y", "#ask", NAMES["html"]),
        ("y", "#progress", "9 of 10"),
        ("y", "#progress", "All 10 answered"),
        ("y", "#message", "You said so already, and all questions are answered."),
        ("", "#given li:nth-child(5)", "note: <i>dark</i>"),
    ]:
        press(page, keys)
        shows(page, selector, text)
    assert page.locator("#given li").count() == 13
    assert page.title() == "Review"
    page.reload()
    shows(page, "#progress", "All 10 answered")
    kept = [
        (line.verdict, line.label, line.span, line.new_label, line.note)
        for line in read_corrections(out / "corrections.jsonl")
    ]
    assert kept == [
        ("complete", "", (0, 2000), "", ""),
        ("wrong", "door", (2000, 3000), "", ""),
        ("add", "cup", (3000, 5000), "", ""),
        ("complete", "", (3000, 5000), "", ""),
        ("change", "sit", (5000, 9000), "door", ""),
        ("skip", "", (9000, 12000), "", ""),
        ("change", "sit", (1000, 5000), "sit", ""),
        ("wrong", "cup", (4000, 7000), "", ""),
        ("note", "", (7000, 12000), "", "<i>dark</i>"),
        ("complete", "", (0, 24000), "", ""),
        ("complete", "", (7000, 12000), "", ""),
        ("right", "html", (12000, 14000), "", ""),
        ("complete", "", (14000, 24000), "", ""),
    ]
    done = CliRunner().invoke(main, ["review", str(out), "--truth"])
    assert done.exit_code == 0, done.output
    assert (out / "kitchen.truth.csv").read_text() == "start_s,end_s,label\n1.0,5.5,sit\n12.0,14.0,html\n"
    assert {line.who for line in read_corrections(out / "corrections.jsonl")} == {"ada"}
    complete = {line.span: line.sampling for line in read_corrections(out / "corrections.jsonl") if not line.label}
    assert complete.pop((0, 24000)) == ""  # nobody was asked about it
    assert set(complete.values()) == {"in-order"}
    (moved,) = [line for line in read_corrections(out / "corrections.jsonl") if line.new_label == "sit"]
    assert moved.new_span == (1000, 5500)


def test_the_clip_plays_in_a_loop_with_a_second_around_it(visit: Visit) -> None:
    """Opening a door lasts from 2 to 3 s; the ends that are set at the play head move the loop."""
    page = visit()
    page.keyboard.press("ArrowRight")
    shows(page, "#ask", "Opening a door?")
    page.keyboard.press("v")  # twice as fast
    times = []
    for _ in range(50):
        times.append(page.evaluate("document.querySelector('video').currentTime"))
        page.wait_for_timeout(80)
    assert any(after < before - 1 for before, after in pairwise(times)), times
    late = times[10:]
    assert 0.9 <= min(late) < 2
    assert 3 < max(late) < 4.5
    page.keyboard.press(" ")
    page.evaluate("document.querySelector('video').currentTime = 1.5")
    page.wait_for_timeout(500)
    page.keyboard.press("i")
    assert page.locator("#start").get_attribute("aria-valuenow") == "1.5"
    page.keyboard.press("Escape")
    assert page.locator("#start").get_attribute("aria-valuenow") == "2.0"


def test_ends_are_dragged(visit: Visit, out: Path) -> None:
    """With a mouse, and on a narrow touch screen everything is inside it and large enough to hit."""
    page = visit(viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True)
    page.keyboard.press("ArrowRight")
    shows(page, "#ask", "Opening a door?")
    band, handle = page.locator("#band").bounding_box(), page.locator("#end").bounding_box()
    assert band is not None
    assert handle is not None
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + 10)
    page.mouse.down()
    page.mouse.move(band["x"] + band["width"], handle["y"] + 10, steps=5)
    page.mouse.up()
    page.locator("#right").tap()
    shows(page, "#progress", "1 of 10")
    (line,) = read_corrections(out / "corrections.jsonl")
    assert (line.verdict, line.new_label, line.new_span) == ("change", "door", (2000, 7000))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    small = page.evaluate(
        "[...document.querySelectorAll('.verdicts button, .more button, .tools button')]"
        ".filter((each) => each.offsetParent && each.getBoundingClientRect().height < 44).map((each) => each.id)"
    )
    assert small == []


def test_going_back_and_others(visit: Visit, out: Path) -> None:
    """A verdict leads to its stretch; who takes another name is asked all anew, and sees no answers of others."""
    page = visit()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("a")
    page.keyboard.type("sitting")
    page.keyboard.press("Enter")
    page.locator("#given button", has_text="Sitting in a chair, added").click()
    shows(page, "#ask", "Sitting in a chair?")
    shows(page, "#said", "You said: Sitting in a chair, added.")
    page.keyboard.press("n")
    shows(page, "#given li", "Sitting in a chair is wrong")
    page.locator("#who").fill("bob")
    page.locator("#who").press("Tab")
    shows(page, "#none", "By others: 2.")
    assert page.locator("#given li").count() == 0
    page.keyboard.press("s")
    shows(page, "#progress", "1 of 10")
    assert [(line.who, line.verdict) for line in read_corrections(out / "corrections.jsonl")] == [
        ("ada", "add"),
        ("ada", "wrong"),
        ("bob", "skip"),
    ]


def test_an_answer_that_was_not_kept_is_said(browser: Browser, out: Path) -> None:
    """The program has ended: the question stays, and nothing looks answered."""
    with served(out, "--name", "ada", "--by", "in-order") as (server, address):
        page = browser.new_page()
        page.goto(address)
        shows(page, "#ask", "Is anything on here?")
        server.terminate()
        server.wait(timeout=20)
        page.keyboard.press("y")
        shows(page, "#message", "The program does not answer")
        shows(page, "#progress", "0 of 10")


def test_a_video_that_cannot_be_played_is_said(browser: Browser, out: Path) -> None:
    """A picture stands for one that is gone or is another one now."""
    videos = out.parent / "videos"
    (videos / "hall.mp4").unlink()
    (videos / KITCHEN).write_bytes(b"another")
    with served(out, "--name", "ada", "--by", "in-order") as (_, address):
        page = browser.new_page()
        page.goto(address)
        shows(page, "#fault", "not where it was")
        page.wait_for_timeout(300)
        assert page.evaluate("document.querySelector('#picture').naturalWidth") == 160
        for _ in range(5):
            page.keyboard.press("ArrowRight")
        shows(page, "#fault", "no longer the video that this diary is of")
        page.keyboard.press("ArrowLeft")
        shows(page, "#fault", "not where it was")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit: Visit, scheme: str) -> None:
    """Names, roles and contrast, while a label is asked for, too."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit(color_scheme=scheme)
    page.keyboard.press("y")
    shows(page, "#progress", "1 of 10")
    results = axe.run(page)
    assert results.violations_count == 0, results.generate_report()
    page.keyboard.press("r")
    page.locator("#label").wait_for()
    results = axe.run(page)
    assert results.violations_count == 0, results.generate_report()


def test_the_address_without_its_token_shows_nothing(browser: Browser, address: str) -> None:
    page = browser.new_page()
    answer = page.goto(f"http://{urlsplit(address).netloc}/")
    assert answer is not None
    assert answer.status == 403
    assert "lacks the token" in page.inner_text("body")


HOSTILE = b"""<!doctype html><title>hostile</title><script>
const tried = {};
const home = location.hash.slice(1);
const answer = JSON.stringify({recording: "kitchen", verdict: "wrong", who: "eve", label: "sit", start_s: 1, end_s: 5});
const element = (tag, source) => new Promise((done) => {
  const made = document.createElement(tag);
  made.onload = made.onloadedmetadata = () => done("in");
  made.onerror = () => done("refused");
  made.src = source;
  document.documentElement.append(made);
});
const attempt = (options) => fetch(home + (options.method ? "corrections" : "session"), options)
  .then((got) => got.type === "opaque" ? "unread" : "in", () => "refused");
const json = {"Content-Type": "application/json"};
(async () => {
  tried.read = await attempt({});
  tried.post = await attempt({method: "POST", headers: json, body: answer});
  tried.blind = await attempt({method: "POST", mode: "no-cors", body: answer});
  tried.picture = await element("img", home + "picture/kitchen/3000");
  tried.video = await element("video", home + "video/kitchen");
  tried.script = await element("script", home + "review.js");
  const frame = document.createElement("iframe");
  frame.name = "frame";
  document.documentElement.append(frame);
  const form = document.createElement("form");
  Object.assign(form, {method: "post", action: home + "corrections", enctype: "text/plain", target: "frame"});
  document.documentElement.append(form);
  form.submit();
  await new Promise((done) => { frame.onload = done; });
  document.title = JSON.stringify(tried);
})();
</script>"""


class Hostile(BaseHTTPRequestHandler):
    """Another page of this machine's, as any program of it may serve."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(HOSTILE)

    def log_message(self, *_: object) -> None: ...


def test_a_hostile_page_gets_nothing_in_or_out(browser: Browser, address: str, out: Path) -> None:
    """Though it has guessed the port and even the token, on another port, and under a name that leads here."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as hostile:
        threading.Thread(target=hostile.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{hostile.server_port}/#{address}")
        for _ in range(100):
            if page.title() != "hostile":
                break
            page.wait_for_timeout(100)
        tried = json.loads(page.title())
        hostile.shutdown()
    assert set(tried) == {"read", "post", "blind", "picture", "video", "script"}
    assert set(tried.values()) == {"refused"}, tried
    rebound = page.goto(address.replace("127.0.0.1", "evil.example"))
    assert rebound is not None
    assert rebound.status == 421
    assert not (out / "corrections.jsonl").exists()
    page.goto(address)  # the page itself works in the same browser
    shows(page, "#progress", "0 of 10")
    press(page, "y")
    shows(page, "#progress", "1 of 10")
    page.close()

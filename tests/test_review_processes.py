"""`diary review` as a program: two of them at once, a kill behind an answer, its end, and what it says."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from click.testing import CliRunner

from pipeline.cli.__main__ import main
from pipeline.cli.review import WAYS
from pipeline.review.queue import IN_ORDER
from reports.corrections import append_correction, read_corrections
from reports.review.sampling import STRATEGIES, Chance
from tests.reviews import make_diaries, served

pytestmark = pytest.mark.slow


def post(address: str, **fields: Any) -> str:
    """Send an answer as the page does; returns its id."""
    origin = f"http://{urlsplit(address).netloc}"
    request = urllib.request.Request(
        f"{address}corrections",
        data=json.dumps({"recording": "kitchen", "who": "ada"} | fields).encode(),
        headers={"Content-Type": "application/json", "Origin": origin},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        told: dict[str, Any] = json.load(answer)
    return str(told["id"])


def follows(out: Path, text: str, *, is_there: bool) -> bool:
    """Whether the page comes to have the text, or to have it no more."""
    for _ in range(300):
        if (text in (out / "2026-03-14.html").read_text()) == is_there:
            return True
        time.sleep(0.1)
    return False


def test_two_reviewers_at_once_and_a_kill(tmp_path: Path) -> None:
    """Two programs on one folder, each with two pages: every answer that was taken is there, in whole lines.

    One is killed right behind an answer; the other one goes on and rewrites the pages at its end.
    """
    out = make_diaries(tmp_path)
    with served(out, "--name", "ada") as (_, first), served(out, "--name", "bob") as (second_server, second):
        assert first != second

        def answer(number: int) -> str:
            address, who = ((first, "ada"), (second, "bob"))[number % 2]
            return post(address, who=who, verdict="note", note=f"{number} " + "x" * 500, start_s=1, end_s=2)

        with ThreadPoolExecutor(4) as pool:
            ids = list(pool.map(answer, range(40)))
        ids.append(post(second, verdict="wrong", who="bob", label="cup", start_s=4, end_s=7))
        second_server.send_signal(signal.SIGKILL)
        second_server.wait()
        with pytest.raises(urllib.error.URLError):
            post(second, verdict="skip", label="cup", start_s=4, end_s=7)
        ids.append(post(first, verdict="right", label="sit", start_s=1, end_s=5))
    lines = [json.loads(line) for line in (out / "corrections.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(ids)
    assert [each.verdict for each in read_corrections(out / "corrections.jsonl")[-2:]] == ["wrong", "right"]
    page = (out / "2026-03-14.html").read_text()
    assert "kitchen-002" not in page
    assert page.count("confirmed by you") == 1


def test_it_serves_this_machine_alone_and_ends_with_an_interrupt(tmp_path: Path) -> None:
    """Its one line has address and token, which are new each time; another address of this machine is not served."""
    out = make_diaries(tmp_path)
    with served(out) as (server, address):
        parts = urlsplit(address)
        assert parts.hostname == "127.0.0.1"
        assert len(parts.path) > 30
        with socket.socket() as other:
            assert other.connect_ex(("127.0.0.2", int(parts.port or 0))) != 0
        post(address, verdict="wrong", label="cup", start_s=4, end_s=7)
        assert follows(out, "kitchen-002", is_there=False)  # while it runs
        os.kill(server.pid, signal.SIGINT)
        assert server.wait(timeout=20) == 0
    killed = read_corrections(out / "corrections.jsonl")[0]  # what a review took that was killed before it wrote pages
    right = replace(killed, id="1", verdict="right", label="sit", start_s=1.0, end_s=5.0)
    append_correction(out / "corrections.jsonl", right)
    with served(out) as (_, again):
        assert urlsplit(again).path != parts.path
        assert follows(out, "confirmed by you", is_there=True)


def state(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}session", timeout=30) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def test_the_ways_that_the_command_offers_are_those_that_there_are() -> None:
    assert (*STRATEGIES, IN_ORDER) == WAYS


def test_what_is_asked(tmp_path: Path) -> None:
    """A sample with its chances, the same for two people, and not what one has answered; of a day, that day's alone."""
    out = make_diaries(tmp_path)
    with served(out, "--name", "ada", "-n", "6") as (_, address):
        items = state(address)["items"]
        assert len(items) == 6
        chances = [Chance.parse(item["sampling"]) for item in items]
        assert {chance.strategy for chance in chances if chance} == {"uncertainty", "quiet"}
        first = next(item for item in items if item["label"])
        fields = {key: first[key] for key in ("label", "start_s", "end_s", "event_id", "probability", "sampling")}
        post(address, recording=first["recording"], verdict="right", **fields)
    (line,) = read_corrections(out / "corrections.jsonl")
    assert Chance.parse(line.sampling) is not None
    assert line.probability == first["probability"]
    with served(out, "--name", "bob", "-n", "6") as (_, address):
        assert state(address)["items"] == items
    with served(out, "--name", "ada", "-n", "60", "--by", "random") as (_, address):
        again = state(address)["items"]
        assert len(again) == 9
        assert first["event_id"] not in {item["event_id"] for item in again}
    with served(out / "2026-03-14.html", "--by", "in-order") as (_, address):
        assert {item["recording"] for item in state(address)["items"]} == {"kitchen"}


def test_videos_that_were_moved_are_found_by_content(tmp_path: Path) -> None:
    out = make_diaries(tmp_path)
    (tmp_path / "videos").rename(tmp_path / "old")
    (tmp_path / "old" / "hall.mp4").rename(tmp_path / "old" / "renamed.mp4")
    with served(out) as (_, address):
        assert not any(each["video"] for each in state(address)["recordings"].values())
    with served(out, "--videos", str(tmp_path / "old")) as (_, address):
        assert all(each["video"] for each in state(address)["recordings"].values())
        with urllib.request.urlopen(f"{address}video/hall", timeout=30) as answer:
            assert answer.read() == (tmp_path / "old" / "renamed.mp4").read_bytes()


def test_other_machines_are_let_in_only_when_asked_for(tmp_path: Path) -> None:
    """An address that they reach is served with a warning; all addresses, or another machine's, are not."""
    out = make_diaries(tmp_path)
    for host, told in (("0.0.0.0", "name one"), ("203.0.113.7", "is an address of this machine")):
        done = CliRunner().invoke(main, ["review", str(out), "--host", host])
        assert done.exit_code == 1
        assert told in done.output
    own = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]
    if not own:
        pytest.skip("this machine has no address that others reach")
    with served(out, "--host", own[0]) as (server, address):
        assert urlsplit(address).hostname == own[0]
        assert len(state(address)["items"]) == 10
        server.terminate()
        server.wait(timeout=20)
        assert server.stderr is not None
        assert "nothing is encrypted" in server.stderr.read()

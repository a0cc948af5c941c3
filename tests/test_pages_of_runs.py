"""Pages over the recordings of all runs: what a later run adds, changes, removes, or finds half done."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from features.files import private_files, write_json, write_text
from features.video import Segment
from pipeline.diaries.output import NotOurs, OutputFolder, Row
from pipeline.diaries.pages import PagesWritten, write_pages
from pipeline.recordings import video_address
from reports.diary.formats.markdown import write_markdown
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.diary.stored import write_stored
from reports.events import Event, EventRule, EventsFound
from tests.diaries import Page, stored

NAMES = {"c015": "Holding a phone"}
MODEL = DiaryModel("demo", "diary", "head", "a" * 64, "b" * 64, {"c015": EventRule(0.5, 0.4, 2.0, 1.0)})
MONDAY = datetime(2026, 3, 16, 8, tzinfo=UTC)


def put(out: Path, name: str, start: datetime | None, *, duration_s: float = 60.0) -> OutputFolder:
    """Store a recording with one event, as a run does; its pages are not written yet."""
    source = "unknown" if start is None else "file name"
    recording = Recording(name, f"{name}.mp4", duration_s, start, source, (Segment(0, duration_s),))
    found = EventsFound((Event(f"{name}-001", "c015", Segment(5, 20), 0.9, 0.7),), {})
    output = OutputFolder(out)
    with output.writing(Row(name, f"{name}.mp4", "0"), is_damaged=False) as folder:
        write_stored(folder / "recording.json", stored(recording, found, NAMES, MODEL))
    return output


def run(out: Path, name: str, start: datetime | None, *, duration_s: float = 60.0) -> PagesWritten:
    written = write_pages(put(out, name, start, duration_s=duration_s))
    assert written.failures == ()
    return written


def text(path: Path) -> str:
    return Page(path.read_text(encoding="utf-8")).text


def pages(out: Path) -> list[str]:
    return sorted(path.name for path in out.glob("*.html"))


def test_a_later_run_adds_to_the_day(tmp_path: Path) -> None:
    """The day has both recordings, in order; of the other days only the neighbours are written again."""
    for days in (0, 1, 2, 5):
        run(tmp_path, f"day{days}", MONDAY + timedelta(days=days))
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in pages(tmp_path)}
    written = run(tmp_path, "morning", MONDAY - timedelta(hours=1))
    assert [path.name for path in written.paths] == ["2026-03-16.html", "index.html"]
    changed = [name for name in pages(tmp_path) if before[name] != (tmp_path / name).stat().st_mtime_ns]
    assert changed == ["2026-03-16.html", "index.html"]
    page = text(tmp_path / "2026-03-16.html")
    assert "07:00–08:01" in page
    assert page.index("morning-001") < page.index("day0-001")
    assert "day1" not in page
    markdown = (tmp_path / "2026-03-16.md").read_text(encoding="utf-8")
    assert "morning-001" in markdown
    assert "day0-001" in markdown
    assert "day1-001" not in markdown


def test_days_lead_to_each_other_whatever_comes_between(tmp_path: Path) -> None:
    """A day between two others is put between them, and the index has all."""
    for days in (0, 4, 2):
        written = run(tmp_path, f"day{days}", MONDAY + timedelta(days=days))
    assert [path.name for path in written.paths] == [
        *("2026-03-16.html", "2026-03-18.html", "2026-03-20.html", "index.html")
    ]
    links = {name: Page((tmp_path / name).read_text(encoding="utf-8")).links for name in pages(tmp_path)}
    assert "2026-03-18.html" in links["2026-03-16.html"]
    assert "2026-03-18.html" in links["2026-03-20.html"]
    assert "2026-03-20.html" not in links["2026-03-16.html"]
    assert set(links["index.html"]) == {f"2026-03-{day}.html" for day in (16, 18, 20)}
    assert "2026, week 12" in text(tmp_path / "index.html")


def test_a_start_that_changes_moves_a_recording_to_its_day(tmp_path: Path) -> None:
    """A page of a day that no longer has a recording goes, with its Markdown; notes around that stay."""
    run(tmp_path, "a", MONDAY)
    run(tmp_path, "b", MONDAY + timedelta(days=1))
    notes = tmp_path / "2026-03-17.md"
    write_text(notes, f"My notes.\n{notes.read_text(encoding='utf-8')}More notes.\n")
    run(tmp_path, "a", MONDAY + timedelta(days=3))
    run(tmp_path, "b", None)
    assert pages(tmp_path) == ["2026-03-19.html", "index.html", "undated-b.html"]
    assert not (tmp_path / "2026-03-16.md").exists()
    assert notes.read_text(encoding="utf-8").startswith("My notes.\n")
    assert "b-001" not in notes.read_text(encoding="utf-8")
    assert "A day not known: b" in text(tmp_path / "index.html")


def test_a_night_is_on_two_pages(tmp_path: Path) -> None:
    """Its event is on the one of the day that it begins in."""
    run(tmp_path, "night", MONDAY.replace(hour=23, minute=59, second=30))
    assert pages(tmp_path) == ["2026-03-16.html", "2026-03-17.html", "index.html"]
    assert "night-001" in text(tmp_path / "2026-03-16.html")
    assert "night-001" not in text(tmp_path / "2026-03-17.html")
    assert "night.mp4" in text(tmp_path / "2026-03-17.html")


def test_what_is_removed_is_on_no_page(tmp_path: Path) -> None:
    """Its folder goes but for files of somebody else; the last recording takes the index along."""
    run(tmp_path, "a", MONDAY)
    run(tmp_path, "b", MONDAY + timedelta(hours=1))
    write_text(tmp_path / "a" / "mine.txt", "mine")
    output = OutputFolder(tmp_path)
    output.remove(["a"])
    write_pages(output)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine.txt"]
    assert "a-001" not in text(tmp_path / "2026-03-16.html")
    output.remove(["b"])
    assert write_pages(output).paths == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "manifest.json"]
    OutputFolder(tmp_path)


def test_what_a_killed_run_left_to_do_is_done_by_the_next(tmp_path: Path) -> None:
    """A recording that was stored, and is on no page or as it was before."""
    put(tmp_path, "a", MONDAY)
    run(tmp_path, "b", MONDAY + timedelta(days=1))
    assert pages(tmp_path) == ["2026-03-16.html", "2026-03-17.html", "index.html"]
    put(tmp_path, "a", MONDAY + timedelta(days=1))
    write_pages(OutputFolder(tmp_path))
    assert pages(tmp_path) == ["2026-03-17.html", "index.html"]
    before = (tmp_path / "2026-03-17.html").stat().st_mtime_ns
    write_pages(OutputFolder(tmp_path))
    assert (tmp_path / "2026-03-17.html").stat().st_mtime_ns == before


def test_somebody_elses_page_is_not_replaced(tmp_path: Path) -> None:
    """Nor a note of that day without a place for the diary; both are told, and written once they are moved."""
    for suffix in (".html", ".md"):
        own = tmp_path / f"2026-03-16{suffix}"
        write_text(own, "mine")
        put(tmp_path, "a", MONDAY)
        for _ in range(2):
            (failure,) = write_pages(OutputFolder(tmp_path)).failures
            assert str(own) in failure
            assert "move it" in failure
            assert own.read_text() == "mine"
        own.unlink()
        assert write_pages(OutputFolder(tmp_path)).failures == ()
        assert own.exists()
        output = OutputFolder(tmp_path)
        output.remove(["a"])
        write_pages(output)


def test_a_stored_recording_that_is_damaged_costs_itself(tmp_path: Path) -> None:
    """It is told with what to do; the day is written without it."""
    put(tmp_path, "a", MONDAY)
    write_text(tmp_path / "a" / "recording.json", "{}")
    written = write_pages(put(tmp_path, "b", MONDAY))
    (failure,) = written.failures
    assert "recording.json" in failure
    assert "write the diary of its video again" in failure
    assert "a-001" not in text(tmp_path / "2026-03-16.html")
    write_text(tmp_path / "b" / "recording.json", "{}")
    later = run_later(tmp_path)
    assert sorted(line.split(" ")[0] for line in later.failures) == [
        f"{tmp_path / 'a' / 'recording.json'}:",
        f"{tmp_path / 'b' / 'recording.json'}:",
    ]
    assert len(run_later(tmp_path).failures) == 2


def run_later(out: Path) -> PagesWritten:
    return write_pages(put(out, "c", MONDAY))


def test_a_folder_of_the_first_version_is_kept_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its recordings have nothing that pages are made of, until their diaries are written again."""
    row = {"id": "old", "file_name": "old.mp4", "sha256": "0", "status": "written", "files": ["old/diary.md"]}
    write_json(tmp_path / "manifest.json", {"version": 1, "in_diary_md": ["old"], "recordings": [row], "failed": []})
    write_text(tmp_path / "old" / "diary.md", "old")
    write_markdown(tmp_path / "diary.md", [], NAMES, MODEL, min_quiet_s=1.0)
    run(tmp_path, "a", MONDAY)
    assert "on no page, since an earlier version wrote them: old; write their diaries again" in caplog.text
    assert (tmp_path / "old" / "diary.md").read_text() == "old"
    assert not (tmp_path / "diary.md").exists()
    content = json.loads((tmp_path / "manifest.json").read_text())
    assert content["version"] == 2
    assert [own["id"] for own in content["recordings"]] == ["a", "old"]
    caplog.set_level(logging.WARNING)
    run(tmp_path, "old", MONDAY)
    assert not (tmp_path / "old" / "diary.md").exists()
    assert "old-001" in text(tmp_path / "2026-03-16.html")


def test_an_index_of_somebody_else_is_told_before_the_work(tmp_path: Path) -> None:
    """Where no run has written pages."""
    write_text(tmp_path / "index.html", "mine")
    with pytest.raises(NotOurs, match="move it, or name another folder"):
        OutputFolder(tmp_path)


def test_pages_find_the_video(tmp_path: Path) -> None:
    """By an address relative to their folder, whatever its name is; links are not followed."""
    videos, out = tmp_path / "my videos", tmp_path / "diaries"
    videos.mkdir()
    (videos / "link.mp4").symlink_to("elsewhere.mp4")
    assert video_address(videos / "a#1?é.mp4", out) == "../my%20videos/a%231%3F%C3%A9.mp4"
    assert video_address(videos / "b\udcff.mp4", out) == "../my%20videos/b%FF.mp4"
    assert video_address(videos / "link.mp4", out / "deep") == "../../my%20videos/link.mp4"
    assert video_address(out / "c.mp4", out) == "c.mp4"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
def test_pages_are_private(tmp_path: Path) -> None:
    """As all that runs write, where they are written as runs write them."""
    with private_files():
        run(tmp_path / "out", "a", MONDAY)
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "out").rglob("*")} == {0}

"""Pages that another version of this program wrote: the next command writes them anew, from what is stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from click.testing import CliRunner

from features.files import write_json, write_text
from pipeline.cli.__main__ import main
from pipeline.diaries.output import OutputFolder
from pipeline.diaries.pages import page_code, write_pages
from tests.test_pages_of_runs import MONDAY, put, run


def outdate(out: Path, day: str) -> Path:
    """Let the page of a day be as an earlier version would have left it."""
    content = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    for page in content["pages"]:
        if page["key"] == day:
            page["code"] = "of an earlier version"
    write_json(out / "manifest.json", content)
    write_text(out / f"{day}.html", "the old look")
    return out / f"{day}.html"


def test_a_page_of_another_version_is_written_again(tmp_path: Path) -> None:
    """It alone, and once; so is one of a manifest that knows no versions."""
    run(tmp_path, "a", MONDAY)
    run(tmp_path, "b", MONDAY + timedelta(days=1))
    before = (tmp_path / "2026-03-17.html").read_bytes()
    expected = (tmp_path / "2026-03-16.html").read_bytes()
    page = outdate(tmp_path, "2026-03-16")
    written = write_pages(OutputFolder(tmp_path))
    assert [path.name for path in written.paths] == ["2026-03-16.html", "index.html"]
    assert page.read_bytes() == expected
    assert (tmp_path / "2026-03-17.html").read_bytes() == before
    assert [path.name for path in write_pages(OutputFolder(tmp_path)).paths] == ["index.html"]
    content = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    for row in content["pages"]:
        del row["code"]
    write_json(tmp_path / "manifest.json", content)
    assert len(write_pages(OutputFolder(tmp_path)).paths) == 3


def test_the_command_without_videos_writes_them(tmp_path: Path) -> None:
    """And needs no model; a folder without diaries is refused in a sentence."""
    run(tmp_path / "out", "a", datetime(2026, 3, 16, 8, tzinfo=UTC))
    page = outdate(tmp_path / "out", "2026-03-16")
    result = CliRunner().invoke(main, ["write", "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert str(page) in result.stdout
    assert "a-001" in page.read_text(encoding="utf-8")
    refused = CliRunner().invoke(main, ["write", "-o", str(tmp_path / "none")])
    assert refused.exit_code == 1
    assert "holds no diaries" in refused.output


def test_a_page_whose_recording_is_damaged_stays_as_it_is(tmp_path: Path) -> None:
    """A new one would tell less. It is told each time, until the recording is there again."""
    put(tmp_path, "a", MONDAY)
    run(tmp_path, "b", MONDAY)
    page = outdate(tmp_path, "2026-03-16")
    stored = (tmp_path / "a" / "recording.json").read_bytes()
    write_text(tmp_path / "a" / "recording.json", "{}")
    for _ in range(2):
        (failure,) = write_pages(OutputFolder(tmp_path)).failures
        assert "recording.json" in failure
        assert page.read_text(encoding="utf-8") == "the old look"
    (tmp_path / "a" / "recording.json").write_bytes(stored)
    assert write_pages(OutputFolder(tmp_path)).failures == ()
    assert "a-001" in page.read_text(encoding="utf-8")


def test_code_and_templates_make_the_version(tmp_path: Path) -> None:
    """What Python leaves beside them does not."""
    for name in ("one", "two", "three"):
        write_text(tmp_path / name / "templates" / "page.html", "a" if name != "three" else "b")
        write_text(tmp_path / name / "page.py", "pass")
    write_text(tmp_path / "two" / "__pycache__" / "page.pyc", "0")
    assert page_code(tmp_path / "one") == page_code(tmp_path / "two") != page_code(tmp_path / "three")
    assert page_code() != page_code(tmp_path / "one")

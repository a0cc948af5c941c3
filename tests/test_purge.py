"""`diary purge`: what it removes, what it leaves, and what it says."""

from __future__ import annotations

import json
import os
import shutil
import stat
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from features.files import sha256_of
from features.video import Segment
from pipeline.cli.__main__ import main
from pipeline.diaries.output import OutputFolder
from pipeline.diaries.pages import write_pages
from pipeline.diaries.selection import select_videos
from reports.diary import readings
from reports.diary.formats.jsonl import write_jsonl
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.diary.stored import write_stored
from reports.events import EventsFound
from tests.diaries import stored
from tests.videos import evenly, write_video

MODEL = DiaryModel("demo", "diary", "linear", "a" * 64, "b" * 64, {})
STARTS = {  # by file: the start, and whether it is a guess
    "2026-03-12T09-00-00+0100": ("2026-03-12T09:00:00+01:00", False),
    "late": ("2026-03-13T23:59:58+01:00", False),  # runs past midnight
    "guessed": ("2026-03-10T08:00:00+01:00", True),
    "unknown": (None, False),
    "kept": ("2026-03-14T00:00:00+01:00", False),
}


def purge(*arguments: object, answer: str = "") -> Result:
    return CliRunner().invoke(main, ["purge", "--before", "2026-03-14", *map(str, arguments)], input=answer)


class Home:
    """A folder of videos, one of their diaries, and a cache that has something of each."""

    def __init__(self, folder: Path) -> None:
        self.videos, self.diaries, self.cache = (folder / name for name in ("videos", "diaries", "cache"))
        for path in (self.videos, self.cache / "key1", self.cache / "key2"):
            path.mkdir(parents=True)
        for number, name in enumerate(STARTS):
            write_video(self.videos / f"{name}.mp4", evenly(12 + number, 12), size=(64, 48))
        (self.videos / "notes.txt").write_text("mine")
        output = OutputFolder(self.diaries)
        for planned in output.plan(select_videos([self.videos])):
            assert planned.row is not None
            start, is_guess = STARTS[planned.path.stem]
            recording = Recording(
                id=planned.row.id,
                file_name=planned.path.name,
                duration_s=4.0,
                recorded_at=datetime.fromisoformat(start) if start else None,
                recorded_at_source=readings.GIVEN if start else readings.UNKNOWN,
                observed=(Segment(0, 4),),
                is_guess=is_guess,
            )
            with output.writing(planned.row, is_damaged=False) as out:
                write_jsonl(out / "events.jsonl", recording, EventsFound((), {}), {}, MODEL)
                (out / "diary.html").write_text("pictures")
        for sha256 in self.sha256s().values():
            for piece in (f"key1/{sha256}.safetensors", f"key2/{sha256}.thumbnails-640.safetensors"):
                (self.cache / piece).write_bytes(b"12345")

    def sha256s(self) -> dict[str, str]:
        return {path.stem: sha256_of(path) for path in self.videos.glob("*.mp4")}

    def manifest(self) -> dict[str, str]:
        """The status of each recording by its id."""
        rows = json.loads((self.diaries / "manifest.json").read_text())["recordings"]
        return {row["id"]: row["status"] for row in rows}

    def contents(self) -> set[str]:
        folders = (self.videos, self.diaries, self.cache)
        return {str(path) for folder in folders for path in folder.rglob("*") if path.name != ".lock"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home(tmp_path)
    monkeypatch.setenv("VIDEO_DIARY_CACHE", str(made.cache))
    return made


def test_everything_of_a_recording_goes_and_nothing_else(home: Home) -> None:
    """By the day on which the diary says that it begins; guesses and what has no start stay and are named."""
    old = {name: sha256 for name, sha256 in home.sha256s().items() if name in ("2026-03-12T09-00-00+0100", "late")}
    before = home.contents()
    done = purge("--diaries", home.diaries, "--recordings", home.videos, answer="y\n")
    assert done.exit_code == 0, done.output
    gone = before - home.contents()
    assert gone == {
        str(path)
        for name, sha256 in old.items()
        for path in (
            home.videos / f"{name}.mp4",
            home.diaries / name,
            home.diaries / name / "events.jsonl",
            home.diaries / name / "diary.html",
            home.cache / "key1" / f"{sha256}.safetensors",
            home.cache / "key2" / f"{sha256}.thumbnails-640.safetensors",
        )
    }
    assert set(home.manifest()) == {"guessed", "unknown", "kept"}
    assert "guessed.mp4 stays: its start, 2026-03-10 08:00, is a guess" in done.output
    assert "unknown.mp4 stays: when it begins is not known" in done.output
    assert "removed 2 videos" in done.output
    assert "2 diaries" in done.output
    assert "4 cached files (0.0 MB)" in done.output


def test_it_lists_and_asks_first(home: Home) -> None:
    """A no, a dry run and an end of input remove nothing."""
    before = home.contents()
    for arguments, answer in (((), "n\n"), ((), ""), (("--dry-run",), "y\n")):
        done = purge("--diaries", home.diaries, "--recordings", home.videos, *arguments, answer=answer)
        assert "2026-03-13 23:59" in done.output
        assert "late.mp4" in done.output
        assert done.exit_code == (0 if arguments else 1)
        assert home.contents() == before
    assert "2 recordings would be" in done.output


def test_each_part_goes_alone(home: Home) -> None:
    """Without --recordings videos stay, with --no-cache embeddings; guesses go when they are included."""
    assert purge("--diaries", home.diaries, "--no-cache", "--include-guesses", "--yes").exit_code == 0
    assert set(home.manifest()) == {"unknown", "kept"}
    assert len(list(home.videos.glob("*.mp4"))) == 5
    assert len(list(home.cache.glob("*/*"))) == 10
    done = purge("--recordings", home.videos, "--yes")
    assert done.exit_code == 0
    assert "2026-03-12T09-00-00+0100.mp4" in done.output
    # The others have no diary that is named: their files were written today, and that is a guess.
    assert {path.stem for path in home.videos.glob("*.mp4")} == set(STARTS) - {"2026-03-12T09-00-00+0100"}
    assert len(list(home.cache.glob("*/*"))) == 8
    assert set(home.manifest()) == {"unknown", "kept"}


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_files_of_others_stay(home: Home, tmp_path: Path) -> None:
    """What somebody put into a diary's folder, what links lead to, and a folder that was replaced by a link."""
    (home.diaries / "late" / "mine.txt").write_text("mine")
    elsewhere = home.videos.rename(tmp_path / "elsewhere")
    home.videos.mkdir()
    (home.videos / "linked").symlink_to(elsewhere)
    (home.diaries / "2026-03-12T09-00-00+0100").rename(tmp_path / "moved")
    (home.diaries / "2026-03-12T09-00-00+0100").symlink_to(tmp_path / "moved")
    done = purge("--diaries", home.diaries, "--recordings", home.videos, "--yes")
    assert done.exit_code == 1
    assert "is a link now, and the diary that it leads to stays" in done.output
    assert f"{home.diaries / 'late' / 'mine.txt'} stays: no run of this program wrote it" in done.output
    assert [path.name for path in (home.diaries / "late").iterdir()] == ["mine.txt"]
    assert (tmp_path / "moved" / "events.jsonl").is_file()
    assert len(list(elsewhere.glob("*.mp4"))) == 5
    assert set(home.manifest()) == {"2026-03-12T09-00-00+0100", "guessed", "unknown", "kept"}


def test_an_interrupted_purge_goes_on(home: Home) -> None:
    """What is left after any step has a start still, so that the next purge finds and removes it."""
    name = "late"
    (home.videos / f"{name}.mp4").unlink()
    (home.diaries / name / "diary.html").unlink()
    manifest = json.loads((home.diaries / "manifest.json").read_text())
    for row in manifest["recordings"]:
        row["status"] = "unfinished" if row["id"] == name else row["status"]
    (home.diaries / "manifest.json").write_text(json.dumps(manifest))
    assert purge("--diaries", home.diaries, "--recordings", home.videos, "--yes").exit_code == 0
    assert name not in home.manifest()
    assert not (home.diaries / name).exists()


def test_what_a_killed_recording_left_is_not_forgotten(home: Home) -> None:
    """It lies in a hidden folder; once it is in its place, it goes like any other."""
    (home.videos / ".recording").mkdir()
    write_video(home.videos / ".recording" / "2026-03-13T09-00-00+0100.mp4", evenly(5, 12), size=(64, 48))
    assert purge("--recordings", home.videos, "--yes").exit_code == 0
    assert [path.name for path in home.videos.rglob("2026-03-13*")] == []


def with_pages(home: Home) -> None:
    """What runs store of the recordings, and the pages of it."""
    output = OutputFolder(home.diaries)
    for name, (start, is_guess) in STARTS.items():
        at, source = (datetime.fromisoformat(start), readings.GIVEN) if start else (None, readings.UNKNOWN)
        recording = Recording(name, f"{name}.mp4", 4.0, at, source, (Segment(0, 4),), is_guess=is_guess)
        with output.writing(output.rows[name], is_damaged=False) as out:
            shutil.copy(home.diaries / name / "events.jsonl", out)
            write_stored(out / "recording.json", stored(recording, EventsFound((), {}), {}, MODEL))
    assert write_pages(output).failures == ()


def test_pages_forget_a_recording(home: Home) -> None:
    """A page goes with the last recording of its day; one that has others is written without it."""
    with_pages(home)
    assert "late.mp4" in (home.diaries / "2026-03-14.html").read_text()  # it runs past midnight
    done = purge("--diaries", home.diaries, "--yes")
    assert done.exit_code == 0, done.output
    names = {path.name for path in home.diaries.iterdir() if path.suffix in (".html", ".md")}
    assert names == {
        f"{key}{suffix}" for key in ("2026-03-10", "2026-03-14", "undated-unknown") for suffix in (".html", ".md")
    } | {"index.html"}
    assert not [path for path in home.diaries.rglob("*") if path.is_file() and "late.mp4" in path.read_text()]
    OutputFolder(home.diaries)  # and the folder is as usable as before


def test_pages_that_an_interrupted_purge_left_go_with_the_next_one(home: Home) -> None:
    """Also where no recording is left to remove; and pages that are written again are private."""
    with_pages(home)
    OutputFolder(home.diaries).remove(["late", "2026-03-12T09-00-00+0100"])
    assert (home.diaries / "2026-03-13.html").is_file()
    done = purge("--diaries", home.diaries, "--yes")
    assert (done.exit_code, "no recording is known to begin before 2026-03-14" in done.output) == (0, True)
    assert sorted(path.name for path in home.diaries.glob("2026-*.html")) == ["2026-03-10.html", "2026-03-14.html"]
    if os.name != "nt":
        assert stat.S_IMODE((home.diaries / "2026-03-14.html").stat().st_mode) == 0o600


def test_notes_of_the_user_stay_in_a_diary(home: Home) -> None:
    """What is generated goes from between its markers, and the user's words around them are named."""
    with_pages(home)
    notes = home.diaries / "2026-03-13.md"
    notes.write_text("Dear diary,\n" + notes.read_text())
    done = purge("--diaries", home.diaries, "--yes")
    assert done.exit_code == 0
    assert notes.read_text().startswith("Dear diary,\n<!-- diary: begin")
    assert "late.mp4" not in notes.read_text()
    assert f"{notes} stays: there is text of yours in it" in done.output
    OutputFolder(home.diaries)


def test_a_damaged_manifest_never_empties_the_cache(home: Home) -> None:
    """A row without a hash would match every piece."""
    output = OutputFolder(home.diaries)
    row = replace(output.rows["late"], sha256="")
    with output.writing(row, is_damaged=False) as out:
        (out / "events.jsonl").write_text('{"start_clock": "2026-03-01T00:00:00+01:00", "clock_is_guess": false}\n')
    done = purge("--diaries", home.diaries, "--yes")
    assert done.exit_code == 1
    assert "'' is no sha256" in done.output
    assert len(list(home.cache.glob("*/*"))) >= 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name --diaries, --recordings, or both"),
        (["--diaries", "nowhere"], "nowhere: there is no such folder"),
        (["--diaries", "."], "holds no diaries: it has no manifest.json"),
    ],
)
def test_wrong_folders_are_told(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is made there."""
    monkeypatch.chdir(tmp_path)
    done = purge(*arguments)
    assert (done.exit_code, message in done.output) == (1, True)
    assert list(tmp_path.iterdir()) == []

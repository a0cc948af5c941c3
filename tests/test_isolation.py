"""One bad recording costs itself: told in a line, the others are written; and what the exit status says."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from features.decode.container import UnreadableVideo
from features.workers import WorkerError
from pipeline.cli.__main__ import main as diary
from pipeline.diaries.failure import failure_line
from pipeline.diaries.output import OutputFolder
from pipeline.diaries.selection import select_videos
from pipeline.layout import Layout
from pipeline.model_folder import Recogniser, load_recogniser
from pipeline.recordings import DiaryRun, write_diaries
from pipeline.stages.diary import main as stage_diary
from tests.model_folders import make_model_folder
from tests.videos import evenly, write_video

REPOSITORY = Path(__file__).parents[1]
FILES = {"events.jsonl", "recording.json", "thumbnails"}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def recogniser(model: Path) -> Recogniser:
    return load_recogniser(model)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_video(path, evenly(36, 12), size=(64, 48), faststart=True)


def run(recogniser: Recogniser, videos: Sequence[Path], out: Path, *, gone: Path | None = None) -> DiaryRun:
    """Write diaries in this process; `gone` is deleted once the plan is made."""
    output = OutputFolder(out)
    planned = output.plan(select_videos(videos))
    if gone:
        gone.unlink()
    return write_diaries(planned, output, recogniser, recorded_at=None, batch_size=4, num_workers=0)


def write(*arguments: str | Path) -> Result:
    return CliRunner().invoke(diary, ["write", *map(str, arguments)])


def failed(out: Path) -> list[str]:
    return [row["file_name"] for row in json.loads((out / "manifest.json").read_text(encoding="utf-8"))["failed"]]


def test_whatever_fails_in_one_recording_the_others_are_written(
    recogniser: Recogniser, clip: Path, tmp_path: Path
) -> None:
    """Text, a video without a picture that decodes, one that goes away, one that is not there: a line for each."""
    (tmp_path / "a.mp4").write_text("bread, milk")
    content = clip.read_bytes()
    start = content.index(b"mdat") + 4
    (tmp_path / "b.mp4").write_bytes(content[:start] + bytes(len(content) - start))
    shutil.copy(clip, tmp_path / "c.mp4")
    shutil.copy(clip, tmp_path / "e.mp4")
    videos = [tmp_path / f"{name}.mp4" for name in "abcde"]
    done = run(recogniser, videos, tmp_path / "out", gone=tmp_path / "c.mp4")
    assert done.written == ("e",)
    assert [line.partition(":")[0] for line in done.failures] == [str(tmp_path / f"{name}.mp4") for name in "adbc"]
    assert all("\n" not in line for line in done.failures)
    assert {path.name for path in (tmp_path / "out" / "e").iterdir()} == FILES
    (day,) = [page.stem for page in done.pages if page.name != "index.html"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("e", "manifest.json", "index.html", f"{day}.html", f"{day}.md")
    }
    assert sorted(failed(tmp_path / "out")) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]


def test_an_output_that_cannot_be_written_is_that_recordings_failure(
    recogniser: Recogniser, clip: Path, tmp_path: Path
) -> None:
    """Where one id is too long for the system's limit on paths, the diary with the short one is written."""
    out = tmp_path
    while len(str(out)) < 4095 - 50 - 100:
        out /= "x" * 90
    out /= "x" * (4095 - 50 - len(str(out)))
    long = Path(shutil.copy(clip, tmp_path / f"{'long' * 25}.mp4"))
    done = run(recogniser, [long, clip], out)
    assert done.written == ("clip",)
    assert "File name too long" in done.failures[0]
    assert done.failures[0].startswith(str(long))
    assert (out / "clip" / "recording.json").is_file()


def test_a_name_that_is_no_utf8_works(recogniser: Recogniser, clip: Path, tmp_path: Path) -> None:
    """The stray byte is replaced, visibly, in the diary and in the manifest, which are UTF-8; so is a line end."""
    names = [b"caf\xe9.mp4", b"two\nlines.mp4"]
    for name in names:
        shutil.copy(clip, tmp_path / os.fsdecode(name))
    done = run(recogniser, [tmp_path / os.fsdecode(name) for name in names], tmp_path / "out")
    assert done.failures == ()
    assert done.written == ("caf\ufffd", "two_lines")
    assert "caf\ufffd.mp4" in done.pages[0].with_suffix(".md").read_text(encoding="utf-8")
    rows = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["recordings"]
    assert [row["file_name"] for row in rows] == ["caf\ufffd.mp4", "two\nlines.mp4"]
    assert run(recogniser, [tmp_path / os.fsdecode(names[0])], tmp_path / "out").written == ("caf\ufffd",)


def test_a_full_disk_ends_the_run_and_keeps_what_was_finished(
    recogniser: Recogniser, clip: Path, tmp_path: Path
) -> None:
    """It would fail each of the others as well; the earlier diary and the manifest are whole, no part is left."""
    run(recogniser, [clip], tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            run(recogniser, [clip], tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_every_error_is_one_printable_line() -> None:
    """It names the file once, says what went wrong, and cannot write on the terminal, whatever the error is."""
    path = Path("a\n\x1b[2J\udce9.mp4")
    shown = "a\\n\\x1b[2J\\udce9.mp4"
    lines = {
        failure_line(path, UnreadableVideo(path, "not a file", found="nothing")),
        failure_line(path, OSError(errno.EACCES, "Permission denied", str(path))),
        failure_line(path, OSError(errno.EROFS, "Read-only file system", "/out/x")),
        failure_line(path, OverflowError("date value out of range")),
        failure_line(path, ValueError()),
        failure_line(path, WorkerError("it failed:\nTraceback\n  File x\nValueError: bad\n")),
    }
    assert lines == {
        f"{shown}: cannot be read: not a file (found: nothing)",
        f"{shown}: Permission denied",
        f"{shown}: Read-only file system: /out/x",
        f"{shown}: OverflowError: date value out of range",
        f"{shown}: ValueError",
        f"{shown}: ValueError: bad",
    }


def test_what_cannot_be_read_is_told_before_the_model_is_loaded(clip: Path, tmp_path: Path) -> None:
    """Nobody waits for a model to hear of a misspelt name; nor does a name that is wrong stop the others."""
    result = write(tmp_path / "missing.mp4", clip, "-o", tmp_path / "out", "--model", tmp_path / "none")
    first, second = result.output.splitlines()
    assert "missing.mp4: cannot be read: not a file" in first
    assert "is no model folder" in second
    result = write(tmp_path / "missing.mp4", "-o", tmp_path / "out", "--model", tmp_path / "none")
    assert "missing.mp4: cannot be read" in result.output.splitlines()[-1]
    assert result.exit_code == 1
    (tmp_path / "folder").mkdir()
    result = write(tmp_path / "folder", "-o", tmp_path / "other", "--model", tmp_path / "none")
    assert result.output == f"Error: {tmp_path / 'folder'}: no video in this folder\n"
    assert result.exit_code == 1
    assert not (tmp_path / "other").exists()


def test_a_file_without_permission_does_not_stop_the_command(clip: Path, tmp_path: Path) -> None:
    """It is told with the system's reason, and the others go on to the model."""
    closed = Path(shutil.copy(clip, tmp_path / "closed.mp4"))
    closed.chmod(0)
    if os.access(closed, os.R_OK):
        pytest.skip("root may read everything")
    result = write(closed, clip, "-o", tmp_path / "out", "--model", tmp_path / "none")
    first, second = result.output.splitlines()
    assert first == f"ERROR {closed}: Permission denied"
    assert "is no model folder" in second


@pytest.mark.slow
def test_the_exit_status_says_what_came_of_it(model: Path, clip: Path, tmp_path: Path) -> None:
    """0 when all is well, 3 when a recording is damaged, 1 when one failed, also beside a damaged one."""
    folder, out = tmp_path / "folder", tmp_path / "out"
    folder.mkdir()
    shutil.copy(clip, folder)
    (folder / "notes.txt").write_text("bread")
    result = write(folder, "-o", out, "--model", model)
    assert result.exit_code == 0, result.output
    assert "skipped 1 file that is no video: notes.txt" in result.output
    long = write_video(folder / "long.mp4", evenly(120, 12), size=(64, 48), faststart=True)
    long.write_bytes(long.read_bytes()[: long.stat().st_size // 2])
    result = write(folder, "-o", out, "--model", model)
    assert result.exit_code == 3, result.output
    assert "long.mp4: is damaged: " in result.output
    assert "the file states 10.00 s" in result.output
    rows = json.loads((out / "manifest.json").read_text())["recordings"]
    assert {row["id"]: row["status"] for row in rows} == {"clip": "written", "long": "damaged"}
    result = write(folder, tmp_path / "missing.mp4", "-o", out, "--model", model)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith(f"Error: {tmp_path / 'missing.mp4'}: cannot be read")
    assert failed(out) == ["missing.mp4"]


@pytest.fixture
def project(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A project of which the stage `diary` has all that it needs but for recordings."""
    paths = Layout("demo", "handpicked", tmp_path / "project")
    shutil.copytree(REPOSITORY / "params", paths.root / "params")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPOSITORY / name, paths.root)
    shutil.copytree(model, paths.diary_model)
    paths.recordings.mkdir(parents=True)
    monkeypatch.chdir(paths.root)
    return paths


def run_stage() -> Result:
    return CliRunner().invoke(stage_diary, ["demo", "handpicked"])


@pytest.mark.slow
def test_the_stage_writes_its_folder_anew(project: Layout, clip: Path) -> None:
    """A recording that is gone leaves no page; one that cannot be read is told and listed, the others are written."""
    for name in ("one", "two"):
        shutil.copy(clip, project.recordings / f"{name}.mp4")
    assert run_stage().exit_code == 0
    (project.recordings / "one.mp4").write_text("no video any more")
    (project.recordings / "readme.txt").write_text("mine")
    result = run_stage()
    assert result.exit_code == 0, result.output
    assert "one.mp4: cannot be read" in result.output
    assert "skipped 1 file that is no video: readme.txt" in result.output
    folders = {path.name for path in project.diaries.iterdir() if path.is_dir()}
    assert folders == {"two"}
    assert (project.diaries / "index.html").is_file()
    assert failed(project.diaries) == ["one.mp4"]


def test_the_stage_fails_where_no_recording_can_be_read(project: Layout) -> None:
    """What was there stays; a profile that has no recordings is no failure."""
    result = run_stage()
    assert result.exit_code == 0, result.output
    assert "there is no recording to write a diary of" in result.output
    assert list(project.diaries.iterdir()) == []
    (project.diaries / "page").touch()
    (project.recordings / "one.mp4").write_text("no video")
    result = run_stage()
    assert result.exit_code == 1
    assert "one.mp4: cannot be read" in result.output.splitlines()[-1]
    (project.recordings / "one.mp4").rename(project.recordings / "one.txt")
    result = run_stage()
    assert result.exit_code == 1
    assert "no video in this folder" in result.output
    assert [path.name for path in project.diaries.iterdir()] == ["page"]


def test_only_a_project_of_this_program_is_taken(
    project: Layout, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside somebody else's DVC project the search goes on above; which one was taken is said."""
    inner = project.root / "inner" / "deep"
    inner.mkdir(parents=True)
    (inner.parent / "params.yaml").write_text("profile: theirs\nlabel_sets: [a]\n")
    (inner.parent / "dvc.yaml").write_text("stages:\n  train:\n    cmd: python train.py\n")
    monkeypatch.chdir(inner)
    result = write(tmp_path / "missing.mp4", "-o", tmp_path / "out", "--labels", "handpicked")
    assert f"INFO the model is {project.diary_model}, of the project {project.root}" in result.output.splitlines()
    shutil.rmtree(project.diary_model)
    result = write(clip, "-o", tmp_path / "out", "--labels", "handpicked")
    assert f"{project.diary_model} is missing; run `dvc repro`" in result.output

"""Who may read what is written: diaries their owner alone, everything else as the umask says."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from features.files import atomic_folder, locked, private_files, write_text
from pipeline.diaries.output import OutputFolder
from pipeline.diaries.selection import select_videos
from pipeline.model_folder import load_recogniser
from pipeline.recordings import write_diaries
from pipeline.stages.sources import main as sources
from tests.model_folders import make_model_folder
from tests.projects import make_project
from tests.videos import evenly, write_video

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights"),
    pytest.mark.usefixtures("one_thread"),
]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> set[tuple[str, str]]:
    """The rights that occur in a folder and below, of folders and of files."""
    return {
        ("folder" if path.is_dir() else "file", oct(stat.S_IMODE(path.stat().st_mode)))
        for path in [folder, *folder.rglob("*")]
    }


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (0o022, {("folder", "0o755"), ("file", "0o644")}),
        (0o027, {("folder", "0o750"), ("file", "0o640")}),
    ],
)
def test_model_folders_follow_the_umask(mask: int, expected: set[tuple[str, str]], tmp_path: Path) -> None:
    """Weights, configs, backbone and head alike."""
    with umask(mask):
        (tmp_path / "made").mkdir()
        make_model_folder(tmp_path / "made")
    assert modes(tmp_path / "made") == expected


def test_diaries_are_private(tmp_path: Path) -> None:
    """Pages, manifest and lock, in a folder that is made for them; one that was there keeps its own rights.

    What was written with wider rights before is narrowed.
    """
    recogniser = load_recogniser(make_model_folder(tmp_path))
    video = write_video(tmp_path / "clip.mp4", evenly(12, 12), size=(64, 48))
    (tmp_path / "there").mkdir(mode=0o755)
    with umask(0o022):
        for out in (tmp_path / "new" / "out", tmp_path / "there"):
            for _ in range(2):
                with private_files(), locked(out):
                    output = OutputFolder(out)
                    planned = output.plan(select_videos([video]))
                    run = write_diaries(planned, output, recogniser, recorded_at=None, batch_size=4, num_workers=0)
                assert run.written == ("clip",)
                (page, _) = run.pages
                files = (*run.pages, page.with_suffix(".md"), out / "manifest.json")
                found = modes(out / "clip").union(*map(modes, files))
                assert found == {("folder", "0o700"), ("file", "0o600")}
                for path in (out / "clip" / "events.jsonl", *files):
                    path.chmod(0o644)
            for path in (out / "clip" / "events.jsonl", *files):
                path.chmod(0o600)
        write_text(tmp_path / "after", "x")
    assert modes(tmp_path / "new") == {("folder", "0o700"), ("file", "0o600")}
    assert modes(tmp_path / "there" / "clip") == {("folder", "0o700"), ("file", "0o600")}
    assert stat.S_IMODE((tmp_path / "there").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "after").stat().st_mode) == 0o644


def test_the_umask_comes_back_after_an_error(tmp_path: Path) -> None:
    """Only what is made inside is private."""

    def fails() -> None:
        with private_files(), atomic_folder(tmp_path / "private") as folder:
            write_text(folder / "a", "x")
            assert modes(folder) == {("folder", "0o700"), ("file", "0o600")}
            raise KeyError

    with umask(0o022):
        with pytest.raises(KeyError):
            fails()
        write_text(tmp_path / "public", "x")
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o644


def test_a_folder_is_not_put_in_place_of_a_file_or_link(tmp_path: Path) -> None:
    """It is told before the work, and what was there stays; an error at the end brings the old folder back."""
    (tmp_path / "elsewhere").mkdir()
    write_text(tmp_path / "file", "mine")
    (tmp_path / "link").symlink_to("elsewhere")

    def replace(path: Path) -> None:
        with atomic_folder(path) as partial:
            write_text(partial / "new", "x")
            if path.name == "folder":
                partial.rename(path.with_name("away"))

    for name in ("file", "link"):
        with pytest.raises(FileExistsError, match="where a folder is to be written"):
            replace(tmp_path / name)
    write_text(tmp_path / "folder" / "old", "x")
    with pytest.raises(FileNotFoundError):
        replace(tmp_path / "folder")
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "file", "link", "folder", "away"}
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "folder" / "old").is_file()


def test_nobody_else_gets_into_what_dvc_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC makes its files readable for all, embeddings of recordings too; the list of a person's files is private."""
    (tmp_path / "mine").mkdir()
    project = make_project(tmp_path / "project", dataset_dir=str(tmp_path / "mine"), backbone_dir=f"hf://a/b@{0:040}")
    monkeypatch.chdir(project.root)
    cache = project.root / ".dvc" / "cache"
    cache.mkdir(parents=True)
    cache.chmod(0o755)
    for _ in range(2):
        done = CliRunner().invoke(sources, [project.profile])
        assert done.exit_code == 0, done.output
        assert modes(project.sources) == {("file", "0o600")}
        assert modes(cache) == {("folder", "0o700")}
        shutil.rmtree(cache)

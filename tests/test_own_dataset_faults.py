"""Slips in somebody's labelled videos that no single row shows, and addresses that are named from elsewhere."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline import params
from pipeline.cli.__main__ import main as diary
from pipeline.dataset import kinds
from pipeline.dataset.kinds import Annotations
from pipeline.dataset.manifest import ManifestError
from tests.projects import make_project
from tests.videos import evenly, write_video

NAMES = ("a.mp4", "b.mp4", "c.mp4", "d.mp4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four videos of two seconds, an action in each."""
    folder = tmp_path / "mine"
    folder.mkdir()
    write_video(folder / NAMES[0], evenly(24, 12), size=(64, 48))
    for name in NAMES[1:]:
        shutil.copy(folder / NAMES[0], folder / name)
    write_metadata(folder, [(name, 0, 1, "Reading") for name in NAMES])
    return folder


def write_metadata(folder: Path, rows: list[tuple[str, float, float, str]]) -> None:
    lines = [",".join(map(str, row)) for row in (("file_name", "start_s", "end_s", "label"), *rows)]
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def read(folder: Path) -> Annotations:
    return kinds.read(folder, val_share=0.25, seed=0)


def test_actions_behind_the_end_are_told(folder: Path) -> None:
    """Milliseconds for seconds give actions that no window shows; one that is cut off by the end is none of them."""
    assert not any("begin after the end" in note for note in read(folder).notes)
    rows = [(name, 0.0, 9.0, "Reading") for name in NAMES]
    write_metadata(folder, [*rows, ("a.mp4", 500, 1500, "Reading"), ("b.mp4", 2500, 3500, "Reading")])
    note = read(folder).notes[0]
    assert note.startswith("2 of 6 actions begin after the end of their video, and are seen nowhere: a.mp4, b.mp4.")


def test_a_video_of_more_than_a_day_is_refused(folder: Path) -> None:
    """It is not left out without a word."""
    write_video(folder / "b.mp4", [0.0, 90_000.0], size=(64, 48))
    with pytest.raises(ManifestError, match=r"b\.mp4: lasts 9\d{4}.* s, and at most 86400 are taken"):
        read(folder)


def test_two_files_of_metadata_in_one_folder_are_refused(folder: Path) -> None:
    """Every action would count twice."""
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "a.mp4", "start_s": 0, "end_s": 1, "label": "x"}))
    with pytest.raises(ManifestError, match=r"metadata\.csv and .*metadata\.jsonl: one folder has one file"):
        read(folder)


def test_a_comma_without_quotes_is_told(folder: Path) -> None:
    """Cut off behind the comma, the label would be another one; a row of a name alone is still one of no action."""
    (folder / "metadata.csv").write_text("file_name,start_s,end_s,label\na.mp4,0,1,Reading, aloud\nb.mp4\n")
    with pytest.raises(ManifestError, match=r"metadata\.csv:2: more fields than .* from ' aloud' on: quote a text"):
        read(folder)
    (folder / "metadata.csv").write_text('file_name,start_s,end_s,label\na.mp4,0,1,"Reading, aloud"\nb.mp4\nc.mp4\n')
    videos = read(folder).videos.by_id
    assert [len(videos[name].intervals) for name in NAMES[:3]] == [1, 0, 0]


def test_a_line_of_json_ends_where_json_says(folder: Path) -> None:
    """Text may hold characters that end lines elsewhere."""
    rows = [{"file_name": name, "start_s": 0, "end_s": 1, "label": "Reading\u2028aloud"} for name in NAMES]
    (folder / "metadata.csv").unlink()
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    assert [label.name for label in read(folder).classes.labels] == ["Reading aloud"]


def test_a_backbone_is_found_from_the_projects_folder(tmp_path: Path, folder: Path) -> None:
    """`dvc repro` runs there, whatever folder the command was given in; an address of the hub stays as it is."""
    project = make_project(tmp_path / "project", "folder")
    address = f"hf://somebody/tiny@{'0' * 40}"
    for backbone, wanted in (("../backbone", f"{folder}{os.sep}../backbone"), (address, address)):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            options = ["--project", str(project.root), "--backbone", backbone]
            done = CliRunner().invoke(diary, ["dataset", ".", *options])
        assert done.exit_code == 0, done.output
        fetch = params.load(project.root, "folder").fetch
        assert fetch.source == "folder"
        assert (fetch.dataset_dir, fetch.backbone_dir) == (str(folder), wanted)


def test_labels_of_another_data_set_are_told_at_once(tmp_path: Path, folder: Path) -> None:
    """A label set that is kept must be of the data set that is named now; else nothing changes."""
    project = make_project(tmp_path / "project", "folder")
    assert CliRunner().invoke(diary, ["dataset", str(folder), "--project", str(project.root)]).exit_code == 0
    before = {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()}
    write_metadata(folder, [(name, 0, 1, "Cooking") for name in NAMES])
    done = CliRunner().invoke(diary, ["dataset", str(folder), "--project", str(project.root)])
    assert done.exit_code == 1
    assert "labels/folder/diary.txt:2: Reading is not among the 1 classes of" in done.output
    assert "name another --profile" in done.output
    assert {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()} == before

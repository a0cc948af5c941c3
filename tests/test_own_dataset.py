"""Labelled videos of somebody's: `diary dataset` and `prepare` on folders with metadata."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import pytest
from click.testing import CliRunner, Result

from features.decode.container import opened, stated_duration_s
from features.decode.length import video_length_s
from pipeline import params
from pipeline.cli.__main__ import main as diary
from pipeline.dataset import kinds, manifest
from pipeline.dataset.kinds import Annotations
from pipeline.dataset.labels import read_label_set
from pipeline.dataset.manifest import Interval, ManifestError
from pipeline.layout import Layout
from pipeline.stages.prepare import main as prepare
from pipeline.stages.sources import main as sources
from tests.projects import REPOSITORY, make_project
from tests.videos import evenly, write_video

ROWS = [
    ("a.mp4", "0.5", "2", "Brushing teeth", "anne"),
    ("a.mp4", "1", "9", "c015", "anne"),
    ("more/b.mp4", "0", "1.5", "Brushing teeth", "bert"),
    ("c.mp4", "", "", "", "cora"),
    ("d.mp4", "0", "2.5", "Reading, aloud", "dora"),
]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds."""
    return write_video(tmp_path_factory.mktemp("video") / "video.mp4", evenly(36, 12), size=(64, 48))


@pytest.fixture
def folder(tmp_path: Path, video: Path) -> Path:
    """Four people's videos with metadata.csv."""
    folder = tmp_path / "mine"
    for name in {row[0] for row in ROWS}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, folder / name)
    write_csv(folder, ROWS)
    return folder


def write_csv(
    folder: Path, rows: Sequence[tuple[str, ...]], *, header: str = "file_name,start_s,end_s,label,subject"
) -> None:
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        file.write(header + "\n")
        csv.writer(file).writerows(rows)


def read(folder: Path, val_share: float = 0.25) -> Annotations:
    return kinds.read(folder, val_share=val_share, seed=0)


def test_rows_become_videos_with_their_actions(folder: Path) -> None:
    """Each video has its rows, its own length, and an id of its path; labels with spaces get ids without."""
    videos, classes, _ = read(folder)
    by_id = videos.by_id
    assert by_id.keys() == {"a.mp4", "more/b.mp4", "c.mp4", "d.mp4"}
    assert by_id["a.mp4"].intervals == (Interval("brushing-teeth", 0.5, 2.0), Interval("c015", 1.0, 9.0))
    assert by_id["a.mp4"].length_s == pytest.approx(3.0, abs=0.1)
    assert by_id["a.mp4"].actions[1].segment.end_s == by_id["a.mp4"].length_s
    assert by_id["c.mp4"].intervals == ()
    assert by_id["more/b.mp4"].subject == "bert"
    assert [(label.id, label.name) for label in classes.labels] == [
        ("brushing-teeth", "Brushing teeth"),
        ("c015", "c015"),
        ("reading-aloud", "Reading, aloud"),
    ]


def test_splits_that_nobody_named_are_cut_off_by_subject(folder: Path) -> None:
    """Test and val are people of their own, and it is said; the same folder gives the same split."""
    videos, _, notes = read(folder)
    subjects = {name: {video.subject for video in videos.split(name)} for name in manifest.SPLITS}
    assert {name: len(own) for name, own in subjects.items()} == {"train": 2, "val": 1, "test": 1}
    assert [note.split(":")[0] for note in notes] == ["The metadata name no test", "The metadata name no val"]
    assert read(folder).videos == videos


def test_without_subjects_each_video_is_one(folder: Path) -> None:
    """What that means for the scores is a note."""
    write_csv(folder, [row[:4] for row in ROWS], header="file_name,start_s,end_s,label")
    videos, _, notes = read(folder)
    assert {video.subject for video in videos.videos} == videos.by_id.keys()
    assert notes[0].startswith("4 of 4 videos name no subject: each counts as a person of its own.")
    assert "scores on val and test are too high" in notes[0]


def test_jsonl_says_the_same_as_csv(folder: Path) -> None:
    """An object a line, with numbers or text; what is null or absent is empty."""
    expected = read(folder)
    (folder / "metadata.csv").unlink()
    objects: list[dict[str, Any]] = [
        {"file_name": name, "subject": subject}
        | ({"start_s": float(start), "end_s": float(end), "label": label} if label else {"label": None})
        for name, start, end, label, subject in ROWS
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, objects)) + "\n")
    found = read(folder)
    assert (found.videos, found.classes.labels, found.notes) == (
        expected.videos,
        expected.classes.labels,
        expected.notes,
    )


def test_folders_of_splits_are_taken(folder: Path, video: Path) -> None:
    """train/, validation/ and test/ with metadata each: nothing is cut off."""
    for name, subject in (("train", "anne"), ("validation", "bert"), ("test", "cora")):
        (folder / name).mkdir()
        shutil.copy(video, folder / name / "a.mp4")
        write_csv(folder / name, [("a.mp4", "0", "1", "Reading", subject)])
    (folder / "metadata.csv").unlink()
    videos, _, notes = read(folder)
    assert {video.video_id: video.split for video in videos.videos} == {
        "train/a.mp4": "train",
        "validation/a.mp4": "val",
        "test/a.mp4": "test",
    }
    assert notes == ()


def test_a_column_of_splits_is_taken(folder: Path) -> None:
    """What is named stays; only what is not is cut off."""
    rows = [(*row, "test" if row[0] == "d.mp4" else "train") for row in ROWS]
    write_csv(folder, rows, header="file_name,start_s,end_s,label,subject,split")
    videos, _, notes = read(folder)
    assert [video.video_id for video in videos.split("test")] == ["d.mp4"]
    assert len(videos.split("val")) == 1
    assert len(notes) == 1


def test_a_video_that_cannot_be_read_stays_until_its_last_action(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named, and `extract` will list it as failed; one without an action is left out."""
    (folder / "d.mp4").write_bytes(b"no film")
    (folder / "c.mp4").unlink()
    videos = read(folder).videos.by_id
    assert videos["d.mp4"].length_s == 2.5
    assert "c.mp4" not in videos
    assert "2 of 4 videos cannot be read" in caplog.text
    for file in folder.rglob("*.mp4"):
        file.write_bytes(b"no film")
    with pytest.raises(ManifestError, match="none of the 4 videos can be read"):
        read(folder)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("a.mp4", "2", "1", "Reading", "anne"), r"metadata\.csv:2: wanted a label and 0 <= start_s < end_s"),
        (("a.mp4", "one", "2", "Reading", "anne"), r":2: wanted .* start_s 'one'"),
        (("a.mp4", "nan", "2", "Reading", "anne"), ":2: wanted "),
        (("a.mp4", "0", "90000", "Reading", "anne"), ":2: wanted .*end_s '90000'"),
        (("a.mp4", "0", "2", "", "anne"), ":2: wanted a label"),
        (("a.mp4", "", "", "Reading", "anne"), ":2: wanted .* start_s ''"),
        (("../a.mp4", "0", "2", "Reading", "anne"), r":2: file_name is a path below the folder.* got '\.\./a\.mp4'"),
        (("/a.mp4", "0", "2", "Reading", "anne"), ":2: file_name is a path below"),
        (("", "0", "2", "Reading", "anne"), ":2: file_name is a path below"),
        (
            ("a.mp4", "0", "2", "brushing Teeth", "anne"),
            ":2: label .* differs too little from .*Brushing teeth|:3: label",
        ),
        (("a.mp4", "0", "2", "…", "anne"), ":2: label "),
        (("a.mp4", "0", "2", "Reading", "bert"), "a.mp4: another subject or split than on an earlier line"),
    ],
)
def test_a_row_that_cannot_be_is_told_with_its_line(folder: Path, row: tuple[str, ...], told: str) -> None:
    """File and line, what is wanted, and what is there."""
    write_csv(folder, [row, *ROWS])
    with pytest.raises(ManifestError, match=told):
        read(folder)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("metadata.csv", "file,start,end,label\n", r"metadata\.csv:1: no column file_name, start_s, end_s; found"),
        ("metadata.csv", "file_name,start_s,end_s,label\n", r"metadata\.csv: has no rows"),
        ("metadata.csv", "file_name,start_s,end_s,label\na.mp4,,,\n", r"metadata\.csv: has no label"),
        ("metadata.csv", 'file_name,start_s,end_s,label\n"a', r"metadata\.csv:2: "),
        ("metadata.csv", "file_name,start_s,end_s,label,split\na.mp4,0,1,x,later\n", ":2: split is train, val or test"),
        (
            "metadata.csv",
            "file_name,start_s,end_s,label,split\na.mp4,0,1,x,\nd.mp4,0,1,x,train\n",
            "1 of 2 videos have no",
        ),
        ("metadata.csv", "file_name,start_s,end_s,label,split\na.mp4,0,1,x,test\n", "no video is in train"),
        ("metadata.csv", "file_name,start_s,end_s,label\na.mp4,0,1,x\n", "test is cut off by subject"),
        ("metadata.jsonl", "{", r"metadata\.jsonl:1: not JSON"),
        ("metadata.jsonl", "[1]", r"metadata\.jsonl:1: wanted an object with file_name, start_s"),
        ("notes.txt", "", "no Charades_v1_train.csv in it.*no metadata.csv or metadata.jsonl"),
    ],
)
def test_metadata_that_cannot_be_used_is_told(folder: Path, name: str, text: str, told: str) -> None:
    """One sentence, with the file."""
    (folder / "metadata.csv").unlink()
    (folder / name).write_text(text)
    with pytest.raises(ManifestError, match=told):
        read(folder)


def test_a_file_that_states_no_length_is_measured(tmp_path: Path, video: Path) -> None:
    """By its packets, as of a recording that was cut off in a browser."""
    live = tmp_path / "live.mkv"
    with av.open(str(video)) as source, av.open(str(live), "w", options={"live": "1"}) as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    with opened(live) as (container, pictures):
        assert stated_duration_s(container, pictures) is None
    assert video_length_s(live) == pytest.approx(video_length_s(video), abs=0.1)


def adopt(project: Layout, folder: Path, *options: str) -> Result:
    return CliRunner().invoke(diary, ["dataset", str(folder), "--project", str(project.root), *options])


def test_one_command_makes_a_profile_of_it(tmp_path: Path, folder: Path) -> None:
    """Params with their comments, labels, roles and params.yaml are there, and `prepare` takes them."""
    project = make_project(tmp_path / "project", "folder")
    backbone, root = tmp_path / "backbone", project.root
    result = adopt(project, folder, "--backbone", str(backbone))
    assert result.exit_code == 0, result.output
    assert "brushing-teeth: in " in result.output
    assert "Now run `dvc repro`" in result.output
    loaded, used = params.load(root, "folder"), params.load_project(root)
    assert (used.profile, used.label_sets) == ("folder", ("diary",))
    assert loaded.fetch.source == "folder"
    assert (loaded.fetch.dataset_dir, loaded.fetch.backbone_dir) == (str(folder), str(backbone))
    assert "# which file of params/ is in use" in (root / "params.yaml").read_text()
    lines = [(place / "params" / "folder.yaml").read_text().splitlines() for place in (REPOSITORY, root)]
    changed = [new for old, new in zip(*lines, strict=True) if old != new]
    assert [line.split(":")[0].strip() for line in changed] == ["dataset_dir", "backbone_dir"]

    project.dataset.parent.mkdir(parents=True)
    project.dataset.symlink_to(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        done = CliRunner().invoke(prepare, ["folder"])
    assert done.exit_code == 0, done.output
    facts = json.loads(project.facts.read_text())
    assert facts["splits"]["train"]["num_subjects"] == 2
    assert facts["notes"][0].startswith("The metadata name no test")
    assert set(facts["videos_with_label"]["diary"]) == {"brushing-teeth", "c015", "reading-aloud"}


def test_labels_that_are_missing_are_told_first(tmp_path: Path) -> None:
    """DVC would say `[Errno 2]`; the first stage says what to do."""
    project = make_project(tmp_path / "project", "folder")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.root)
        done = CliRunner().invoke(sources, ["folder"])
    assert done.exit_code == 1
    assert done.output.startswith(
        "Error: there is no labels/folder/diary.txt, which label set diary in params.yaml asks"
    )
    assert "`diary dataset FOLDER`" in done.output


def test_labels_of_the_users_are_kept(tmp_path: Path, folder: Path) -> None:
    """A second call changes no label set, and says what it leaves out; a profile may have any name."""
    project = make_project(tmp_path / "project", "folder")
    assert adopt(project, folder, "--profile", "kitchen").exit_code == 0
    labels = project.root / "labels" / "kitchen" / "diary.txt"
    labels.write_text("brushing-teeth Brushed teeth\n")
    result = adopt(project, folder, "--profile", "kitchen")
    assert result.exit_code == 0, result.output
    assert "not in the label set, which is kept as it is: c015, reading-aloud" in result.output
    assert read_label_set(labels).names == ("Brushed teeth",)


def test_what_cannot_be_used_changes_nothing(tmp_path: Path, folder: Path) -> None:
    """A backbone without a revision, metadata with a fault, outputs as a data set: a sentence, and all is as before."""
    project = make_project(tmp_path / "project", "folder")
    outputs = project.root / "data" / "folder"
    shutil.copytree(folder, outputs)
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    write_csv(broken, [("a.mp4", "2", "1", "x", "anne")])
    before = {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()}
    for place, options, told in (
        (folder, ["--backbone", "hf://somebody/tiny"], "a branch may change under you"),
        (broken, [], "metadata.csv:2: wanted a label and 0 <= start_s < end_s"),
        (outputs, [], "overlaps with"),
        (folder, ["--profile", "../mine"], "letters, digits, - and _"),
    ):
        result = adopt(project, place, *options)
        assert result.exit_code != 0
        assert told in result.output
        assert {path: path.read_bytes() for path in project.root.rglob("*") if path.is_file()} == before

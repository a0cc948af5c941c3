"""The manifest, from small files in the official Charades format, made up for these tests."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from features.video import Segment
from pipeline.dataset import charades, manifest
from pipeline.dataset.manifest import Interval, Manifest, ManifestError, VideoEntry
from pipeline.dataset.split import cut_off
from pipeline.layout import Layout
from pipeline.stages import prepare

REPOSITORY = Path(__file__).parents[1]
HEAD = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"
TRAIN = [
    # several times the same class; one action past the end
    'AAAA1,ANNE,Kitchen,6,7,Yes,"A man, a door.",door;cup,"Opens.",c008 1.00 3.00;c008 5.00 9.00;c006 8.5 13.1,12.00',
    # no actions, no quality, no relevance
    "AAAA2,ANNE,Kitchen,,,No,Nothing happens.,,Nothing.,,9.50",
    # reversed; begins past the end
    "BBBB1,BERT,Bedroom,5,,Yes,Lies.,bed,Lies.,c134 7.00 2.00;c008 11.0 12.0;c006 0.00 4.00,10.00",
    'CCCC1,CORA,Hall,7,7,Yes,"A script\nover two lines.",door,Goes.,c006 2.00 2.00,6.00',
    "DDDD1,DORA,Hall,7,7,Yes,Goes.,door,Goes.,c008 0.00 30.80,30.00",
]
TEST = ["EEEE1,EMIL,Hall,7,7,Yes,Goes.,door,Goes.,c006 0.00 4.00,8.00"]
CLASSES = "c006 Closing a door\nc008 Opening a door\nc134 Lying on a bed\n"


def make_dataset(folder: Path, train: list[str] = TRAIN, test: list[str] = TEST) -> Path:
    videos = folder / "Charades_v1_480"
    videos.mkdir(parents=True)
    (folder / "Charades_v1_train.csv").write_text("\n".join([HEAD, *train]) + "\n")
    (folder / "Charades_v1_test.csv").write_text("\n".join([HEAD, *test]) + "\n")
    (folder / "Charades_v1_classes.txt").write_text(CLASSES)
    for row in [*train, *test]:
        (videos / f"{row.split(',')[0]}.mp4").touch()
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "dataset")


def read(dataset: Path, val_share: float = 0.25, seed: int = 0) -> Manifest:
    videos, classes = charades.read(dataset, val_share=val_share, seed=seed)
    assert classes.ids == ("c006", "c008", "c134")
    return videos


def people(num_people: int) -> list[VideoEntry]:
    """Person p has p % 7 + 1 videos, each with one to three of five classes."""
    return [
        VideoEntry(
            f"V{person}x{number}",
            "",
            f"S{person}",
            "",
            "train",
            10.0,
            tuple(Interval(f"c{(person + number * step) % 5:03d}", 0, 5) for step in range(1 + number % 3)),
        )
        for person in range(num_people)
        for number in range(person % 7 + 1)
    ]


def test_quirks_count_for_the_video_but_only_real_times_become_actions(dataset: Path) -> None:
    """Ends are clipped; reversed, empty and late intervals have no time, yet their class is the video's."""
    by_id = read(dataset).by_id
    assert by_id["AAAA1"].actions == (
        ("c008", Segment(1.0, 3.0)),
        ("c008", Segment(5.0, 9.0)),
        ("c006", Segment(8.5, 12.0)),
    )
    assert by_id["AAAA1"].classes == ("c006", "c008")
    assert (by_id["AAAA2"].actions, by_id["AAAA2"].classes) == ((), ())
    assert by_id["BBBB1"].actions == (("c006", Segment(0.0, 4.0)),)
    assert by_id["BBBB1"].classes == ("c006", "c008", "c134")
    assert (by_id["CCCC1"].actions, by_id["CCCC1"].classes) == ((), ("c006",))
    assert (by_id["AAAA1"].subject, by_id["AAAA1"].scene, by_id["AAAA1"].length_s) == ("ANNE", "Kitchen", 12.0)


def test_facts_count_every_quirk(dataset: Path) -> None:
    """Each interval that was clipped, reversed or past the end is counted once, in its split."""
    facts = read(dataset).facts()
    assert {key: facts["train"][key] + facts["val"][key] for key in facts["train"]} == {
        "num_videos": 5,
        "num_subjects": 4,
        "hours": pytest.approx(67.5 / 3600, abs=2e-4),
        "num_videos_without_actions": 1,
        "num_intervals": 8,
        "num_intervals_clipped": 2,
        "num_intervals_reversed_or_empty": 2,
        "num_intervals_past_the_end": 1,
    }
    assert facts["test"]["num_videos"] == 1


def test_val_is_whole_people_off_train_and_test_is_untouched(dataset: Path) -> None:
    """val comes from the train file by subject; the test file is the test split."""
    videos = read(dataset)
    assert {video.video_id for video in videos.split("test")} == {"EEEE1"}
    assert videos.split("val")
    assert not {v.subject for v in videos.split("train")} & {v.subject for v in videos.split("val")}


@pytest.mark.parametrize("seed", range(5))
def test_val_is_near_its_share_of_videos_and_of_each_class(seed: int) -> None:
    """With some dozens of people, val has its share of the videos within 1 point, of each class within 5."""
    videos = cut_off(people(60), share=0.2, seed=seed)
    val = [video for video in videos if video.split == "val"]
    assert len(val) / len(videos) == pytest.approx(0.2, abs=0.01)
    for label in ("c000", "c001", "c002", "c003", "c004"):
        of_val = sum(label in video.classes for video in val)
        assert of_val / sum(label in video.classes for video in videos) == pytest.approx(0.2, abs=0.05)


def test_the_cut_depends_on_videos_and_seed_alone() -> None:
    """The order in which videos come changes nobody's split; another seed chooses other people."""
    videos = people(30)
    cut = {video.video_id: video.split for video in cut_off(videos, 0.2, seed=1)}
    again = {video.video_id: video.split for video in cut_off(videos[::-1], 0.2, seed=1)}
    other = {video.video_id: video.split for video in cut_off(videos, 0.2, seed=2)}
    assert cut == again
    assert cut != other


def test_two_people_are_one_on_each_side_and_one_cannot_be_cut() -> None:
    """However small the share, val and train have somebody each; with one person that fails."""
    cut = cut_off(people(2), share=0.01, seed=0)
    assert {video.split for video in cut} == {"train", "val"}
    with pytest.raises(ManifestError, match="takes at least two; train has 1"):
        cut_off(people(1), share=0.2, seed=0)


def test_a_subject_in_two_splits_is_refused(tmp_path: Path) -> None:
    """A person of the train file who is in the test file too fails by name."""
    dataset = make_dataset(tmp_path / "dataset", test=[TEST[0].replace("EMIL", "ANNE")])
    with pytest.raises(ManifestError, match=r"subject ANNE is in .* and, with video EEEE1, in test"):
        read(dataset)


def test_a_video_in_both_files_is_refused(tmp_path: Path) -> None:
    """An id names one video of the whole data set."""
    dataset = make_dataset(tmp_path / "dataset", test=[TEST[0].replace("EEEE1", "AAAA1")])
    with pytest.raises(ManifestError, match="more than once: AAAA1"):
        read(dataset)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("F,G,H", "more or fewer fields than the header names"),
        ("FFFF1,FINN,Hall,7,7,Yes,Goes.,door,Goes.,c006 0.00,8.00", "FFFF1: expected an action like"),
        ("FFFF1,FINN,Hall,7,7,Yes,Goes.,door,Goes.,c157 0.00 1.00,8.00", "FFFF1: c157 is not among the 3 classes"),
        ("FFFF1,FINN,Hall,7,7,Yes,Goes.,door,Goes.,c006 a 1.00,8.00", "FFFF1: c006: expected seconds from 0 on"),
        ("FFFF1,FINN,Hall,7,7,Yes,Goes.,door,Goes.,c006 nan 1.00,8.00", "FFFF1: c006: expected seconds from 0 on"),
        ("FFFF1,FINN,Hall,7,7,Yes,Goes.,door,Goes.,,", "FFFF1: length: expected seconds from 0 on, got ''"),
        ("FFFF1,FINN,Hall,7,7,Yes,Goes.,door,Goes.,,0", "FFFF1: length must be above 0"),
        ("../x,FINN,Hall,7,7,Yes,Goes.,door,Goes.,,8.00", "an id is letters and digits, got '../x'"),
        ("FFFF1,,Hall,7,7,Yes,Goes.,door,Goes.,,8.00", "FFFF1: no subject"),
        ("AAAA1,FINN,Hall,7,7,Yes,Goes.,door,Goes.,,8.00", "AAAA1 is already on line 2"),
    ],
)
def test_an_unreadable_row_fails_with_file_and_line(dataset: Path, row: str, told: str) -> None:
    """The line is the one on which the row begins, a script over two lines before it notwithstanding."""
    path = dataset / "Charades_v1_train.csv"
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(ManifestError) as caught:
        read(dataset)
    assert str(caught.value).startswith(f"{path}:8: {told}")


def test_a_file_that_is_not_the_official_one_is_told(dataset: Path) -> None:
    """A missing column and a missing file are named."""
    (dataset / "Charades_v1_test.csv").write_text("id,subject,scene\nA,B,C\n")
    with pytest.raises(ManifestError, match=r"Charades_v1_test.csv:1: no column actions, length"):
        read(dataset)
    (dataset / "Charades_v1_test.csv").unlink()
    with pytest.raises(ManifestError, match=r"Charades_v1_test.csv: no such file"):
        read(dataset)
    with pytest.raises(ManifestError, match=r"no Charades_v1_train.csv in it, nor in Charades/ below it"):
        read(dataset / "Charades_v1_480")


def test_a_video_is_found_under_either_folder(dataset: Path) -> None:
    """The two official archives unpack to two names; each video is looked up in both."""
    (dataset / "Charades_v1").mkdir()
    (dataset / "Charades_v1_480" / "DDDD1.mp4").rename(dataset / "Charades_v1" / "DDDD1.mp4")
    by_id = read(dataset).by_id
    assert by_id["AAAA1"].path == "Charades_v1_480/AAAA1.mp4"
    assert by_id["DDDD1"].path == "Charades_v1/DDDD1.mp4"


def test_annotations_may_lie_where_the_archive_puts_them(dataset: Path) -> None:
    """The archive's own folder `Charades/` below the data set serves as well as the data set's folder."""
    (dataset / "Charades").mkdir()
    for path in dataset.glob("Charades_v1_*.*"):
        path.rename(dataset / "Charades" / path.name)
    assert len(read(dataset).videos) == 6


def test_a_missing_file_is_a_warning_and_stays_in_the_manifest(dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A video without a file is counted and named, and kept, so that a later stage lists it as failed."""
    (dataset / "Charades_v1_480" / "BBBB1.mp4").unlink()
    with caplog.at_level(logging.WARNING):
        videos = read(dataset)
    assert videos.by_id["BBBB1"].path == "Charades_v1_480/BBBB1.mp4"
    assert [record.getMessage() for record in caplog.records] == [f"1 of 6 videos have no file in {dataset}: BBBB1"]


def test_no_file_at_all_is_an_error(dataset: Path) -> None:
    """Without a single video, the message says where they were looked for."""
    shutil.rmtree(dataset / "Charades_v1_480")
    with pytest.raises(ManifestError, match=r"none of the 6 videos is there; .* in Charades_v1_480/ and Charades_v1/"):
        read(dataset)


def test_what_is_written_is_read_back_and_has_the_same_bytes_each_time(dataset: Path, tmp_path: Path) -> None:
    """A manifest survives the disk, raw intervals included; writing it twice gives the same files and no other."""
    videos = read(dataset)
    manifest.write(tmp_path / "one", videos)
    manifest.write(tmp_path / "two", manifest.read(tmp_path / "one"))
    assert manifest.read(tmp_path / "one").listed("train") == videos.listed("train")  # in the file's order
    assert set(manifest.read(tmp_path / "one").videos) == set(videos.videos)
    assert manifest.read(tmp_path / "one").facts() == videos.facts()
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert sorted(files) == ["sha256.json", "test.parquet", "train.parquet", "val.parquet"]
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}


def test_a_split_without_videos_is_not_written_and_a_missing_one_not_read(dataset: Path, tmp_path: Path) -> None:
    """All three splits are there, or it is an error that names the one that is not."""
    videos = read(dataset)
    with pytest.raises(ManifestError, match="no video is in val nor in test"):
        manifest.write(tmp_path / "half", Manifest(videos.split("train")))
    manifest.write(tmp_path / "whole", videos)
    (tmp_path / "whole" / "val.parquet").unlink()
    with pytest.raises(ManifestError, match=r"val.parquet: no such file; `dvc repro prepare` writes it"):
        manifest.read(tmp_path / "whole")


@pytest.fixture
def project(dataset: Path, tmp_path: Path) -> Layout:
    """A project with this data set and two label sets."""
    paths = Layout("demo", root=tmp_path / "project")
    for name in ("params.yaml", "params/demo.yaml"):
        (paths.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, paths.root / name)
    paths.dataset.parent.mkdir(parents=True)
    paths.dataset.symlink_to(dataset)
    paths.label_sets.mkdir(parents=True)
    (paths.label_sets / "diary.txt").write_text("c006 Closing a door\nc134 Lying on a bed\n")
    (paths.label_sets / "handpicked.txt").write_text("c008 Opening a door\n")
    (paths.label_sets / "roles.csv").write_text("label,role,thing,phrase,together\nc008,toggle,door,opened a door,\n")
    return paths


def run_prepare(paths: Layout) -> tuple[int, str]:
    with contextlib.chdir(paths.root):
        result = CliRunner().invoke(prepare.main, [paths.profile])
    return result.exit_code, result.stderr


def test_the_stage_writes_manifest_and_facts(project: Layout) -> None:
    """`prepare` leaves the three splits and a facts.json that counts each label set's videos."""
    status, output = run_prepare(project)
    assert status == 0, output
    assert "test: 1 videos of 1 subjects, 1 intervals" in output
    facts = json.loads(project.facts.read_text())
    assert facts["splits"] == manifest.read(project.manifest).facts()
    with_label = facts["videos_with_label"]
    assert with_label["diary"]["c006"]["test"] == 1
    assert with_label["handpicked"]["c008"]["train"] + with_label["handpicked"]["c008"]["val"] == 3


def test_the_stage_says_in_a_line_what_is_wrong(project: Layout) -> None:
    """An unknown class, here or among the roles, and missing files end with a line, status 1, and nothing written."""
    with (project.label_sets / "diary.txt").open("a") as file:
        file.write("c999 Dancing\n")
    status, output = run_prepare(project)
    assert status == 1
    assert output.startswith("Error: labels/demo/diary.txt:3: c999 is not among the 3 classes of ")
    (project.label_sets / "diary.txt").write_text("c006 Closing a door\n")
    with (project.label_sets / "roles.csv").open("a") as file:
        file.write("c999,use,dance,danced,\n")
    status, output = run_prepare(project)
    assert status == 1
    assert "Error: labels/demo/roles.csv: c999 is not among the 3 classes of " in output
    project.dataset.unlink()
    status, output = run_prepare(project)
    assert status == 1
    assert output.startswith("Error: data/demo/fetched/dataset: no Charades_v1_train.csv")
    (project.root / "params.yaml").unlink()
    status, output = run_prepare(project)
    assert (status, output) == (1, "Error: params.yaml: no such file; run from the repository's top folder\n")
    assert not project.manifest.exists()

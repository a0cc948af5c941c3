"""The rendered world: the official Charades layout with its quirks, the same annotations for the same seed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from features.decode.container import UnreadableVideo
from features.decode.grid import frames_on_grid
from features.decode.recorded_at import read_clock_tags
from pipeline.dataset import charades, labels
from pipeline.demo.canvas import HEIGHT, KINDS, WIDTH
from pipeline.demo.dataset import make_dataset
from pipeline.demo.recordings import main, make_recordings
from pipeline.demo.render import Renderer
from pipeline.demo.script import make_story
from pipeline.demo.world import CLASSES, make_person

LABEL_SETS = Path(__file__).parents[1] / "labels" / "demo"


def make(folder: Path, seed: int) -> Path:
    make_dataset(
        folder,
        seed=seed,
        num_videos={"train": 7, "test": 3},
        num_subjects={"train": 3, "test": 2},
        mean_length_s=4.0,
        num_workers=1,
    )
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("demo") / "dataset", seed=5)


def test_the_same_seed_gives_the_same_annotations(dataset: Path, tmp_path: Path) -> None:
    """Byte for byte, and another seed gives others."""
    again, other = make(tmp_path / "again", seed=5), make(tmp_path / "other", seed=6)
    for file in sorted((dataset / "Charades").iterdir()):
        assert file.read_bytes() == (again / "Charades" / file.name).read_bytes()
    train = "Charades/Charades_v1_train.csv"
    assert (dataset / train).read_bytes() != (other / train).read_bytes()


def test_it_is_read_as_charades_with_its_quirks(dataset: Path) -> None:
    """The reader of the real files finds empty, reversed and overlong actions, and nobody in two splits."""
    videos, _ = charades.read(dataset, val_share=0.3, seed=0)
    facts = videos.facts()
    in_train_file = {key: facts["train"][key] + facts["val"][key] for key in facts["train"]}
    assert in_train_file["num_videos"] == 7
    assert in_train_file["num_videos_without_actions"] >= 1
    assert in_train_file["num_intervals_reversed_or_empty"] == 1
    assert in_train_file["num_intervals_clipped"] > 0
    assert facts["test"]["num_videos"] == 3


def test_one_file_is_cut_off_and_some_are_shorter_than_a_window(dataset: Path) -> None:
    """A newcomer sees what happens to a broken file, since there is one."""
    lengths, broken = [], []
    for file in sorted((dataset / "Charades_v1_480").iterdir()):
        try:
            lengths.append(max(frame.shown_until_s for frame in frames_on_grid(file, sample_fps=4, decoder="auto")))
        except UnreadableVideo:
            broken.append(file.name)
    assert len(broken) == 1
    assert sum(length_s < 2 for length_s in lengths) == 2


def test_the_label_sets_name_classes_that_people_do(dataset: Path) -> None:
    """Every label of both sets is a class of the demo, under the same name."""
    classes = labels.read_classes(dataset / "Charades" / "Charades_v1_classes.txt")
    for file in LABEL_SETS.glob("*.txt"):
        for label in labels.read_label_set(file).labels:
            assert label in classes.labels
    assert set(CLASSES.values()) == set(classes.ids)


def test_recordings_know_when_they_began(tmp_path: Path) -> None:
    """The start stands in the file's metadata with its offset from UTC."""
    make_recordings(tmp_path, seed=5, length_s=1.0, num_workers=1)
    tags = read_clock_tags(tmp_path / "test" / "morning.mp4")
    assert tags.times["com.apple.quicktime.creationdate"] == "2026-03-14T08:02:11+01:00"


def test_recordings_come_with_what_is_true_of_them(tmp_path: Path) -> None:
    """val and test have four recordings each, with labels that the data set has and times inside the video."""
    make_recordings(tmp_path, seed=5, length_s=6.0, num_workers=1)
    for split in ("val", "test"):
        truths = sorted((tmp_path / split).glob("*.truth.csv"))
        assert {path.name.split(".")[0] for path in truths} == {path.stem for path in (tmp_path / split).glob("*.mp4")}
        assert len(truths) == 4
        for truth in truths:
            with truth.open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert rows
            assert {row["label"] for row in rows} <= set(CLASSES.values())
            assert all(0 <= float(row["start_s"]) < float(row["end_s"]) <= 6.0 for row in rows)


def test_the_command_makes_others_of_another_seed(tmp_path: Path) -> None:
    """A seed and a number give other people and rooms, the same ones every time."""
    for name, seed in (("one", "8"), ("again", "8"), ("other", "9")):
        done = CliRunner().invoke(main, [str(tmp_path / name), "--seed", seed, "--count", "2", "--length-s", "2"])
        assert done.exit_code == 0, done.output
    truths = {
        name: [path.read_text() for path in sorted((tmp_path / name).glob("*.csv"))]
        for name in ("one", "again", "other")
    }
    assert len(set(truths["one"])) == 2
    assert truths["one"] == truths["again"] != truths["other"]


def test_what_the_story_says_is_in_the_picture() -> None:
    """Somebody who holds a phone, a lamp that is on: the map of kinds shows both when the story says so, else not."""
    rng = np.random.default_rng(3)
    seen = {"held phone": 0, "lamp on": 0}
    for _ in range(16):
        story = make_story(rng, make_person(rng), 6.0)
        renderer = Renderer(story, with_kinds=True)
        for time_s in (1.0, 3.0, 5.0):
            picture, kinds = renderer.render(time_s)
            assert picture.shape == (HEIGHT, WIDTH, 3)
            assert kinds is not None
            present = {KINDS[k] for k in np.unique(kinds)}
            lit = story.light.at(time_s) > 0.5
            in_room = story.depth.at(time_s) <= 0.5
            if in_room:
                assert ("held phone" in present) == (story.held.at(time_s)[1] == "phone")
                assert ("lamp on" in present) == lit
            for name in seen:
                seen[name] += name in present
    assert all(seen.values()), seen

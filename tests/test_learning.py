"""Learning from corrections: what a training sees of them, what it never sees, and `diary learn`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from features.files import sha256_of
from features.store.embeddings import read_embeddings
from features.video import Segment
from heads import weights
from pipeline.cli.learn import learn
from pipeline.layout import Layout
from pipeline.reviewed import corrections_here, read_hashes, reviewed_windows
from reports.corrections import Correction
from reports.decoding import Decoding
from reports.exclusions import Exclusion
from tests.learning_world import (
    NAMES,
    finish,
    keep,
    make_diaries,
    make_project,
    run_train,
    said,
    say,
    sha256,
    truth_of,
    whole_review,
)

LABELS = list(NAMES)
HOME = {"monday.mp4": 50, "tuesday.mp4": 51}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as context:
        yield context


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Layout:
    """Trained without any correction."""
    paths = make_project(tmp_path_factory.mktemp("learning") / "project")
    run_train(paths, patch)
    finish(paths)
    return paths


def trained(paths: Layout) -> dict[str, str]:
    return {model: sha256_of(paths.model(model) / weights.FILES[0]) for model in ("linear", "temporal")}


def test_train_learns_from_recordings_and_never_from_val_or_test(
    project: Layout, patch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Corrections of val and test, and of nothing here, leave every byte as it is; those of others do not."""
    before, config = trained(project), weights.read_config(project.model("temporal"))
    assert "reviewed" not in config
    say(
        project.corrections_file,
        *whole_review("val/a.mp4", 41),
        *whole_review("test/b.mp4", 42),
        *whole_review("elsewhere.mp4", 43),
    )
    caplog.set_level(logging.INFO)
    run_train(project, patch)
    assert trained(project) == before
    assert weights.read_config(project.model("temporal")) == config
    assert "5 corrections of val/a.mp4 teach nothing" in caplog.text
    assert "5 corrections of test/b.mp4 teach nothing" in caplog.text
    assert "no recording here has the hash" in caplog.text

    say(project.corrections_file, *whole_review("home.mp4", 40))
    run_train(project, patch)
    after = trained(project)
    assert all(after[model] != before[model] for model in before)
    reviewed = weights.read_config(project.model("temporal"))["reviewed"]
    assert reviewed == {"num_recordings": 1, "num_windows": 39, "num_known": 78, "repeats": 3}

    say(project.corrections_file)
    run_train(project, patch)
    assert trained(project) == before


def test_a_copy_of_a_val_recording_teaches_nothing() -> None:
    hashes = {"copy.mp4": sha256("a"), "val/a.mp4": sha256("a"), "second.mp4": sha256("b"), "first.mp4": sha256("b")}
    corrections = [said("right", "a", "sit", 0, 1), said("right", "b", "sit", 0, 1)]
    assert corrections_here(corrections, hashes) == {"first.mp4": (corrections[1],)}


def cells(project: Layout, *corrections: Correction) -> np.ndarray:
    embeddings, _ = read_embeddings(project.recording_embeddings)
    return reviewed_windows(
        corrections_here(corrections, read_hashes(project.recording_hashes)),
        embeddings,
        LABELS,
        exclusions=[Exclusion("cup", "sit", 9, 9.0)],
        min_overlap_s=0.5,
        stride_s=0.5,
    ).cells


def test_what_nobody_judged_is_unknown(project: Layout) -> None:
    """A right event says when it is on, its excluded label is off meanwhile, and of all else nothing is known."""
    found = cells(project, said("right", "home.mp4", "sit", 4, 7))
    on = np.isclose(found[:, 0], 1)
    assert on.sum() == 7  # cells, of which the first and the last are on by half
    assert (found[on][1:-1, 1] == 0).all()
    assert np.isnan(found[~on]).all()
    assert np.isnan(found).sum() == found.size - 7 - 5


def test_ends_that_a_person_set_say_what_is_beside_them(project: Layout) -> None:
    moved = said("change", "home.mp4", "sit", 4, 8, new_label="sit", new_start_s=4, new_end_s=7)
    found = cells(project, moved)[:, 0]
    right = cells(project, said("right", "home.mp4", "sit", 4, 7))[:, 0]
    np.testing.assert_array_equal(found == 1, right == 1)
    first, last = np.flatnonzero(found == 1)[[0, -1]]
    assert np.flatnonzero(found == 0).tolist() == [first - 1, last + 1]  # the one cell in a second on either side
    assert not (right == 0).any()
    added = cells(project, moved, said("add", "home.mp4", "sit", 2, 4))[:, 0]
    assert (added == 1).sum() == 11  # what is on beside it is on


def test_a_flipped_answer_changes_its_stretch_alone(project: Layout) -> None:
    others = [said("right", "home.mp4", "cup", 1, 3), said("complete", "home.mp4", "", 12, 15)]
    right, wrong = (cells(project, *others, said(verdict, "home.mp4", "sit", 8, 10)) for verdict in ("right", "wrong"))
    rows, columns = np.nonzero((right != wrong) & ~(np.isnan(right) & np.isnan(wrong)))
    starts = read_embeddings(project.recording_embeddings)[0].select(["home.mp4"]).start_s
    assert set(columns[right[rows, columns] == 1]) == {0}
    assert (starts[rows] >= 7).all()
    assert (starts[rows] <= 10).all()


def run_learn(paths: Layout, *folders: Path) -> Result:
    return CliRunner().invoke(learn, [*map(str, folders), "--project", str(paths.root)])


def events(out: Path, name: str) -> list[tuple[str, float, float]]:
    lines = map(json.loads, (out / name / "events.jsonl").read_text().splitlines())
    return [(each["label"], each["start_s"], each["end_s"]) for each in lines if each["type"] == "event"]


def hits(found: list[tuple[str, float, float]], seed: int) -> float:
    """How many true seconds the events state."""
    both = [
        Segment(start, end).overlap_s(Segment(true_start, true_end))
        for label, start, end in found
        for true_label, true_start, true_end in truth_of(seed)
        if label == true_label
    ]
    return sum(both)


def test_learn_states_diaries_anew(project: Layout, tmp_path: Path) -> None:
    """After a review of one video the other one of the same person is stated better, and no video is read."""
    out = tmp_path / "diaries"
    make_diaries(out, HOME)
    keep(project, HOME)
    say(
        out / "corrections.jsonl",
        said("wrong", "monday.mp4", "cup", 0, 1),
        *whole_review("monday.mp4", 50),
    )
    project_before = trained(project)
    result = run_learn(project, out)
    assert result.exit_code == 0, result.output
    assert "Of 1 wrong entry, 1 is gone." in result.output
    assert "elsewhere it gains less" in result.output
    assert "event F1" in result.output
    assert result.output.splitlines()[-1] == str(out / "model")
    assert hits(events(out, "tuesday"), 51) > 8  # of 12 seconds; before, none
    assert (out / "model" / "diary.json").is_file()
    own, learned = (Decoding.load(path) for path in (project.decoding("temporal"), out / "model" / "decoding.json"))
    assert (learned.rules, learned.careful_rules) == (own.rules, own.careful_rules)
    assert learned.scores != own.scores
    assert (out / "model").stat().st_mode & 0o077 == 0
    assert trained(project) == project_before
    # What people said holds over what the model states.
    assert {label for label, *_ in events(out, "monday")} == set(NAMES)
    assert len(events(out, "monday")) == 4
    assert (out / "monday" / "events.csv").is_file()

    again = run_learn(project, out)
    assert again.exit_code == 0
    assert "0 entries fewer, 0 more." in again.output


def test_a_video_that_is_not_kept_is_named_and_stays(project: Layout, tmp_path: Path) -> None:
    out = tmp_path / "diaries"
    make_diaries(out, {"gone.mp4": 60, **HOME})
    keep(project, HOME)
    say(out / "corrections.jsonl", *whole_review("gone.mp4", 60), *whole_review("monday.mp4", 50))
    result = run_learn(project, out)
    assert result.exit_code == 1
    assert "gone.mp4: the cache has no embeddings of this video" in result.output
    assert "its diary stays as it is" in result.output
    assert (out / "model" / "diary.json").is_file()
    # What was said of it stands in its diary all the same.
    assert len(events(out, "gone")) == 4


@pytest.mark.parametrize("said_of", [None, "gone.mp4", "val/a.mp4"])
def test_without_anything_to_learn_nothing_is_written(project: Layout, tmp_path: Path, said_of: str | None) -> None:
    out = tmp_path / "diaries"
    make_diaries(out, HOME)
    keep(project, HOME)
    say(out / "corrections.jsonl", *(whole_review(said_of, 41) if said_of else []))
    state = sha256_of(out / "manifest.json", out / "monday" / "events.jsonl")
    result = run_learn(project, out)
    assert result.exit_code == 1
    assert "Error: nothing that can be learned was said of the videos of" in result.output
    assert "Traceback" not in result.output
    assert not (out / "model").exists()
    assert sha256_of(out / "manifest.json", out / "monday" / "events.jsonl") == state


def test_what_lies_at_the_models_place_is_kept(project: Layout, tmp_path: Path) -> None:
    out = tmp_path / "diaries"
    make_diaries(out, {"model.mp4": 50})
    result = run_learn(project, out)
    assert result.exit_code == 1
    assert "the model is written there" in result.output
    assert (out / "model" / "events.jsonl").is_file()

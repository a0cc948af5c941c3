"""Corrections from the shell, and what a diary says behind them: pages, events files, ids, the truth of a recording."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline import params
from pipeline.cli.__main__ import main
from pipeline.dataset.recordings import read_truth
from pipeline.diaries.output import OutputFolder
from pipeline.layout import Layout
from pipeline.stages import diary as diary_stage
from reports.corrections import read_corrections
from tests.diaries import Page
from tests.model_folders import make_model_folder
from tests.reviews import REPOSITORY, made, out
from tests.videos import evenly, write_video

__all__ = ["made", "out"]


def diary(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def amend(out: Path, *words: str) -> None:
    done = diary("amend", out, *words, "--name", "ada")
    assert done.exit_code == 0, done.output


def events(out: Path, recording_id: str = "kitchen") -> list[dict[str, Any]]:
    lines = (out / recording_id / "events.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["type"] == "event"]


def rows(out: Path, recording_id: str = "kitchen") -> list[tuple[str, str, float, float, bool]]:
    return [
        (row["id"].removeprefix(f"{recording_id}-"), row["label"], row["start_s"], row["end_s"], row["confirmed"])
        for row in events(out, recording_id)
    ]


def page(out: Path) -> str:
    return Page((out / "2026-03-14.html").read_text(encoding="utf-8")).text


def test_right_and_wrong(out: Path) -> None:
    """Pages and files follow at once; ids stay what they were, so that the next command still fits."""
    amend(out, "kitchen-001", "wrong")
    amend(out, "kitchen-002", "right")
    amend(out, "kitchen-003", "right")
    assert rows(out) == [("002", "cup", 4, 7, True), ("003", "html", 12, 14, True)]
    assert len((out / "kitchen" / "events.csv").read_text().splitlines()) == 3
    assert "kitchen-001" not in page(out)
    assert page(out).count("confirmed by you") == 2
    markdown = (out / "2026-03-14.md").read_text(encoding="utf-8")
    assert markdown.count("confirmed by you") == 2
    assert "probably" not in markdown.partition("<details>")[0].lower()  # 60% is sure now
    assert [(line.verdict, line.who, line.event_id) for line in read_corrections(out / "corrections.jsonl")] == [
        ("wrong", "ada", "kitchen-001"),
        ("right", "ada", "kitchen-002"),
        ("right", "ada", "kitchen-003"),
    ]


def test_another_label_and_other_ends(out: Path) -> None:
    """A label by its id or its name, times as seconds, by the clock, or in minutes where no clock is known."""
    amend(out, "kitchen-001", "relabel", "opening a DOOR")
    amend(out, "kitchen-002", "move", "08:00:03.5", "08:00:08")
    amend(out, "hall-001", "move", "1.25", "00:04")
    amend(out, "hall-002", "relabel", "cup")
    assert [row[1:] for row in rows(out)] == [("door", 1, 5, True), ("cup", 3.5, 8, True), ("html", 12, 14, False)]
    assert [row[1:] for row in rows(out, "hall")] == [("door", 1.25, 4, True), ("cup", 5, 9, True)]


def test_what_is_missing_is_added_and_taken_back(out: Path) -> None:
    """What a person added can be judged again by its id, as what a model stated."""
    amend(out, "--add", "sit", "kitchen", "08:00:15", "20")
    ((event_id, *added),) = [row for row in rows(out) if row[2] == 15]
    assert added == ["sit", 15, 20, True]
    amend(out, f"kitchen-{event_id}", "move", "16", "21")
    assert [row[1:] for row in rows(out)][-1] == ("sit", 16, 21, True)
    amend(out, "--undo")
    assert [row[1:] for row in rows(out)][-1] == ("sit", 15, 20, True)
    amend(out, "--undo")
    assert rows(out) == [("001", "sit", 1, 5, False), ("002", "cup", 4, 7, False), ("003", "html", 12, 14, False)]
    assert "confirmed" not in page(out)


def test_the_last_word_holds(out: Path) -> None:
    """What was wrong can be right again, by the id that it had."""
    amend(out, "kitchen-001", "wrong")
    amend(out, "kitchen-001", "right")
    assert rows(out)[0] == ("001", "sit", 1, 5, True)
    amend(out, "kitchen-001", "note", "it is a stool")
    assert rows(out)[0] == ("001", "sit", 1, 5, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["kitchen-009", "wrong"], "there is no event 'kitchen-009'"),
        (["kitchen-001", "bad"], "wanted EVENT_ID right, wrong, relabel LABEL"),
        (["kitchen-001"], "wanted EVENT_ID"),
        (["kitchen-001", "relabel", "swim"], "no label of kitchen; wanted one of: Holding a cup, Opening a door"),
        (["kitchen-001", "move", "5", "1"], "a stretch ends after it starts, got '5 1'"),
        (["kitchen-001", "move", "five", "6"], "'five' is no time"),
        (["kitchen-001", "move", "0", "99999999999:00:00"], "'99999999999:00:00' is no time"),
        (["kitchen-001", "move", "0", "9" * 400], "is no time"),
        (["kitchen-001", "move", "0", "999:00:00"], "is not in kitchen, which lasts 24 s"),
        (["kitchen-001", "move", "5", "08:01:00"], "60.0 s is not in kitchen, which lasts 24 s"),
        (["--add", "sit", "attic", "1", "2"], "there is no recording 'attic'; there are hall, kitchen"),
        (["--add", "sit", "kitchen"], "wanted --add LABEL RECORDING START END"),
        (["--undo"], "nothing to undo"),
    ],
)
def test_what_does_not_fit_is_told_in_a_line(out: Path, words: list[str], told: str) -> None:
    done = diary("amend", out, *words)
    assert done.exit_code == 1
    assert told in done.output
    assert not (out / "corrections.jsonl").exists()


def test_a_folder_without_diaries_is_told(tmp_path: Path, out: Path) -> None:
    commands: list[list[str | Path]] = [
        ["review", tmp_path],
        ["review", tmp_path / "none"],
        ["amend", tmp_path, "a-001", "wrong"],
    ]
    for command in commands:
        done = diary(*command)
        assert done.exit_code == 1
        assert "no folder of diaries" in done.output
    done = diary("review", out / "2026-03-15.html")
    assert done.exit_code == 1
    assert "it has 2026-03-14, undated-hall" in done.output


def test_the_truth_of_what_was_reviewed_as_a_whole(out: Path) -> None:
    """In the format of annotated recordings; what is not complete is said and not written."""
    amend(out, "kitchen-001", "right")
    amend(out, "kitchen-003", "wrong")
    amend(out, "--add", "door", "kitchen", "20", "21.5")
    done = diary("review", out, "--truth")
    assert done.exit_code == 1
    assert "kitchen: 24 s are in no stretch that was marked complete" in done.output
    line = json.loads((out / "corrections.jsonl").read_text().splitlines()[0])
    blank = {"label": "", "event_id": "", "probability": None}
    for number, (start_s, end_s) in enumerate([(0, 12), (11, 23.8)]):
        complete = line | blank | {"id": f"c{number}", "verdict": "complete", "start_s": start_s, "end_s": end_s}
        with (out / "corrections.jsonl").open("a") as file:
            file.write(json.dumps(complete) + "\n")
    done = diary("review", out, "--truth")
    assert done.exit_code == 0
    assert "hall: 12 s" in done.output
    truth = read_truth(out / "kitchen.truth.csv")
    # Nobody said of the cup that it is right, and all else is off in a complete stretch.
    assert [(action.label, action.segment.start_s, action.segment.end_s) for action in truth] == [
        ("sit", 1, 5),
        ("door", 20, 21.5),
    ]


@pytest.mark.slow
def test_a_later_run_keeps_what_was_said(tmp_path: Path) -> None:
    """Of the same bytes, under another name in another folder."""
    model, out = make_model_folder(tmp_path), tmp_path / "out"
    video = write_video(tmp_path / "day.mp4", evenly(24, 12), size=(64, 48))
    write: list[str | Path] = ["write", "--model", model, "-o", out, "--recorded-at", "2026-03-14T08:00:00"]
    assert diary(*write, video).exit_code == 0
    stated = rows(out, "day")
    assert {row[1] for row in stated} == {"sit", "eat"}
    wrong = next(row for row in stated if row[1] == "sit")
    amend(out, f"day-{wrong[0]}", "wrong")
    amend(out, "day-" + next(row[0] for row in stated if row[1] == "eat"), "right")
    (tmp_path / "moved").mkdir()
    moved = video.rename(tmp_path / "moved" / "other.mp4")
    assert diary(*write, moved).exit_code == 0
    assert [row[1::3] for row in rows(out, "other")] == [("eat", True)]
    assert page(out).count("confirmed by you") == 2
    # The project's stage makes its folder anew.
    paths = Layout("demo", "diary", tmp_path / "project")
    shutil.copytree(model, paths.diary_model)
    paths.recordings.mkdir(parents=True)
    shutil.copy(moved, paths.recordings / "other.mp4")
    shutil.copytree(out, paths.diaries)
    diary_stage.main.callback.__wrapped__(params.load(REPOSITORY, "demo"), paths)  # type: ignore[union-attr]
    assert list(OutputFolder(paths.diaries).rows) == ["other"]
    assert [row[1::3] for row in rows(paths.diaries, "other")] == [("eat", True)]
    assert len(read_corrections(paths.diaries / "corrections.jsonl")) == 2


def test_what_is_purged_is_forgotten(out: Path) -> None:
    """What people said of a recording goes with it, and its truth; what they said of others stays."""
    amend(out, "kitchen-001", "right")
    amend(out, "hall-001", "wrong")
    (out / "kitchen.truth.csv").write_text("start_s,end_s,label\n")
    done = diary("purge", "--before", "2026-03-15", "--diaries", out, "--yes")
    assert done.exit_code == 0, done.output
    assert [line.event_id for line in read_corrections(out / "corrections.jsonl")] == ["hall-001"]
    assert not (out / "kitchen.truth.csv").exists()
    assert list(OutputFolder(out).rows) == ["hall"]

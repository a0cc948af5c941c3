"""`diary purge --learned`: the model and the labels that were learned go, too, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from features.files import write_json, write_text
from pipeline.cli.__main__ import main
from tests.learning_world import make_diaries

DAY = "2026-03-14"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Diaries of a recording whose start is not known, a learned model, labels, and notes of the user."""
    make_diaries(tmp_path / "diaries", {"monday.mp4": 50})
    write_json(tmp_path / "diaries" / "model" / "diary.json", {})
    write_text(tmp_path / "diaries" / "model" / "backbone" / "model.safetensors", "weights")
    write_text(tmp_path / "diaries" / "labels.json", "labels")
    write_text(tmp_path / "diaries" / "notes.txt", "mine")
    return tmp_path / "diaries"


def purge(out: Path, *options: str, answer: str = "") -> Result:
    arguments = ["purge", "--before", DAY, "--diaries", str(out), "--no-cache", *options]
    return CliRunner().invoke(main, arguments, input=answer)


def here(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()} & {"model", "labels.json", "notes.txt", "monday"}


def test_it_asks_and_removes_what_was_learned_alone(out: Path) -> None:
    """A no leaves all; a yes leaves diaries and files of the user."""
    assert purge(out).exit_code == 0
    refused = purge(out, "--learned", answer="n\n")
    assert refused.exit_code == 1
    assert str(out / "labels.json") in refused.output
    assert "would be" in purge(out, "--learned", "--dry-run").output
    assert here(out) == {"model", "labels.json", "notes.txt", "monday"}
    done = purge(out, "--learned", answer="y\n")
    assert done.exit_code == 0, done.output
    assert "removed 3 files of what was learned" in done.output
    assert here(out) == {"notes.txt", "monday"}
    assert purge(out, "--learned").exit_code == 0  # there is nothing left to ask about


def test_a_folder_of_that_name_that_is_no_model_stays(out: Path, tmp_path: Path) -> None:
    """Of the user, of a recording, or a link to elsewhere."""
    (out / "model" / "diary.json").unlink()
    assert purge(out, "--learned", "--yes").exit_code == 0
    assert here(out) == {"model", "notes.txt", "monday"}
    write_json(tmp_path / "elsewhere" / "diary.json", {})
    (out / "model").rename(tmp_path / "old")
    (out / "model").symlink_to(tmp_path / "elsewhere")
    assert purge(out, "--learned", "--yes").exit_code == 0
    assert (tmp_path / "elsewhere" / "diary.json").is_file()

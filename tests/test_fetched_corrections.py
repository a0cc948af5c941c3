"""Corrections on their way into a project: named in the params, listed, gathered, and never replaced unseen."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from pipeline import params
from pipeline.layout import Layout
from pipeline.stages import fetch, sources

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A project whose folders are somebody's, and empty but for a backbone's config."""
    root, mine = tmp_path / "project", tmp_path / "mine"
    for name in ("dataset", "backbone"):
        (mine / name).mkdir(parents=True)
    (mine / "backbone" / "config.json").write_text("{}")
    (root / "params").mkdir(parents=True)
    shutil.copy(REPOSITORY / "params" / "charades.yaml", root / "params" / "own.yaml")
    shutil.copytree(REPOSITORY / "labels" / "charades", root / "labels" / "own")
    (root / "params.yaml").write_text("profile: own\nlabel_sets: [diary]\n")
    monkeypatch.chdir(root)
    name_corrections(root, None)
    return Layout("own")


def name_corrections(root: Path, value: Any) -> None:
    values = YAML(typ="safe").load(REPOSITORY / "params" / "charades.yaml")
    mine = root.parent / "mine"
    values["fetch"] |= {"dataset_dir": str(mine / "dataset"), "backbone_dir": str(mine / "backbone")}
    values["fetch"]["corrections"] = value
    (root / "params" / "own.yaml").write_text(json.dumps(values))


def run(name: str) -> Result:
    stage = {"sources": sources, "fetch": fetch}[name]
    return CliRunner().invoke(stage.main, ["own"])


def listed(project: Layout) -> list[str]:
    with project.sources.open(newline="") as file:
        return [row["file"] for row in csv.DictReader(file) if row["folder"] == "corrections"]


def test_without_corrections_there_is_an_empty_file(project: Layout) -> None:
    assert run("sources").exit_code == run("fetch").exit_code == 0
    assert listed(project) == []
    assert project.corrections_file.read_bytes() == b""
    assert project.corrections_file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("as_list", [False, True])
def test_files_are_listed_and_gathered_in_order(project: Layout, tmp_path: Path, as_list: bool) -> None:
    """One that ends without a line break is still a line of its own; a change is seen in the list."""
    one, other = tmp_path / "mine" / "one.jsonl", tmp_path / "mine" / "other.jsonl"
    one.write_text("a\nb")
    other.write_text("c\n")
    name_corrections(Path.cwd(), [str(one), str(other)] if as_list else str(one))
    assert run("sources").exit_code == run("fetch").exit_code == 0
    assert listed(project) == [str(one), str(other)][: 1 + as_list]
    assert project.corrections_file.read_text() == ("a\nb\nc\n" if as_list else "a\nb\n")
    before = project.sources.read_bytes()
    one.write_text("a\nb\nd\n")
    assert run("sources").exit_code == run("fetch").exit_code == 0
    assert project.sources.read_bytes() != before
    assert project.corrections_file.read_text().startswith("a\nb\nd\n")


def test_a_missing_file_and_one_among_outputs_are_told_in_a_line(project: Layout, tmp_path: Path) -> None:
    name_corrections(Path.cwd(), str(tmp_path / "nowhere.jsonl"))
    for name in ("sources", "fetch"):
        result = run(name)
        assert result.exit_code == 1
        assert f"Error: there is no file {tmp_path / 'nowhere.jsonl'}: set fetch.corrections" in result.output
    inside = Path("results", "own", "diary", "diary", "corrections.jsonl")
    name_corrections(Path.cwd(), str(inside))
    with pytest.raises(params.ParamsError, match=r"fetch\.corrections: .* overlaps with"):
        params.load(Path(), "own")


def test_what_somebody_wrote_there_is_not_replaced(project: Layout) -> None:
    assert run("fetch").exit_code == 1  # no sources yet
    assert run("sources").exit_code == run("fetch").exit_code == 0
    project.corrections_file.write_text("of a person\n")
    result = run("fetch")
    assert result.exit_code == 1
    assert "corrections.jsonl" in result.output
    assert project.corrections_file.read_text() == "of a person\n"

"""Roles of labels: the files that are here, what a user may get wrong in one, and their way into a model folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from features.sealed import read_sealed_json, write_sealed_json
from pipeline.dataset.labels import LabelError, LabelSet, read_classes, read_label_set
from pipeline.dataset.roles import check_roles, read_roles
from pipeline.demo.world import CLASSES
from pipeline.model_folder import load_recogniser, write_model_folder
from reports.diary.roles import KINDS, Role
from tests.model_folders import make_model_folder

LABELS = Path(__file__).parents[1] / "labels"
HEADER = "label,role,thing,phrase,together\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "roles.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_label_that_is_here_has_a_role() -> None:
    """All classes of the demo, and all labels of all label sets; begins and ends have a state or hold to belong to."""
    assert set(read_roles(LABELS / "demo" / "roles.csv")) == set(CLASSES.values())
    for profile in ("demo", "charades"):
        roles = read_roles(LABELS / profile / "roles.csv")
        for path in sorted((LABELS / profile).glob("*.txt")):
            assert set(read_label_set(path).ids) <= set(roles), path
        homes = {role.thing for role in roles.values() if role.kind in ("state", "hold")}
        assert {role.thing for role in roles.values() if role.kind in ("begin", "end")} <= homes
        assert {role.kind for role in roles.values()} == set(KINDS)


def test_phrases_of_both_profiles_agree_on_roles() -> None:
    """The demo's classes are Charades classes: they have the same roles and things in both."""
    demo, charades = (read_roles(LABELS / profile / "roles.csv") for profile in ("demo", "charades"))
    for label in set(demo) & set(charades):
        assert (demo[label].kind, demo[label].thing) == (charades[label].kind, charades[label].thing)


def test_a_file_is_read(tmp_path: Path) -> None:
    """With a byte order mark, blank lines, quotes and blanks around values; the header alone gives no roles."""
    text = f'\ufeff{HEADER}\nc106, use ,cup,"drank, slowly",drank\r\nc008,toggle,door,opened the door,\n'
    assert read_roles(written(tmp_path, text)) == {
        "c106": Role("use", "cup", "drank, slowly", "drank"),
        "c008": Role("toggle", "door", "opened the door"),
    }
    assert read_roles(written(tmp_path, HEADER)) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "roles.csv:1: expected columns label,role,thing,phrase,together, got ''"),
        ("label,role\n", "roles.csv:1: expected columns label,role,thing,phrase,together, got 'label,role'"),
        (HEADER + "c106,use,cup,drank\n", "roles.csv:2: expected columns .*, got 4 values"),
        (HEADER + "c106,used,cup,drank,\n", "roles.csv:2: a role is one of state, begin, .*, got 'used'"),
        (HEADER + "c106,use,,drank,\n", "roles.csv:2: a thing is missing"),
        (HEADER + "c106,use,cup,,\n", "roles.csv:2: a phrase is missing"),
        (HEADER + ",use,cup,drank,\n", "roles.csv:2: a label is missing"),
        (HEADER + "c8,toggle,door,opened it,opened\n", "roles.csv:2: toggle has no words for together, got 'opened'"),
        (HEADER + "c106,use,cup,drank,\n\nc106,use,cup,sipped,\n", "roles.csv:4: c106 is already on line 2"),
        (HEADER + 'c106,use,cup,"drank,\n', r"roles.csv:\d: expected columns .*, but it is no CSV"),
    ],
)
def test_a_fault_is_told_with_its_line(text: str, told: str, tmp_path: Path) -> None:
    """Path, line, what is wanted and what was found."""
    with pytest.raises(LabelError, match=told):
        read_roles(written(tmp_path, text))


def test_no_file_and_no_text(tmp_path: Path) -> None:
    """What to do is said; all faults of a file are told at once."""
    with pytest.raises(LabelError, match=r"roles\.csv: no such file; a file with the line label,role,thing"):
        read_roles(tmp_path / "roles.csv")
    (tmp_path / "roles.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabelError, match="not a text file in UTF-8"):
        read_roles(tmp_path / "roles.csv")
    with pytest.raises(LabelError, match=r":2: a thing is missing\n.*:3: a phrase is missing"):
        read_roles(written(tmp_path, HEADER + "a,use,,x,\nb,use,x,,\n"))


def test_roles_of_unknown_classes_are_refused(tmp_path: Path) -> None:
    """As labels are."""
    classes: LabelSet = read_classes(LABELS / "demo" / "handpicked.txt")
    check_roles(Path("roles.csv"), {"c006": Role("toggle", "door", "closed the door")}, classes)
    with pytest.raises(LabelError, match=r"roles\.csv: c999 is not among the 17 classes"):
        check_roles(Path("roles.csv"), {"c999": Role("toggle", "door", "closed the door")}, classes)


def test_a_model_folder_has_the_roles_of_its_labels(tmp_path: Path) -> None:
    """Of no others; a folder without any, as earlier versions wrote, tells all labels plainly."""
    folder = make_model_folder(tmp_path)
    assert load_recogniser(folder).roles == {}
    roles = {"sit": Role("state", "seat", "sat", "sat down"), "read": Role("use", "book", "read")}
    diary = json.loads((folder / "diary.json").read_text())
    write_model_folder(
        tmp_path / "told",
        model=tmp_path / "head",
        backbone=tmp_path / "backbone",
        decoding=tmp_path / "decoding.json",
        typicality=tmp_path / "typicality.safetensors",
        limits=tmp_path / "limits.json",
        diary_model={key: value for key, value in diary.items() if key not in ("files", "sha256", "roles")},
        roles=roles,
    )
    assert load_recogniser(tmp_path / "told").roles == {"sit": roles["sit"]}
    shutil.copytree(folder, tmp_path / "earlier")
    content = read_sealed_json(tmp_path / "earlier" / "diary.json", remedy="")
    del content["roles"]
    write_sealed_json(tmp_path / "earlier" / "diary.json", content)
    assert load_recogniser(tmp_path / "earlier").roles == {}

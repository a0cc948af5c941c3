"""Label sets: what a user may write in a file, and what is said when it cannot be used."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pipeline.dataset.labels import Label, LabelError, check, read_classes, read_label_set

REPOSITORY = Path(__file__).parents[1]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_label_set_is_read_in_its_own_order(tmp_path: Path) -> None:
    """Comments and blank lines are passed over; order, ids, names and lines are the file's."""
    path = written(
        tmp_path / "mine.txt", "\ufeff# my set\n\nc016 Playing with a phone/camera  \r\n# more\nc008\tTür öffnen\n"
    )
    label_set = read_label_set(path)
    assert label_set.name == "mine"
    assert label_set.labels == (Label("c016", "Playing with a phone/camera"), Label("c008", "Tür öffnen"))
    assert label_set.ids == ("c016", "c008")
    assert label_set.lines == (3, 5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("c008 Opening a door\nc006\n", ":2: expected a line like"),
        ("c008\n", ":1: expected a line like"),
        ("c008 Opening a door\n\nc008 Again\n", ":3: c008 is already on line 1"),
        ("# nothing\n", ": names no label"),
    ],
)
def test_a_fault_is_told_with_file_and_line(tmp_path: Path, text: str, told: str) -> None:
    """Malformed lines, doubles and an empty set fail where they stand."""
    path = written(tmp_path / "mine.txt", text)
    with pytest.raises(LabelError) as caught:
        read_label_set(path)
    assert str(caught.value).startswith(f"{path}{told}")


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """Two faults, two lines."""
    with pytest.raises(LabelError) as caught:
        read_label_set(written(tmp_path / "mine.txt", "door\nc008 Opening a door\nwindow\n"))
    assert len(str(caught.value).splitlines()) == 2


def test_a_missing_or_unreadable_file_is_told(tmp_path: Path) -> None:
    """The message says which file, and who named it."""
    with pytest.raises(LabelError, match=r"gone.txt: no such file; label_sets in params.yaml names it"):
        read_label_set(tmp_path / "gone.txt")
    (tmp_path / "latin.txt").write_bytes("c008 Tür öffnen".encode("latin-1"))
    with pytest.raises(LabelError, match=r"latin.txt: not a text file in UTF-8"):
        read_label_set(tmp_path / "latin.txt")


def test_an_unknown_class_is_told_with_file_and_line(tmp_path: Path) -> None:
    """A label that the data set does not have fails, naming where it stands and where it was looked for."""
    classes = read_classes(written(tmp_path / "Charades_v1_classes.txt", "c000 Holding\nc008 Opening a door\n"))
    mine = read_label_set(written(tmp_path / "mine.txt", "# mine\nc008 Opening a door\nc999 Dancing\n"))
    with pytest.raises(LabelError) as caught:
        check(mine, classes)
    assert str(caught.value) == f"{mine.path}:3: c999 is not among the 2 classes of {classes.path}"


def test_ones_own_wording_is_a_warning_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The user may call an action otherwise than the data set does; both wordings are shown."""
    classes = read_classes(written(tmp_path / "Charades_v1_classes.txt", "c006 Closing a door\nc008 Opening a door\n"))
    mine = read_label_set(written(tmp_path / "mine.txt", "c006 Closing a door\nc008 Comes in\n"))
    with caplog.at_level(logging.WARNING):
        check(mine, classes)
    assert [record.getMessage() for record in caplog.records] == [
        f"{mine.path}:2: c008 is 'Comes in' here and 'Opening a door' in {classes.path}"
    ]


@pytest.mark.parametrize(("name", "size"), [("diary", 80), ("handpicked", 56)])
def test_the_prototypes_sets_are_whole(name: str, size: int) -> None:
    """The sets for Charades hold the prototype's 80 and 56 actions, all of them among c000 … c156."""
    label_set = read_label_set(REPOSITORY / "labels" / "charades" / f"{name}.txt")
    assert len(label_set.labels) == size
    assert list(label_set.ids) == sorted(label_set.ids)
    assert label_set.ids[-1] == "c156"

"""diary.md is written anew between its two markers; what its owner wrote around them stays, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.diary.formats.markdown import NotOurDiary, merged, write_markdown
from reports.events import EventsFound
from tests.test_story import MODEL, NAMES, ROLES, Recording, found, recording, saturday


def write(path: Path, parts: list[tuple[Recording, EventsFound]], earlier: Path | None = None) -> bytes:
    write_markdown(path, parts, NAMES, MODEL, roles=ROLES, min_quiet_s=10.0, earlier=earlier)
    return path.read_bytes()


def test_what_stands_around_the_markers_stays(tmp_path: Path) -> None:
    """Line ends of another system, bytes that are no text, and no line end at the end included."""
    path = tmp_path / "diary.md"
    first = write(path, saturday())
    before, after = b"\xef\xbb\xbfDear diary,\r\n\xff\r\n", b"\r\nRather tired today. <!-- diary: end -->, or so"
    path.write_bytes(before + first.rstrip(b"\n") + after)
    assert write(path, saturday()) == before + first.rstrip(b"\n") + after
    other = write(path, [(recording(60.0), found("c059 10 40"))])
    assert other.startswith(before)
    assert other.endswith(after)
    assert b"Picked up a cup" in first
    assert b"Picked up a cup" not in other
    assert b"Sat in a chair for 30 s." in other
    assert write(path, saturday()) == before + first.rstrip(b"\n") + after


def test_a_marker_may_be_the_first_thing_behind_a_byte_order_mark(tmp_path: Path) -> None:
    """Some editors put one there."""
    path = tmp_path / "diary.md"
    first = write(path, saturday())
    path.write_bytes(b"\xef\xbb\xbf" + first.replace(b"\n", b"\r\n"))
    assert write(path, saturday()) == b"\xef\xbb\xbf" + first[:-1] + b"\r\n"


def test_the_text_may_come_from_elsewhere(tmp_path: Path) -> None:
    """Where a folder is written beside the one that it replaces."""
    earlier = tmp_path / "earlier.md"
    first = write(earlier, saturday())
    earlier.write_bytes(first + b"A good day.\n")
    assert write(tmp_path / "diary.md", saturday(), earlier) == first + b"A good day.\n"
    assert write(tmp_path / "new.md", saturday(), tmp_path / "missing.md") == first


@pytest.mark.parametrize("damage", ["no markers", "no end", "twice", "turned"])
def test_a_file_without_a_place_is_refused_and_stays(damage: str, tmp_path: Path) -> None:
    """The sentence has the path, both markers, how many were found, and what to do."""
    path = tmp_path / "diary.md"
    text = write(path, saturday()).decode()
    begin, *_, end = text.strip().splitlines()
    damaged = {
        "no markers": "# Diary\nDear diary\n",
        "no end": f"{begin}\nmy own words\n",
        "twice": text + text,
        "turned": f"{end}\nmy own words\n{begin}\n",
    }[damage]
    path.write_text(damaged)
    with pytest.raises(NotOurDiary, match=r"diary\.md: wanted the lines <!-- .* --> and <!-- .* -->.*found \d and \d"):
        write(path, saturday())
    assert path.read_text() == damaged
    assert [own.name for own in tmp_path.iterdir()] == ["diary.md"]


def test_no_name_is_a_marker(tmp_path: Path) -> None:
    """A file that is named like one, and notes that quote it, do not end the text."""
    named = recording(60.0, name="<!-- diary: end -->")
    path = tmp_path / "diary.md"
    first = write(path, [(named, found("c059 10 40"))])
    assert write(path, [(named, found("c059 10 40"))]) == first
    text = first.decode()
    quoted = "> <!-- diary: end -->\n" + text
    assert merged(quoted, "new\n").startswith("> <!-- diary: end -->\n" + text.splitlines()[0] + "\nnew\n<!--")


def test_only_one_day_on_demand(tmp_path: Path) -> None:
    """A recording over midnight has a part in both days' files."""
    late = recording(120.0, saturday()[0][0].recorded_at.replace(hour=23, minute=59, second=0))  # type: ignore[union-attr]
    parts = [(late, found("c107 10 50 \n c026 80 110"))]
    whole = write(tmp_path / "whole.md", parts).decode()
    assert "had a cup in hand" in whole.lower()
    assert "had a book in hand" in whole.lower()
    assert late.recorded_at is not None
    write_markdown(tmp_path / "day.md", parts, NAMES, MODEL, roles=ROLES, min_quiet_s=10.0, day=late.recorded_at.date())
    day = (tmp_path / "day.md").read_text(encoding="utf-8")
    assert "## Saturday, 14 March 2026\n\n23:59–24:00 · 1 min, all on video\n" in day
    assert "had a cup in hand" in day.lower()
    assert "had a book in hand" not in day.lower()
    assert "## Sunday" not in day

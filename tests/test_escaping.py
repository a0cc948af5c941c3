"""Names of files and labels are text: nothing in them makes a line, a heading or an order of its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.video import Segment
from reports.diary.escaping import in_code_span, in_markdown, visible
from reports.diary.formats.jsonl import write_jsonl
from reports.diary.formats.markdown import write_markdown
from reports.diary.model import DiaryModel
from reports.diary.readings import ClockReading
from reports.diary.recording import Recording
from reports.events import Event, EventRule, EventsFound
from tests.diaries import day_html, stored

BREAKS = ("\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
DIRECTIONS = tuple("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
OTHERS = ("\x00", "\x07", "\x1b", "\x7f", "\x9b", "\ufeff", "\u200b", "\u2060", "\U000e0041", "\udcff", "\ud800")
FORGED = "## Friday, 1 May 2026"


def diary(sign: str) -> tuple[Recording, EventsFound, dict[str, str], DiaryModel]:
    """A recording with `sign` and a heading in each of its texts."""
    text = f"a{sign}{FORGED}{sign}"
    model = DiaryModel(text, text, text, "a" * 64, "b" * 64, {"c015": EventRule(0.5, 0.4, 2.0, 1.0)})
    recording = Recording(
        *(text, f"{text}.mp4", 60.0, datetime(2026, 3, 14, 8, tzinfo=UTC), "file name", (Segment(0, 60),)),
        clock_note=f"It begins where {text} ends.",
        clock_readings=(ClockReading("file name", f"{text}.mp4", None, text),),
        faults=(f"the packet {text} is damaged",),
    )
    found = EventsFound((Event(f"{text}-001", "c015", Segment(5, 20), 0.9, 0.7),), {"c015": 2})
    return recording, found, {"c015": text}, model


@pytest.mark.parametrize("sign", [*BREAKS, *DIRECTIONS, *OTHERS], ids=ascii)
def test_no_writer_passes_a_sign_on(sign: str, tmp_path: Path) -> None:
    """Markdown and page show it spelled out, on the line where it stands; JSON lines are one a row, and whole."""
    recording, found, names, model = diary(sign)
    write_markdown(tmp_path / "diary.md", [(recording, found)], names, model, min_quiet_s=10.0)
    page = day_html(tmp_path, stored(recording, found, names, model))
    write_jsonl(tmp_path / "events.jsonl", recording, found, names, model)
    markdown, lines = ((tmp_path / name).read_bytes().decode("utf-8") for name in ("diary.md", "events.jsonl"))
    headings = [line for line in markdown.splitlines() if line.startswith("#")]
    assert headings == ["# Diary", "## Saturday, 14 March 2026", "## Recordings"]
    for char in set(sign) - {"\n"}:
        assert char not in markdown
        assert char not in page
    assert f"a{visible(sign)}{FORGED}" in markdown
    assert f"a{visible(sign)}{FORGED}" in page
    assert f"a{sign}{FORGED}" not in page
    rows = [json.loads(line) for line in lines.splitlines()]
    assert [row["type"] for row in rows] == ["recording", "event"]
    if "\ud800" <= sign <= "\udfff":  # no text in UTF-8 has them
        assert rows[0]["file"] == f"a{visible(sign)}{FORGED}{visible(sign)}.mp4"
    else:
        assert rows[0]["file"] == recording.file_name
        assert rows[1]["name"] == names["c015"]


def test_what_people_write_stays() -> None:
    """Letters of any script, emoji with their joiners and the spaces of typography are not touched."""
    for text in ("Küche 朝食.mp4", "صباح.mp4", "👩\u200d🍳 at 3.04\u202fPM", "می\u200cخواهم", "a_b-c d"):
        assert visible(text) == text
        assert in_markdown(text) == text
        assert in_code_span(text) == f"`{text}`"


def test_what_an_escape_looks_like() -> None:
    """As in Python: a byte that is no UTF-8 as its number."""
    assert visible("a\nb\u202ec\udcffd\x1b") == r"a\nb\u202ec\xffd\x1b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a | b", r"a \| b"),
        ("*a* _b_ snake_case ~~c~~", r"\*a\* \_b\_ snake_case \~~c\~~"),
        ("[a](b) <i> `c` &lt;i&gt; R&B", r"\[a\](b) \<i> \`c\` \&lt;i\&gt; R&B"),
        ("a\n# b", r"a\\n# b"),
    ],
)
def test_signs_of_markdown(text: str, shown: str) -> None:
    """They are shown as they are, and mean nothing."""
    assert in_markdown(text) == shown

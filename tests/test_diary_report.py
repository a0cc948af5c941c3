from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from features.video import Segment
from reports.diary.clock import format_duration, format_time
from reports.diary.formats.jsonl import write_jsonl
from reports.diary.formats.markdown import write_markdown
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.events import Event, EventRule, EventsFound

NAMES = {
    "c015": "Holding a phone/camera",
    "c052": "Working/Playing on a laptop",
    "c059": "Sitting in a chair",
    "c154": "Someone is standing up from somewhere",
    "c999": "<script>alert(1)</script> | TV",
}
MODEL = DiaryModel(
    profile="demo",
    label_set="diary",
    model="finetune",
    model_sha256="a" * 64,
    thresholds_sha256="b" * 64,
    rules={label: EventRule(0.5, 0.4, 2.0, 1.0) for label in NAMES},
    test_precision=0.83,
)
EIGHT = datetime(2026, 11, 23, 8, 0, 0, tzinfo=timezone(timedelta(hours=1)))
NOTHING = EventsFound((), {})


def kitchen(recorded_at: datetime | None = EIGHT, file_name: str = "kitchen.mp4") -> Recording:
    """Four minutes, of which [100, 120) was not observed."""
    source = "unknown" if recorded_at is None else "container metadata"
    return Recording("kitchen", file_name, 240.0, recorded_at, source, (Segment(0, 100), Segment(120, 240)))


def events(*rows: tuple[str, float, float], recording_id: str = "kitchen") -> EventsFound:
    found = [
        Event(f"{recording_id}-{i:03d}", label, Segment(start_s, end_s), 0.9, 0.7)
        for i, (label, start_s, end_s) in enumerate(rows, start=1)
    ]
    return EventsFound(tuple(found), {"c015": 3, "c059": 0})


FOUND = events(("c059", 12, 90), ("c015", 20, 62), ("c154", 88.5, 93), ("c052", 130, 131.5))


def markdown(tmp_path: Path, *parts: tuple[Recording, EventsFound]) -> str:
    write_markdown(tmp_path / "diary.md", parts, NAMES, MODEL, min_quiet_s=10.0)
    return (tmp_path / "diary.md").read_text(encoding="utf-8")


def test_a_line_of_jsonl_says_when_what_and_by_which_model(tmp_path: Path) -> None:
    """Each line stands alone: seconds, clock times with offset and their source, probabilities, both hashes."""
    write_jsonl(tmp_path / "events.jsonl", kitchen(), FOUND, NAMES, MODEL)
    rows = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [row["type"] for row in rows] == ["recording", *["event"] * 4]
    assert rows[3] == {
        "type": "event",
        "id": "kitchen-003",
        "recording": "kitchen",
        "label": "c154",
        "name": "Someone is standing up from somewhere",
        "start_s": 88.5,
        "end_s": 93,
        "start_clock": "2026-11-23T08:01:28.500+01:00",
        "end_clock": "2026-11-23T08:01:33.000+01:00",
        "clock_source": "container metadata",
        "clock_is_guess": False,
        "peak_probability": 0.9,
        "mean_probability": 0.7,
        "confirmed": False,
        "model_sha256": "a" * 64,
        "thresholds_sha256": "b" * 64,
    }


def test_without_a_start_there_is_no_clock_time(tmp_path: Path) -> None:
    """An unknown start leaves clock times null, and the source says "unknown"."""
    write_jsonl(tmp_path / "events.jsonl", kitchen(None), FOUND, NAMES, MODEL)
    for line in (tmp_path / "events.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert (row["start_clock"], row["end_clock"], row["clock_source"]) == (None, None, "unknown")


def test_clock_times_survive_the_clock_being_set_back(tmp_path: Path) -> None:
    """Across the end of summer time, real seconds count: 20 s after 02:59:50 it is 02:00:10, an hour less ahead."""
    start = datetime(2026, 10, 25, 2, 59, 50, tzinfo=ZoneInfo("Europe/Berlin"), fold=0)
    write_jsonl(tmp_path / "events.jsonl", kitchen(start), events(("c015", 0, 20)), NAMES, MODEL)
    row = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[1])
    assert row["start_clock"] == "2026-10-25T02:59:50.000+02:00"
    assert row["end_clock"] == "2026-10-25T02:00:10.000+01:00"


def test_the_day_has_a_heading_a_story_and_a_table(tmp_path: Path) -> None:
    """Labels without a role are told by their names; every event is in the table once."""
    text = markdown(tmp_path, (kitchen(), FOUND))
    assert "\n## Monday, 23 November 2026\n" in text
    assert "| 08:00:20–08:01:02 | 42 s | Holding a phone/camera | 90% | kitchen-002 |" in text
    assert (
        "- 08:00:12 Probably sitting in a chair; meanwhile probably holding a phone/camera.\n"
        "- 08:01:29 Probably standing up from somewhere.\n"
    ) in text
    assert "- 08:02:10 Probably working/playing on a laptop.\n" in text
    for event in FOUND.events:
        assert text.count(f"| {event.id} |") == 1
    assert "3 detections dropped as too short or contradicted: holding a phone/camera (3)." in text
    assert "a" * 64 in text


def test_not_observed_is_told_apart_from_nothing_recognised(tmp_path: Path) -> None:
    """Time without video, also between the recordings of a day, is "not observed"; quiet video "nothing recognised"."""
    noon = Recording("hall", "hall.mp4", 60.0, EIGHT + timedelta(hours=4), "file name", (Segment(0, 60),))
    next_day = Recording("late", "late.mp4", 60.0, EIGHT + timedelta(days=1), "file name", (Segment(0, 60),))
    text = markdown(tmp_path, (kitchen(), FOUND), (next_day, NOTHING), (noon, NOTHING))
    assert "| 08:01:40–08:02:00 | 20 s | *not observed* | | |" in text
    assert "- 08:02:12 Nothing recognised for 2 min.\n" in text
    assert "| 08:04:00–12:00:00 | 3 h 56 min | *not observed* | | |" in text
    assert "- 12:00:00 Nothing recognised for 1 min.\n" in text
    assert text.count("*not observed*") == 2
    assert (
        text.index("## Monday, 23") < text.index("| 12:00:00–12:01:00 |") < text.index("## Tuesday, 24 November 2026")
    )
    assert "08:01:33–08:01:40" not in text  # 7 s of quiet are below the 10 s asked for


def test_a_second_camera_sees_what_the_first_one_does_not(tmp_path: Path) -> None:
    """Recordings of the same time are one day: what one of them saw is observed; lines say whose they are."""
    other = Recording("hall", "hall.mp4", 240.0, EIGHT, "file name", (Segment(0, 240),))
    text = markdown(tmp_path, (kitchen(), FOUND), (other, events(("c015", 96, 125), recording_id="hall")))
    assert "*not observed* |" not in text
    assert "- 08:01:36 hall.mp4: Probably holding a phone/camera.\n" in text
    assert "- 08:00:12 kitchen.mp4: Probably sitting in a chair" in text


def test_a_day_not_known_counts_from_the_start_of_the_file(tmp_path: Path) -> None:
    """Without a start there is no invented date or clock: minutes and seconds, named as such, behind all dated days."""
    text = markdown(tmp_path, (kitchen(None), FOUND), (kitchen(), FOUND))
    assert "Times are minutes and seconds from the start of `kitchen.mp4`." in text
    assert "| 00:20–01:02 | 42 s | Holding a phone/camera |" in text
    assert text.index("## Monday") < text.index("## A day not known")


def test_an_event_after_midnight_belongs_to_the_next_day(tmp_path: Path) -> None:
    """A recording across midnight has two day headings, each event under the day on which it starts."""
    late = EIGHT.replace(hour=23, minute=59)
    text = markdown(tmp_path, (kitchen(late), FOUND))
    assert text.index("## Tuesday, 24 November 2026") < text.index("| kitchen-003 |")
    assert text.index("| kitchen-002 |") < text.index("## Tuesday, 24 November 2026")
    assert text.index("## Tuesday, 24 November 2026") < text.index("- 00:00:29 Probably standing up")


def test_a_recording_of_which_nothing_was_observed_says_so(tmp_path: Path) -> None:
    """A file without any window is a line in the Markdown, and never an observed nothing."""
    empty = Recording("b", "broken.mp4", 0.0, None, "unknown", ())
    text = markdown(tmp_path, (empty, NOTHING))
    assert "- `broken.mp4`: start not known.\n" in text
    assert "nothing recognised." not in text


def test_names_cannot_break_a_table(tmp_path: Path) -> None:
    """Label names, file names and reasons are text, whatever is in them."""
    found = events(("c999", 5, 20))
    recording = kitchen(file_name="<b>`x`|.mp4")
    text = markdown(tmp_path, (recording, found))
    assert r"| \<script>alert(1)\</script> \| TV |" in text
    assert "`<b>'x'|.mp4`" in text


def test_the_same_events_give_the_same_bytes(tmp_path: Path) -> None:
    """Writing twice gives identical files and leaves nothing else behind."""
    first = markdown(tmp_path, (kitchen(), FOUND))
    assert first == markdown(tmp_path, (kitchen(), FOUND))
    write_jsonl(tmp_path / "events.jsonl", kitchen(), NOTHING, NAMES, MODEL)
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diary.md", "events.jsonl"]


def test_a_recording_checks_itself() -> None:
    """A start without an offset, a source that does not fit and stretches that overlap cannot be written down."""
    with pytest.raises(ValueError, match="offset from UTC"):
        kitchen(EIGHT.replace(tzinfo=None))
    with pytest.raises(ValueError, match="one of"):
        Recording("a", "a.mp4", 1.0, EIGHT, "a guess", ())
    with pytest.raises(ValueError, match="does not fit source"):
        Recording("a", "a.mp4", 1.0, None, "file name", ())
    with pytest.raises(ValueError, match="do not fit"):
        Recording("a", "a.mp4", 1.0, None, "unknown", (Segment(0, 2), Segment(1, 3)))


def test_times_and_durations_round_on_whole_milliseconds() -> None:
    """Half a second goes up, minutes never show 60 seconds."""
    assert [format_time(ms, None) for ms in (0, 499, 59_500, 3_599_500)] == ["00:00", "00:00", "01:00", "1:00:00"]
    assert format_time(59_500, EIGHT) == "08:01:00"
    assert [format_duration(ms) for ms in (0, 4_000, 4_460, 9_949, 9_950, 59_499, 59_500)] == [
        "0 s",
        "4 s",
        "4.5 s",
        "9.9 s",
        "10 s",
        "59 s",
        "1 min 00 s",
    ]
    assert format_duration(2 * 3_600_000 + 299_000) == "2 h 05 min"

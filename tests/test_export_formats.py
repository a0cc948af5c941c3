"""Every format is read back by its own parser, with the same events, names and probabilities."""

from __future__ import annotations

import csv
import html
import json
import os
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import icalendar
import pytest
import webvtt
from click.testing import CliRunner
from pydantic import BaseModel, ConfigDict, Field

from features.video import Segment
from pipeline.cli.__main__ import main
from reports.diary.formats import FORMATS
from reports.diary.formats.export import WRITERS, write_formats
from reports.diary.formats.labelstudio import FRAME_RATE
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.events import Event, EventRule, EventsFound
from tests.model_folders import make_model_folder
from tests.videos import evenly, write_video

NAMES = {
    "c015": "Holding a phone/camera",
    "c052": "Working, or playing; on a laptop",
    "c059": "Sitting in a chair",
    "c100": "Sitting in a chair",  # two labels with one name
}
HOSTILE = {
    "c015": "<script>alert(1)</script> --> &amp; {\\an8}",
    "c052": "=cmd|' /C calc'!A0,\"x\"",
    "c059": "one\n\n2\n00:00:00,000 --> 00:00:09,000\r\nBEGIN:VEVENT\u2028\u202e\x00",
    "c100": "$video",
}
START = datetime(2026, 3, 14, 8, 2, 11, 400_000, tzinfo=timezone(timedelta(hours=1)))
FOUND = EventsFound(
    (
        Event("kitchen-001", "c059", Segment(12.125, 90.0), 0.99951, 0.98754),
        Event("kitchen-002", "c015", Segment(20.0, 62.5), 0.9, 0.7),
        Event("kitchen-003", "c052", Segment(90.0, 90.0004), 1.0, 1.0),  # shorter than a millisecond
        Event("kitchen-004", "c100", Segment(3599.5, 3661.25), 0.5, 0.25),
    ),
    {},
)
NOTHING = EventsFound((), {})


def model_of(names: Mapping[str, str]) -> DiaryModel:
    rules = {label: EventRule(0.5, 0.4, 2.0, 1.0) for label in names}
    return DiaryModel("demo", "diary", "temporal", "a" * 64, "b" * 64, rules)


def recording(start: datetime | None = START, file_name: str = "kitchen.mp4", **more: Any) -> Recording:
    source = "unknown" if start is None else "container metadata"
    return Recording("kitchen", file_name, 3700.0, start, source, (Segment(0, 3700),), **more)


def written(
    folder: Path,
    name: str,
    part: Recording | None = None,
    found: EventsFound = FOUND,
    names: Mapping[str, str] = NAMES,
) -> Path:
    assert write_formats(folder, [name], part or recording(), found, names, model_of(names)) == []
    return folder / FORMATS[name]


def test_the_table_of_formats_has_a_writer_for_each() -> None:
    """And no two formats share a file."""
    assert list(WRITERS) == list(FORMATS)
    assert len(set(FORMATS.values())) == len(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("found", [FOUND, NOTHING], ids=["events", "none"])
def test_the_same_events_give_the_same_bytes(name: str, found: EventsFound, tmp_path: Path) -> None:
    """Whatever the time of writing and the folder; and nothing else is left there."""
    first = written(tmp_path / "first", name, found=found).read_bytes()
    assert written(tmp_path / "second", name, found=found).read_bytes() == first
    other_file = {"events.labelstudio.xml"} if name == "labelstudio" else set()
    assert {path.name for path in (tmp_path / "first").iterdir()} == {FORMATS[name]} | other_file


def test_csv_has_a_line_an_event(tmp_path: Path) -> None:
    """Seconds, clock times with offset, both probabilities and both hashes."""
    with written(tmp_path, "csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert [row["event"] for row in rows] == [event.id for event in FOUND.events]
    assert rows[0] == {
        "recording": "kitchen",
        "file": "kitchen.mp4",
        "event": "kitchen-001",
        "label": "c059",
        "name": "Sitting in a chair",
        "start_s": "12.125",
        "end_s": "90.000",
        "start_clock": "2026-03-14T08:02:23.525+01:00",
        "end_clock": "2026-03-14T08:03:41.400+01:00",
        "clock_source": "container metadata",
        "clock_is_guess": "false",
        "mean_probability": "0.9875",
        "peak_probability": "0.9995",
        "model_sha256": "a" * 64,
        "thresholds_sha256": "b" * 64,
        "told": "true",
        "confirmed": "false",
    }
    assert rows[1]["name"] == NAMES["c015"]
    assert rows[2]["name"] == NAMES["c052"]
    with written(tmp_path, "csv", recording(None)).open(encoding="utf-8", newline="") as file:
        assert {(row["start_clock"], row["clock_source"]) for row in csv.DictReader(file)} == {("", "unknown")}


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "＝1", "'=1", "'tis", "\t=1", "\r=1", "a=1", "Sitting"]
)
def test_a_spreadsheet_computes_no_text_of_a_csv(name: str, tmp_path: Path) -> None:
    """No cell of text begins like a formula; what was put in front comes off again."""
    part = Recording(name, f"{name}.mp4", 60.0, None, "unknown", (Segment(0, 60),))
    found = EventsFound((Event(f"{name}-001", name, Segment(1, 2), 0.5, 0.5),), {})
    with written(tmp_path, "csv", part, found, {name: name}).open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    spelled = name.replace("\t", "\\t").replace("\r", "\\r")
    for column in ("recording", "file", "event", "label", "name"):
        assert row[column].strip()[0] not in "=+-@＝＋－＠\t\r"
        assert row[column].removeprefix("'").startswith(spelled)
        assert row[column].startswith("''") == name.startswith("'")


def test_vtt_has_a_cue_an_event(tmp_path: Path) -> None:
    """Overlapping cues, by the time of the video, with id and probability."""
    cues = webvtt.read(str(written(tmp_path, "vtt"))).captions
    assert [(cue.identifier, cue.start, cue.end, cue.text) for cue in cues] == [
        ("kitchen-001", "00:00:12.125", "00:01:30.000", "Sitting in a chair 99%"),
        ("kitchen-002", "00:00:20.000", "00:01:02.500", "Holding a phone/camera 70%"),
        ("kitchen-003", "00:01:30.000", "00:01:30.001", "Working, or playing; on a laptop over 99%"),
        ("kitchen-004", "00:59:59.500", "01:01:01.250", "Sitting in a chair 25%"),
    ]
    raw = (tmp_path / FORMATS["vtt"]).read_text(encoding="utf-8")
    assert raw.startswith("WEBVTT\n\n")


def subtitles(path: Path) -> list[tuple[str, str, str]]:
    return [(each.start, each.end, each.text) for each in webvtt.from_srt(str(path)).captions]


def test_srt_has_a_subtitle_for_each_stretch(tmp_path: Path) -> None:
    """What is on at the same time stands in one subtitle; none overlaps the next."""
    path = written(tmp_path, "srt")
    assert subtitles(path) == [
        ("00:00:12.125", "00:00:20.000", "Sitting in a chair 99%"),
        ("00:00:20.000", "00:01:02.500", "Sitting in a chair 99%\nHolding a phone/camera 70%"),
        ("00:01:02.500", "00:01:30.000", "Sitting in a chair 99%"),
        ("00:01:30.000", "00:01:30.001", "Working, or playing; on a laptop over 99%"),
        ("00:59:59.500", "01:01:01.250", "Sitting in a chair 25%"),
    ]
    blocks = path.read_text(encoding="utf-8").split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == ["1", "2", "3", "4", "5"]
    assert blocks[0].splitlines()[1] == "00:00:12,125 --> 00:00:20,000"
    assert written(tmp_path, "srt", found=NOTHING).read_bytes() == b""


def entries(path: Path) -> list[icalendar.Event]:
    (calendar,) = icalendar.Calendar.from_ical(path.read_bytes(), multiple=True)
    assert isinstance(calendar, icalendar.Calendar)
    assert calendar.errors == []
    assert all(event.errors == [] for event in calendar.events)
    return calendar.events


def test_ics_has_an_entry_of_the_recording_and_of_each_event(tmp_path: Path) -> None:
    """In UTC to the second, at least one long; private, and with a UID that stays until the model changes."""
    path = written(tmp_path, "ics", recording(is_guess=True, faults=("2 of 9 packets are damaged",)))
    whole, *events = entries(path)
    assert (whole.start, whole.end) == (
        datetime(2026, 3, 14, 7, 2, 11, tzinfo=UTC),
        datetime(2026, 3, 14, 8, 3, 51, tzinfo=UTC),
    )
    assert whole["summary"] == "Recording: kitchen.mp4"
    assert "a guess" in str(whole["description"])
    assert "packets are damaged" in str(whole["description"])
    assert [str(event["summary"]) for event in events] == [NAMES[event.label] for event in FOUND.events]
    assert (events[0].start, events[0].end) == (
        datetime(2026, 3, 14, 7, 2, 24, tzinfo=UTC),  # half a second up
        datetime(2026, 3, 14, 7, 3, 41, tzinfo=UTC),
    )
    assert all(event.duration >= timedelta(seconds=1) for event in events)
    assert [event["x-video-diary-mean-probability"] for event in events] == ["0.9875", "0.7000", "1.0000", "0.2500"]
    assert {str(event["class"]) for event in [whole, *events]} == {"PRIVATE"}
    assert {event.stamp for event in [whole, *events]} == {whole.end}
    assert all(len(line) <= 75 for line in path.read_bytes().split(b"\r\n"))

    uids = [str(event["uid"]) for event in [whole, *events]]
    assert len(set(uids)) == len(uids)
    fewer = EventsFound(FOUND.events[:1], {})
    assert [str(event["uid"]) for event in entries(written(tmp_path, "ics", found=fewer))] == uids[:2]
    other = DiaryModel("demo", "diary", "linear", "c" * 64, "b" * 64, {})
    write_formats(tmp_path, ["ics"], recording(), FOUND, NAMES, other)
    assert not {str(event["uid"]) for event in entries(tmp_path / FORMATS["ics"])} & set(uids)


def test_ics_without_events_still_has_an_entry(tmp_path: Path) -> None:
    """RFC 5545 knows no calendar without one."""
    assert [str(event["summary"]) for event in entries(written(tmp_path, "ics", found=NOTHING))] == [
        "Recording: kitchen.mp4"
    ]


def test_clock_times_are_right_across_a_change_of_the_clocks(tmp_path: Path) -> None:
    """An hour after 02:30 summer time it is 02:30 again, an hour later."""
    part = recording(datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")))
    found = EventsFound((Event("kitchen-001", "c059", Segment(3600, 3660), 0.9, 0.9),), {})
    _, event = entries(written(tmp_path, "ics", part, found))
    assert event.start == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    with written(tmp_path, "csv", part, found).open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["start_clock"] == "2026-10-25T02:30:00.000+01:00"
    assert bucket(written(tmp_path, "activitywatch", part, found)).events[0].timestamp == event.start


@pytest.mark.parametrize(("name", "told"), [("ics", "iCalendar"), ("activitywatch", "ActivityWatch")])
def test_a_format_that_needs_a_date_is_refused_and_the_others_written(name: str, told: str, tmp_path: Path) -> None:
    """With the file, the format and what to do; no file, not even an old one's."""
    part = recording(None, "kit\nchen.mp4")
    (refusal,) = write_formats(tmp_path, [name, "csv", "vtt", "csv"], part, FOUND, NAMES, model_of(NAMES))
    assert refusal == (
        f"kit\\nchen.mp4: not written as {told}, which needs a date, and its start is not known: "
        "give it with --recorded-at"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"events.csv", "events.vtt"}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AwEvent(Strict):
    timestamp: datetime = Field(strict=False)
    duration: float = Field(ge=0)
    data: dict[str, Any]


class AwBucket(Strict):
    """As ActivityWatch's schema of a bucket has it, https://activitywatch.net/schemas/bucket.v0.json."""

    id: str
    created: datetime = Field(strict=False)
    name: str
    type: str
    client: str
    hostname: str
    events: list[AwEvent]


class AwExport(Strict):
    buckets: dict[str, AwBucket]


def bucket(path: Path) -> AwBucket:
    ((bucket_id, found),) = AwExport.model_validate_json(path.read_bytes()).buckets.items()
    assert found.id == bucket_id
    return found


def test_activitywatch_has_a_bucket_of_the_recording(tmp_path: Path) -> None:
    """Times in UTC to the millisecond, durations in seconds, both probabilities."""
    found = bucket(written(tmp_path, "activitywatch", recording(is_guess=True)))
    assert found.hostname == "unknown"
    assert found.created == START
    for row, event in zip(found.events, FOUND.events, strict=True):
        assert row.timestamp == START + timedelta(seconds=event.segment.start_s)
        assert row.duration == pytest.approx(event.segment.duration_s, abs=0.0011)
        assert row.duration > 0
        assert row.data["title"] == NAMES[event.label]
        assert row.data["mean_probability"] == pytest.approx(event.mean_probability, abs=5e-5)
        assert row.data["clock_is_guess"] is True
    later = recording(START + timedelta(hours=1))
    assert bucket(written(tmp_path, "activitywatch", later)).id != found.id
    assert bucket(written(tmp_path, "activitywatch", found=NOTHING)).events == []


class Range(Strict):
    start: int = Field(ge=1)
    end: int = Field(ge=1)


class TimelineValue(Strict):
    ranges: list[Range] = Field(min_length=1, max_length=1)
    timelinelabels: list[str] = Field(min_length=1, max_length=1)


class Meta(Strict):
    text: list[str]


class Region(Strict):
    meta: Meta | None = None
    id: str
    from_name: str
    to_name: str
    type: str = Field(pattern="^timelinelabels$")
    origin: str = Field(pattern="^prediction$")
    score: float = Field(ge=0, le=1)
    value: TimelineValue


class Prediction(Strict):
    model_version: str
    score: float | None = Field(None, ge=0, le=1)
    result: list[Region]


class Task(Strict):
    """A task with predictions, as Label Studio's guide to pre-annotations and its TimelineLabels tag have it."""

    data: dict[str, str]
    predictions: list[Prediction]


def task_and_configuration(path: Path) -> tuple[Task, ElementTree.Element]:
    (content,) = json.loads(path.read_bytes())
    return Task.model_validate(content), ElementTree.parse(path.with_suffix(".xml")).getroot()


def test_label_studio_has_a_task_that_fits_its_configuration(tmp_path: Path) -> None:
    """Frames from 1 on the timeline's own rate; each region's label and control are in the configuration."""
    path = written(tmp_path, "labelstudio", recording(file_name="my kitchen #1 & Küche.mp4"))
    task, configuration = task_and_configuration(path)
    (prediction,) = task.predictions
    for region, event in zip(prediction.result, FOUND.events, strict=True):
        (frames,) = region.value.ranges
        assert (frames.start - 1) / FRAME_RATE == pytest.approx(event.segment.start_s, abs=0.5 / FRAME_RATE)
        assert frames.end / FRAME_RATE == pytest.approx(event.segment.end_s, abs=1.01 / FRAME_RATE)
        assert frames.start <= frames.end
        assert region.score == pytest.approx(event.mean_probability, abs=5e-5)
    video, control = configuration.find("Video"), configuration.find("TimelineLabels")
    assert video is not None
    assert control is not None
    assert video.get("value", "")[1:] in task.data
    assert video.get("frameRate") == str(FRAME_RATE)
    assert (control.get("name"), control.get("toName")) == ("activities", video.get("name"))
    assert {region.from_name for region in prediction.result} == {"activities"}
    labels = [label.get("value") for label in control]
    assert len(set(labels)) == len(labels) == len(NAMES)
    assert {region.value.timelinelabels[0] for region in prediction.result} <= set(labels)
    assert parse_qs(urlsplit(task.data["video"]).query)["d"] == ["my kitchen #1 & Küche.mp4"]
    empty, _ = task_and_configuration(written(tmp_path, "labelstudio", found=NOTHING))
    assert empty.predictions[0].result == []


def boris_states(path: Path) -> tuple[dict[str, Any], list[tuple[str, float, float, str]]]:
    """The one observation, and its states as BORIS reads them: rows of a code are in turn a start and an end."""
    project = json.loads(path.read_bytes())
    ethogram = {row["code"]: row["type"] for row in project["behaviors_conf"].values()}
    assert len(ethogram) == len(project["behaviors_conf"])
    assert set(ethogram.values()) == {"State event"}
    ((_, observation),) = project["observations"].items()
    is_on: dict[str, tuple[float, str]] = {}
    states = []
    last = 0.0
    for time_s, subject, code, modifiers, comment in observation["events"]:
        assert (subject, modifiers) == ("", "")
        assert code in ethogram
        assert time_s >= last
        last = time_s
        if code in is_on:
            start_s, told = is_on.pop(code)
            states.append((code, start_s, time_s, told))
        else:
            is_on[code] = (time_s, comment)
    assert is_on == {}
    return {**project, "observation": observation}, sorted(states, key=lambda state: state[3].split("; ")[1])


def test_boris_has_a_project_with_a_pair_of_rows_an_event(tmp_path: Path) -> None:
    """Keys of the project format 7.0; the second of two states that touch begins after the first has ended."""
    touching = Event("kitchen-005", "c059", Segment(90.0, 95.0), 0.8, 0.6)
    found = EventsFound((*FOUND.events[:3], touching, FOUND.events[3]), {})
    project, states = boris_states(written(tmp_path, "boris", found=found))
    by_id = {event.id: event for event in found.events}
    assert len(states) == len(by_id)
    for code, start_s, end_s, comment in states:
        event = by_id[comment.split("; ")[1]]
        assert code.startswith(NAMES[event.label])
        assert (start_s, end_s) == (
            pytest.approx(event.segment.start_s, abs=5e-4),
            pytest.approx(event.segment.end_s, abs=1.1e-3),
        )
        assert f"mean probability {event.mean_probability:.4f}" in comment
    assert project["project_format_version"] == "7.0"
    assert project["observation"]["date"] == "2026-03-14T08:02:11"
    assert project["observation"]["file"] == {"1": ["kitchen.mp4"], "2": []}
    undated, _ = boris_states(written(tmp_path, "boris", recording(None)))
    assert "not known" in undated["observation"]["description"]


def test_no_text_breaks_out_of_its_place(tmp_path: Path) -> None:
    """Names with markup, arrows, line ends, formulas and variables come back as text, in the same number of events."""
    part = recording(file_name="a-->b\n<i>\udcff,;.mp4")
    folder = tmp_path / "hostile"
    assert write_formats(folder, FORMATS, part, FOUND, HOSTILE, model_of(HOSTILE)) == []

    cues = webvtt.read(str(folder / FORMATS["vtt"])).captions
    assert [cue.identifier for cue in cues] == [event.id for event in FOUND.events]
    assert html.unescape(cues[1].text) == f"{HOSTILE['c015']} 70%"
    raw = (folder / FORMATS["vtt"]).read_text(encoding="utf-8")
    assert raw.count("-->") == len(cues)
    assert "<" not in raw.split("\n\n", 2)[2]  # a note is no markup

    shown = subtitles(folder / FORMATS["srt"])
    assert len(shown) == 5
    assert all(set(text).isdisjoint("<>{}") for *_, text in shown)

    _, *events = entries(folder / FORMATS["ics"])
    assert len(events) == len(FOUND.events)
    assert str(events[1]["summary"]) == HOSTILE["c015"]
    assert (folder / FORMATS["ics"]).read_bytes().count(b"\r\nBEGIN:VEVENT") == len(FOUND.events) + 1

    task, configuration = task_and_configuration(folder / FORMATS["labelstudio"])
    values = [label.get("value") or "" for label in configuration.iter("Label")]
    assert {region.value.timelinelabels[0] for region in task.predictions[0].result} <= set(values)
    assert not any(value.startswith("$") for value in values)
    assert HOSTILE["c015"] in values

    _, states = boris_states(folder / FORMATS["boris"])
    assert len(states) == len(FOUND.events)
    assert all("|" not in code for code, *_ in states)
    assert len(bucket(folder / FORMATS["activitywatch"]).events) == len(FOUND.events)
    with (folder / FORMATS["csv"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert len(rows) == len(FOUND.events)
    assert rows[2]["name"] == f"'{HOSTILE['c052']}"
    for path in folder.iterdir():
        text = path.read_bytes().decode("utf-8")
        assert not any(sign in text for sign in "\x00\u2028\u202e")


UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode categories: controls, formatting, stray bytes, line ends


@pytest.mark.parametrize("name", FORMATS)
def test_no_sign_that_is_not_seen_reaches_a_file(name: str, tmp_path: Path) -> None:
    """All controls, marks of direction and line ends there are, in every text; a file has its own line ends alone."""
    signs = "".join(chr(k) for k in range(0x11_0000) if unicodedata.category(chr(k)) in UNSEEN)
    text = f"a{signs}b"
    part = Recording(text, f"{text}.mp4", 60.0, START, "file name", (Segment(0, 60),), faults=(text,), clock_note=text)
    found = EventsFound((Event(f"{text}-001", "c015", Segment(5, 20), 0.9, 0.7),), {})
    model = DiaryModel(text, text, text, "a" * 64, "b" * 64, {})
    assert write_formats(tmp_path, [name], part, found, {"c015": text}, model) == []
    for path in tmp_path.iterdir():
        shown = {char for char in path.read_bytes().decode("utf-8") if unicodedata.category(char) in UNSEEN}
        assert shown - {"\u200c", "\u200d"} <= {"\n", "\r"}  # joiners are part of how words are written


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_long_day_is_written_at_once(writer: Callable[..., None], tmp_path: Path) -> None:
    """Two thousand events, some at a time: no writer compares each with each, and hours have two digits or more."""
    found = EventsFound(
        tuple(Event(f"day-{k:05d}", "c059", Segment(k * 180.5, k * 180.5 + 900), 0.9, 0.8) for k in range(2000)), {}
    )
    part = Recording("day", "day.mp4", 362_000.0, START, "container metadata", (Segment(0, 362_000),))
    writer(tmp_path / "written", part, found, NAMES, model_of(NAMES))
    text = (tmp_path / "written").read_text(encoding="utf-8")
    if writer in (WRITERS["vtt"], WRITERS["srt"]):
        assert "\n99:" in text
        assert "\n100:" in text


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_command_writes_what_is_asked_for(tmp_path: Path) -> None:
    """Beside events.jsonl, and listed with it; a later command that asks for less leaves less.

    Without a date there is no calendar: that is told, with exit status 1, and the rest is there.
    """
    model = make_model_folder(tmp_path / "made of")
    known = write_video(tmp_path / "known.mp4", evenly(12, 12), recorded_at=START)
    unknown = write_video(tmp_path / "unknown.mp4", evenly(12, 12))
    os.utime(unknown, (0, 0))
    out = tmp_path / "out"

    def write(*names: str) -> tuple[int, str]:
        options = [part for name in names for part in ("--format", name)]
        command = ["write", str(known), str(unknown), "--model", str(model), "-o", str(out), *options]
        done = CliRunner().invoke(main, command)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.output
        return done.exit_code, done.output

    def files(recording_id: str) -> set[str]:
        (row,) = [
            row for row in json.loads((out / "manifest.json").read_text())["recordings"] if row["id"] == recording_id
        ]
        there = {path.relative_to(out).as_posix() for path in (out / recording_id).iterdir() if path.is_file()}
        assert there <= set(row["files"])
        return {name.removeprefix(f"{recording_id}/") for name in there}

    code, output = write("csv", "ics", "labelstudio", "csv", "jsonl")
    assert code == 1
    assert output.count("Error:") == 1
    assert "unknown.mp4: not written as iCalendar" in output
    made = {FORMATS[name] for name in ("csv", "labelstudio", "jsonl")} | {"events.labelstudio.xml"}
    assert made | {FORMATS["ics"]} <= files("known")
    assert made <= files("unknown")
    assert FORMATS["ics"] not in files("unknown")
    with (out / "known" / "events.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len((out / "known" / "events.jsonl").read_text().splitlines()) - 1 > 0
    assert len(entries(out / "known" / "events.ics")) == len(rows) + 1

    assert write("vtt")[0] == 0
    assert not {FORMATS["csv"], FORMATS["ics"], "events.labelstudio.xml"} & (files("known") | files("unknown"))
    assert {FORMATS["vtt"], FORMATS["jsonl"]} <= files("known") & files("unknown")
    code, output = write("html5")
    assert code == 2
    assert "'html5' is not one of" in output

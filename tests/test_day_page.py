"""The page of a day: what it tells, links to and holds; days split at midnight; sizes."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from features.sealed import DamagedFile
from features.video import Segment
from reports.diary.day import make_day, page_keys
from reports.diary.model import DiaryModel
from reports.diary.page import THUMBNAILS, Neighbours, picture_times_ms, thumbnail_name, write_day_page
from reports.diary.recording import Recording, Unrecognisable
from reports.diary.roles import Role
from reports.diary.stored import StoredRecording, read_stored, write_stored
from reports.diary.timeline import Axis, day_axis, hours, label_hue
from reports.events import Event, EventRule, EventsFound
from reports.spans import without
from tests.diaries import Page, day_html, stored

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
    model="temporal",
    model_sha256="a" * 64,
    thresholds_sha256="b" * 64,
    rules={label: EventRule(0.5, 0.4, 2.0, 1.0) for label in NAMES},
    test_precision=0.83,
    trained_on="The model knows a drawn world.",
)
EIGHT = datetime(2026, 11, 23, 8, 0, 0, tzinfo=timezone(timedelta(hours=1)))
NOTHING = EventsFound((), {})


def kitchen(
    recorded_at: datetime | None = EIGHT, file_name: str = "kitchen.mp4", recording_id: str = "kitchen"
) -> Recording:
    """Four minutes, of which [100, 120) was not observed and [230, 240) cannot be recognised."""
    return Recording(
        id=recording_id,
        file_name=file_name,
        duration_s=240.0,
        recorded_at=recorded_at,
        recorded_at_source="unknown" if recorded_at is None else "container metadata",
        observed=(Segment(0, 100), Segment(120, 240)),
        unrecognisable=(Unrecognisable(Segment(230, 240), "too dark"),),
    )


def events(*rows: tuple[str, float, float], recording_id: str = "kitchen") -> EventsFound:
    found = [
        Event(f"{recording_id}-{i:03d}", label, Segment(start_s, end_s), 0.9, 0.7)
        for i, (label, start_s, end_s) in enumerate(rows, start=1)
    ]
    less = (Event(f"{recording_id}-901", "c052", Segment(200, 204), 0.4, 0.3),)
    return EventsFound(tuple(found), {"c015": 3, "c059": 0}, less)


FOUND = events(("c059", 12, 90), ("c015", 20, 62), ("c154", 88.5, 93), ("c052", 130, 131.5))


def part(
    recorded_at: datetime | None = EIGHT, found: EventsFound = FOUND, *, video: str = "", recording_id: str = "kitchen"
) -> StoredRecording:
    recording = kitchen(recorded_at, f"{recording_id}.mp4", recording_id)
    return stored(recording, found, NAMES, MODEL, video=video, thumbnails_ms=(51_000, 130_500))


def test_the_first_block_says_when_what_and_how_far_to_trust_it(tmp_path: Path) -> None:
    """Day, times, how much is on video, the summary, what share was right, what the model knows."""
    text = Page(day_html(tmp_path, part())).text
    first = text[: text.index("The story")]
    assert "Monday, 23 November 2026 08:00–08:04 · 3½ min of 4 min on video" in first
    assert "probably sitting in a chair" in first.lower()
    assert "Of events like these, about 8 in 10 were right on recordings the model had never seen." in first
    assert "The model knows a drawn world. It knows 5 activities and can name no other." in first


def test_the_story_is_told_with_one_picture_and_one_button_a_line(tmp_path: Path) -> None:
    """A line plays its stretch of the video with a second more at either end; what was not observed has neither."""
    page = Page(day_html(tmp_path, part(video="../my%20videos/kitchen.mp4")))
    lines = [attrs for tag, attrs in page.tags if tag == "li" and "line" in (attrs.get("class") or "").split()]
    kinds = [(line["class"] or "").split()[1] for line in lines]
    assert kinds.count("not-observed") == 1
    assert kinds.count("not-recognisable") == 1
    story = [attrs for tag, attrs in page.tags if tag == "a" and attrs.get("class") == "play"]
    assert sum((attrs["aria-label"] or "").startswith("Play from") for attrs in story) == len(lines) - 1
    assert "../my%20videos/kitchen.mp4#t=11,91" in [attrs["href"] for attrs in story]
    assert {picture["src"] for picture in page.pictures} == {
        f"kitchen/{THUMBNAILS}/{thumbnail_name(at)}" for at in (51_000, 130_500)
    }
    assert all(picture["loading"] == "lazy" and picture["alt"] for picture in page.pictures)
    assert "Not recognisable for 10 s: too dark." in page.text


def test_without_a_way_to_the_video_there_is_no_button(tmp_path: Path) -> None:
    """The policy then lets no video in either."""
    text = day_html(tmp_path, part())
    assert 'class="play"' not in text
    assert "media-src" not in text
    assert "media-src" in day_html(tmp_path, part(video="../kitchen.mp4"))


def test_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    """Links are relative or inside the page; the one script is the one whose hash the policy names."""
    text = day_html(tmp_path, part(video="../kitchen.mp4"))
    page = Page(text)
    assert not [link for link in page.links if link.startswith(("//", "/", "http", "data:", "javascript:"))]
    assert "http" not in text.replace("http-equiv", "")
    assert {tag for tag, _ in page.tags} & {"link", "iframe", "object", "form"} == {
        "form"
    }  # the filter's, sent nowhere
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [attrs["content"] or "" for tag, attrs in page.tags if attrs.get("http-equiv")]
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'" in policy
    assert len(page.ids) == len(set(page.ids))


def test_names_cannot_break_a_page(tmp_path: Path) -> None:
    """Label names, file names and ids are text, whatever is in them."""
    recording = kitchen(file_name="<b>`x`|.mp4", recording_id='a"><i>')
    page = Page(day_html(tmp_path, stored(recording, events(("c999", 5, 20)), NAMES, MODEL)))
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert "<script>alert(1)</script> | TV" in page.text
    assert "<b>`x`|.mp4" in page.text


def test_every_event_is_in_the_table_and_on_the_strip_once(tmp_path: Path) -> None:
    """Those that are less certain are counted, in a fold, and not in the story."""
    page = Page(day_html(tmp_path, part()))
    bars = [attrs["data-ids"] for tag, attrs in page.tags if tag == "b" and attrs.get("data-ids")]
    told = [
        event_id for tag, attrs in page.tags if tag == "a" for event_id in (attrs.get("data-ids") or "").split("\n")
    ]
    for event in FOUND.events:
        assert page.ids.count(event.id) == 1
        assert bars.count(event.id) == 1
        assert told.count(event.id) == 1
    assert "All events (4)" in page.text
    assert "Less certain (1)" in page.text
    assert "kitchen-901" in page.ids
    assert "kitchen-901" not in bars
    assert "Left out as too short, or as contradicting a surer one: Holding a phone/camera (3)." in page.text


def test_a_day_has_all_its_recordings_and_nothing_of_other_days(tmp_path: Path) -> None:
    """A recording across midnight is on two pages; an event is on the one of the day that it starts in."""
    late = part(EIGHT.replace(hour=23, minute=59), recording_id="late")  # midnight is at 60 s
    late_events = events(("c059", 12, 90), ("c015", 61, 62), recording_id="late")
    late = stored(late.recording, late_events, NAMES, MODEL)
    assert page_keys(late.recording) == ("2026-11-23", "2026-11-24")
    monday = make_day("2026-11-23", [late, part()])
    assert [own.recording.id for own in monday.parts] == ["kitchen", "late"]
    assert monday.parts[1].span == (0, 60_000)
    assert [event.id for _, event in monday.events()] == [*(event.id for event in FOUND.events), "late-001"]
    tuesday = make_day("2026-11-24", [late])
    assert tuesday.parts[0].span == (60_000, 240_000)
    assert [event.id for _, event in tuesday.events()] == ["late-002"]
    told = [line.event_ids for day in (monday, tuesday) for line in day.lines]
    assert sorted(event_id for ids in told for event_id in ids).count("late-001") == 1
    assert not [line for line in tuesday.lines if line.start_ms < 60_000]
    text = Page(day_html(tmp_path, late, part())).text
    assert "Recordings (2)" in text
    assert "nothing recognised for 30 s" not in text.lower()  # the event from before midnight goes on


def test_a_day_without_midnight_and_one_that_ends_at_it() -> None:
    """Clocks that are put forward at midnight, and a recording that ends on the stroke of it."""
    beirut = datetime(2026, 3, 28, 23, 59, tzinfo=ZoneInfo("Asia/Beirut"))  # 00:00 does not exist on the 29th
    assert page_keys(kitchen(beirut)) == ("2026-03-28", "2026-03-29")
    days = [make_day(key, [part(beirut)]) for key in page_keys(kitchen(beirut))]
    assert [day.parts[0].span for day in days] == [(0, 60_000), (60_000, 240_000)]
    assert page_keys(kitchen(EIGHT.replace(hour=23, minute=56))) == ("2026-11-23",)


def test_a_start_that_is_not_known_is_a_page_of_its_own(tmp_path: Path) -> None:
    """Times count from the start, and no day is invented."""
    assert page_keys(kitchen(None)) == ("undated-kitchen",)
    text = Page(day_html(tmp_path, part(None))).text
    assert "A day not known" in text
    assert "When kitchen.mp4 was recorded is not known: times count from its start." in text
    assert "00:12–01:30" in text


def test_nothing_observed_is_said(tmp_path: Path) -> None:
    """And is not an observed nothing."""
    empty = Recording("b", "broken.mp4", 0.0, None, "unknown", ())
    text = Page(day_html(tmp_path, stored(empty, NOTHING, NAMES, MODEL))).text
    assert "Nothing was observed, so there is nothing to tell." in text


def test_lanes_are_things_where_roles_name_them(tmp_path: Path) -> None:
    """Labels of one thing share a lane, each in its colour, which is that of the label on every page."""
    roles = {"c059": Role("state", "seat", "sat"), "c154": Role("end", "seat", "stood up")}
    page = Page(day_html(tmp_path, stored(kitchen(), FOUND, NAMES, MODEL, roles=roles)))
    names = [attrs["data-name"] for _, attrs in page.tags if attrs.get("data-name")]
    assert names == ["Recordings", "seat", "Holding a phone/camera", "Working/Playing on a laptop"]
    styles = [attrs["style"] for _, attrs in page.tags if attrs.get("class") == "row" and attrs.get("style")]
    assert f"--hue:{label_hue('c015')}" in styles
    assert label_hue("c015") == label_hue("c015") != label_hue("c016")


def test_the_axis_shortens_what_nobody_recorded() -> None:
    """Two recordings of four minutes, four hours apart, take nearly half of the strip each."""
    day = make_day("2026-11-23", [part(), part(EIGHT + timedelta(hours=4), recording_id="hall")])
    axis = day_axis(day)
    assert len(axis.pieces) == 2
    places = [axis.place(own.absolute(own.span)) for own in day.parts]
    assert [round(place["width"]) for place in places] == [48, 48]
    (gap,) = axis.breaks
    assert (gap["width"], gap["duration_ms"]) == (3.0, 4 * 3_600_000 - 240_000)
    assert gap["x"] == pytest.approx(48.5)
    assert [button["text"] for button in hours(day, axis)] == ["08–09", "12–13"]
    assert Axis(((0, 1000),)).place((250, 500)) == {"x": 25.0, "width": pytest.approx(25, abs=0.2)}
    assert hours(make_day("2026-11-23", [part()]), axis) == []


def test_pictures_are_wanted_of_events_and_of_what_lies_between() -> None:
    """Their middles, each once, in order; what cannot be recognised has its own."""
    times = picture_times_ms(part())
    assert times == sorted(set(times))
    assert {51_000, 41_000, 6_000, 180_750, 235_000} <= set(times)


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    """With the rules of its zone and bytes that are no UTF-8; a file that was edited is refused with what to do."""
    berlin = datetime(2026, 10, 25, 2, 59, 50, tzinfo=ZoneInfo("Europe/Berlin"), fold=0)
    for start in (EIGHT, None, berlin):
        own = part(start, video="../a.mp4")
        write_stored(tmp_path / "a.json", own)
        assert read_stored(tmp_path / "a.json") == own
    assert read_stored(tmp_path / "a.json").recording.utc_offset == "UTC+02:00, later UTC+01:00"
    odd = stored(kitchen(file_name="a\udcff.mp4"), FOUND, NAMES, MODEL)
    write_stored(tmp_path / "a.json", odd)
    assert read_stored(tmp_path / "a.json") == odd
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(text.replace("c015", "c016"))
    with pytest.raises(DamagedFile, match="write the diary of its video again"):
        read_stored(tmp_path / "a.json")


def test_the_same_day_gives_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the order in which its recordings come."""
    one, other = part(), part(EIGHT + timedelta(minutes=2), recording_id="hall")
    assert day_html(tmp_path, one, other) == day_html(tmp_path, other, one)
    assert [path.name for path in tmp_path.iterdir()] == ["2026-11-23.html"]


def test_what_many_recordings_share_is_said_once(tmp_path: Path) -> None:
    """Of a dashcam's minutes: one line on their clock, six on what is wrong with them, and the rest counted."""
    minutes = [
        stored(
            replace(
                kitchen(EIGHT + timedelta(minutes=5 * i), f"{i}.mp4", f"r{i}"), is_guess=True, faults=(f"fault {i}",)
            ),
            NOTHING,
            NAMES,
            MODEL,
        )
        for i in range(9)
    ]
    text = Page(day_html(tmp_path, *minutes)).text
    first = text[: text.index("The story")]
    assert first.count("a guess") == 1
    assert "The clock times of 9 recordings are a guess from the file’s metadata." in first
    assert first.count("fault ") == 6
    assert "And 3 more: see the recordings below." in first
    assert text.count("fault 8") == 1


def test_days_lead_to_each_other(tmp_path: Path) -> None:
    """Where there is a day before or after."""
    write_day_page(tmp_path / "x.html", make_day("2026-11-23", [part()]), Neighbours("2026-11-20", ""))
    links = Page((tmp_path / "x.html").read_text(encoding="utf-8")).links
    assert "2026-11-20.html" in links
    assert "index.html" in links
    assert not [link for link in links if link.startswith("2026-11-2") and link != "2026-11-20.html"]


def test_what_is_cut_out_of_many_spans() -> None:
    """Cuts before, across, inside and behind a span, and one that several spans share."""
    spans = [(0, 10), (20, 30), (40, 50), (60, 60)]
    assert without(spans, [(-5, -1), (5, 22), (24, 25), (45, 90)]) == [(0, 5), (22, 24), (25, 30), (40, 45)]
    assert without([(0, 10)], []) == [(0, 10)]
    assert without([(0, 10), (5, 20)], [(0, 20)]) == []
    many = [(10 * i, 10 * i + 10) for i in range(2000)]
    assert without(many, [(10 * i + 2, 10 * i + 4) for i in range(2000)])[-1] == (19_994, 20_000)

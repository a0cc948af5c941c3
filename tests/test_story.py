"""The rules of a story, one by one, and two days as they are written."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from features.video import Segment
from pipeline.dataset.labels import read_label_set
from pipeline.dataset.roles import read_roles
from reports.diary.formats.markdown import write_markdown
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording, Unrecognisable
from reports.diary.roles import Role
from reports.diary.story import StoryLine, headline, summary, tell
from reports.events import Event, EventRule, EventsFound

HERE = Path(__file__).parent
ROLES = read_roles(HERE.parent / "labels" / "demo" / "roles.csv")
CLASSES = read_label_set(HERE.parent / "labels" / "demo" / "diary.txt")
NAMES = dict(zip(CLASSES.ids, CLASSES.names, strict=True)) | {
    "c100": "Taking a broom",
    "c156": "Someone is eating something",
}
EIGHT = datetime(2026, 3, 14, 8, 2, 11, tzinfo=timezone(timedelta(hours=1)))
MODEL = DiaryModel(
    "demo", "diary", "temporal", "a" * 64, "b" * 64, {label: EventRule(0.5, 0.4, 1.0, 1.0) for label in ROLES}, 0.69
)


def found(text: str, name: str = "a", less: str = "") -> EventsFound:
    """Events from lines such as "c059 12 20" or "c059 12 20 0.6"; without a probability they are sure."""

    def events(lines: str, prefix: str) -> tuple[Event, ...]:
        rows = [line.split() for line in lines.strip().splitlines()]
        rows.sort(key=lambda row: (float(row[1]), row[0]))
        return tuple(
            Event(f"{prefix}-{i:03d}", row[0], Segment(float(row[1]), float(row[2])), 0.99, float([*row, "0.95"][3]))
            for i, row in enumerate(rows, start=1)
        )

    return EventsFound(events(text, name), {}, events(less, f"{name}-less"))


def recording(length_s: float = 180.0, start: datetime | None = EIGHT, name: str = "a") -> Recording:
    source = "unknown" if start is None else "file name"
    return Recording(name, f"{name}.mp4", length_s, start, source, (Segment(0, length_s),))


def story(text: str, length_s: float = 180.0) -> list[StoryLine]:
    """The lines of one recording; no stretch is quiet for long enough."""
    events = found(text)
    lines = tell([(recording(length_s), events)], NAMES, ROLES, min_quiet_s=10_000.0)
    assert sorted(own for line in lines for own in line.event_ids) == sorted(event.id for event in events.events)
    return lines


def told(text: str, length_s: float = 180.0) -> list[str]:
    return [line.text for line in story(text, length_s)]


def test_a_begin_and_an_end_beside_a_state_become_its_verb() -> None:
    """Sitting down and standing up are in "sat down … for"; one alone, or of another thing, is told."""
    assert told("c151 10 11.5 \n c059 11 31 \n c154 30.5 32") == ["Sat down in a chair for 20 s."]
    assert told("c059 11 31 \n c154 30.5 32") == ["Sat in a chair for 20 s."]
    assert told("c110 12 13.5 \n c059 11 31") == ["Sat in a chair for 20 s: picked up a cup."]
    assert told("c151 10 11.5 \n c154 30.5 32") == ["Sat down and stood up."]
    assert told("c110 20 21.5 \n c107 10 31") == ["Had a cup in hand for 20 s."]  # picked up while in hand: not said


def test_a_use_goes_into_the_line_of_its_hold() -> None:
    """With a count and without its object; one outside of the hold is told by itself."""
    hold = "c110 9 10.5 \n c107 10 50 \n c109 49 51 \n"
    assert told(hold + "c106 12 16 \n c106 20 25 \n c104 30 31") == [
        "Picked up a cup and held it for 40 s: drank twice (9 s); meanwhile turned the light on."
    ]
    assert told(hold + "c106 70 74") == ["Picked up a cup and held it for 40 s.", "Drank something for 4 s."]
    assert told(hold + "c123 15 45 \n c032 20 24") == [
        "Picked up a cup and held it for 40 s; meanwhile sat on the sofa for 30 s and read a book for 4 s."
    ]


def test_two_passes_within_eight_seconds_are_a_way_out_and_back() -> None:
    """Others are told one by one, and pairs are counted."""
    assert told("c097 10 11.5 \n c097 15 16.5") == ["Went out and came back."]
    assert told("c097 10 11.5 \n c097 20 21.5") == ["Went through the doorway twice."]
    assert told("c097 10 11 \n c097 15 16 \n c097 18 19 \n c097 21 22 \n c097 60 61") == [
        "Went out and came back twice.",
        "Went through the doorway.",
    ]


def test_the_same_use_after_a_short_gap_is_one() -> None:
    """Under ten seconds, with a count and a sum; together they are long enough to lead."""
    assert told("c052 10 14 \n c052 20 24 \n c105 15 16") == [
        "Worked on the laptop twice (8 s); meanwhile turned the light off."
    ]
    assert told("c052 10 20 \n c052 25 35") == ["Worked on the laptop for 20 s."]  # pauses are not counted
    assert told("c052 10 17 \n c052 30 37") == ["Worked on the laptop for 7 s."] * 2


def test_the_longest_leads_and_takes_what_lies_half_inside() -> None:
    """The rest is a line of its own; a line's small things are grouped by what they are about."""
    assert told("c107 10 60 \n c059 54 70 \n c104 12 13 \n c006 20 21 \n c105 30 31 \n c008 59 60") == [
        "Had a cup in hand for 50 s; meanwhile turned the light on and off, and closed and opened the door.",
        "Sat in a chair for 15 s.",
    ]
    assert told("c048 11 12 \n c059 10 30 \n c052 13 17 \n c046 20 21") == [
        "Sat in a chair for 20 s: opened the laptop, worked on it for 4 s and closed the laptop."
    ]
    assert told("c123 20 50 \n c015 22 29 \n c019 23 27 \n c015 40 44 \n c016 41 43") == [
        "Sat on the sofa for 30 s: had the phone in hand twice (10 s; talked on it for 4 s and played with it for 2 s)."
    ]


def test_what_is_in_hand_after_a_short_gap_went_on() -> None:
    """For as long as both and the gap, unless it was put away, taken anew, or something else was in hand between."""
    assert told("c015 20 30 \n c015 35 40 \n c019 36 39") == ["Had the phone in hand for 20 s: talked on it for 3 s."]
    assert told("c059 20 30 \n c059 35 41") == ["Sat in a chair for 20 s."]
    apart = ["Had the phone in hand for 10 s.", "Had the phone in hand for 6 s."]
    assert told("c015 20 30 \n c015 41 47") == apart
    assert told("c015 20 30 \n c017 29 31 \n c015 35 41")[1:] == apart[1:]
    assert told("c015 20 30 \n c018 34 36 \n c015 35 41")[1:] == ["Picked up the phone and held it for 6 s."]
    assert told("c015 20 30 \n c026 31 33 \n c015 35 41")[-1:] == apart[1:]


def test_nothing_goes_on_while_nothing_is_known() -> None:
    """What is not observed, or told as quiet, parts what is in hand before and after."""
    gap = Recording("a", "a.mp4", 60.0, EIGHT, "file name", (Segment(0, 30), Segment(35, 60)))
    lines = tell([(gap, found("c015 20 30 \n c015 35 41"))], NAMES, ROLES, min_quiet_s=10_000.0)
    assert [line.text for line in lines] == [
        "Had the phone in hand for 10 s.",
        "Not observed for 5 s.",
        "Had the phone in hand for 6 s.",
    ]
    quiet = tell([(recording(60.0), found("c015 20 30 \n c015 35 41"))], NAMES, ROLES, min_quiet_s=5.0)
    assert [line.kind for line in quiet][1:4] == ["events", "nothing recognised", "events"]


def test_small_change_between_leads_shares_a_line() -> None:
    """Until a lead begins, a stretch is not observed, or some time has passed."""
    assert told("c105 10 11 \n c008 13 14 \n c059 20 40 \n c006 42 43 \n c104 45 46 \n c008 90 91") == [
        "Turned the light off and opened the door.",
        "Sat in a chair for 20 s.",
        "Closed the door and turned the light on.",
        "Opened the door.",
    ]
    gap = Recording("a", "a.mp4", 60.0, EIGHT, "file name", (Segment(0, 20), Segment(40, 60)))
    lines = tell([(gap, found("c105 10 11 \n c104 45 46"))], NAMES, ROLES, min_quiet_s=1_000.0)
    assert [(line.start, line.kind, line.text) for line in lines] == [
        ("08:02:21", "events", "Turned the light off."),
        ("08:02:31", "not observed", "Not observed for 20 s."),
        ("08:02:56", "events", "Turned the light on."),
    ]


def test_what_is_not_sure_is_probable() -> None:
    """By the mean probability of its events, without how often and how long; what is sure comes first.

    A begin that is not sure is not said.
    """
    lines = story("c107 10 60 0.7 \n c106 12 16 0.9 \n c104 20 21 0.6 \n c006 30 31 \n c105 40 41 0.6")
    assert [line.text for line in lines] == [
        "Probably had a cup in hand: drank for 4 s; "
        "meanwhile closed the door, and probably turned the light on and off."
    ]
    assert lines[0].certainty == "probably"
    assert told("c110 9 10.5 0.6 \n c107 10 60 0.9") == ["Had a cup in hand for 50 s."]


def test_a_label_without_a_role_is_told_by_its_name() -> None:
    """It leads, is counted and grouped like any other."""
    assert told("c156 10 20 \n c104 12 13") == ["Eating something for 10 s; meanwhile turned the light on."]
    assert told("c059 5 60 \n c156 10 20 \n c156 40 42") == ["Sat in a chair for 55 s: eating something twice (10 s)."]


def test_a_long_recording_is_told_coarsely() -> None:
    """Clock times to the minute; short holds are small change; of very much in a line, the rest is counted."""
    text = "\n".join(f"c107 {s} {s + 8} \n c106 {s + 2} {s + 5}" for s in range(100, 160, 20))
    (line,) = story(text, 3_600.0)
    assert (line.start, line.when) == ("08:03", "08:03–08:04")
    assert line.text == "Had a cup in hand three times (25 s; drank three times)."
    many = [label for label, role in sorted(ROLES.items()) if role.kind == "toggle"]
    text = "\n".join(f"{label} {200 + 3 * i} {201 + 3 * i}" for i, label in enumerate(many))
    (line,) = story(text + "\nc123 230 240 \n c052 231 236 \n c156 245 249 \n c097 250 251 \n c032 252 256", 3_600.0)
    assert line.text.endswith(", and 3 more events.")
    assert [(claim.times, claim.is_told) for claim in line.claims].count((1, False)) == 3
    assert "sat on the sofa for 10 s" in summary([line], NAMES, ROLES).lower()


def test_recordings_of_one_time_are_told_apart() -> None:
    """Each has its own story, with its name in front; a third one, later, needs none."""
    late = recording(60.0, EIGHT + timedelta(hours=1), "late")
    parts = [
        (recording(60.0, name="hall"), found("c059 10 40", "hall")),
        (recording(60.0, EIGHT + timedelta(seconds=5), "sofa"), found("c059 6 35", "sofa")),
        (late, found("c059 6 35", "late")),
    ]
    lines = tell(parts, NAMES, ROLES, min_quiet_s=1_000.0)
    assert [line.text for line in lines if line.kind == "events"] == [
        "hall.mp4: Sat in a chair for 30 s.",
        "sofa.mp4: Sat in a chair for 30 s.",
        "Sat in a chair for 30 s.",
    ]
    assert [line.recording.id for line in lines if line.kind == "events"] == ["hall", "sofa", "late"]


def test_chapters_that_touch_are_not_of_one_time() -> None:
    """The next file of a camera begins where the one before ends, or a little earlier."""
    parts = [
        (recording(60.0, name="one"), found("c059 10 40", "one")),
        (recording(60.0, EIGHT + timedelta(seconds=59.5), "two"), found("c059 6 35", "two")),
    ]
    assert {line.text for line in tell(parts, NAMES, ROLES, min_quiet_s=1_000.0)} == {"Sat in a chair for 30 s."}


def test_recordings_that_follow_each_other_are_told_as_one() -> None:
    """What goes on over the end of a file is one thing; a line belongs to the recording in which it begins."""
    parts = [
        (recording(60.0, name="one"), found("c110 9 10 \n c107 10 59.5 \n c106 20 24", "one")),
        (recording(60.0, EIGHT + timedelta(seconds=60), "two"), found("c107 0 60 \n c106 5 9", "two")),
        (recording(60.0, EIGHT + timedelta(seconds=120.4), "three"), found("c107 0.5 20 \n c123 30 50", "three")),
        (recording(60.0, EIGHT + timedelta(seconds=190), "later"), found("c123 0 20", "later")),
    ]
    lines = tell(parts, NAMES, ROLES, min_quiet_s=1_000.0)
    assert [(line.recording.id, line.start_ms, line.end_ms, line.text) for line in lines] == [
        ("one", 9_000, 140_400, "Picked up a cup and held it for 2 min: drank twice (8 s)."),
        ("three", 30_000, 50_000, "Sat on the sofa for 20 s."),
        ("three", 60_000, 69_600, "Not observed for 10 s."),
        ("later", 0, 20_000, "Sat on the sofa for 20 s."),
    ]
    assert sorted(lines[0].event_ids) == ["one-001", "one-002", "one-003", "three-001", "two-001", "two-002"]
    (held,) = (claim for claim in lines[0].claims if claim.label == "c107")
    assert (held.times, held.event_ids) == (1, ("one-002", "two-001", "three-001"))
    undated = [(replace(part, recorded_at=None, recorded_at_source="unknown"), own) for part, own in parts[:1]]
    assert [line.start for line in tell(undated, NAMES, ROLES, min_quiet_s=1_000.0)] == ["00:09"]


def test_days_split_at_midnight() -> None:
    """Nothing of the new day is told in a line of the old one, and each day has its own length."""
    late = recording(120.0, EIGHT.replace(hour=23, minute=59, second=0))
    lines = tell([(late, found("c107 10 110 \n c106 40 44 \n c106 80 84"))], NAMES, ROLES, min_quiet_s=1_000.0)
    assert [(str(line.day), line.text) for line in lines] == [
        ("2026-03-14", "Had a cup in hand for 1½ min: drank for 4 s."),
        ("2026-03-15", "Drank something for 4 s."),
    ]
    day, next_day = (line.day for line in lines)
    assert headline([late], day) == headline([late], next_day) == "1 min, all on video"
    assert headline([late]) == "2 min, all on video"


def test_what_is_not_recognisable_says_why() -> None:
    """As does a stretch of which nothing is recognised."""
    dark = Recording(
        *("a", "a.mp4", 60.0, None, "unknown", (Segment(0, 60),)),
        unrecognisable=(Unrecognisable(Segment(0, 20), "too dark"),),
    )
    lines = tell([(dark, found("c104 20 21"))], NAMES, ROLES, min_quiet_s=10.0)
    assert [(line.when, line.kind, line.text) for line in lines] == [
        ("00:00–00:20", "not recognisable", "Not recognisable for 20 s: too dark."),
        ("00:20–00:21", "events", "Turned the light on."),
        ("00:21–01:00", "nothing recognised", "Nothing recognised for 40 s."),
    ]


def test_the_summary_names_what_took_most_time() -> None:
    """Totals over all lines, uses with their hold, and ways out and back."""
    text = "c107 10 60 \n c106 12 16 \n c106 20 25 \n c059 62 80 \n c059 90 100 \n c123 110 118 \n c026 120 125 \n"
    lines = story(text + "c097 130 131 \n c097 133 134 \n c102 140 144 0.6")
    assert summary(lines, NAMES, ROLES) == (
        "Had a cup in hand for 50 s (drank twice), sat in a chair twice (30 s in all), sat on the sofa for 8 s, and "
        "went out and came back."
    )
    assert summary([], NAMES, ROLES) == ""


def test_the_headline_says_how_much_is_on_video() -> None:
    """Of one recording, of one with a gap, of two far apart, of nothing."""
    gap = Recording("b", "b.mp4", 240.0, EIGHT, "file name", (Segment(0, 100), Segment(120, 240)))
    assert headline([recording()]) == "3 min, all on video"
    assert headline([gap]) == "3½ min of 4 min on video"
    assert headline([recording(), recording(start=EIGHT + timedelta(hours=2), name="c")]) == (
        "6 min of 2 h 05 min on video, 2 recordings"
    )
    assert headline([Recording("d", "d.mp4", 0.0, None, "unknown", ())]) == "nothing on video"


@pytest.mark.parametrize(
    "fields",
    [("sitting", "seat", "sat"), ("state", "", "sat"), ("state", "seat", ""), ("end", "seat", "stood up", "rose")],
)
def test_a_role_checks_itself(fields: tuple[str, ...]) -> None:
    """An unknown kind, a missing thing or phrase, and words for together where there is no together."""
    with pytest.raises(ValueError, match=r"role is one of|is missing|no words for together"):
        Role(*fields)


SATURDAY = """
c151 1.2 2.6
c059 2.4 18
c048 4 5.5
c052 6 10
c046 12 13.5
c048 15 16.2 0.6
c154 17.8 19.4
c110 20 21.5
c107 21 101
c106 23 27
c106 29 33 0.9
c106 60 64
c151 35 36
c059 36 48
c154 48 49
c097 70 71.5
c097 74 75.5
c006 80 81.4
c109 100.5 102
c105 105 106.3
c008 108 109.5
c026 112 119 0.65
c104 114 115
"""
EVENING = """
c122 5 95
c015 20 50
c019 25 40
c097 99 100.5
c105 110 111
"""
SUNDAY = """
c100 3 4.5
c098 4 44
c102 8 12
c102 20 24
c104 10 11
c105 30 31
c156 60 90
"""
OTHER_CAMERA = """
c123 15 60 0.7
c032 20 50
"""


def saturday() -> list[tuple[Recording, EventsFound]]:
    evening = Recording(
        *("evening", "evening.mp4", 120.0, EIGHT.replace(hour=19, minute=30), "file modification time"),
        (Segment(0, 120),),
        is_guess=True,
        faults=("3 of 90 packets are damaged",),
    )
    less = "c104 150 151 0.4 \n c105 160 161 0.4"
    return [(recording(name="morning"), found(SATURDAY, "morning", less)), (evening, found(EVENING, "evening"))]


def sunday() -> list[tuple[Recording, EventsFound]]:
    noon = datetime(2026, 3, 15, 12, 10, 40, tzinfo=UTC)
    hall = Recording(
        *("hall", "hall.mp4", 180.0, noon, "file name", (Segment(0, 100), Segment(110, 180))),
        unrecognisable=(Unrecognisable(Segment(150, 180), "too dark"),),
    )
    sofa = recording(120.0, noon + timedelta(seconds=30), "sofa")
    return [(hall, found(SUNDAY, "hall")), (sofa, found(OTHER_CAMERA, "sofa"))]


@pytest.mark.parametrize(("day", "parts"), [("2026-03-14", saturday()), ("2026-03-15", sunday())])
def test_two_days_as_they_are_written(day: str, parts: list[tuple[Recording, EventsFound]], tmp_path: Path) -> None:
    """A day of two recordings far apart, with a guess, damage and what is less certain; one of two cameras at once."""
    path = tmp_path / "diary.md"
    write_markdown(path, parts, NAMES, MODEL, roles=ROLES, min_quiet_s=10.0)
    assert path.read_text(encoding="utf-8") == (HERE / "days" / f"{day}.md").read_text(encoding="utf-8")

"""What a person confirmed, and what is less certain, in the files of other programs."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import webvtt

from features.video import Segment
from reports.diary.formats import FORMATS
from reports.events import Event, EventsFound
from tests.test_export_formats import NAMES, boris_states, bucket, entries, task_and_configuration, written

STATED = Event("kitchen-001", "c059", Segment(12.0, 90.0), 0.99, 0.98)
CONFIRMED = Event("kitchen-002", "c015", Segment(20.0, 62.5), 0.9, 0.7, confirmed=True)
DOUBTFUL = Event("kitchen-less-001", "c052", Segment(15.0, 17.0), 0.4, 0.3)
FOUND = EventsFound((STATED, CONFIRMED), {}, (DOUBTFUL,))


def test_csv_says_what_is_told_and_what_is_confirmed(tmp_path: Path) -> None:
    """All events in order of time; the less certain ones are not told."""
    with written(tmp_path, "csv", found=FOUND).open(encoding="utf-8", newline="") as file:
        rows = [(row["event"], row["told"], row["confirmed"]) for row in csv.DictReader(file, strict=True)]
    assert rows == [
        ("kitchen-001", "true", "false"),
        ("kitchen-less-001", "false", "false"),
        ("kitchen-002", "true", "true"),
    ]


def test_label_studio_notes_it_at_the_region_and_has_a_second_prediction(tmp_path: Path) -> None:
    """The second one says in its model version that it is less certain; without such events there is none."""
    task, _ = task_and_configuration(written(tmp_path, "labelstudio", found=FOUND))
    told, doubtful = task.predictions
    assert {region.id: region.meta and region.meta.text for region in told.result} == {
        "kitchen-001": None,
        "kitchen-002": ["confirmed"],
    }
    assert doubtful.model_version == f"{told.model_version}, less certain"
    assert [region.id for region in doubtful.result] == ["kitchen-less-001"]
    assert doubtful.score == pytest.approx(0.3)
    sure, _ = task_and_configuration(written(tmp_path, "labelstudio", found=replace(FOUND, less_certain=())))
    assert sure.predictions == [told]


def test_activitywatch_boris_and_calendars_say_what_is_confirmed(tmp_path: Path) -> None:
    """Each in a field or a comment of its own; what is less certain is in none of them."""
    activities = bucket(written(tmp_path, "activitywatch", found=FOUND)).events
    assert {each.data["event"]: each.data["confirmed"] for each in activities} == {
        "kitchen-001": False,
        "kitchen-002": True,
    }
    _, states = boris_states(written(tmp_path, "boris", found=FOUND))
    assert {told.split("; ")[1]: told.split("; ")[2:] for *_, told in states} == {
        "kitchen-001": [],
        "kitchen-002": ["confirmed"],
    }
    _, stated, confirmed = entries(written(tmp_path, "ics", found=FOUND))
    assert "x-video-diary-confirmed" not in stated
    assert str(confirmed["x-video-diary-confirmed"]) == "TRUE"
    assert "Confirmed by you." in str(confirmed["description"])


def test_subtitles_say_what_is_confirmed(tmp_path: Path) -> None:
    """In place of a probability, in a line of what is on."""
    cues = {cue.identifier: cue.text for cue in webvtt.read(str(written(tmp_path, "vtt", found=FOUND))).captions}
    assert cues == {"kitchen-001": f"{NAMES['c059']} 98%", "kitchen-002": f"{NAMES['c015']} confirmed by you"}
    second = written(tmp_path, "srt", found=FOUND).read_text(encoding="utf-8").split("\n\n")[1]
    assert second.splitlines()[2:] == [f"{NAMES['c059']} 98%", f"{NAMES['c015']} confirmed by you"]


@pytest.mark.parametrize("name", FORMATS)
def test_only_two_formats_have_what_is_less_certain(name: str, tmp_path: Path) -> None:
    """Others have no place that a reader would tell apart from what is stated."""
    text = written(tmp_path, name, found=FOUND).read_text(encoding="utf-8")
    assert ("kitchen-less-001" in text) == (name in ("csv", "labelstudio"))
    assert json.dumps(NAMES["c059"])[1:-1].split("/")[0] in text

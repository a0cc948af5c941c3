"""Events as a project of BORIS, the software of behavioural observation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from features.files import write_json
from reports.diary.clock import clock_time
from reports.diary.escaping import visible, without_surrogates
from reports.diary.formats.labels import distinct_names
from reports.diary.formats.spans import event_span
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.events import EventsFound

_VERSION = "7.0"  # of the format: what BORIS 7 and later read
_KEYS = "abcdefghijklmnopqrstuvwxyz0123456789"
_NO_DATE = "1970-01-01T00:00:00"


def write_boris(
    path: Path, recording: Recording, found: EventsFound, names: Mapping[str, str], model: DiaryModel
) -> None:
    """Write a project with one observation: two rows for each event, where its state begins and where it ends.

    Labels are state events of the ethogram. The comment of an event's first row has its probabilities, its id, and
    "confirmed" where a person confirmed or amended it. Less certain events are left out: BORIS counts all rows.
    The date is the local one of the recording, 1970 where it is not known. Measures of the media file are left out:
    BORIS takes them from the file, which it looks for in the project's folder.
    """
    codes = {label: name.replace("|", "¦") for label, name in distinct_names(names).items()}  # | separates modifiers
    rows: list[tuple[int, int, str, str]] = []
    for event in found.events:
        start_ms, end_ms = event_span(event)
        probabilities = f"mean probability {event.mean_probability:.4f}, peak {event.peak_probability:.4f}"
        comment = f"{probabilities}; {event.id}{'; confirmed' if event.confirmed else ''}"
        # What ends comes before what starts at the same time: rows of a state are read in pairs.
        rows += [(start_ms, 1, codes[event.label], visible(comment)), (end_ms, 0, codes[event.label], "")]
    date = _NO_DATE if recording.recorded_at is None else f"{clock_time(recording.recorded_at, 0):%Y-%m-%dT%H:%M:%S}"
    clock = f"Start from {recording.clock_source}{', a guess' if recording.is_guess else ''}."
    observation = {
        "type": "MEDIA",
        "date": date,
        "description": clock if recording.recorded_at else "The date is not known.",
        "file": {"1": [without_surrogates(recording.file_name)], "2": []},
        "time offset": 0.0,
        "independent_variables": {},
        "visualize_spectrogram": False,
        "close_behaviors_between_videos": False,
        "events": [[time_ms / 1000, "", code, "", comment] for time_ms, _, code, comment in sorted(rows)],
    }
    project = {
        "time_format": "hh:mm:ss",
        "project_name": visible(recording.id),
        "project_date": date,
        "project_description": f"Model {visible(model.model)} {model.model_sha256}, label set "
        f"{visible(model.label_set)}, thresholds {model.thresholds_sha256}",
        "project_format_version": _VERSION,
        "subjects_conf": {},
        "behaviors_conf": {
            str(number): {
                "type": "State event",
                "key": _KEYS[number % len(_KEYS)],
                "code": code,
                "description": visible(label),
                "category": "",
                "modifiers": {},
                "excluded": "",
                "coding map": "",
            }
            for number, (label, code) in enumerate(codes.items())
        },
        "behavioral_categories": [],
        "independent_variables": {},
        "coding_map": {},
        "converters": {},
        "observations": {visible(recording.id): observation},
    }
    write_json(path, project)

"""Events as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.files import write_text
from reports.diary.clock import moment
from reports.diary.escaping import without_surrogates
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.events import EventsFound
from reports.spans import to_ms


def write_jsonl(
    path: Path, recording: Recording, found: EventsFound, names: Mapping[str, str], model: DiaryModel
) -> None:
    """Write the recording as the first line, then one event a line, in order; `type` tells "recording" from "event".

    So a recording without events still says when it began, how that is known and what is wrong with it. Clock times
    are ISO 8601 with offset, or null where the recording's start is not known; `clock_readings` has what each source
    says, its `start` null where it is not believed, and without an offset where the source does not tell the place.
    A person said of a `confirmed` event that it is right, or added it. Lines are ASCII: no character ends one early.
    The same events give the same bytes.
    """
    rows: list[dict[str, Any]] = [_recording_row(recording, model)]
    for event in found.events:
        rows.append(
            {
                "type": "event",
                "id": event.id,
                "recording": recording.id,
                "label": event.label,
                "name": names[event.label],
                "start_s": round(event.segment.start_s, 3),
                "end_s": round(event.segment.end_s, 3),
                "start_clock": _iso(recording, to_ms(event.segment.start_s)),
                "end_clock": _iso(recording, to_ms(event.segment.end_s)),
                "clock_source": recording.recorded_at_source,
                "clock_is_guess": recording.is_guess,
                "peak_probability": round(event.peak_probability, 4),
                "mean_probability": round(event.mean_probability, 4),
                "confirmed": event.confirmed,
                "model_sha256": model.model_sha256,
                "thresholds_sha256": model.thresholds_sha256,
            }
        )
    write_text(path, "".join(json.dumps(_written(row), ensure_ascii=True, allow_nan=False) + "\n" for row in rows))


def _recording_row(recording: Recording, model: DiaryModel) -> dict[str, Any]:
    _, end_ms = recording.span_ms
    return {
        "type": "recording",
        "recording": recording.id,
        "file": recording.file_name,
        "duration_s": end_ms / 1000,
        "stated_s": None if recording.stated_s is None else round(recording.stated_s, 3),
        "observed_s": [[start_ms / 1000, stop_ms / 1000] for start_ms, stop_ms in recording.observed_spans],
        "unrecognisable": [
            {
                "start_s": round(stretch.segment.start_s, 3),
                "end_s": round(stretch.segment.end_s, 3),
                "reason": stretch.reason,
            }
            for stretch in recording.unrecognisable
        ],
        "faults": list(recording.faults),
        "seen_share": dict(zip(("width", "height"), [round(share, 3) for share in recording.seen_share], strict=True)),
        "start_clock": _iso(recording, 0),
        "end_clock": _iso(recording, end_ms),
        "clock_source": recording.recorded_at_source,
        "clock_is_guess": recording.is_guess,
        "clock_note": recording.clock_note,
        "clock_readings": [
            {
                "source": reading.source,
                "text": reading.text,
                "start": None if reading.start is None else reading.start.isoformat(timespec="milliseconds"),
                "note": reading.note,
            }
            for reading in recording.clock_readings
        ],
        "trained_on": model.trained_on,
        "model_sha256": model.model_sha256,
        "thresholds_sha256": model.thresholds_sha256,
    }


def _written(value: Any) -> Any:
    """The value with texts that UTF-8 can hold: a JSON parser may refuse a lone surrogate."""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, dict):
        return {key: _written(item) for key, item in value.items()}
    return [_written(item) for item in value] if isinstance(value, list) else value


def _iso(recording: Recording, offset_ms: int) -> str | None:
    if recording.recorded_at is None:
        return None
    return moment(recording.recorded_at, offset_ms).isoformat(timespec="milliseconds")

"""Events as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from features.files import write_text
from reports.diary.clock import moment
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.diary.spans import to_ms
from reports.events import EventsFound


def write_jsonl(
    path: Path, recording: Recording, found: EventsFound, names: Mapping[str, str], model: DiaryModel
) -> None:
    """Write one event a line, in order; no events make an empty file. The same events give the same bytes.

    Clock times are ISO 8601 with offset, or null where the recording's start is not known.
    """
    lines = []
    for event in found.events:
        row = {
            "id": event.id,
            "recording": recording.id,
            "label": event.label,
            "name": names[event.label],
            "start_s": round(event.segment.start_s, 3),
            "end_s": round(event.segment.end_s, 3),
            "start_clock": _iso(recording, to_ms(event.segment.start_s)),
            "end_clock": _iso(recording, to_ms(event.segment.end_s)),
            "clock_source": recording.recorded_at_source,
            "peak_probability": round(event.peak_probability, 4),
            "mean_probability": round(event.mean_probability, 4),
            "model_sha256": model.model_sha256,
            "thresholds_sha256": model.thresholds_sha256,
        }
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))


def _iso(recording: Recording, offset_ms: int) -> str | None:
    if recording.recorded_at is None:
        return None
    return moment(recording.recorded_at, offset_ms).isoformat(timespec="milliseconds")

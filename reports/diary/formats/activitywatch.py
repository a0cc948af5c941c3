"""Events as a bucket that ActivityWatch imports ("Import buckets" in its raw data)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from pathlib import Path

from features.files import write_json
from reports.diary.clock import moment
from reports.diary.escaping import visible
from reports.diary.formats.dated import start_of
from reports.diary.formats.spans import event_span
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.events import EventsFound

_CLIENT = "video-diary-logger"


def write_activitywatch(
    path: Path, recording: Recording, found: EventsFound, names: Mapping[str, str], model: DiaryModel
) -> None:
    """Write one bucket of the recording, an event each of its own: a time in UTC and a duration in seconds.

    Raises `NoStart`. `data` has the name as `title`, the label, both probabilities, whether a person confirmed or
    amended the event, and whether the clock is a guess. Less certain events are left out: ActivityWatch adds up all.
    The bucket's id has the recording's start and the model's hash, so another recording never meets it; ActivityWatch
    refuses to import the same bucket twice. The host is "unknown": no file tells this machine's name.
    """
    recorded_at = start_of(recording, "ActivityWatch")
    started = recorded_at.astimezone(UTC)
    bucket_id = f"{_CLIENT}_{visible(recording.id)}_{started:%Y%m%dT%H%M%SZ}_{model.model_sha256[:8]}"
    events = []
    for event in found.events:
        start_ms, end_ms = event_span(event)
        events.append(
            {
                "timestamp": moment(started, start_ms).isoformat(timespec="milliseconds"),
                "duration": (end_ms - start_ms) / 1000,
                "data": {
                    "title": visible(names[event.label]),
                    "label": visible(event.label),
                    "event": visible(event.id),
                    "recording": visible(recording.file_name),
                    "mean_probability": round(event.mean_probability, 4),
                    "peak_probability": round(event.peak_probability, 4),
                    "confirmed": event.confirmed,
                    "clock_is_guess": recording.is_guess,
                },
            }
        )
    bucket = {
        "id": bucket_id,
        "created": started.isoformat(timespec="milliseconds"),
        "name": visible(recording.file_name),
        "type": "app.video-diary.activity",
        "client": _CLIENT,
        "hostname": "unknown",
        "events": events,
    }
    write_json(path, {"buckets": {bucket_id: bucket}})

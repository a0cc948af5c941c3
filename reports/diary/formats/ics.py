"""Events as iCalendar (RFC 5545), for a calendar."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from features.files import write_bytes
from reports.diary.clock import clock_time
from reports.diary.escaping import visible
from reports.diary.formats.dated import start_of
from reports.diary.formats.spans import event_span
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.diary.story import format_probability
from reports.events import EventsFound


def write_ics(
    path: Path, recording: Recording, found: EventsFound, names: Mapping[str, str], model: DiaryModel
) -> None:
    """Write an entry of the whole recording, then one for each event, in UTC and whole seconds. Raises `NoStart`.

    A calendar must have an entry, so a recording without events has its own. Entries are private, and leave the time
    free. Written again, an entry has the UID that it had, so a calendar replaces it; another model's events, or another
    start of the recording, are other entries. An event's probabilities are `X-VIDEO-DIARY-MEAN-PROBABILITY` and
    `X-VIDEO-DIARY-PEAK-PROBABILITY`, and stand in its description. `X-VIDEO-DIARY-CONFIRMED` is TRUE where somebody
    confirmed or amended it, and else left out. So are less certain events.
    """
    from icalendar import Calendar

    recorded_at = start_of(recording, "iCalendar")
    _, end_ms = recording.span_ms
    calendar = Calendar()
    calendar.add("prodid", "-//Video Diary Logger//diary//EN")
    calendar.add("version", "2.0")
    # The standard wants a time of writing: the recording's end, so that the same events give the same bytes.
    stamp = _second(recorded_at, end_ms)
    key = f"{recording.id}\0{recording.file_name}\0{recorded_at.isoformat()}\0{model.model_sha256}"
    source = f"Start from {recording.clock_source}{', a guess' if recording.is_guess else ''}."

    def add(uid: str, span: tuple[int, int], summary: str, description: str, more: Mapping[str, str]) -> None:
        from icalendar import Event

        start = _second(recorded_at, span[0])
        entry = Event()
        digest = hashlib.sha256(f"{key}\0{uid}".encode(errors="surrogatepass")).hexdigest()
        entry.add("uid", f"{digest[:32]}@video-diary-logger")
        entry.add("dtstamp", stamp)
        entry.add("dtstart", start)
        entry.add("dtend", max(_second(recorded_at, span[1]), start + timedelta(seconds=1)))
        entry.add("summary", visible(summary))
        entry.add("description", visible(description))
        entry.add("class", "PRIVATE")
        entry.add("transp", "TRANSPARENT")
        for name, value in more.items():
            entry.add(name, value)
        calendar.add_component(entry)

    faults = "".join(f" Wrong with this file: {fault}." for fault in recording.faults)
    add("", (0, end_ms), f"Recording: {recording.file_name}", f"{source}{faults}", {"categories": "recording"})
    for event in found.events:
        mean, peak = event.mean_probability, event.peak_probability
        certainty = (
            "Confirmed by you."
            if event.confirmed
            else f"Probability {format_probability(mean)}, at its peak {format_probability(peak)}."
        )
        add(
            event.id,
            event_span(event),
            names[event.label],
            f"{certainty} {source} Event {event.id}.",
            {
                "categories": visible(event.label),
                "x-video-diary-mean-probability": f"{mean:.4f}",
                "x-video-diary-peak-probability": f"{peak:.4f}",
                **({"x-video-diary-confirmed": "TRUE"} if event.confirmed else {}),
            },
        )
    write_bytes(path, calendar.to_ical())


def _second(recorded_at: datetime, offset_ms: int) -> datetime:
    return clock_time(recorded_at, offset_ms).astimezone(UTC)

"""Events as WebVTT: subtitles of the video, which browsers and players show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from features.files import write_text
from reports.diary.escaping import visible
from reports.diary.formats.spans import event_span
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.diary.rows import said_certainty
from reports.events import EventsFound

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def write_vtt(
    path: Path, recording: Recording, found: EventsFound, names: Mapping[str, str], model: DiaryModel
) -> None:
    """Write one cue an event, in order, its id the event's; cues overlap as events do.

    Times are from the video's start. A cue's text is the name and the mean probability, as in "Sitting in a chair 97%",
    or "confirmed by you". Less certain events are left out.
    """
    blocks = ["WEBVTT", f"NOTE {_plain(recording.file_name)}, model {model.model_sha256}"]
    for event in found.events:
        start_ms, end_ms = event_span(event)
        text = f"{visible(names[event.label])} {said_certainty(event)}".translate(_ESCAPES)
        blocks.append(f"{_plain(event.id)}\n{_time(start_ms)} --> {_time(end_ms)}\n{text}")
    write_text(path, "\n\n".join(blocks) + "\n")


def _plain(text: str) -> str:
    """The text where nothing is escaped and an arrow would make the line a cue's times."""
    return visible(text).replace("-->", "->")


def _time(time_ms: int) -> str:
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milliseconds:03d}"

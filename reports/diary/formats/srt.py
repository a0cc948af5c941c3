"""Events as SubRip (SRT): subtitles of the video for players that know no other kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from features.files import write_text
from reports.diary.escaping import visible
from reports.diary.formats.spans import stretches
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.diary.rows import said_certainty
from reports.events import EventsFound

# The format has no escapes: players take <i> and {\an8} for style, and an arrow for times.
_LOOKALIKES = str.maketrans("<>{}", "‹›()")


def write_srt(
    path: Path, recording: Recording, found: EventsFound, names: Mapping[str, str], model: DiaryModel
) -> None:
    """Write one subtitle for each stretch in which the same events are on, a line an event.

    Subtitles do not overlap: many players show one at a time. Times are from the video's start. A line is the name and
    the mean probability, or "confirmed by you"; signs that players take for style become similar ones. Less certain
    events are left out. No events, an empty file.
    """
    blocks = []
    for number, ((start_ms, end_ms), active) in enumerate(stretches(found.events), start=1):
        lines = [f"{visible(names[event.label])} {said_certainty(event)}" for event in active]
        text = "\n".join(line.translate(_LOOKALIKES) for line in lines)
        blocks.append(f"{number}\n{_time(start_ms)} --> {_time(end_ms)}\n{text}\n")
    write_text(path, "\n".join(blocks))


def _time(time_ms: int) -> str:
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d},{milliseconds:03d}"

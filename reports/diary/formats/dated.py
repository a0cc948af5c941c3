"""What formats need that have no place for an event without a date."""

from __future__ import annotations

from datetime import datetime

from reports.diary.escaping import visible
from reports.diary.recording import Recording


class NoStart(Exception):
    """A format needs a date, and when the recording begins is not known."""


def start_of(recording: Recording, format_name: str) -> datetime:
    """When the recording begins. Raises `NoStart`, which names the format, where that is not known."""
    if recording.recorded_at is None:
        raise NoStart(
            f"{visible(recording.file_name)}: not written as {format_name}, which needs a date, and its start is not "
            "known: give it with --recorded-at"
        )
    return recording.recorded_at

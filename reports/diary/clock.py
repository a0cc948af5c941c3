"""When a recording begins, and how times, durations and days are written."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePath

# Names stand here because strftime's depend on the locale of the machine.
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

# 20260314_080211, 2026-03-14 08.02.11, 2026-03-14T08-02-11 and the like, as cameras and phones name their files.
_TIME_IN_NAME = re.compile(r"(20\d\d)-?(\d\d)-?(\d\d)[ _T-](\d\d)[.:h-]?(\d\d)[.:m-]?(\d\d)(?!\d)")


def recording_start(
    *, given: datetime | None, metadata: datetime | None, file_name: str, modified: datetime, duration_s: float
) -> tuple[datetime | None, str]:
    """When the first frame was taken, and which of `RECORDED_AT_SOURCES` says so; the most trustworthy source wins.

    `given` comes from the user, `metadata` from the container. The file's name is next, then `modified`, the time with
    an offset at which the file was last written: it is taken as the recording's end. A time without an offset is local.
    """
    if given is not None:
        return given if given.tzinfo else given.astimezone(), "given by the user"
    if metadata is not None:
        # A time that is stored in UTC says nothing of where it was: people read it by their own clock.
        return metadata.astimezone() if metadata.tzinfo == UTC else metadata, "container metadata"
    match = _TIME_IN_NAME.search(PurePath(file_name).stem)
    if match:
        try:
            return datetime(*(int(part) for part in match.groups())).astimezone(), "file name"  # type: ignore[arg-type]
        except ValueError:
            pass  # digits that are no time
    return (modified - timedelta(seconds=duration_s)).astimezone(), "file modification time"


def format_time(offset_ms: int, recorded_at: datetime | None) -> str:
    """When something is: "08:01:02" by the clock, or, where the start is not known, "01:02" or "1:01:02" from it.

    To the nearest second, half a second up.

    >>> format_time(62_000, None)
    '01:02'
    """
    if recorded_at is not None:
        return moment(recorded_at, offset_ms + 500).strftime("%H:%M:%S")
    minutes, seconds = divmod((offset_ms + 500) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"


def format_duration(duration_ms: int) -> str:
    """How long something is: "4.5 s" below ten seconds, "50 s", "1 min 20 s", "2 h 05 min".

    >>> format_duration(80_000)
    '1 min 20 s'
    """
    if duration_ms < 9950:
        return f"{(duration_ms + 50) // 100 / 10:g} s"
    seconds = (duration_ms + 500) // 1000
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    minutes = (seconds + 30) // 60
    return f"{minutes // 60} h {minutes % 60:02d} min"


def day_name(day: date) -> str:
    """As in "Monday, 23 November 2026", in English on any machine."""
    return f"{_WEEKDAYS[day.weekday()]}, {day.day} {_MONTHS[day.month - 1]} {day.year}"


def moment(recorded_at: datetime, offset_ms: int) -> datetime:
    """That much later on the same clock; counted in UTC, since a clock may be set back in between."""
    return (recorded_at.astimezone(UTC) + timedelta(milliseconds=offset_ms)).astimezone(recorded_at.tzinfo)

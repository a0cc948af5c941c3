"""The clock of a diary: a machine's zone, moments of a recording, and how times, durations and days are written."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, date, datetime, timedelta, tzinfo

import tzlocal

# Names stand here because strftime's depend on the locale of the machine.
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


class UnknownZone(Exception):
    """The machine's time zone cannot be told."""


def local_zone() -> tzinfo:
    """The machine's time zone, with its rules: an offset alone would be wrong after the next change of the clocks."""
    try:
        return tzlocal.get_localzone()
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        reason = str(error.args[0]).splitlines()[0].strip()
        raise UnknownZone(
            f"this machine's time zone cannot be told ({reason}): set the environment variable TZ to a zone's name, "
            "such as TZ=Europe/Berlin"
        ) from error


def moment(recorded_at: datetime, offset_ms: int) -> datetime:
    """That much later on the same clock; counted in UTC, since a clock may be set back in between."""
    return (recorded_at.astimezone(UTC) + timedelta(milliseconds=offset_ms)).astimezone(recorded_at.tzinfo)


def clock_time(recorded_at: datetime, offset_ms: int) -> datetime:
    """That much later to the nearest second, half a second up: the one rounding that day and time are written from."""
    return moment(recorded_at, offset_ms + 500).replace(microsecond=0)


def format_time(offset_ms: int, recorded_at: datetime | None) -> str:
    """When something is: "08:01:02" by the clock, or, where the start is not known, "01:02" or "1:01:02" from it.

    To the nearest second, half a second up.

    >>> format_time(62_000, None)
    '01:02'
    """
    if recorded_at is not None:
        return clock_time(recorded_at, offset_ms).strftime("%H:%M:%S")
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


def format_offset(recorded_at: datetime) -> str:
    """As in "UTC+01:00"."""
    offset = recorded_at.strftime("%z")
    return f"UTC{offset[:3]}:{offset[3:5]}"


def day_name(day: date) -> str:
    """As in "Monday, 23 November 2026", in English on any machine."""
    return f"{_WEEKDAYS[day.weekday()]}, {day.day} {_MONTHS[day.month - 1]} {day.year}"

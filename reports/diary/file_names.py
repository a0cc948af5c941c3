"""The time that a camera, phone or screen recorder put into a file's name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

_DATES = (
    r"(?<!\d)(?P<year>(?:19|20)\d\d)[-_.]?(?P<month>\d\d)[-_.]?(?P<day>\d\d)",
    r"(?<!\d)(?P<day>\d\d)\.(?P<month>\d\d)\.(?P<year>(?:19|20)\d\d)",
)
# Signs, "T", or up to three short words, as in "2026-03-14 at 3.04.05" and "2026-03-14 a la(s) 15.04.05".
_BETWEEN = r"(?:(?P<iso>T)|[-_.\s]{0,3}|,?(?:\s+[^\d\s]{1,6}){1,3}\s+)"
_TIMES = (
    r"(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)(?P<ms>\d{3})?(?!\d)",
    r"(?P<hour>\d{1,2})[-_.:h](?P<minute>\d\d)[-_.:m](?P<second>\d\d)(?!\d)(?:\s*(?P<half>[AaPp])\.?[Mm](?![A-Za-z]))?",
)
_OFFSET = r"(?(iso)(?P<offset>Z(?![A-Za-z0-9])|[+-]\d\d:?\d\d(?!\d))?)"  # elsewhere, "-0001" counts files
_PATTERNS = tuple(re.compile(date + _BETWEEN + time + _OFFSET) for date in _DATES for time in _TIMES)
_UTC_NAMES = re.compile(r"^(?:PXL_|GMT)\d{8}")  # Google's Pixel phones, Zoom
# Messengers name a file when they save it: Signal, WhatsApp, Telegram.
_SAVED_NAMES = re.compile(r"^(?:signal-|whatsapp |video[-_]\d{4}-\d\d-\d\d[-_]\d\d-\d\d-\d\d)", re.IGNORECASE)
_CHAPTER = re.compile(
    r"^(?:G[HXS](?P<chapter>\d\d)|GP(?P<old_chapter>\d\d)|GOPR)(?P<number>\d{4})(?!\d)", re.IGNORECASE
)


def time_in_name(file_name: str) -> datetime | None:
    """The first date with a time of day that stands in the name, to the second at least; None without one.

    In UTC where the maker's names are so, with an offset where one stands there, else without: by the clock of the
    place.

    >>> time_in_name("PXL_20260314_080211123.TS.mp4").isoformat()
    '2026-03-14T08:02:11.123000+00:00'

    A day alone, a counter and seconds since 1970 are no times: `IMG-20260314-WA0001`, `REC_0001`, `1773475331`.
    """
    for match in _matches(file_name):
        hour = int(match["hour"])
        half = match.groupdict().get("half")
        if half is not None:
            if not 1 <= hour <= 12:
                continue
            hour = hour % 12 + (12 if half in "Pp" else 0)
        ms = int(match.groupdict().get("ms") or 0)
        year, month, day, minute, second = (int(match[part]) for part in ("year", "month", "day", "minute", "second"))
        try:
            moment = datetime(year, month, day, hour, minute, second, ms * 1000)
            if match["offset"]:
                moment = datetime.fromisoformat(moment.isoformat() + match["offset"])
        except ValueError:  # digits that are no time
            continue
        if _UTC_NAMES.match(file_name):
            moment = moment.replace(tzinfo=UTC)
        return moment
    return None


def is_messengers_name(file_name: str) -> bool:
    """Whether a messenger gives such names, when it saves a file, whenever that was recorded."""
    return bool(_SAVED_NAMES.match(file_name))


def _matches(file_name: str) -> Iterator[re.Match[str]]:
    matches = [match for pattern in _PATTERNS for match in pattern.finditer(file_name)]
    yield from sorted(matches, key=lambda match: match.start())


def gopro_chapter(file_name: str) -> tuple[str, int] | None:
    """(recording, chapter from 1) of a GoPro's file name; None for other names.

    >>> gopro_chapter("GX020123.MP4"), gopro_chapter("GOPR0123.MP4"), gopro_chapter("GP010123.MP4")
    (('GX0123', 2), ('GP0123', 1), ('GP0123', 2))
    """
    match = _CHAPTER.match(file_name)
    if match is None:
        return None
    if match["chapter"]:
        return f"{file_name[:2].upper()}{match['number']}", int(match["chapter"])
    return f"GP{match['number']}", 1 + int(match["old_chapter"] or 0)

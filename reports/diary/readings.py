"""What each source says of when a recording begins: texts read, and times that no recording can have refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from features.decode.recorded_at import ClockTags
from reports.diary.file_names import time_in_name

GIVEN = "given by the user"
GPS = "GPS"
METADATA = "container metadata"
NAME = "file name"
CHAPTER = "the chapter before"
FOLLOWS = "assumed to follow the one before"
MODIFIED = "file modification time"
UNKNOWN = "unknown"
SOURCES = (GIVEN, GPS, METADATA, NAME, CHAPTER, FOLLOWS, MODIFIED, UNKNOWN)
"""Where a recording's start may be known from, the most trustworthy first."""

_FIRST_YEAR = 1990  # 1904, 1970 and 1980 are the zeros of clocks that were never set
_LONGEST_S = 30 * 86400.0  # a longer duration is damage
_TEXT_FORMATS = ("%Y:%m:%d %H:%M:%S", "%Y:%m:%d %H:%M:%S%z", "%a %b %d %H:%M:%S %Y")  # EXIF, C


@dataclass(frozen=True)
class VideoFile:
    """What is known of one video file when its start is asked for.

    `modified_s` is when it was last written, in seconds from 1970; `duration_s` is None where it is not known, as of a
    file that cannot be read.
    """

    name: str
    modified_s: float | None
    tags: ClockTags = field(default_factory=ClockTags)
    duration_s: float | None = None

    @property
    def duration(self) -> timedelta | None:
        if self.duration_s is None or not 0 <= self.duration_s <= _LONGEST_S:
            return None
        return timedelta(seconds=self.duration_s)


@dataclass(frozen=True)
class ClockReading:
    """What one source says: its text as it stands there, and the start that it gives, or None if it is not believed.

    A `start` without an offset is by the clock of the place, wherever that was; one in UTC does not tell the place.
    `note` says how the text was read, or why it is not believed.
    """

    source: str
    text: str
    start: datetime | None
    note: str = ""

    @property
    def has_place(self) -> bool:
        return self.start is not None and has_place(self.start)


def stated_readings(file: VideoFile, now: datetime) -> list[ClockReading]:
    """What the tags of the file's head say, the most telling first."""
    return [_stated_reading(tag, text, now) for tag, text in file.tags.times.items()]


def gps_reading(file: VideoFile, now: datetime) -> ClockReading | None:
    at = file.tags.gps_start
    return None if at is None else _reading(GPS, at.isoformat(timespec="milliseconds"), at, now)


def name_reading(file: VideoFile, now: datetime) -> ClockReading | None:
    moment = time_in_name(file.name)
    return None if moment is None else _reading(NAME, file.name, moment, now)


def _stated_reading(tag: str, text: str, now: datetime) -> ClockReading:
    moment = None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        for form in _TEXT_FORMATS:
            try:
                moment = datetime.strptime(text.strip(), form)
                break
            except ValueError:
                continue
    shown = f"{tag}={text}"
    if moment is None:
        return ClockReading(METADATA, shown, None, "not a time")
    if len(text.strip()) <= len("2026-03-14"):
        return ClockReading(METADATA, shown, None, "a day without a time")
    return _reading(METADATA, shown, moment, now)


def modified_reading(file: VideoFile, now: datetime) -> ClockReading | None:
    if file.modified_s is None:
        return None
    try:
        written = datetime.fromtimestamp(file.modified_s, UTC)
    except (OverflowError, ValueError, OSError):
        return ClockReading(MODIFIED, f"{file.modified_s:.0f}", None, "not a time")
    reading = _reading(MODIFIED, written.isoformat(timespec="seconds"), written, now)
    return replace(reading, start=reading.start and reading.start - (file.duration or timedelta(0)))


def _reading(source: str, text: str, moment: datetime, now: datetime) -> ClockReading:
    """The reading of a text that says `moment`, which is believed if a recording can be of then."""
    if moment.year < _FIRST_YEAR or (moment.month, moment.day, moment.time()) == (1, 1, datetime.min.time()):
        return ClockReading(source, text, None, "not believed: the time of a clock that was never set")
    if moment.year > now.year + 1 or moment.replace(tzinfo=moment.tzinfo or UTC) > latest(now):
        return ClockReading(source, text, None, "not believed: in the future")
    if moment.utcoffset() == timedelta(0):
        moment = moment.replace(tzinfo=UTC)
    return ClockReading(source, text, moment)


def has_place(moment: datetime) -> bool:
    """Whether a time tells the offset from UTC of the place where it was taken."""
    return moment.tzinfo not in (None, UTC)


def latest(now: datetime) -> datetime:
    """The latest time that is believed."""
    return now + timedelta(days=1)  # a clock may be a zone ahead

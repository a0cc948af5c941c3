"""When recordings begin: what each source says, weighed against the others and against the duration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from features.decode.recorded_at import ClockTags
from reports.diary.clock import format_offset
from reports.diary.file_names import gopro_chapter, time_in_name

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
_FIRST_FILM = 1888  # the user may know of older recordings
_SAME = timedelta(seconds=2)  # two stamps of one moment
_CLOSING = timedelta(seconds=10)  # from the last frame until the file is closed and stamped
_LONGEST_S = 30 * 86400.0  # a longer duration is damage
_QUARTER = timedelta(minutes=15)  # offsets from UTC are multiples of it
_TEXT_FORMATS = ("%Y:%m:%d %H:%M:%S", "%Y:%m:%d %H:%M:%S%z", "%a %b %d %H:%M:%S %Y")  # EXIF, C
_LOCAL_AS_UTC = "The metadata has the camera's local time as if it were UTC, it seems."


class ImpossibleTime(Exception):
    """The start that the user gives cannot be a recording's."""


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


@dataclass(frozen=True)
class RecordingStart:
    """When a recording begins, with an offset from UTC, or None; and how that is known.

    `is_guess` where no source says so without doubt; `note` has the doubts as sentences; `readings` are what all
    sources say, the believed one and the others.
    """

    at: datetime | None
    source: str
    is_guess: bool = False
    note: str = ""
    readings: tuple[ClockReading, ...] = ()


def recording_starts(
    files: Sequence[VideoFile], *, given: datetime | None, zone: tzinfo, now: datetime
) -> list[RecordingStart]:
    """The start of each file, in the order in which the user named them.

    `given` is the user's word for the first file, and for no other. Each other file has its own sources; where these
    are not better than its modification time and the user gave a start, it is assumed to follow the one before. The
    chapters of a GoPro's recording follow each other. `zone` is the machine's: times without an offset are read in it,
    and times in UTC are told in it. Nothing later than `now` is believed. Raises `ImpossibleTime`.
    """
    starts = [_start(file, zone, now) for file in files]
    if given is not None and starts:
        starts[0] = _given_start(given, starts[0].readings, zone, now)
        for i in range(1, len(starts)):
            if starts[i].source in (MODIFIED, UNKNOWN):
                starts[i] = _following(starts[i], starts[i - 1], files[i - 1], FOLLOWS)
    return _chapters_in_order(files, starts)


def _start(file: VideoFile, zone: tzinfo, now: datetime) -> RecordingStart:
    """A file's start by its own sources."""
    stated = [_stated_reading(tag, text, now) for tag, text in file.tags.times.items()]
    named = time_in_name(file.name)
    name = None if named is None else _reading(NAME, file.name, named.moment, now)
    modified = _modified_reading(file, now)
    readings = (*stated, *([name] if name else []), *([modified] if modified else []))
    # A tag with an offset was written by what recorded; those in UTC are also written by what converts.
    believed = sorted((reading for reading in stated if reading.start), key=lambda reading: not _has_place(reading))
    best = believed[0] if believed else None
    if best is not None and name is not None and name.start is not None:
        assert named is not None
        start = _weighed(best, name, file, zone, is_saved=named.is_saved)
    elif best is not None:
        start = _by_metadata(best, file, zone)
    elif name is not None and name.start is not None:
        assert named is not None
        start = _placed(name.start, NAME, zone)
        if named.is_saved:
            start = replace(start, is_guess=True, note=_joined(start.note, "A messenger put it there on saving."))
    elif modified is not None and modified.start is not None:
        note = "The file was last written then, taken as the recording's end."
        start = RecordingStart(modified.start.astimezone(zone), MODIFIED, is_guess=True, note=note)
    else:
        start = RecordingStart(None, UNKNOWN)
    return replace(start, readings=readings)


def _weighed(
    stated: ClockReading, name: ClockReading, file: VideoFile, zone: tzinfo, *, is_saved: bool
) -> RecordingStart:
    """Metadata and name together. They agree if the metadata's time lies within the recording or at its end.

    Where they do not, the metadata is believed if it tells its place, or if the name is a messenger's; else the name
    is, since everything that converts or edits a video writes a new `creation_time`.
    """
    assert stated.start is not None
    assert name.start is not None
    duration = file.duration or timedelta(0)
    by_name = _placed(name.start, NAME, zone if stated.start.tzinfo in (None, UTC) else stated.start.tzinfo)
    lag = _lag(stated.start, name.start, zone)
    if -_CLOSING <= lag <= _SAME:
        return _placed(stated.start, METADATA, zone)
    if _SAME < lag <= duration + _CLOSING:
        note = "" if lag < duration - _CLOSING else "The metadata's time is that of the recording's end."
        return replace(by_name, note=_joined(by_name.note, note))
    if stated.start.tzinfo is UTC and not is_saved:
        unzoned = _lag(stated.start.replace(tzinfo=None), name.start, zone)
        if -_CLOSING <= unzoned <= duration + _CLOSING:
            return replace(by_name, is_guess=True, note=_joined(by_name.note, _LOCAL_AS_UTC))
        offset = _offset_between(stated.start, name.start, duration)
        if offset is not None:
            at = name.start.replace(tzinfo=timezone(offset))
            note = f"The metadata has the same moment in UTC, so it was recorded at {format_offset(at)}, it seems."
            return RecordingStart(at, NAME, is_guess=True, note=note)
    by_metadata = _placed(stated.start, METADATA, zone)
    winner = by_metadata if is_saved or _has_place(stated) else by_name
    said = [f"the {start.source.replace('container ', '')} says {_plain(start)}" for start in (by_name, by_metadata)]
    believed = "metadata" if winner is by_metadata else "file name"
    note = f"The sources disagree: {said[0]}, {said[1]}. The {believed} is believed."
    return replace(winner, is_guess=True, note=_joined(winner.note, note))


def _by_metadata(stated: ClockReading, file: VideoFile, zone: tzinfo) -> RecordingStart:
    assert stated.start is not None
    start = _placed(stated.start, METADATA, zone)
    if file.tags.maker == "Android" and stated.start.tzinfo is UTC and file.duration and start.at:
        note = "Android states when a recording ends; its duration is taken off."
        return replace(start, at=_shifted(start.at, -file.duration), note=note)
    if file.tags.maker == "GoPro" and stated.start.tzinfo is UTC:
        local = _placed(stated.start.replace(tzinfo=None), METADATA, zone)
        if local.at != start.at:
            return replace(local, is_guess=True, note=_joined(local.note, _LOCAL_AS_UTC))
    return start


def _offset_between(stated: datetime, named: datetime, duration: timedelta) -> timedelta | None:
    """The offset from UTC at which a local time in a name is the same moment as one in UTC; None if there is none."""
    if named.tzinfo is not None:
        return None
    for start in (stated, stated - duration):
        difference = named - start.replace(tzinfo=None)
        offset = round(difference / _QUARTER) * _QUARTER
        if abs(difference - offset) <= _CLOSING and timedelta(hours=-12) <= offset <= timedelta(hours=14):
            return offset
    return None


def _given_start(given: datetime, readings: tuple[ClockReading, ...], zone: tzinfo, now: datetime) -> RecordingStart:
    if not _FIRST_FILM <= given.year <= now.year + 1 or given.replace(tzinfo=given.tzinfo or UTC) > _latest(now):
        raise ImpossibleTime(
            f"{given.isoformat()} cannot be when a video was recorded: from {_FIRST_FILM} until now is possible"
        )
    reading = ClockReading(GIVEN, given.isoformat(), given)
    return replace(_placed(given, GIVEN, zone), readings=(reading, *readings))


def _following(
    start: RecordingStart, before: RecordingStart, file_before: VideoFile, source: str, *, is_guess: bool = True
) -> RecordingStart:
    """Begins where the one before ends; `start` as it is where that is not known."""
    if before.at is None or file_before.duration is None:
        return start
    at = _shifted(before.at, file_before.duration)
    note = f"It is taken to begin where {file_before.name} ends."
    reading = ClockReading(source, file_before.name, at, note)
    return RecordingStart(at, source, is_guess or before.is_guess, note, (reading, *start.readings))


def _chapters_in_order(files: Sequence[VideoFile], starts: list[RecordingStart]) -> list[RecordingStart]:
    """GoPro's chapters all state the first one's time: each begins where the one before ends, if that is here."""
    chapters = {chapter: i for i, file in enumerate(files) if (chapter := gopro_chapter(file.name))}
    for (series, number), i in sorted(chapters.items()):
        if number == 1 or starts[i].source not in (METADATA, MODIFIED, UNKNOWN, FOLLOWS):
            continue
        earlier = [other for other in chapters if other[0] == series and other[1] < number]
        if earlier:
            j = chapters[max(earlier)]
            if starts[i].source == METADATA and _stated(starts[i]) != _stated(starts[j]):
                continue  # it has a time of its own
            is_next = max(earlier)[1] == number - 1
            starts[i] = _following(starts[i], starts[j], files[j], CHAPTER, is_guess=not is_next)
        elif starts[i].source == METADATA:
            note = f"It is chapter {number} of a recording, and chapters state when the first one begins."
            starts[i] = replace(starts[i], is_guess=True, note=_joined(starts[i].note, note))
    return starts


def _stated(start: RecordingStart) -> list[datetime | None]:
    return [reading.start for reading in start.readings if reading.source == METADATA]


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


def _modified_reading(file: VideoFile, now: datetime) -> ClockReading | None:
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
    if moment.year > now.year + 1 or moment.replace(tzinfo=moment.tzinfo or UTC) > _latest(now):
        return ClockReading(source, text, None, "not believed: in the future")
    if moment.utcoffset() == timedelta(0):
        moment = moment.replace(tzinfo=UTC)
    return ClockReading(source, text, moment)


def _latest(now: datetime) -> datetime:
    return now + timedelta(days=1)  # a clock may be a zone ahead


def _placed(moment: datetime, source: str, zone: tzinfo) -> RecordingStart:
    """A start with an offset: one without is by the zone's clock, one in UTC is told by it, any other stays."""
    if moment.tzinfo is not None:
        return RecordingStart(moment.astimezone(zone) if moment.tzinfo is UTC else moment, source)
    first, second = (moment.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    at = first.astimezone(zone)
    note = ""
    if at.replace(tzinfo=None, fold=0) != moment:
        note = f"The clock was put forward over {moment:%H:%M:%S} that day; {at:%H:%M:%S} is meant, it seems."
    elif first != second:
        note = f"The clock was put back that day and showed {moment:%H:%M:%S} twice; the first is taken."
    return RecordingStart(at, source, note=note)


def _has_place(reading: ClockReading) -> bool:
    return reading.start is not None and reading.start.tzinfo not in (None, UTC)


def _lag(moment: datetime, other: datetime, zone: tzinfo) -> timedelta:
    """How much later `moment` is; by the clock of the place where one of them is without an offset."""
    if moment.tzinfo is None or other.tzinfo is None:
        moment, other = ((m.astimezone(zone) if m.tzinfo is UTC else m).replace(tzinfo=None) for m in (moment, other))
    return moment - other


def _shifted(at: datetime, by: timedelta) -> datetime:
    return (at.astimezone(UTC) + by).astimezone(at.tzinfo)


def _plain(start: RecordingStart) -> str:
    assert start.at is not None
    return f"{start.at:%Y-%m-%d %H:%M:%S} {format_offset(start.at)}"


def _joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)

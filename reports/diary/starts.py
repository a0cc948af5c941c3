"""When recordings begin: what each source says, weighed against the others and against the duration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from reports.diary.clock import format_offset
from reports.diary.file_names import gopro_chapter, is_messengers_name
from reports.diary.readings import (
    CHAPTER,
    FOLLOWS,
    GIVEN,
    GPS,
    METADATA,
    MODIFIED,
    NAME,
    UNKNOWN,
    ClockReading,
    VideoFile,
    gps_reading,
    has_place,
    latest,
    modified_reading,
    name_reading,
    stated_readings,
)

_FIRST_FILM = 1888  # the user may know of older recordings
_SAME = timedelta(seconds=2)  # two stamps of one moment
_CLOSING = timedelta(seconds=10)  # from the last frame until the file is closed and stamped
_GPS_LATE = timedelta(minutes=1)  # a receiver's first lock, against the camera's clock
_QUARTER = timedelta(minutes=15)  # offsets from UTC are multiples of it
_LOCAL_AS_UTC = "The metadata has the camera's local time as if it were UTC, it seems."


class ImpossibleTime(Exception):
    """The start that the user gives cannot be a recording's."""


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
    stated, gps, name = stated_readings(file, now), gps_reading(file, now), name_reading(file, now)
    modified = modified_reading(file, now)
    # A tag with an offset was written by what recorded; those in UTC are also written by what converts.
    believed = sorted((reading for reading in stated if reading.start), key=lambda reading: not reading.has_place)
    best = believed[0].start if believed else None
    if gps and gps.start:
        start = _by_gps(gps.start, best, file, zone)
    elif best and name and name.start:
        start = _weighed(best, name.start, file, zone)
    elif best:
        start = _by_metadata(best, file, zone)
    elif name and name.start:
        start = _placed(name.start, NAME, zone)
        if is_messengers_name(file.name):
            start = _doubted(start, "A messenger gave the name when it saved the file.")
    elif modified and modified.start:
        note = "The file was last written then, taken as the recording's end."
        start = _doubted(_placed(modified.start, MODIFIED, zone), note)
    else:
        start = RecordingStart(None, UNKNOWN)
    readings = [*stated, gps, name]
    if start.is_guess or start.at is None:  # else it is left out: a copy of the file has another one
        readings.append(modified)
    return replace(start, readings=tuple(reading for reading in readings if reading is not None))


def _by_gps(gps: datetime, stated: datetime | None, file: VideoFile, zone: tzinfo) -> RecordingStart:
    """By GPS, whose time is in UTC. Metadata that is off by a whole offset has the local time of the place."""
    chapter = gopro_chapter(file.name)
    if stated is None or (chapter and chapter[1] > 1):
        return _placed(gps, GPS, zone)
    if stated.tzinfo and abs(stated - gps) <= _GPS_LATE:
        return _placed(stated, METADATA, zone)
    offset = None if has_place(stated) else _offset_between(gps, stated.replace(tzinfo=None), within=_GPS_LATE)
    if offset is None:
        note = f"The metadata says {_plain(_placed(stated, METADATA, zone))}, which is not believed."
        return replace(_placed(gps, GPS, zone), note=note)
    at = stated.replace(tzinfo=timezone(offset))
    if at.astimezone(zone).utcoffset() == offset:
        at = at.astimezone(zone)
    return RecordingStart(at, METADATA, note=f"{_LOCAL_AS_UTC} GPS tells the difference.")


def _weighed(stated: datetime, named: datetime, file: VideoFile, zone: tzinfo) -> RecordingStart:
    """Metadata and name together. They agree if the metadata's time lies within the recording or at its end.

    Where they do not, the metadata is believed if it tells its place, or if the name is a messenger's; else the name
    is, since everything that converts or edits a video writes a new `creation_time`.
    """
    duration = file.duration or timedelta(0)
    by_metadata = _placed(stated, METADATA, zone)
    by_name = _placed(named, NAME, stated.tzinfo if stated.tzinfo and has_place(stated) else zone)
    lag = _lag(stated, named, zone)
    if -_CLOSING <= lag <= _SAME:
        return by_metadata
    if _SAME < lag <= duration + _CLOSING:
        note = "" if lag < duration - _CLOSING else "The metadata's time is that of the recording's end."
        return replace(by_name, note=_joined(by_name.note, note))
    is_saved = is_messengers_name(file.name)
    if stated.tzinfo is UTC and not is_saved:
        if -_CLOSING <= _lag(stated.replace(tzinfo=None), named, zone) <= duration + _CLOSING:
            return _doubted(by_name, _LOCAL_AS_UTC)
        offset = _offset_between(stated, named) or _offset_between(stated - duration, named)
        if offset:
            at = named.replace(tzinfo=timezone(offset))
            note = f"The metadata has the same moment in UTC, so it was recorded at {format_offset(at)}, it seems."
            return _doubted(RecordingStart(at, NAME), note)
    said = f"the file name says {_plain(by_name)}, the metadata says {_plain(by_metadata)}"
    if is_saved or has_place(stated):
        return _doubted(by_metadata, f"The sources disagree: {said}. The metadata is believed.")
    return _doubted(by_name, f"The sources disagree: {said}. The file name is believed.")


def _by_metadata(stated: datetime, file: VideoFile, zone: tzinfo) -> RecordingStart:
    start = _placed(stated, METADATA, zone)
    if file.tags.maker == "Android" and stated.tzinfo is UTC and file.duration:
        note = "Android states when a recording ends; its duration is taken off."
        return replace(_placed(stated - file.duration, METADATA, zone), note=note)
    if file.tags.maker == "GoPro" and stated.tzinfo is UTC:
        local = _placed(stated.replace(tzinfo=None), METADATA, zone)
        if local.at != start.at:
            return _doubted(local, _LOCAL_AS_UTC)
    return start


def _offset_between(utc: datetime, local: datetime, *, within: timedelta = _CLOSING) -> timedelta | None:
    """The offset from UTC at which a local time is the same moment as one in UTC; None if there is none.

    None as well if `local` is not without an offset.
    """
    if local.tzinfo is not None:
        return None
    difference = local - utc.replace(tzinfo=None)
    offset = round(difference / _QUARTER) * _QUARTER
    is_offset = abs(difference - offset) <= within and timedelta(hours=-12) <= offset <= timedelta(hours=14)
    return offset if is_offset else None


def _given_start(given: datetime, readings: tuple[ClockReading, ...], zone: tzinfo, now: datetime) -> RecordingStart:
    if not _FIRST_FILM <= given.year <= now.year + 1 or given.replace(tzinfo=given.tzinfo or UTC) > latest(now):
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
    chapters = sorted((*chapter, i) for i, file in enumerate(files) if (chapter := gopro_chapter(file.name)))
    for series, number, i in chapters:
        if number == 1 or starts[i].source not in (METADATA, MODIFIED, UNKNOWN, FOLLOWS):
            continue
        earlier = [(other, j) for its_series, other, j in chapters if its_series == series and other < number]
        sharing = [(other, j) for other, j in earlier if _stated(starts[j]) == _stated(starts[i])]
        if sharing:
            before, j = max(sharing)
            starts[i] = _following(starts[i], starts[j], files[j], CHAPTER, is_guess=before < number - 1)
        elif not earlier and starts[i].source == METADATA:
            note = f"It is chapter {number} of a recording, and chapters state when the first one begins."
            starts[i] = _doubted(starts[i], note)
    return starts


def _stated(start: RecordingStart) -> list[datetime | None]:
    return [reading.start for reading in start.readings if reading.source == METADATA]


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


def _lag(moment: datetime, other: datetime, zone: tzinfo) -> timedelta:
    """How much later `moment` is; by the clock of the place where one of them is without an offset."""
    if moment.tzinfo is None or other.tzinfo is None:
        moment, other = ((m.astimezone(zone) if m.tzinfo is UTC else m).replace(tzinfo=None) for m in (moment, other))
    return moment - other


def _doubted(start: RecordingStart, why: str) -> RecordingStart:
    return replace(start, is_guess=True, note=_joined(start.note, why))


def _shifted(at: datetime, by: timedelta) -> datetime:
    return (at.astimezone(UTC) + by).astimezone(at.tzinfo)


def _plain(start: RecordingStart) -> str:
    assert start.at is not None
    return f"{start.at:%Y-%m-%d %H:%M:%S} {format_offset(start.at)}"


def _joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)

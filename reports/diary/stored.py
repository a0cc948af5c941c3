"""`StoredRecording`: a recording with all that its pages tell, in a file: pages are written without its video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter

from features.sealed import damage_told, read_sealed_json, write_sealed_json
from reports.corrections import Correction, corrected, known_times
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.diary.roles import Role
from reports.events import EventsFound

_VERSION = 1
_REMEDY = "write the diary of its video again, or remove its folder"


@dataclass(frozen=True)
class StoredRecording:
    """A recording, its events, and what made them.

    `names` has the labels' names by id, `roles` how a story tells some of them; quiet stretches of at least
    `min_quiet_s` are told. `video` is the address of the video file, relative to the folder of the pages, or empty
    where there is none. `thumbnails_ms` are the times of the pictures that lie in `<recording>/thumbnails/`. Labels
    in a pair of `exclusions` are never on at the same time.
    """

    recording: Recording
    found: EventsFound
    names: Mapping[str, str]
    roles: Mapping[str, Role]
    model: DiaryModel
    min_quiet_s: float
    video: str = ""
    thumbnails_ms: tuple[int, ...] = ()
    exclusions: tuple[tuple[str, str], ...] = ()

    def with_corrections(self, corrections: Sequence[Correction]) -> StoredRecording:
        """The recording with what people said of its video in place of what the model did; pages tell this."""
        if not corrections:
            return self
        known = known_times(corrections, self.names, exclusions=self.exclusions)
        return replace(self, found=corrected(self.found, known, self.recording.id))


_ADAPTER = TypeAdapter(StoredRecording)


def write_stored(path: Path, stored: StoredRecording) -> None:
    """Write the recording as a sealed JSON file."""
    start = stored.recording.recorded_at
    zone = start.tzinfo.key if start is not None and isinstance(start.tzinfo, ZoneInfo) else None
    write_sealed_json(
        path, {"version": _VERSION, "zone": zone, "stored": _ADAPTER.dump_python(stored, mode="json")}, sort_keys=True
    )


def read_stored(path: Path) -> StoredRecording:
    """Read what `write_stored` wrote. Raises `DamagedFile`, or `FileNotFoundError`."""
    content = read_sealed_json(path, remedy=_REMEDY)
    with damage_told(path, remedy=_REMEDY):
        if content["version"] != _VERSION:
            raise ValueError(f"it is of version {content['version']}, wanted {_VERSION}")
        stored = _ADAPTER.validate_python(content["stored"])
        start = _in_zone(stored.recording.recorded_at, content["zone"])
        return replace(stored, recording=replace(stored.recording, recorded_at=start))


def _in_zone(start: datetime | None, zone: Any) -> datetime | None:
    """The moment with its zone's rules; a zone that this machine does not know leaves the offset."""
    if start is None:
        return None
    try:
        return start.astimezone(ZoneInfo(zone) if zone else start.tzinfo)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return start

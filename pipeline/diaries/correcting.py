"""What people said of the videos of an output folder, and how its files come to tell it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections import defaultdict
from pathlib import Path

from features.files import is_no_room, write_bytes
from pipeline.diaries.failure import failure_line
from pipeline.diaries.output import CORRECTIONS, STORED, OutputFolder, Row
from reports.corrections import Correction, read_corrections
from reports.diary.formats import FORMATS
from reports.diary.formats.export import write_formats
from reports.diary.stored import StoredRecording, read_stored

log = logging.getLogger(__name__)


class Corrections:
    """The corrections of an output folder, read once, by the hash of the video's bytes."""

    def __init__(self, folder: Path) -> None:
        self._by_video: defaultdict[str, list[Correction]] = defaultdict(list)
        for correction in read_corrections(folder / CORRECTIONS):
            self._by_video[correction.video_sha256].append(correction)

    def of(self, video_sha256: str) -> list[Correction]:
        """In the order in which they were made."""
        return self._by_video.get(video_sha256, [])

    def digest(self, video_sha256: str) -> str:
        """A hash of the corrections of a video; empty where there are none."""
        own = self.of(video_sha256)
        lines = "\n".join(json.dumps(dataclasses.asdict(correction)) for correction in own)
        return hashlib.sha256(lines.encode()).hexdigest() if own else ""

    def told(self, path: Path, video_sha256: str) -> StoredRecording:
        """What is stored at `path`, with the corrections of its video. Raises what reading raises."""
        return read_stored(path).with_corrections(self.of(video_sha256))


def take_along(folder: Path, new: Path) -> None:
    """Copy the corrections of a folder into the one that is to replace it."""
    if (folder / CORRECTIONS).is_file():
        write_bytes(new / CORRECTIONS, (folder / CORRECTIONS).read_bytes())


def apply_corrections(output: OutputFolder) -> list[str]:
    """Write the events files of recordings anew whose corrections have changed; their pages are to follow.

    No video is read and no model run. Returns a line for each recording whose files could not be written. Use it while
    the folder is `locked`.
    """
    corrections, failures = Corrections(output.path), []
    for row in list(output.rows.values()):
        digest = corrections.digest(row.sha256)
        if digest == row.corrections or not row.can_be_told:
            continue
        path = output.path / row.id / STORED
        try:
            stored = corrections.told(path, row.sha256)
            write_formats(path.parent, formats_of(row), stored.recording, stored.found, stored.names, stored.model)
        except Exception as error:  # one damaged file costs itself
            if is_no_room(error):
                raise
            failures.append(failure_line(path, error))
            continue
        output.set_corrected(row.id, digest)
    return failures


def formats_of(row: Row) -> list[str]:
    """The formats that a recording's events are written in."""
    return [name for name, file in FORMATS.items() if f"{row.id}/{file}" in row.files]

"""The recordings of an output folder that can be reviewed, and where their videos lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from pipeline.diaries.failure import failure_line, printable
from pipeline.diaries.output import MANIFEST, STORED, OutputFolder
from reports.diary.day import page_keys
from reports.diary.stored import StoredRecording, read_stored


class NothingToReview(Exception):
    """A folder has no diary that can be reviewed."""


@dataclass(frozen=True)
class Reviewed:
    """A recording as its model states it, the hash of its video's bytes, and where that video was."""

    stored: StoredRecording
    video_sha256: str
    video: Path | None

    @property
    def id(self) -> str:
        return self.stored.recording.id


def open_diaries(path: Path) -> tuple[OutputFolder, str]:
    """The output folder at `path`, and no page; or, where `path` is a page of one, its folder and the page's key."""
    folder, key = path, ""
    if not path.is_dir():
        folder, key = path.parent, path.name.removesuffix(".html").removesuffix(".md")
    if not (folder / MANIFEST).is_file():
        raise NothingToReview(
            f"{path} is no folder of diaries, and no day in one: it has no {MANIFEST}; `diary write` makes one"
        )
    output = OutputFolder(folder)
    if key and key not in output.pages:
        days = ", ".join(sorted(output.pages)) or "none"
        raise NothingToReview(f"{folder} has no page {key!r}; it has {days}")
    return output, key


def reviewed_recordings(output: OutputFolder, key: str = "") -> tuple[list[Reviewed], list[str]]:
    """The recordings, of all pages or of one, in order of time, and a line for each that cannot be reviewed.

    Raises `NothingToReview` where none can.
    """
    recordings, faults = [], []
    for row in output.rows.values():
        path = output.path / row.id / STORED
        if not row.can_be_told:
            if row.status != "unfinished":
                faults.append(printable(f"{path.parent}: an earlier version wrote it; write its diary again"))
            continue
        try:
            stored = read_stored(path)
        except Exception as error:  # one damaged file costs itself
            faults.append(failure_line(path, error))
            continue
        if not key or key in page_keys(stored.recording):
            recordings.append(Reviewed(stored, row.sha256, _video(output.path, stored)))
    if not recordings:
        raise NothingToReview("\n".join([f"{output.path} has no diary that can be reviewed", *faults]))
    return sorted(recordings, key=lambda each: (each.stored.recording.origin_ms, each.id)), faults


def _video(folder: Path, stored: StoredRecording) -> Path | None:
    if not stored.video:
        return None
    path = folder / os.fsdecode(unquote_to_bytes(stored.video))
    return path if path.is_file() else None

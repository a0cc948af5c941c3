"""The recordings of an output folder that can be reviewed, and where their videos lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote_to_bytes

from features.files import sha256_of
from pipeline.diaries.failure import failure_line, printable
from pipeline.diaries.output import MANIFEST, STORED, OutputFolder
from pipeline.diaries.selection import select_videos
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


def each_video_once(recordings: Sequence[Reviewed]) -> list[Reviewed]:
    """One recording of each video, one whose video can be played if there is: what is said holds for all of them."""
    by_video: dict[str, Reviewed] = {}
    for reviewed in recordings:
        other = by_video.get(reviewed.video_sha256)
        if other is None or (other.video is None and reviewed.video is not None):
            by_video[reviewed.video_sha256] = reviewed
    return [reviewed for reviewed in recordings if by_video[reviewed.video_sha256] is reviewed]


def found_again(recordings: Sequence[Reviewed], folder: Path) -> list[Reviewed]:
    """The recordings, those whose videos were moved with what has their bytes below `folder`. Reads all bytes there."""
    if all(reviewed.video is not None for reviewed in recordings):
        return list(recordings)
    videos = {sha256_of(path): path for path in select_videos([folder]).videos}
    return [replace(each, video=each.video or videos.get(each.video_sha256)) for each in recordings]


def _video(folder: Path, stored: StoredRecording) -> Path | None:
    if not stored.video:
        return None
    path = folder / os.fsdecode(unquote_to_bytes(stored.video))
    return path if path.is_file() else None

"""Which recordings begin before a day, by their diaries or their own clocks, and how all of them is removed."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from features.decode.container import UnreadableVideo
from features.decode.recorded_at import read_clock_tags
from features.files import locked, sha256_of
from pipeline.diaries.failure import printable
from pipeline.diaries.output import CORRECTIONS, LABELS, MODEL, TRUTH, OutputFolder, Row
from pipeline.diaries.pages import write_pages
from pipeline.diaries.selection import NothingSelected, select_videos
from reports.corrections import forget_corrections
from reports.diary.clock import local_zone
from reports.diary.readings import VideoFile
from reports.diary.starts import recording_starts

log = logging.getLogger(__name__)

_EVENTS = "events.jsonl"
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Start:
    """When a recording begins; None if that is not known."""

    at: datetime | None
    is_guess: bool


@dataclass(frozen=True)
class KnownRecording:
    """A video by its bytes: its diaries' `rows`, the `videos` that have these bytes, and when it begins."""

    sha256: str
    rows: tuple[Row, ...]
    videos: tuple[Path, ...]
    start: Start

    @property
    def name(self) -> str:
        return printable(str(self.videos[0]) if self.videos else self.rows[0].file_name)


@dataclass
class Removed:
    """What a purge removed, as (files, bytes); `others` are files that it left, and `faults` what it could not do."""

    videos: tuple[int, int] = (0, 0)
    diaries: tuple[int, int] = (0, 0)
    cached: tuple[int, int] = (0, 0)
    others: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def known_recordings(output: OutputFolder | None, folder: Path | None) -> list[KnownRecording]:
    """The recordings that have a diary in `output` or are videos below `folder`, by when they begin.

    The diary's word on the start comes first, and of two the later one; a video without a diary goes by its own clocks.
    Reads all bytes of the videos. Links are left out: what they lead to is elsewhere.
    """
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in output.rows.values() if output else ():
        rows[row.sha256].append(row)
    videos: dict[str, list[Path]] = defaultdict(list)
    own_starts: dict[str, Start] = {}
    paths = _videos_below(folder, output) if folder else []
    if paths:
        log.info("reading %d videos", len(paths))
    files = [_video_file(path) for path in paths]
    starts = recording_starts(files, given=None, zone=local_zone(), now=datetime.now(UTC))
    for path, start in zip(paths, starts, strict=True):
        sha256 = sha256_of(path)
        videos[sha256].append(path)
        own_starts[sha256] = _latest([*filter(None, [own_starts.get(sha256)]), Start(start.at, start.is_guess)])
    known = []
    for sha256 in {**rows, **videos}:
        told = [_told_start(output, row) for row in rows[sha256]] if output else []
        begins = _latest(told) if told else own_starts[sha256]
        known.append(KnownRecording(sha256, tuple(rows[sha256]), tuple(videos[sha256]), begins))
    return sorted(known, key=lambda recording: (recording.start.at or _NEVER, recording.name))


def is_before(recording: KnownRecording, day: date, *, include_guesses: bool) -> bool:
    """Whether the recording begins before that day, by the clock of its place; of a guess, if those are included."""
    start = recording.start
    return start.at is not None and start.at.date() < day and (include_guesses or not start.is_guess)


def remove(recordings: Sequence[KnownRecording], output: OutputFolder | None, cache: Path | None) -> Removed:
    """Remove what is cached of each recording, its videos, then its diaries, one recording after the other.

    An interrupted purge goes on with the next one: the diary, which knows the start, goes last. The pages of their days
    are written anew without them, or removed.
    """
    from features.cache import remove_pieces

    removed = Removed()
    with locked(cache) if cache and cache.is_dir() else nullcontext():
        for recording in recordings:
            try:
                if cache:
                    removed.cached = _sum(removed.cached, remove_pieces(cache, recording.sha256))
                for video in recording.videos:
                    size = video.stat().st_size
                    video.unlink()
                    removed.videos = _sum(removed.videos, (1, size))
                for row in recording.rows:
                    assert output is not None
                    _remove_diary(output, row, removed)
                    (output.path / f"{row.id}{TRUTH}").unlink(missing_ok=True)
                if output:
                    forget_corrections(output.path / CORRECTIONS, recording.sha256)
            except OSError as error:
                removed.faults.append(printable(f"{error.filename or recording.name}: {error.strerror}"))
            except ValueError as error:
                removed.faults.append(f"{recording.name}: its row in the manifest is damaged ({error}), so it stays")
    if output is not None:
        removed.faults += write_pages(output).failures
    return removed


def learned_in(output: OutputFolder) -> list[Path]:
    """What was learned in a folder of diaries, of recordings of any day: labels of one's own, and a model."""
    labels, model = output.path / LABELS, output.path / MODEL
    is_model = MODEL not in output.rows and not model.is_symlink() and (model / "diary.json").is_file()
    return [labels] * labels.is_file() + [model] * is_model


def forget(learned: Sequence[Path]) -> tuple[int, int]:
    """Remove these files and folders; returns how many files, and their bytes."""
    files = [each for path in learned for each in (path, *path.rglob("*")) if each.is_file()]
    num_bytes = sum(file.lstat().st_size for file in files)
    for path in learned:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return len(files), num_bytes


def _remove_diary(output: OutputFolder, row: Row, removed: Removed) -> None:
    folder = output.path / row.id
    if folder.is_symlink():
        removed.faults.append(f"{folder}: is a link now, and the diary that it leads to stays: remove it yourself")
        return
    places = [place for file in row.files for place in (output.path / file, *(output.path / file).rglob("*"))]
    num_bytes = sum(place.lstat().st_size for place in places if place.is_file() or place.is_symlink())
    output.remove([row.id])
    removed.diaries = _sum(removed.diaries, (1, num_bytes))
    removed.others += sorted(place for place in folder.rglob("*") if not place.is_dir())


def _told_start(output: OutputFolder, row: Row) -> Start:
    """When a recording begins by the first line of its events.jsonl."""
    path = output.path / row.id / _EVENTS
    try:
        with path.open(encoding="utf-8") as lines:
            told = json.loads(lines.readline())
        at = told["start_clock"] and datetime.fromisoformat(told["start_clock"])
        return Start(at, bool(told["clock_is_guess"]))
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s: does not say when the recording begins (%s)", path, error)
    return Start(None, is_guess=True)


def _latest(starts: Sequence[Start]) -> Start:
    """The latest start, and a guess where one is; not known where one is not."""
    moments = [start.at for start in starts if start.at is not None]
    at = max(moments) if len(moments) == len(starts) else None
    return Start(at, any(start.is_guess for start in starts))


def _videos_below(folder: Path, output: OutputFolder | None) -> list[Path]:
    try:
        selection = select_videos([folder], leave_out=output.path if output else None)
    except NothingSelected:
        return []
    videos = []
    for path in selection.videos:
        if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
            log.warning("%s: is a link to elsewhere and stays", printable(str(path)))
        elif not os.access(path, os.R_OK):
            log.warning("%s: cannot be read and stays", printable(str(path)))
        else:
            videos.append(path)
    return videos


def _video_file(path: Path) -> VideoFile:
    try:
        tags = read_clock_tags(path)
    except UnreadableVideo:
        return VideoFile(path.name, path.stat().st_mtime)
    return VideoFile(path.name, path.stat().st_mtime, tags, tags.duration_s)


def _sum(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]

"""Which videos a run is about: the files that people name, and the videos in the folders that they name."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from features.decode.container import opened
from pipeline.diaries.failure import failure_line, printable
from pipeline.user_folders import files_below

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".3gp", ".mpg", ".mpeg"}
"""A file in a folder that ends so and cannot be opened is a damaged video; any other is no video."""

_NAMED = 10  # skipped files


class NothingSelected(Exception):
    """No video is among what was named."""


@dataclass(frozen=True)
class Selection:
    """Videos in the order in which they were named, those of a folder sorted by path.

    `faults` says in a line why some of the `videos` and folders cannot be read; `skipped` are files in folders that
    are no video.
    """

    videos: tuple[Path, ...]
    faults: Mapping[Path, str]
    skipped: tuple[Path, ...]

    @property
    def skipped_line(self) -> str:
        """How many files were skipped, and which; empty where none was."""
        if not self.skipped:
            return ""
        count = len(self.skipped)
        names = [printable(path.name) for path in self.skipped[:_NAMED]]
        more = ", …" if count > _NAMED else ""
        what = "1 file that is no video" if count == 1 else f"{count} files that are no video"
        return f"skipped {what}: {', '.join(names)}{more}"


def select_videos(named: Sequence[Path], *, leave_out: Path | None = None) -> Selection:
    """The files among `named`, readable or not, and the videos below the folders among it, by content.

    Linked folders are followed. Hidden files and folders and a folder `leave_out` below are left out, and a file that
    was there before is not repeated. A folder without a video is a fault. Decodes nothing. Raises `NothingSelected` if
    no video is found.
    """
    videos: dict[Path, Path] = {}  # by what a path leads to
    faults: dict[Path, str] = {}
    skipped: list[Path] = []
    for place in named:
        is_folder, num_faults, is_empty = _is_folder(place), len(faults), True
        for path in _files_below(place, leave_out, faults) if is_folder else [place]:
            target = _target(path)
            fault = None if target in videos else _fault(path)
            if fault is not None and is_folder and path.suffix.lower() not in VIDEO_SUFFIXES:
                skipped.append(path)
                continue
            is_empty = False
            if target in videos:
                log.info("%s is the same file as %s", printable(str(path)), printable(str(videos[target])))
                continue
            videos[target] = path
            if fault is not None:
                faults[path] = fault
        if is_folder and is_empty and len(faults) == num_faults:
            faults[place] = printable(f"{place}: no video in this folder")
    selection = Selection(tuple(videos.values()), faults, tuple(skipped))
    if not videos:
        raise NothingSelected("\n".join([*faults.values(), *filter(None, [selection.skipped_line])]))
    return selection


def _files_below(folder: Path, leave_out: Path | None, faults: dict[Path, str]) -> list[Path]:
    def add_fault(error: OSError) -> None:
        place = Path(error.filename)
        faults[place] = failure_line(place, error)

    return files_below(folder, leave_out=leave_out, on_error=add_fault)


def _is_folder(path: Path) -> bool:
    with contextlib.suppress(OSError):  # a name that is too long, a folder above that may not be entered
        return path.is_dir()
    return False


def _target(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # links that lead in a circle
        return path.absolute()


def _fault(path: Path) -> str | None:
    """Why the file cannot be opened as a video, or None."""
    try:
        if path.is_file():
            path.open("rb").close()  # its own error says more than the decoder's
        with opened(path):
            return None
    except Exception as error:  # whatever a library makes of a file is that file's failure
        return failure_line(path, error)

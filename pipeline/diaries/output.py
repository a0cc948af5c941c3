"""The folder that diaries are written into: what lies there by its manifest.json, and where a run's diaries go."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from features.files import PARTIAL, atomic_folder, private_files, sha256_of, write_json
from pipeline.diaries.failure import decodable, failure_line, printable
from pipeline.diaries.names import VideoIdentity, recording_ids, safe_stem
from pipeline.diaries.selection import Selection
from reports.diary.formats.markdown import forget_markdown

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
DIARY = "diary.md"
_VERSION = 1


class NotOurs(Exception):
    """What lies at the place of an output was not written by an earlier run."""


@dataclass(frozen=True)
class Row:
    """A recording in the manifest; `status` is "unfinished", "written" or "damaged".

    `file_name` and `sha256` are of the video; `files` are relative to the output folder.
    """

    id: str
    file_name: str
    sha256: str
    status: str = "unfinished"
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.id in ("", ".", "..") or Path(self.id).name != self.id:
            raise ValueError(f"{self.id!r} is no name of a folder")

    @property
    def video(self) -> VideoIdentity:
        return VideoIdentity(self.file_name, self.sha256)


@dataclass(frozen=True)
class Planned:
    """A video of the run, and its row, or the line that says why it cannot be read."""

    path: Path
    row: Row | None
    fault: str = ""


class OutputFolder:
    """The diaries that runs wrote into the folder `path`.

    manifest.json lists the recordings of all runs, `in_diary_md`, whose diary.md of the last run has, and `failed`,
    the last run's. A recording is listed before its folder is written, so none is ever there unlisted.
    """

    def __init__(self, path: Path) -> None:
        """Make the folder if it is not there. Raises `NotOurs` where a file that no run wrote would be replaced."""
        self.path = path
        with private_files():
            path.mkdir(parents=True, exist_ok=True)
        self._rows, self._in_diary_md = _read_manifest(path / MANIFEST)
        self._failed: list[dict[str, str]] = []
        if not self._in_diary_md and (path / DIARY).exists():
            raise NotOurs(f"{path / DIARY} was not written here by this program: move it, or name another folder")

    @property
    def rows(self) -> Mapping[str, Row]:
        """The recordings by id."""
        return self._rows

    def plan(self, selection: Selection) -> list[Planned]:
        """Decide where each video's diary goes, in their order, and tell what cannot be read.

        Reads all bytes of the videos, for their hashes. Removes what a killed run left half written.
        """
        for row in [row for row in self._rows.values() if row.status == "unfinished"]:
            shutil.rmtree(self.path / f"{row.id}{PARTIAL}", ignore_errors=True)
            if not (self.path / row.id).exists():
                del self._rows[row.id]
        files: dict[Path, VideoIdentity] = {}
        faults = dict(selection.faults)
        for path in selection.videos:
            if path not in faults:
                try:
                    files[path] = VideoIdentity(decodable(path.name), sha256_of(path))
                except OSError as error:
                    faults[path] = failure_line(path, error)
        ours = {name for name in self._rows if not (self.path / name).exists() or _is_plain_folder(self.path / name)}
        ids = recording_ids(
            list(files.values()),
            known=[(row.video, row.id) for row in self._rows.values() if row.id in ours],
            occupied=[MANIFEST, DIARY, *self._rows, *(path.name.removesuffix(PARTIAL) for path in self.path.iterdir())],
        )
        rows = {path: Row(name, file.name, file.sha256) for (path, file), name in zip(files.items(), ids, strict=True)}
        for path, row in rows.items():
            stem = safe_stem(row.file_name)
            if row.id != stem and row.id not in self._rows:
                log.info("%s: its diary goes to %s, since the name %s is not free", printable(str(path)), row.id, stem)
        for path, fault in faults.items():
            log.error("%s", fault)
            self.add_failure(path, fault)
        unread = [Planned(path, None, fault) for path, fault in faults.items() if path not in selection.videos]
        return [Planned(path, rows.get(path), faults.get(path, "")) for path in selection.videos] + unread

    @contextmanager
    def writing(self, row: Row, *, is_damaged: bool) -> Iterator[Path]:
        """An empty folder to write a recording's diary into; on success it takes the place of the one of earlier runs.

        Files that no run wrote stay. On an error the earlier diary stays.
        """
        before = self._rows.get(row.id)
        self._set(replace(before or row, status="unfinished"), row.id)
        try:
            with atomic_folder(self.path / row.id) as partial:
                yield partial
                files = tuple(sorted(f"{row.id}/{file.name}" for file in partial.iterdir()))
                self._copy_others(row.id, partial, before.files if before else ())
        except BaseException:
            self._set(before, row.id)
            raise
        self._set(replace(row, status="damaged" if is_damaged else "written", files=files), row.id)

    def add_failure(self, path: Path, reason: str) -> None:
        """List a file of this run that has no diary."""
        self._failed.append({"file_name": decodable(path.name), "reason": reason})
        self._save()

    def set_in_diary_md(self, ids: Iterable[str]) -> None:
        """List whose diary.md is, before it is written."""
        self._in_diary_md = list(ids)
        self._save()

    def remove(self, ids: Iterable[str]) -> None:
        """Remove recordings, and of their folders what runs wrote; diary.md goes where it has one of them.

        What the user wrote into a diary.md stays. A row goes after its files, and of these the one that says when the
        recording begins goes last.
        """
        for name in ids:
            self._set(replace(self._rows[name], status="unfinished"), name)
            if name in self._in_diary_md:
                if forget_markdown(self.path / DIARY):
                    self.set_in_diary_md([])
                else:
                    log.warning("%s stays: there is text of yours in it", self.path / DIARY)
            for file in sorted(self._rows[name].files, key=lambda file: file.endswith("events.jsonl")):
                place = self.path / file
                if place.suffix == ".md" and not forget_markdown(place):
                    continue
                shutil.rmtree(place) if _is_plain_folder(place) else place.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody's files are in it
                (self.path / name).rmdir()
            self._set(None, name)

    def _copy_others(self, name: str, partial: Path, files: Sequence[str]) -> None:
        folder = self.path / name
        for entry in folder.iterdir() if folder.is_dir() else ():
            if f"{name}/{entry.name}" in files or (partial / entry.name).exists():
                continue
            if _is_plain_folder(entry):
                shutil.copytree(entry, partial / entry.name, symlinks=True)
            else:
                shutil.copy2(entry, partial / entry.name, follow_symlinks=False)

    def _set(self, row: Row | None, name: str) -> None:
        if row is None:
            self._rows.pop(name, None)
        else:
            self._rows[name] = row
        self._save()

    def _save(self) -> None:
        content = {
            "version": _VERSION,
            "in_diary_md": self._in_diary_md,
            "recordings": [asdict(row) for _, row in sorted(self._rows.items())],
            "failed": self._failed,
        }
        with private_files():
            write_json(self.path / MANIFEST, content)


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _read_manifest(path: Path) -> tuple[dict[str, Row], list[str]]:
    """The rows by id, and whose diary.md is; nothing where there is no file. Raises `NotOurs`."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']}, wanted {_VERSION}")
        rows = [Row(**{**row, "files": tuple(row["files"])}) for row in content["recordings"]]
        return {row.id: row for row in rows}, list(content["in_diary_md"])
    except FileNotFoundError:
        return {}, []
    except (ValueError, KeyError, TypeError) as error:
        raise NotOurs(
            f"{path} is not a list of diaries ({type(error).__name__}: {error}): move it, or name another folder"
        ) from error

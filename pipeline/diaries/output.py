"""The folder that diaries are written into: what lies there by its manifest.json, and where a run's diaries go."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from features.files import PARTIAL, atomic_folder, private_files, write_json
from features.hashes import hashed
from pipeline.diaries.failure import decodable, failure_line, printable
from pipeline.diaries.names import VideoIdentity, recording_ids, safe_stem
from pipeline.diaries.selection import Selection
from pipeline.layout import Layout
from reports.diary.formats.markdown import forget_markdown
from reports.diary.index import IndexEntry

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
INDEX = "index.html"
CORRECTIONS = "corrections.jsonl"
TRUTH = ".truth.csv"
LABELS = "labels.json"
MODEL = "model"
"""What is learned in a folder of diaries: labels of one's own, and in the first folder that learned, a model."""
STORED = "recording.json"
_OWN_FILES = (MANIFEST, INDEX, CORRECTIONS, LABELS)
_EVENTS = "events.jsonl"
_OLD_DIARY = "diary.md"  # of the first version
_VERSION = 2
_PAGE_NAME = re.compile(r"(\d{4}-\d\d-\d\d|undated-.*)\.(html|md)", re.IGNORECASE)


class NotOurs(Exception):
    """What lies at the place of an output was not written by an earlier run."""


class NoDiaries(Exception):
    """A folder is not one that `diary write` wrote to."""


def require_diaries(folder: Path) -> None:
    """Raise `NoDiaries` unless a run has written to the folder."""
    if not (folder / MANIFEST).is_file():
        raise NoDiaries(f"{folder} holds no diaries: it has no {MANIFEST}; name the folder of `diary write -o`")


@dataclass(frozen=True)
class Row:
    """A recording in the manifest; `status` is "unfinished", "written" or "damaged".

    `file_name` and `sha256` are of the video; `files` are relative to the output folder, a folder ends in "/".
    `is_told` where the pages of its days have what it is now; `corrections` is the hash of what people had said of the
    video when its files were last written, or empty.
    """

    id: str
    file_name: str
    sha256: str
    status: str = "unfinished"
    files: tuple[str, ...] = ()
    is_told: bool = False
    corrections: str = ""

    def __post_init__(self) -> None:
        if self.id in ("", ".", "..") or Path(self.id).name != self.id:
            raise ValueError(f"{self.id!r} is no name of a folder")

    @property
    def video(self) -> VideoIdentity:
        return VideoIdentity(self.file_name, self.sha256)

    @property
    def can_be_told(self) -> bool:
        """Whether its folder has what pages are made of; folders of the first version do not."""
        return self.status != "unfinished" and f"{self.id}/{STORED}" in self.files


@dataclass(frozen=True)
class PageRow:
    """A page in the manifest: of the day `key`, or of one recording without a known start.

    `recordings` are the ids that it tells of, `entry` is what the index says of it. `code` is the hash of the code and
    templates that wrote it.
    """

    key: str
    files: tuple[str, ...]
    recordings: tuple[str, ...]
    entry: IndexEntry
    code: str = ""

    def __post_init__(self) -> None:
        if any(not file or Path(file).name != file for file in self.files):
            raise ValueError(f"{self.files} are no names of files")


_PAGE = TypeAdapter(PageRow)


@dataclass(frozen=True)
class Planned:
    """A video of the run, and its row, or the line that says why it cannot be read."""

    path: Path
    row: Row | None
    fault: str = ""


class OutputFolder:
    """The diaries that runs wrote into the folder `path`.

    manifest.json lists the recordings of all runs, the pages that tell of them, and `failed`, the last run's. A
    recording is listed before its folder is written, and a page before its files, so none is ever there unlisted.
    """

    def __init__(self, path: Path) -> None:
        """Make the folder if it is not there. Raises `NotOurs` where a file that no run wrote would be replaced."""
        self.path = path
        with private_files():
            path.mkdir(parents=True, exist_ok=True)
        self._rows, self._pages, self._has_old_diary = _read_manifest(path / MANIFEST)
        self._failed: list[dict[str, str]] = []
        if not self._pages and (path / INDEX).exists():
            raise NotOurs(f"{path / INDEX} was not written here by this program: move it, or name another folder")

    @property
    def rows(self) -> Mapping[str, Row]:
        """The recordings by id."""
        return self._rows

    @property
    def pages(self) -> Mapping[str, PageRow]:
        """The pages by key."""
        return self._pages

    def plan(self, selection: Selection) -> list[Planned]:
        """Decide where each video's diary goes, in their order, and tell what cannot be read.

        Reads all bytes of videos whose hashes are not known. Removes what a killed run left half written.
        """
        for row in [row for row in self._rows.values() if row.status == "unfinished"]:
            shutil.rmtree(self.path / f"{row.id}{PARTIAL}", ignore_errors=True)
            if not (self.path / row.id).exists():
                del self._rows[row.id]
        faults = dict(selection.faults)
        sha256s, unreadable = hashed([path for path in selection.videos if path not in faults], Layout("").cache)
        files = {path: VideoIdentity(decodable(path.name), digest) for path, digest in sha256s.items()}
        faults |= {path: failure_line(path, error) for path, error in unreadable.items()}
        ours = {name for name in self._rows if not (self.path / name).exists() or _is_plain_folder(self.path / name)}
        ids = recording_ids(
            list(files.values()),
            known=[(row.video, row.id) for row in self._rows.values() if row.id in ours],
            occupied=[*_OWN_FILES, *self._rows, *self._names_here(), *_page_names(files.values())],
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
                files = tuple(sorted(f"{row.id}/{file.name}{'/' * file.is_dir()}" for file in partial.iterdir()))
                self._copy_others(row.id, partial, before.files if before else ())
        except BaseException:
            self._set(before, row.id)
            raise
        self._set(replace(row, status="damaged" if is_damaged else "written", files=files), row.id)

    def add_failure(self, path: Path, reason: str) -> None:
        """List a file of this run that has no diary."""
        self._failed.append({"file_name": decodable(path.name), "reason": reason})
        self._save()

    def set_pages(self, pages: Mapping[str, PageRow]) -> None:
        """List these pages and no others; they take the place of the first version's diary.md."""
        self._pages = dict(pages)
        if self._has_old_diary and not forget_markdown(self.path / _OLD_DIARY):
            log.warning("%s is of an earlier version, and is not written any more", self.path / _OLD_DIARY)
        self._has_old_diary = False
        self._save()

    def set_told(self, ids: Iterable[str], *, is_told: bool = True) -> None:
        """Note whether the pages have what these recordings are now."""
        self._rows |= {name: replace(self._rows[name], is_told=is_told) for name in ids}
        self._save()

    def set_corrected(self, name: str, corrections: str) -> None:
        """Note that a recording's files have these corrections, and that its pages do not yet."""
        self._set(replace(self._rows[name], corrections=corrections, is_told=False), name)

    def remove(self, ids: Iterable[str]) -> None:
        """Remove recordings, and of their folders what runs wrote; the pages are to be written again.

        What the user wrote into a diary.md stays. A row goes after its files, and of these the one that says when the
        recording begins goes last.
        """
        for name in ids:
            self._set(replace(self._rows[name], status="unfinished", is_told=False), name)
            for file in sorted(self._rows[name].files, key=lambda file: file.endswith(_EVENTS)):
                place = self.path / file
                if place.suffix == ".md" and not forget_markdown(place):
                    continue
                shutil.rmtree(place) if _is_plain_folder(place) else place.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody's files are in it
                (self.path / name).rmdir()
            self._set(None, name)

    def _names_here(self) -> list[str]:
        return [path.name.removesuffix(PARTIAL) for path in self.path.iterdir()]

    def _copy_others(self, name: str, partial: Path, files: Sequence[str]) -> None:
        folder = self.path / name
        for entry in folder.iterdir() if folder.is_dir() else ():
            if {f"{name}/{entry.name}", f"{name}/{entry.name}/"} & set(files) or (partial / entry.name).exists():
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
            "recordings": [asdict(row) for _, row in sorted(self._rows.items())],
            "pages": [asdict(page) for _, page in sorted(self._pages.items())],
            "failed": self._failed,
        }
        with private_files():
            write_json(self.path / MANIFEST, content)


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _page_names(files: Iterable[VideoIdentity]) -> list[str]:
    """Names that pages may need, among those that folders of these files would get."""
    return [stem for stem in (safe_stem(file.name) for file in files) if _PAGE_NAME.fullmatch(stem)]


def _read_manifest(path: Path) -> tuple[dict[str, Row], dict[str, PageRow], bool]:
    """The rows by id and the pages by key; nothing where there is no file. Raises `NotOurs`.

    Of the first version, which had no pages, the recordings are kept; the third value says whether it left a diary.md.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] not in (1, _VERSION):
            raise ValueError(f"version {content['version']}, wanted {_VERSION}")
        rows = [Row(**{**row, "files": tuple(row["files"])}) for row in content["recordings"]]
        pages = [_PAGE.validate_python(page) for page in content.get("pages", [])]
        has_old_diary = bool(content.get("in_diary_md"))
        return {row.id: row for row in rows}, {page.key: page for page in pages}, has_old_diary
    except FileNotFoundError:
        return {}, {}, False
    except (ValueError, KeyError, TypeError) as error:
        raise NotOurs(
            f"{path} is not a list of diaries ({type(error).__name__}: {error}): move it, or name another folder"
        ) from error

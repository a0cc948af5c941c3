"""The pages of an output folder, made of what is stored there of all runs: one a day, and the index."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import reports
from features.files import is_no_room, private_files, sha256_of
from pipeline.diaries.correcting import Corrections
from pipeline.diaries.failure import failure_line
from pipeline.diaries.output import INDEX, STORED, OutputFolder, PageRow
from reports.diary.day import Day, date_of, make_day, page_keys
from reports.diary.formats.markdown import NotOurDiary, forget_markdown, write_markdown
from reports.diary.index import index_entry, write_index_page
from reports.diary.page import Neighbours, write_day_page
from reports.diary.stored import StoredRecording

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PagesWritten:
    """The HTML pages written, the index last, and a line for each that could not be."""

    paths: tuple[Path, ...]
    failures: tuple[str, ...]


@private_files()
def write_pages(output: OutputFolder) -> PagesWritten:
    """Write the pages that recordings were added to, changed on or removed from, their neighbours and the index.

    So are those that another version of this program wrote, unless something on them cannot be read any more. Reads
    what is stored of the recordings on these pages, of any run. A page without a recording is removed; so what a
    killed run left to do is done by the next one. A stored recording that is damaged is a failure, and on no new page.
    """
    book = _Book(output)
    before = dict(output.pages)
    stale = book.stale_keys()
    days = {key: make_day(key, recordings) for key in sorted(stale) if (recordings := book.recordings_of(key))}
    told = set(book.untold)
    for key in [key for key in days if key not in before and _page(output, key).exists()]:
        book.failures.append(
            f"{_page(output, key)} was not written here by this program: move it, and write the diary again"
        )
        told -= {part.recording.id for part in days.pop(key).parts}
    after = {key: row for key, row in before.items() if key not in stale}
    after |= {key: _page_row(day) for key, day in days.items()}
    neighbours_before, neighbours = _neighbours(before), _neighbours(after)
    for key in neighbours.keys() - days.keys():
        if neighbours_before.get(key) != neighbours[key] and (recordings := book.recordings_of(key)):
            days[key] = make_day(key, recordings)
            after[key] = _page_row(days[key])
    output.set_pages(before | after)  # what is to go is listed until it is gone
    paths = []
    for key, day in sorted(days.items()):
        try:
            write_day_page(_page(output, key), day, neighbours.get(key, Neighbours()))
            _write_markdown(_page(output, key).with_suffix(".md"), day)
            paths.append(_page(output, key))
        except Exception as error:
            if is_no_room(error):
                raise
            is_sentence = isinstance(error, NotOurDiary)
            book.failures.append(str(error) if is_sentence else failure_line(_page(output, key), error))
            told -= {part.recording.id for part in day.parts}
    for key in before.keys() - after.keys():
        _page(output, key).unlink(missing_ok=True)
        if not forget_markdown(_page(output, key).with_suffix(".md")):
            log.warning("%s stays: there is text of yours in it", _page(output, key).with_suffix(".md"))
    index = output.path / INDEX
    if after:
        write_index_page(index, [row.entry for row in after.values()])
        paths.append(index)
    else:
        index.unlink(missing_ok=True)
    output.set_pages(after)
    output.set_told(told)
    on_a_page = {name for page in after.values() for name in page.recordings}
    output.set_told([name for name in book.damaged if name not in on_a_page], is_told=False)
    return PagesWritten(tuple(paths), tuple(book.failures))


@functools.cache
def page_code(folder: Path = Path(reports.__file__).parent) -> str:
    """A hash of all that pages are written by: the files of this package and its templates."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sha256_of(*sorted(paths))


def _page(output: OutputFolder, key: str) -> Path:
    return output.path / f"{key}.html"


def _page_row(day: Day) -> PageRow:
    files = (f"{day.key}.html", f"{day.key}.md")
    return PageRow(day.key, files, tuple(part.recording.id for part in day.parts), index_entry(day), page_code())


def _neighbours(keys: Iterable[str]) -> dict[str, Neighbours]:
    """Of each day's page, those of the days before and after it."""
    dated = ["", *sorted(key for key in keys if date_of(key) is not None), ""]
    before, after = dict(pairwise(reversed(dated))), dict(pairwise(dated))
    return {key: Neighbours(before[key], after[key]) for key in dated if key}


def _write_markdown(path: Path, day: Day) -> None:
    first = day.parts[0].stored
    write_markdown(
        path,
        [(part.recording, part.stored.found) for part in day.parts],
        day.names,
        first.model,
        min_quiet_s=first.min_quiet_s,
        roles=day.roles,
        day=day.date,
    )


class _Book:
    """What is stored in an output folder, read once, and which pages no longer tell it as it is."""

    def __init__(self, output: OutputFolder) -> None:
        self._output = output
        self._corrections = Corrections(output.path)
        self._stored: dict[str, StoredRecording | None] = {}
        self.failures: list[str] = []
        self.untold: dict[str, tuple[str, ...]] = {}
        old = [row.id for row in output.rows.values() if row.status != "unfinished" and not row.can_be_told]
        if old:
            log.warning(
                "on no page, since an earlier version wrote them: %s; write their diaries again", ", ".join(sorted(old))
            )
        for row in output.rows.values():
            if row.can_be_told and not row.is_told and (stored := self._read(row.id)):
                self.untold[row.id] = page_keys(stored.recording)

    @property
    def damaged(self) -> list[str]:
        """Ids of recordings that could not be read: the next run tries, and tells, again."""
        return [name for name, stored in self._stored.items() if stored is None]

    def stale_keys(self) -> set[str]:
        rows = self._output.rows
        changed = {
            page.key
            for page in self._output.pages.values()
            if any(name not in rows or not rows[name].is_told for name in page.recordings)
        }
        changed = changed.union(*self.untold.values())
        outdated = [
            page.key
            for page in self._output.pages.values()
            if page.key not in changed
            and page.code != page_code()
            and all(self._read(name) is not None for name in page.recordings)
        ]
        if outdated:
            log.info("pages of another version of this program are written again: %d", len(outdated))
        return changed.union(outdated)

    def recordings_of(self, key: str) -> list[StoredRecording]:
        page = self._output.pages.get(key)
        names = {*(page.recordings if page else ()), *(name for name, keys in self.untold.items() if key in keys)}
        stored = [self._read(name) for name in sorted(names) if name in self._output.rows]
        return [part for part in stored if part is not None and key in page_keys(part.recording)]

    def _read(self, name: str) -> StoredRecording | None:
        if name not in self._stored:
            path = self._output.path / name / STORED
            try:
                self._stored[name] = self._corrections.told(path, self._output.rows[name].sha256)
            except Exception as error:  # one damaged file costs itself
                self._stored[name] = None
                self.failures.append(failure_line(path, error))
        return self._stored[name]

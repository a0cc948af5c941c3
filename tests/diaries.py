"""Pages of made-up recordings, and what a page holds for people and for browsers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path

from reports.diary.day import make_day, page_keys
from reports.diary.model import DiaryModel
from reports.diary.page import Neighbours, write_day_page
from reports.diary.recording import Recording
from reports.diary.roles import Role
from reports.diary.stored import StoredRecording
from reports.events import EventsFound


def stored(
    recording: Recording,
    found: EventsFound,
    names: Mapping[str, str],
    model: DiaryModel,
    *,
    roles: Mapping[str, Role] | None = None,
    video: str = "",
    thumbnails_ms: Sequence[int] = (),
) -> StoredRecording:
    """What a run stores of a recording."""
    return StoredRecording(recording, found, names, roles or {}, model, 10.0, video, tuple(thumbnails_ms))


def day_html(folder: Path, *parts: StoredRecording, key: str = "") -> str:
    """The page of the first day of the first part, or of another one."""
    key = key or page_keys(parts[0].recording)[0]
    path = folder / f"{key}.html"
    write_day_page(path, make_day(key, parts), Neighbours())
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Collects what a browser would follow or fetch, ids, pictures and text; fails on tags that do not nest."""

    EMPTY = ("meta", "img", "input", "path", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []
        self.text = " ".join(self.text.replace("\N{NO-BREAK SPACE}", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in self.EMPTY:
            self.open.append(tag)
        self.links += [value for key in ("href", "src", "xlink:href") if (value := found.get(key))]
        self.ids += [value for value in [found.get("id")] if value]
        if tag == "img":
            self.pictures.append(found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data + " "

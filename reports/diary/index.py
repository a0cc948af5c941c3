"""The index over all days: weeks as a strip, and a line for each day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from features.files import write_text
from reports.diary.clock import day_name
from reports.diary.day import Day, date_of
from reports.diary.escaping import visible
from reports.diary.page import FILTERS
from reports.spans import Span, union
from reports.templating import load_template

_DAY_MS = 86_400_000
_JOINED_MS = 300_000  # stretches closer than this are one in the small strip of a day


@dataclass(frozen=True)
class IndexEntry:
    """What the index says of a page; `recorded` are stretches in milliseconds from the day's first midnight."""

    key: str
    headline: str
    summary: str
    observed_ms: int
    num_events: int
    recorded: tuple[Span, ...]


def index_entry(day: Day) -> IndexEntry:
    """What the index says of the day's page."""
    recorded: list[Span] = []
    for part in day.parts:
        if part.recording.recorded_at is not None:
            midnight_ms = part.midnight_ms
            recorded.append((max(0, part.span[0] - midnight_ms), min(_DAY_MS, part.span[1] - midnight_ms)))
    return IndexEntry(
        day.key, day.headline, day.summary, day.observed_ms, day.num_events, tuple(union(recorded, gap_ms=_JOINED_MS))
    )


def write_index_page(path: Path, entries: Sequence[IndexEntry]) -> None:
    """Write the page over all days, the latest first, and those that are not known last; it holds no script."""
    dated = {day: entry for entry in entries if (day := date_of(entry.key)) is not None}
    text = load_template("reports.diary", "index.html", FILTERS).render(
        weeks=_weeks(dated),
        days=[{"name": day_name(day), "entry": dated[day]} for day in sorted(dated, reverse=True)],
        undated=sorted((entry for entry in entries if date_of(entry.key) is None), key=lambda entry: entry.key),
    )
    write_text(path, text)


def _weeks(dated: dict[date, IndexEntry]) -> list[dict[str, Any]]:
    """Weeks that have a day, the latest first, each with seven cells; `gap` counts the weeks left out above it."""
    mondays = sorted({day - timedelta(days=day.weekday()) for day in dated}, reverse=True)
    weeks = []
    above: date | None = None
    for monday in mondays:
        cells = [_cell(monday + timedelta(days=number), dated) for number in range(7)]
        gap = 0 if above is None else (above - monday).days // 7 - 1
        weeks.append(
            {"name": f"{monday.isocalendar().year}, week {monday.isocalendar().week}", "cells": cells, "gap": gap}
        )
        above = monday
    return weeks


def _cell(day: date, dated: dict[date, IndexEntry]) -> dict[str, Any]:
    entry = dated.get(day)
    spans = entry.recorded if entry else ()
    bars = [
        {"x": round(100 * start / _DAY_MS, 2), "width": round(100 * (end - start) / _DAY_MS, 2)} for start, end in spans
    ]
    return {"day": day, "name": visible(day_name(day)), "entry": entry, "bars": bars}

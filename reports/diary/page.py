"""The page of a day, and of a recording without a known start: HTML with one inline script, pictures in files."""

from __future__ import annotations

import base64
import hashlib
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from features.files import write_text
from reports.diary.clock import format_duration, format_time
from reports.diary.day import Day, Part
from reports.diary.escaping import visible
from reports.diary.model import DiaryModel
from reports.diary.rows import format_percent, format_probability
from reports.diary.stored import StoredRecording
from reports.diary.story import StoryLine, summary
from reports.diary.timeline import bands, day_axis, hour_name, hours, label_hue, lanes, ticks, zone_of
from reports.diary.wording import said_in_ten
from reports.events import Event
from reports.spans import segment_span, without
from reports.templating import load_template

_UNIT = re.compile(r"([\d½]) (s|min|h)\b")  # stay on one line


def said(text: str) -> str:
    """A sentence as it is shown: numbers stay with their units on one line."""
    return _UNIT.sub("\\1\N{NO-BREAK SPACE}\\2", visible(text))


FILTERS: Mapping[str, Callable[..., str]] = {
    "duration": format_duration,
    "percent": format_percent,
    "probability": format_probability,
    "in_ten": said_in_ten,
    "said": said,
    "visible": visible,
}
THUMBNAILS = "thumbnails"
_PICTURE_MS = 60_000  # while nothing moves there may be no other one
_SHORT_STORY = 40  # lines; a longer one is folded by the hour


@dataclass(frozen=True)
class Neighbours:
    """The page keys of the day before and the day after, where there are such."""

    previous: str = ""
    next: str = ""


def thumbnail_name(at_ms: int) -> str:
    """The file of a picture in the folder `THUMBNAILS` of its recording."""
    return f"{at_ms:09d}.jpg"


def picture_times_ms(stored: StoredRecording) -> list[int]:
    """The times, in order, of which the pages show pictures: the middles of all that lines may tell of."""
    spans = [segment_span(event.segment) for event in stored.found.events]
    spans += [segment_span(stretch.segment) for stretch in stored.recording.unrecognisable]
    quiet = [span for span in without(stored.recording.observed_spans, spans) if span[1] - span[0] >= 1000]
    return sorted({(start_ms + end_ms) // 2 for start_ms, end_ms in spans + quiet})


def nearest_ms(times_ms: Sequence[int], at_ms: int) -> int:
    """The one of ascending `times_ms`, of which there is at least one, that is nearest; the earlier of two."""
    after = bisect_left(times_ms, at_ms)
    return min(times_ms[max(0, after - 1) : after + 1], key=lambda own_ms: abs(own_ms - at_ms))


def write_day_page(path: Path, day: Day, neighbours: Neighbours) -> None:
    """Write the page of a day: the story, a strip of the day, and in folds all events and what made them.

    It reads without a script, and holds one that its content security policy names by hash; pictures and videos are
    files beside it, and nothing comes from elsewhere.
    """
    names = {label: visible(name) for label, name in day.names.items()}
    axis, zone = day_axis(day), zone_of(day)
    things = {label: visible(role.thing) for label, role in day.roles.items()}
    lines = [_line(number, line, day, names) for number, line in enumerate(day.lines, start=1)]
    is_long = len(lines) > _SHORT_STORY
    events = [_event(part, event, names) for part, event in day.events()]
    doubtful = [_event(part, event, names) for part in day.parts for event in part.less_certain]
    script = _resource("day.js")
    text = load_template("reports.diary", "day.html", FILTERS).render(
        day=day,
        neighbours=neighbours,
        models=_models(day.parts),
        guesses=_guesses(day.parts),
        unseen=_unseen(day.parts),
        faulty=[part for part in day.parts if part.recording.faults or part.recording.missing_ms],
        story=_story_by_hour(lines, day) if is_long else [{"name": "", "rows": lines}],
        is_long=is_long,
        bands=bands(day, axis),
        breaks=axis.breaks,
        lanes=lanes(day, axis, names, things),
        ticks=ticks(axis, zone),
        hours=hours(day, axis),
        events=_by_hour(events),
        doubtful=sorted(doubtful, key=lambda row: (row["at"], row["id"])),
        rules=[_rules(model, names) for model in _models(day.parts)],
        suppressed=_suppressed(day.parts, names),
        has_video=any(part.stored.video for part in day.parts),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    write_text(path, text)


def _resource(name: str) -> str:
    return resources.files("reports.diary").joinpath("templates", name).read_text(encoding="utf-8")


def _line(number: int, line: StoryLine, day: Day, names: Mapping[str, str]) -> dict[str, Any]:
    part = day.parts_by_id[line.recording.id]
    events = [part.events_by_id[event_id] for event_id in line.event_ids if event_id in part.events_by_id]
    lead = max(events, key=lambda event: event.segment.duration_s, default=None)
    span = segment_span(lead.segment) if lead else (line.start_ms, line.end_ms)
    return {
        "number": number,
        "line": line,
        "hour": _hour(part, line.start_ms),
        "ids": [visible(event.id) for event in events],
        "when": line.start,
        "hue": label_hue(lead.label) if lead else None,
        "labels": sorted({names[event.label] for event in events}),
        "picture": None if line.kind == "not observed" else _picture(part, span),
        "play": None if line.kind == "not observed" else _play(part, line.start_ms, line.end_ms),
    }


def _event(part: Part, event: Event, names: Mapping[str, str]) -> dict[str, Any]:
    start_ms, end_ms = segment_span(event.segment)
    at = part.recording.recorded_at
    return {
        "id": event.id,
        "at": part.recording.origin_ms + start_ms,
        "hour": _hour(part, start_ms),
        "event": event,
        "name": names[event.label],
        "hue": label_hue(event.label),
        "when": f"{format_time(start_ms, at)}–{format_time(end_ms, at)}",
        "duration_ms": end_ms - start_ms,
        "play": _play(part, start_ms, end_ms),
    }


def _picture(part: Part, span: tuple[int, int]) -> str | None:
    """The picture nearest to the middle; none from far outside the span."""
    middle_ms = (span[0] + span[1]) // 2
    if not part.stored.thumbnails_ms:
        return None
    nearest = nearest_ms(part.stored.thumbnails_ms, middle_ms)
    if not span[0] - _PICTURE_MS <= nearest <= span[1] + _PICTURE_MS:
        return None
    return quote(f"{part.recording.id}/{THUMBNAILS}/{thumbnail_name(nearest)}")


def _play(part: Part, start_ms: int, end_ms: int) -> str | None:
    """The address of that stretch of the video, a second more at either end."""
    if not part.stored.video:
        return None
    return f"{part.stored.video}#t={max(0, start_ms - 1000) / 1000:g},{(end_ms + 1000) / 1000:g}"


def _hour(part: Part, at_ms: int) -> str:
    """The hour on the clock, or since the recording's start."""
    return (
        hour_name(int(format_time(at_ms, part.recording.recorded_at)[:2]))
        if part.recording.recorded_at
        else (hour_name(at_ms // 3_600_000))
    )


def _guesses(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """What is doubtful about clocks, once for all recordings of which it is the same."""
    grouped: dict[tuple[bool, str, str], list[str]] = {}
    for part in parts:
        own = part.recording
        if own.is_guess or own.clock_note:
            grouped.setdefault((own.is_guess, own.clock_source, own.clock_note), []).append(own.file_name)
    return [
        {"is_guess": is_guess, "source": source, "note": note, "file_name": files[0], "count": len(files)}
        for (is_guess, source, note), files in grouped.items()
    ]


def _unseen(parts: Sequence[Part]) -> str:
    """What of the pictures the model did not see, in a sentence; of unlike recordings, where that is told."""
    notes = {part.recording.unseen_note for part in parts}
    return notes.pop() if len(notes) == 1 else "Of some recordings the model sees the middle alone: see below."


def _by_hour(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = []
    for row in rows:
        if not groups or groups[-1]["name"] != row["hour"]:
            groups.append({"name": row["hour"], "rows": []})
        groups[-1]["rows"].append(row)
    return groups


def _story_by_hour(rows: Iterable[dict[str, Any]], day: Day) -> list[dict[str, Any]]:
    return [
        group | {"summary": summary([row["line"] for row in group["rows"]], day.names, day.roles)}
        for group in _by_hour(rows)
    ]


def _models(parts: Sequence[Part]) -> list[DiaryModel]:
    """What made the events, each once; usually one."""
    models = {
        (part.stored.model.model_sha256, part.stored.model.thresholds_sha256): part.stored.model for part in parts
    }
    return list(models.values())


def _rules(model: DiaryModel, names: Mapping[str, str]) -> list[tuple[str, Any]]:
    return sorted(((names[label], rule) for label, rule in model.rules.items()), key=lambda pair: pair[0])


def _suppressed(parts: Sequence[Part], names: Mapping[str, str]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for part in parts:
        for label, count in part.stored.found.suppressed.items():
            counts[names[label]] = counts.get(names[label], 0) + count
    return sorted(((name, count) for name, count in counts.items() if count), key=lambda pair: (-pair[1], pair[0]))

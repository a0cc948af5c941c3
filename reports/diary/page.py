"""The diary of one recording as a self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path

from features.files import write_text
from reports.diary.clock import clock_time, day_name, format_duration, format_time
from reports.diary.escaping import visible
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.diary.story import format_percent, format_probability, story_rows, suppressed_counts
from reports.diary.timeline import timeline_bars, timeline_lanes, timeline_ticks
from reports.events import EventsFound
from reports.spans import segment_span, total, union
from reports.templating import load_template


def write_page(
    path: Path,
    recording: Recording,
    found: EventsFound,
    names: Mapping[str, str],
    model: DiaryModel,
    *,
    thumbnails: Mapping[str, bytes],
    min_quiet_s: float,
) -> None:
    """Write one recording's diary as one self-contained page: summary, timeline, and a card for each event.

    `thumbnails` has JPEG bytes by event id; an event without one gets a card without a picture. The page holds no
    script and fetches nothing: its content security policy forbids it.
    """
    names = {label: visible(name) for label, name in names.items()}
    rows = story_rows([(recording, found)], min_quiet_s)
    lanes = timeline_lanes(recording, found, names)
    hues = {lane["label"]: lane["hue"] for lane in lanes}
    _, end_ms = recording.span_ms
    observed_ms = total(recording.observed_spans)
    busy_ms = total(union(segment_span(event.segment) for event in found.events))
    filters: dict[str, Callable[..., str]] = {
        "duration": format_duration,
        "percent": format_percent,
        "probability": format_probability,
        "visible": visible,
    }
    text = load_template("reports.diary", "diary.html", filters).render(
        recording=recording,
        model=model,
        day=day_name(clock_time(recording.recorded_at, 0).date()) if recording.recorded_at else "A day not known",
        start=format_time(0, recording.recorded_at),
        end=format_time(end_ms, recording.recorded_at),
        end_day=day_name(clock_time(recording.recorded_at, end_ms).date()) if recording.recorded_at else "",
        offset=recording.utc_offset,
        clock_source=recording.clock_source,
        end_ms=end_ms,
        observed_ms=observed_ms,
        busy_ms=busy_ms,
        found=found,
        suppressed=suppressed_counts([found], names),
        lanes=lanes,
        ticks=timeline_ticks(recording),
        unseen=timeline_bars(recording, [(row.start_ms, row.end_ms) for row in rows if row.what == "not observed"]),
        busy=timeline_bars(recording, union(segment_span(event.segment) for event in found.events)),
        gaps=[row for row in rows if row.event is None],
        cards=[
            {
                "event": row.event,
                "when": row.when,
                "duration_ms": row.end_ms - row.start_ms,
                "name": names[row.event.label],
                "hue": hues[row.event.label],
                "picture": base64.b64encode(thumbnails[row.event.id]).decode() if row.event.id in thumbnails else None,
            }
            for row in rows
            if row.event is not None
        ],
        rules=[(names[label], model.rules[label]) for label in sorted(model.rules, key=lambda k: names[k])],
    )
    write_text(path, text)

"""The page's timeline: lanes of labels, bars of events, ticks of the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.diary.clock import format_time
from reports.diary.recording import Recording
from reports.events import Event, EventsFound
from reports.spans import Span, segment_span, to_ms, total

_TICK_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)


def timeline_lanes(recording: Recording, found: EventsFound, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The timeline's lanes, one a label, in the order in which the labels first occur."""
    by_label: dict[str, list[Event]] = {}
    for event in found.events:
        by_label.setdefault(event.label, []).append(event)
    lanes = []
    for i, (label, events) in enumerate(by_label.items()):
        spans = [segment_span(event.segment) for event in events]
        bars = [
            bar | {"id": event.id, "opacity": 0.25 + 0.75 * event.mean_probability, "mean": event.mean_probability}
            for event, bar in zip(events, timeline_bars(recording, spans), strict=True)
        ]
        # The golden angle keeps neighbours apart in hue, however many lanes there are.
        hue = round(185 + 137.508 * i) % 360
        lanes.append({"label": label, "name": names[label], "hue": hue, "bars": bars, "total_ms": total(spans)})
    return lanes


def timeline_bars(recording: Recording, spans: Sequence[Span]) -> list[dict[str, Any]]:
    """Where spans lie on the timeline, in percent of its width, and when that is."""
    width_ms = max(1, recording.span_ms[1])
    return [
        {
            "x": round(100 * start / width_ms, 3),
            "width": round(100 * (end - start) / width_ms, 3),
            "when": f"{format_time(start, recording.recorded_at)}–{format_time(end, recording.recorded_at)}",
            "duration_ms": end - start,
        }
        for start, end in spans
    ]


def timeline_ticks(recording: Recording) -> list[dict[str, Any]]:
    """At most eight full minutes (or whatever suits the length) of the clock, in percent of the timeline's width."""
    end_ms = recording.span_ms[1]
    step_ms = 1000 * next((step for step in _TICK_STEPS_S if end_ms <= 8000 * step), 86400)
    since_midnight_ms = 0
    if (start := recording.recorded_at) is not None:
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
        since_midnight_ms = to_ms((start - midnight).total_seconds())
    first_ms = -since_midnight_ms % step_ms
    ticks = []
    for i, at_ms in enumerate(range(first_ms, end_ms + 1, step_ms)):
        text = format_time(at_ms, recording.recorded_at)
        if recording.recorded_at is not None and step_ms >= 60_000:
            text = text[:5]
        ticks.append({"x": round(100 * at_ms / max(1, end_ms), 3), "text": text, "is_minor": i % 2 == 1})
    return ticks

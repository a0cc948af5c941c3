"""The day's strip: an axis that long gaps do not stretch, bands of recordings, lanes of things, ticks of the clock."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Any

from reports.diary.clock import format_duration, format_time
from reports.diary.day import Day, Part
from reports.events import Event
from reports.spans import Span, clipped, segment_span, to_ms, total, union, without

_TICK_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
_MIN_GAP_MS = 30_000
_GAP_SHARE = 0.1  # of what was recorded: longer gaps become a break in the axis
_BREAK_PERCENT, _ALL_BREAKS_PERCENT = 3.0, 30.0
_TICK_PERCENT = 7.0  # what a tick's text needs
_SESSION_GAP_MS = 10_000  # files closer than this are one session
_HOUR_MS = 3_600_000
_MAX_ZOOM = 60.0


def label_hue(label: str) -> int:
    """The colour of a label, by its id: the same on every page."""
    return int.from_bytes(hashlib.sha256(label.encode(errors="replace")).digest()[:4]) % 360


@dataclass(frozen=True)
class Axis:
    """From milliseconds to percent of the strip's width: `pieces` to scale, with narrow breaks of one width between."""

    pieces: tuple[Span, ...]

    @property
    def break_percent(self) -> float:
        num_breaks = len(self.pieces) - 1
        return min(_BREAK_PERCENT, _ALL_BREAKS_PERCENT / num_breaks) if num_breaks else 0.0

    def percent(self, at_ms: int) -> float:
        """Where a moment is; what lies in a break is at its start, what lies outside at the strip's end."""
        width = (100 - self.break_percent * (len(self.pieces) - 1)) / max(1, total(self.pieces))
        x = 0.0
        for start_ms, end_ms in self.pieces:
            if at_ms < start_ms:
                return max(0.0, x - self.break_percent)
            if at_ms < end_ms:
                return x + (at_ms - start_ms) * width
            x += (end_ms - start_ms) * width + self.break_percent
        return 100.0

    def place(self, span: Span) -> dict[str, float]:
        """Left end and width in percent."""
        left, right = self.percent(span[0]), max(self.percent(span[0]), self.percent(span[1] - 1))
        return {"x": round(left, 3), "width": round(right - left, 3)}

    @property
    def breaks(self) -> list[dict[str, float]]:
        """Left end and width in percent of each break, and how long it lasts."""
        return [
            {
                "x": round(self.percent(end_ms), 3),
                "width": round(self.break_percent, 3),
                "duration_ms": start_ms - end_ms,
            }
            for (_, end_ms), (start_ms, _) in pairwise(self.pieces)
        ]


def day_axis(day: Day) -> Axis:
    """An axis over all that was recorded; gaps that are long beside it are breaks."""
    recorded = union(day.recorded) or [(0, 1)]
    return Axis(tuple(union(recorded, gap_ms=max(_MIN_GAP_MS, int(_GAP_SHARE * total(recorded))))))


def zone_of(day: Day) -> tzinfo | None:
    """The zone of the day's first recording; None where no start is known."""
    return next((part.recording.recorded_at.tzinfo for part in day.parts if part.recording.recorded_at), None)


def bands(day: Day, axis: Axis) -> list[list[dict[str, Any]]]:
    """The recordings in rows, without overlap; those of one session share a hue."""
    rows: list[list[dict[str, Any]]] = []
    ends: list[int] = []
    session, last_end = -1, None
    for part in day.parts:
        span = part.absolute(part.span)
        if last_end is None or span[0] > last_end + _SESSION_GAP_MS:
            session += 1
        last_end = span[1] if last_end is None else max(last_end, span[1])
        number = next((i for i, end in enumerate(ends) if end <= span[0]), len(ends))
        if number == len(ends):
            rows.append([])
            ends.append(0)
        ends[number] = span[1]
        # The golden angle keeps neighbours apart.
        band = axis.place(span) | {"part": part, "hue": round(205 + 137.508 * session) % 360}
        unseen = without([part.span], part.observed)
        band["unseen"] = [axis.place(part.absolute(stretch)) for stretch in unseen if stretch[1] - stretch[0] >= 1000]
        band["unknown"] = [axis.place(part.absolute(stretch)) for stretch in part.unrecognisable]
        rows[number].append(band)
    return rows


def lanes(day: Day, axis: Axis, names: Mapping[str, str], things: Mapping[str, str]) -> list[dict[str, Any]]:
    """A lane for each thing, with a row for each of its labels, those that take longest first.

    `things` has the thing of a label; a label without one is a thing of its own.
    """
    grouped: dict[str, dict[str, list[tuple[Part, Event]]]] = {}
    for part, event in day.events():
        thing = things.get(event.label) or names[event.label]
        grouped.setdefault(thing, {}).setdefault(event.label, []).append((part, event))
    result = []
    for thing, by_label in grouped.items():
        spans = [span for pairs in by_label.values() for span in map(_span, pairs)]
        rows = [_lane_row(label, pairs, axis, names) for label, pairs in sorted(by_label.items())]
        result.append({"name": thing, "count": len(spans), "total_ms": total(spans), "rows": rows})
    return sorted(result, key=lambda lane: (-lane["total_ms"], lane["name"]))


def _lane_row(label: str, pairs: Sequence[tuple[Part, Event]], axis: Axis, names: Mapping[str, str]) -> dict[str, Any]:
    bars = []
    for part, event in pairs:
        start_ms, end_ms = segment_span(event.segment)
        at = part.recording.recorded_at
        when = f"{format_time(start_ms, at)}–{format_time(end_ms, at)} ({format_duration(end_ms - start_ms)})"
        bars.append(
            axis.place(_span((part, event)))
            | {"id": event.id, "when": when, "sure": 1.0 if event.confirmed else event.mean_probability}
        )
    return {"label": label, "name": names[label], "hue": label_hue(label), "bars": bars}


def _span(pair: tuple[Part, Event]) -> Span:
    part, event = pair
    return part.absolute(segment_span(event.segment))


def ticks(axis: Axis, zone: tzinfo | None) -> list[dict[str, Any]]:
    """About eight round times, and where each piece starts, none too close to the one before."""
    step_ms = _step_ms(total(axis.pieces))
    found: list[dict[str, Any]] = []
    for piece in axis.pieces:
        for at_ms in [piece[0], *_round_times(piece, zone, step_ms)]:
            x = axis.percent(at_ms)
            if not found or x - found[-1]["x"] >= _TICK_PERCENT:
                text, is_minor = _tick_text(at_ms, zone, step_ms), len(found) % 2 == 1
                found.append({"x": round(x, 3), "text": text, "is_minor": is_minor})
    return found


def hours(day: Day, axis: Axis) -> list[dict[str, Any]]:
    """The hours that hold a recording: where they lie on the axis, how far to zoom, ticks; none if there is but one."""
    zone = zone_of(day)
    found: dict[int, Span] = {}
    for span in union(day.recorded):
        offset_ms = _offset_ms(span[0], zone)
        for hour in range((span[0] + offset_ms) // _HOUR_MS, (span[1] - 1 + offset_ms) // _HOUR_MS + 1):
            start_ms = hour * _HOUR_MS - offset_ms
            inside = clipped(span, (start_ms, start_ms + _HOUR_MS))
            if inside:
                known = found.get(hour, inside)
                found[hour] = (min(known[0], inside[0]), max(known[1], inside[1]))
    if len(found) < 2:
        return []
    buttons = []
    for hour, span in sorted(found.items()):
        place = axis.place(span)
        zoom = min(_MAX_ZOOM, 100 / max(0.1, place["width"]))
        step_ms = _step_ms(span[1] - span[0])
        own = [
            {"x": round(axis.percent(at_ms), 3), "text": _tick_text(at_ms, zone, step_ms)}
            for at_ms in _round_times(span, zone, step_ms)
        ]
        name = hour_name(hour if zone is None else hour % 24)
        buttons.append({"text": name, "x": place["x"], "zoom": round(zoom, 2), "ticks": own})
    return buttons


def hour_name(hour: int) -> str:
    """As in "08–09"."""
    return f"{hour:02d}–{hour + 1:02d}"


def _step_ms(duration_ms: int) -> int:
    return 1000 * next((step for step in _TICK_STEPS_S if duration_ms <= 8000 * step), 86400)


def _round_times(span: Span, zone: tzinfo | None, step_ms: int) -> range:
    """The multiples of a step by the clock that lie in a span."""
    start_ms, end_ms = span
    return range(start_ms + -(start_ms + _offset_ms(start_ms, zone)) % step_ms, end_ms, step_ms)


def _offset_ms(at_ms: int, zone: tzinfo | None) -> int:
    if zone is None:
        return 0
    offset = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).utcoffset() or timedelta()
    return to_ms(offset.total_seconds())


def _tick_text(at_ms: int, zone: tzinfo | None, step_ms: int) -> str:
    if zone is None:
        return format_time(at_ms, None)
    moment = datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(zone)
    return moment.strftime("%H:%M" if step_ms >= 60_000 else "%H:%M:%S")

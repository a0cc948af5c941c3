"""From events to a diary: `Recording`, `Provenance`, and one writer for each format. Knows no torch and no video.

Nothing is invented. What is written is an event with its id, a stretch that was observed without an event ("nothing
recognised"), or a stretch without video ("not observed").
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from features.video import Segment
from reports.events import Event, EventRule, EventsFound

RECORDED_AT_SOURCES = (
    "container metadata",
    "file name",
    "file modification time",
    "given by the user",
    "unknown",
)
"""Where a recording's start may be known from."""

# Names stand here because strftime's depend on the locale of the machine.
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

_UNSEEN_MS = 1000  # shorter stretches without video are rounding at a file's end: times are written to the second

Span = tuple[int, int]
"""Milliseconds [start, end), from a recording's start or from 1970 in UTC."""


@dataclass(frozen=True)
class Recording:
    """One video file and what of it was seen.

    `recorded_at` is when its first frame was taken, with an offset from UTC, or None; `observed` are the stretches that
    the model saw, in order and apart; `unreadable` says why the file, or a part of it, could not be read.
    """

    id: str
    file_name: str
    duration_s: float
    recorded_at: datetime | None
    recorded_at_source: str
    observed: tuple[Segment, ...]
    unreadable: str | None = None

    def __post_init__(self) -> None:
        if self.recorded_at is not None and self.recorded_at.utcoffset() is None:
            raise ValueError(f"{self.id}: recorded_at needs an offset from UTC, got {self.recorded_at.isoformat()}")
        if self.recorded_at_source not in RECORDED_AT_SOURCES:
            raise ValueError(f"{self.id}: recorded_at_source is one of {RECORDED_AT_SOURCES}")
        if (self.recorded_at is None) != (self.recorded_at_source == "unknown"):
            raise ValueError(f"{self.id}: start {self.recorded_at} does not fit source {self.recorded_at_source!r}")
        if not self.duration_s >= 0 or any(a.end_s > b.start_s for a, b in pairwise(self.observed)):
            raise ValueError(f"{self.id}: a duration of {self.duration_s} s and {self.observed} do not fit")

    @property
    def span_ms(self) -> Span:
        """From 0 to the end of the file; windows on a time grid may reach a little beyond its last frame."""
        ends_s = [self.duration_s, *(stretch.end_s for stretch in self.observed)]
        return (0, _ms(max(ends_s)))


@dataclass(frozen=True)
class Provenance:
    """What made the events: enough to make them again.

    `rules` has a rule for each label. `test_micro_f1` is the model's score on test windows, where known.
    """

    profile: str
    label_set: str
    model: str
    model_sha256: str
    thresholds_sha256: str
    rules: Mapping[str, EventRule]
    test_micro_f1: float | None = None

    @property
    def num_labels(self) -> int:
        return len(self.rules)


def write_events_jsonl(
    path: Path, recording: Recording, found: EventsFound, names: Mapping[str, str], provenance: Provenance
) -> None:
    """Write one event a line, in order; no events make an empty file. The same events give the same bytes.

    Clock times are ISO 8601 with offset, or null where the recording's start is not known.
    """
    lines = []
    for event in found.events:
        row = {
            "id": event.id,
            "recording": recording.id,
            "label": event.label,
            "name": names[event.label],
            "start_s": round(event.segment.start_s, 3),
            "end_s": round(event.segment.end_s, 3),
            "start_clock": _iso(recording, _ms(event.segment.start_s)),
            "end_clock": _iso(recording, _ms(event.segment.end_s)),
            "clock_source": recording.recorded_at_source,
            "peak_probability": round(event.peak_probability, 4),
            "mean_probability": round(event.mean_probability, 4),
            "model_sha256": provenance.model_sha256,
            "thresholds_sha256": provenance.thresholds_sha256,
        }
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    _write_whole(path, "".join(lines))


def write_markdown(
    path: Path,
    parts: Sequence[tuple[Recording, EventsFound]],
    names: Mapping[str, str],
    provenance: Provenance,
    *,
    min_quiet_s: float,
) -> None:
    """Write the diary of all recordings, day by day: a table and sentences that cite their events.

    Recordings whose start is not known come last, each with its own times from its start. Stretches of the same day
    without video are "not observed", between recordings too; observed ones of at least `min_quiet_s` without an event
    are "nothing recognised".
    """
    dated = [part for part in parts if part[0].recorded_at is not None]
    days: dict[date, list[_Row]] = {}
    for row in _rows(dated, min_quiet_s):
        if row.day is not None:
            days.setdefault(row.day, []).append(row)
    lines = ["# Diary", ""]
    lines += [f"- {_recording_line(recording, found)}" for recording, found in parts]
    for day, rows in sorted(days.items()):
        lines += ["", f"## {_day_name(day)}", "", *_markdown_rows(rows, names)]
    for part in parts:
        if part[0].recorded_at is None and part[0].span_ms[1]:
            lines += ["", "## A day not known", ""]
            lines += [f"Times are minutes and seconds from the start of {_quoted(part[0].file_name)}.", ""]
            lines += _markdown_rows(_rows([part], min_quiet_s), names)
    lines += ["", "---", "", *_markdown_footer(parts, names, provenance)]
    _write_whole(path, "\n".join(lines) + "\n")


def write_html(
    path: Path,
    recording: Recording,
    found: EventsFound,
    names: Mapping[str, str],
    provenance: Provenance,
    *,
    thumbnails: Mapping[str, bytes],
    min_quiet_s: float,
) -> None:
    """Write one recording's diary as one self-contained page: summary, timeline, and a card for each event.

    `thumbnails` has JPEG bytes by event id; an event without one gets a card without a picture. The page holds no
    script and fetches nothing: its content security policy forbids it.
    """
    rows = _rows([(recording, found)], min_quiet_s)
    lanes = _lanes(recording, found, names)
    hues = {lane["label"]: lane["hue"] for lane in lanes}
    _, end_ms = recording.span_ms
    observed_ms = _total(_observed(recording))
    busy_ms = _total(_union(_span(event.segment) for event in found.events))
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": format_duration, "percent": _percent}
    text = environment.get_template("diary.html").render(
        recording=recording,
        provenance=provenance,
        day=_day_name(recording.recorded_at.date()) if recording.recorded_at else "A day not known",
        start=format_time(0, recording.recorded_at),
        end=format_time(end_ms, recording.recorded_at),
        end_day=_day_name(_moment(recording.recorded_at, end_ms).date()) if recording.recorded_at else "",
        offset=_offset(recording),
        clock_source=_clock_source(recording),
        end_ms=end_ms,
        observed_ms=observed_ms,
        busy_ms=busy_ms,
        found=found,
        suppressed=_suppressed([found], names),
        lanes=lanes,
        ticks=_ticks(recording),
        unseen=_bars(recording, [(row.start_ms, row.end_ms) for row in rows if row.what == "not observed"]),
        busy=_bars(recording, _union(_span(event.segment) for event in found.events)),
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
        rules=[(names[label], provenance.rules[label]) for label in sorted(provenance.rules, key=lambda k: names[k])],
    )
    _write_whole(path, text)


def format_time(offset_ms: int, recorded_at: datetime | None) -> str:
    """When something is: "08:01:02" by the clock, or, where the start is not known, "01:02" or "1:01:02" from it.

    To the nearest second, half a second up.

    >>> format_time(62_000, None)
    '01:02'
    """
    if recorded_at is not None:
        return _moment(recorded_at, offset_ms + 500).strftime("%H:%M:%S")
    minutes, seconds = divmod((offset_ms + 500) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"


def format_duration(duration_ms: int) -> str:
    """How long something is: "4.5 s" below ten seconds, "50 s", "1 min 20 s", "2 h 05 min".

    >>> format_duration(80_000)
    '1 min 20 s'
    """
    if duration_ms < 9950:
        return f"{(duration_ms + 50) // 100 / 10:g} s"
    seconds = (duration_ms + 500) // 1000
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    minutes = (seconds + 30) // 60
    return f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass(frozen=True)
class _Row:
    """One line of a diary: an event, or a stretch with what there is to say of it; times from its recording's start."""

    recording: Recording
    start_ms: int
    end_ms: int
    what: str
    event: Event | None = None

    @property
    def span(self) -> Span:
        origin_ms = _origin_ms(self.recording)
        return (origin_ms + self.start_ms, origin_ms + self.end_ms)

    @property
    def day(self) -> date | None:
        recorded_at = self.recording.recorded_at
        return None if recorded_at is None else _moment(recorded_at, self.start_ms).date()

    @property
    def start(self) -> str:
        return format_time(self.start_ms, self.recording.recorded_at)

    @property
    def end(self) -> str:
        return format_time(self.end_ms, self.recording.recorded_at)

    @property
    def when(self) -> str:
        return f"{self.start}–{self.end}"

    @property
    def duration(self) -> str:
        return format_duration(self.end_ms - self.start_ms)


def _rows(parts: Sequence[tuple[Recording, EventsFound]], min_quiet_s: float) -> list[_Row]:
    """All events, quiet and unseen stretches of recordings that share one clock, in order.

    They share one if all their starts are known; a recording whose start is not known comes alone. Between the first
    and the last recording of a day, what no recording saw is unseen; between two days nothing is said.
    """
    rows: list[_Row] = []
    seen: list[Span] = []
    days: dict[date | None, list[Span]] = {}
    for recording, found in parts:
        rows += [_Row(recording, *_span(event.segment), "event", event) for event in found.events]
        seen += [_shifted(span, _origin_ms(recording)) for span in _observed(recording)]
        day = recording.recorded_at.date() if recording.recorded_at else None
        days.setdefault(day, []).append(_shifted(recording.span_ms, _origin_ms(recording)))
    whole = [(min(start for start, _ in spans), max(end for _, end in spans)) for spans in days.values()]
    unseen = [span for span in _without(whole, seen) if span[1] - span[0] >= _UNSEEN_MS]
    quiet = [span for span in _without(seen, [row.span for row in rows]) if span[1] - span[0] >= _ms(min_quiet_s)]
    for span, what in [(span, "not observed") for span in unseen] + [(span, "nothing recognised") for span in quiet]:
        before = [recording for recording, _ in parts if _origin_ms(recording) <= span[0]]
        recording = max(before, key=_origin_ms)
        rows.append(_Row(recording, *_shifted(span, -_origin_ms(recording)), what))
    return sorted(rows, key=lambda row: (row.span, row.event.id if row.event else ""))


def _scenes(rows: Sequence[_Row]) -> list[list[_Row]]:
    """Rows by what goes together: a longest event, then those that began during it and lie at least half inside it.

    Each row is in one scene; a stretch without events is a scene of its own.
    """
    scenes: list[list[_Row]] = []
    for row in sorted(rows, key=lambda row: row.start_ms - row.end_ms):
        home = next((scene for scene in scenes if _is_during(row, scene[0])), None)
        if home is None:
            scenes.append([row])
        else:
            home.append(row)
    return sorted(scenes, key=lambda scene: scene[0].span)


def _is_during(row: _Row, lead: _Row) -> bool:
    if row.event is None or lead.event is None or row.span[0] < lead.span[0]:
        return False
    return 2 * (lead.span[1] - row.span[0]) >= row.end_ms - row.start_ms


def _sentence(scene: Sequence[_Row], names: Mapping[str, str]) -> str:
    lead, *others = scene
    text = f"From {lead.start} to {lead.end} ({lead.duration}): "
    if lead.event is None:
        return text + lead.what + "."
    text += f"{_phrase(names[lead.event.label])} [{_escaped(lead.event.id)}]."
    meanwhile: dict[str, list[_Row]] = {}
    for row in sorted(others, key=lambda row: row.span):
        if row.event is not None:
            meanwhile.setdefault(row.event.label, []).append(row)
    clauses = [
        f"{_phrase(names[label])}, {', '.join(row.when for row in rows)} "
        f"[{', '.join(_escaped(row.event.id) for row in rows if row.event)}]"
        for label, rows in meanwhile.items()
    ]
    return f"{text} Meanwhile: {'; '.join(clauses)}." if clauses else text


def _phrase(name: str) -> str:
    """A label's name inside a sentence: "Someone is eating something" -> "eating something".

    Names are of any grammar ("Wash a dish/dishes", "TV on"): that beginning goes, the first word loses its capitals
    unless it is an acronym, and the rest stays as it is.
    """
    first, space, rest = name.removeprefix("Someone is ").partition(" ")
    return _escaped((first if first[1:2].isupper() else first.lower()) + space + rest)


def _markdown_rows(rows: Sequence[_Row], names: Mapping[str, str]) -> list[str]:
    lines = ["| Time | Duration | What | Peak | Event |", "|---|--:|---|--:|---|"]
    for row in rows:
        if row.event is None:
            lines.append(f"| {row.when} | {row.duration} | *{row.what}* | | |")
        else:
            name, peak = _escaped(names[row.event.label]), _percent(row.event.peak_probability)
            lines.append(f"| {row.when} | {row.duration} | {name} | {peak} | {_escaped(row.event.id)} |")
    return [*lines, "", *(f"- {_sentence(scene, names)}" for scene in _scenes(rows))]


def _recording_line(recording: Recording, found: EventsFound) -> str:
    line = _quoted(recording.file_name)
    if recording.recorded_at is not None:
        line += f": {_day_name(recording.recorded_at.date())}, {format_time(0, recording.recorded_at)}"
        line += f"–{format_time(recording.span_ms[1], recording.recorded_at)}"
        line += f" ({_offset(recording)}; start from {_clock_source(recording)})"
    else:
        line += ": start not known"
    line += "."
    if recording.span_ms[1]:
        count = len(found.events)
        line += f" Observed: {format_duration(_total(_observed(recording)))}"
        line += f" of {format_duration(recording.span_ms[1])}, {count} {'event' if count == 1 else 'events'}."
    if recording.unreadable is not None:
        line += f" **Could not be read**: {_escaped(recording.unreadable)}."
    return line


def _markdown_footer(
    parts: Sequence[tuple[Recording, EventsFound]], names: Mapping[str, str], provenance: Provenance
) -> list[str]:
    suppressed = _suppressed([found for _, found in parts], names)
    total = sum(count for _, count in suppressed)
    dropped = f"{total} {'detection' if total == 1 else 'detections'} dropped as too short"
    if suppressed:
        dropped += ": " + ", ".join(f"{_phrase(name)} ({count})" for name, count in suppressed)
    return [
        "Peak is the highest probability that the model gave; it is the model's own estimate and can be wrong. "
        "*Not observed*: no video. *Nothing recognised*: video, but none of the "
        f"{provenance.num_labels} known activities was probable enough.",
        "",
        f"{dropped}.",
        "",
        f"Profile {provenance.profile}, label set {provenance.label_set} ({provenance.num_labels} labels), "
        f"model {provenance.model} `{provenance.model_sha256}`, thresholds `{provenance.thresholds_sha256}`.",
    ]


def _lanes(recording: Recording, found: EventsFound, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The timeline's lanes, one a label, in the order in which the labels first occur."""
    by_label: dict[str, list[Event]] = {}
    for event in found.events:
        by_label.setdefault(event.label, []).append(event)
    lanes = []
    for i, (label, events) in enumerate(by_label.items()):
        spans = [_span(event.segment) for event in events]
        bars = [
            bar | {"id": event.id, "opacity": 0.25 + 0.75 * event.mean_probability, "mean": event.mean_probability}
            for event, bar in zip(events, _bars(recording, spans), strict=True)
        ]
        # The golden angle keeps neighbours apart in hue, however many lanes there are.
        hue = round(185 + 137.508 * i) % 360
        lanes.append({"label": label, "name": names[label], "hue": hue, "bars": bars, "total_ms": _total(spans)})
    return lanes


def _bars(recording: Recording, spans: Sequence[Span]) -> list[dict[str, Any]]:
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


_TICK_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)


def _ticks(recording: Recording) -> list[dict[str, Any]]:
    """At most eight full minutes (or whatever suits the length) of the clock, in percent of the timeline's width."""
    end_ms = recording.span_ms[1]
    step_ms = 1000 * next((step for step in _TICK_STEPS_S if end_ms <= 8000 * step), 86400)
    since_midnight_ms = 0
    if (start := recording.recorded_at) is not None:
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
        since_midnight_ms = _ms((start - midnight).total_seconds())
    first_ms = -since_midnight_ms % step_ms
    ticks = []
    for i, at_ms in enumerate(range(first_ms, end_ms + 1, step_ms)):
        text = format_time(at_ms, recording.recorded_at)
        if recording.recorded_at is not None and step_ms >= 60_000:
            text = text[:5]
        ticks.append({"x": round(100 * at_ms / max(1, end_ms), 3), "text": text, "is_minor": i % 2 == 1})
    return ticks


def _suppressed(results: Sequence[EventsFound], names: Mapping[str, str]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for found in results:
        for label, count in found.suppressed.items():
            counts[label] = counts.get(label, 0) + count
    return sorted(((names[k], count) for k, count in counts.items() if count), key=lambda pair: (-pair[1], pair[0]))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _span(segment: Segment) -> Span:
    return (_ms(segment.start_s), _ms(segment.end_s))


def _observed(recording: Recording) -> list[Span]:
    return [_span(stretch) for stretch in recording.observed]


def _origin_ms(recording: Recording) -> int:
    return 0 if recording.recorded_at is None else _ms(recording.recorded_at.timestamp())


def _shifted(span: Span, by_ms: int) -> Span:
    return (span[0] + by_ms, span[1] + by_ms)


def _union(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _without(spans: Iterable[Span], taken: Iterable[Span]) -> list[Span]:
    """What is left of `spans` where `taken` is cut out."""
    taken = _union(taken)
    left = []
    for start, end in _union(spans):
        at = start
        for taken_start, taken_end in taken:
            if taken_end <= at or taken_start >= end:
                continue
            if taken_start > at:
                left.append((at, taken_start))
            at = taken_end
        if at < end:
            left.append((at, end))
    return left


def _total(spans: Iterable[Span]) -> int:
    return sum(end - start for start, end in _union(spans))


def _moment(recorded_at: datetime, offset_ms: int) -> datetime:
    """That much later on the same clock; counted in UTC, since a clock may be set back in between."""
    return (recorded_at.astimezone(UTC) + timedelta(milliseconds=offset_ms)).astimezone(recorded_at.tzinfo)


def _iso(recording: Recording, offset_ms: int) -> str | None:
    if recording.recorded_at is None:
        return None
    return _moment(recording.recorded_at, offset_ms).isoformat(timespec="milliseconds")


def _day_name(day: date) -> str:
    return f"{_WEEKDAYS[day.weekday()]}, {day.day} {_MONTHS[day.month - 1]} {day.year}"


def _offset(recording: Recording) -> str:
    if recording.recorded_at is None:
        return ""
    return f"UTC{recording.recorded_at.strftime('%z')[:3]}:{recording.recorded_at.strftime('%z')[3:5]}"


def _clock_source(recording: Recording) -> str:
    """The source inside a sentence that says where the start comes from."""
    source = recording.recorded_at_source
    return "the user" if source == "given by the user" else f"the {source.replace('container', 'file’s')}"


def _percent(probability: float) -> str:
    """Whole percent; what is not certain is never rounded up to 100%."""
    return f"{100 if probability >= 1 else min(99, round(100 * probability))}%"


def _quoted(text: str) -> str:
    return "`" + text.replace("`", "'") + "`"


def _escaped(text: str) -> str:
    """Safe inside a Markdown table or sentence."""
    return re.sub(r"([\\|*<\[\]`])", r"\\\1", text)


def _write_whole(path: Path, text: str) -> None:
    """Either the whole file is there or none."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(path)

"""Rows of a diary: all events and the stretches between them; names, counts and probabilities as they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from reports.diary.clock import clock_time, format_duration, format_time
from reports.diary.recording import Recording
from reports.events import Event, EventsFound
from reports.spans import Span, segment_span, shifted, to_ms, without

_UNSEEN_MS = 1000  # shorter stretches without video are rounding at a file's end: times are written to the second


@dataclass(frozen=True)
class Row:
    """One line of a diary: an event, or a stretch with what there is to say of it; times from its recording's start."""

    recording: Recording
    start_ms: int
    end_ms: int
    what: str
    event: Event | None = None

    @property
    def span(self) -> Span:
        origin_ms = self.recording.origin_ms
        return (origin_ms + self.start_ms, origin_ms + self.end_ms)

    @property
    def day(self) -> date | None:
        recorded_at = self.recording.recorded_at
        return None if recorded_at is None else clock_time(recorded_at, self.start_ms).date()

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


def story_rows(parts: Sequence[tuple[Recording, EventsFound]], min_quiet_s: float) -> list[Row]:
    """All events, quiet, unrecognisable and unseen stretches of recordings that share one clock, in order.

    They share one if all their starts are known; a recording whose start is not known comes alone. Between the first
    and the last recording of a day, what no recording saw is unseen; between two days nothing is said.
    """
    rows: list[Row] = []
    seen: list[Span] = []
    days: dict[date | None, list[Span]] = {}
    for recording, found in parts:
        rows += [Row(recording, *segment_span(event.segment), "event", event) for event in found.events]
        seen += [shifted(span, recording.origin_ms) for span in recording.observed_spans]
        day = clock_time(recording.recorded_at, 0).date() if recording.recorded_at else None
        days.setdefault(day, []).append(shifted(recording.span_ms, recording.origin_ms))
    whole = [(min(start for start, _ in spans), max(end for _, end in spans)) for spans in days.values()]
    unseen = [span for span in without(whole, seen) if span[1] - span[0] >= _UNSEEN_MS]
    rows += [
        Row(recording, *segment_span(stretch.segment), f"not recognisable: {stretch.reason}")
        for recording, _ in parts
        for stretch in recording.unrecognisable
    ]
    told = [row.span for row in rows]
    quiet = [span for span in without(seen, told) if span[1] - span[0] >= to_ms(min_quiet_s)]
    stretches = [(span, "not observed") for span in unseen] + [(span, "nothing recognised") for span in quiet]
    for span, what in stretches:
        before = [recording for recording, _ in parts if recording.origin_ms <= span[0]]
        recording = max(before, key=lambda recording: recording.origin_ms)
        rows.append(Row(recording, *shifted(span, -recording.origin_ms), what))
    return sorted(rows, key=lambda row: (row.span, row.event.id if row.event else ""))


def phrase(name: str) -> str:
    """A label's name inside a sentence: "Someone is eating something" -> "eating something".

    Names are of any grammar ("Wash a dish/dishes", "TV on"): that beginning goes, the first word loses its capitals
    unless it is an acronym, and the rest stays as it is.
    """
    first, space, rest = name.removeprefix("Someone is ").partition(" ")
    return (first if first[1:2].isupper() else first.lower()) + space + rest


def suppressed_counts(results: Sequence[EventsFound], names: Mapping[str, str]) -> list[tuple[str, int]]:
    """(name, count) of detections that were dropped, most frequent first; zeros are left out."""
    counts: dict[str, int] = {}
    for found in results:
        for label, count in found.suppressed.items():
            counts[label] = counts.get(label, 0) + count
    return sorted(((names[k], count) for k, count in counts.items() if count), key=lambda pair: (-pair[1], pair[0]))


def format_percent(share: float) -> str:
    """Whole percent; 0% and 100% are none and all: what is nearly so is "under 1%" or "over 99%"."""
    percent = round(100 * share)
    if percent == 0 and share > 0:
        return "under 1%"
    if percent == 100 and share < 1:
        return "over 99%"
    return f"{percent}%"


def said_certainty(event: Event) -> str:
    """The mean probability of an event, or that a person confirmed it."""
    return "confirmed by you" if event.confirmed else format_probability(event.mean_probability)


def format_probability(probability: float) -> str:
    """A model's probability in whole percent: it is never certain, whatever its numbers were rounded to."""
    return format_percent(min(max(probability, 1e-9), 1 - 1e-9))

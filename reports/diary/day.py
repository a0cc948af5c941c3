"""`Day`: what one page is about, the part of recordings that lies in one day, or a recording without a known start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

from reports.diary.clock import clock_time, day_name, format_time
from reports.diary.recording import Recording
from reports.diary.roles import Role
from reports.diary.stored import StoredRecording
from reports.diary.story import StoryLine, headline, summary, tell
from reports.events import Event
from reports.spans import Span, clipped, segment_span, shifted, to_ms, total

_UNDATED = "undated-"


def page_keys(recording: Recording) -> tuple[str, ...]:
    """The pages that a recording is on: "2026-03-14" for each day that it touches, or "undated-<id>"."""
    if recording.recorded_at is None:
        return (f"{_UNDATED}{recording.id}",)
    # Half a second is rounding; what ends on the stroke of midnight is not on the next day.
    day, last = (clock_time(recording.recorded_at, at_ms).date() for at_ms in (0, max(0, recording.span_ms[1] - 501)))
    days = []
    while day <= last:
        days.append(day.isoformat())
        day += timedelta(days=1)
    return tuple(days)


def date_of(key: str) -> date | None:
    """The day of a page; None of one that is undated."""
    return None if key.startswith(_UNDATED) else date.fromisoformat(key)


@dataclass(frozen=True)
class Part:
    """What of a recording lies in a day: `span` in milliseconds from the recording's start, and its events.

    An event belongs to the day that it starts in, and may end behind `span`. `midnight_ms` is when the day begins, from
    the recording's start, and 0 where that is not known.
    """

    stored: StoredRecording
    span: Span
    midnight_ms: int
    events: tuple[Event, ...]
    less_certain: tuple[Event, ...]

    @property
    def recording(self) -> Recording:
        return self.stored.recording

    @cached_property
    def observed(self) -> list[Span]:
        return self._within(self.recording.observed_spans)

    @cached_property
    def unrecognisable(self) -> list[Span]:
        return self._within([segment_span(stretch.segment) for stretch in self.recording.unrecognisable])

    @property
    def observed_ms(self) -> int:
        return total(self.observed)

    @cached_property
    def events_by_id(self) -> dict[str, Event]:
        """All events of the recording, those of other days too: a story's line may reach over midnight."""
        return {event.id: event for event in self.stored.found.events}

    def absolute(self, span: Span) -> Span:
        """A span of the recording in milliseconds from 1970, or from its start where that is not known."""
        return shifted(span, self.recording.origin_ms)

    def _within(self, spans: Sequence[Span]) -> list[Span]:
        return [part for span in spans if (part := clipped(span, self.span)) is not None]


@dataclass(frozen=True)
class Day:
    """A page's content: `parts` in the order of their starts, and the story of them.

    `names` and `roles` are those of all recordings' labels.
    """

    key: str
    parts: tuple[Part, ...]
    names: Mapping[str, str]
    roles: Mapping[str, Role]
    lines: tuple[StoryLine, ...]
    headline: str
    summary: str

    @property
    def date(self) -> date | None:
        return date_of(self.key)

    @property
    def title(self) -> str:
        return day_name(self.date) if self.date else "A day not known"

    @property
    def recorded(self) -> list[Span]:
        return [part.absolute(part.span) for part in self.parts]

    @property
    def observed(self) -> list[Span]:
        return [part.absolute(span) for part in self.parts for span in part.observed]

    @property
    def unrecognisable(self) -> list[Span]:
        return [part.absolute(span) for part in self.parts for span in part.unrecognisable]

    @property
    def observed_ms(self) -> int:
        return total(self.observed)

    @property
    def num_events(self) -> int:
        return sum(len(part.events) for part in self.parts)

    @cached_property
    def parts_by_id(self) -> dict[str, Part]:
        return {part.recording.id: part for part in self.parts}

    def events(self) -> Iterator[tuple[Part, Event]]:
        """All events in the order of the clock."""
        pairs = [(part, event) for part in self.parts for event in part.events]
        yield from sorted(pairs, key=lambda pair: (pair[0].absolute(segment_span(pair[1].segment)), pair[1].id))


def make_day(key: str, recordings: Sequence[StoredRecording]) -> Day:
    """The day of a page, of all recordings that `page_keys` puts on it."""
    ordered = sorted(recordings, key=lambda stored: (stored.recording.origin_ms, stored.recording.id))
    day = date_of(key)
    parts = tuple(_part(stored, day) for stored in ordered)
    names = {label: name for stored in ordered for label, name in stored.names.items()}
    roles = {label: role for stored in ordered for label, role in stored.roles.items()}
    min_quiet_s = min(stored.min_quiet_s for stored in ordered)
    told = tell([(stored.recording, stored.found) for stored in ordered], names, roles, min_quiet_s=min_quiet_s)
    lines = tuple(line for line in told if line.day == day)
    times = _times(parts)
    said = headline([part.recording for part in parts], day)
    return Day(key, parts, names, roles, lines, f"{times} · {said}" if times else said, summary(lines, names, roles))


def _times(parts: Sequence[Part]) -> str:
    """From when to when, as in "08:02–08:05"; empty where that is not known."""
    moments = [(part.absolute(part.span), part.recording) for part in parts if part.recording.recorded_at is not None]
    if not moments:
        return ""
    (start_ms, _), first = min(moments, key=lambda moment: moment[0])
    (_, end_ms), last = max(moments, key=lambda moment: moment[0][1])
    ends = [
        format_time(at_ms - own.origin_ms, own.recorded_at)[:5] for at_ms, own in ((start_ms, first), (end_ms, last))
    ]
    return "–".join(dict.fromkeys(ends))


def _part(stored: StoredRecording, day: date | None) -> Part:
    recording = stored.recording
    start_ms, end_ms = recording.span_ms
    midnight_ms = 0
    if recording.recorded_at is not None and day is not None:
        midnight_ms, next_ms = (
            _midnight_ms(recording, recording.recorded_at, at) for at in (day, day + timedelta(days=1))
        )
        start_ms = max(start_ms, min(midnight_ms, end_ms))
        end_ms = max(start_ms, min(end_ms, next_ms))

    def of_day(events: Sequence[Event]) -> tuple[Event, ...]:
        return tuple(event for event in events if _day_at(recording, to_ms(event.segment.start_s)) == day)

    return Part(stored, (start_ms, end_ms), midnight_ms, of_day(stored.found.events), of_day(stored.found.less_certain))


def _day_at(recording: Recording, at_ms: int) -> date | None:
    return None if recording.recorded_at is None else clock_time(recording.recorded_at, at_ms).date()


def _midnight_ms(recording: Recording, recorded_at: datetime, day: date) -> int:
    """When the day begins, by the clock of the recording, in milliseconds from its start."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=recorded_at.tzinfo)
    return to_ms(midnight.timestamp()) - recording.origin_ms

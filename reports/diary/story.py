"""The story of a day: what a diary tells of it, line by line, by rules alone. `tell`, `summary`, `headline`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta

from reports.diary.chains import Chain, chains, overlapping
from reports.diary.clauses import Claim, lead_sentence, list_pieces
from reports.diary.clock import clock_time, format_time
from reports.diary.pieces import Piece, pieces, split_leads
from reports.diary.recording import Recording
from reports.diary.roles import Role
from reports.diary.rows import Row, format_percent, format_probability, story_rows, suppressed_counts
from reports.diary.summing import sum_up
from reports.diary.wording import capitalised, said_duration
from reports.events import Event, EventsFound
from reports.spans import Span, segment_span, shifted, to_ms, total

__all__ = [
    "StoryLine",
    "format_percent",
    "format_probability",
    "headline",
    "story_rows",
    "summary",
    "suppressed_counts",
    "tell",
]

EVENTS = "events"
NOT_OBSERVED = "not observed"
NOTHING_RECOGNISED = "nothing recognised"
NOT_RECOGNISABLE = "not recognisable"

_LONG_MS = 30 * 60_000
"""Of a recording this long, clock times are told to the minute."""

_LINES_A_DAY = 120  # about; a day's length over this is the grain of its story, within limits
_GRAIN_MS = (6_000, 120_000)
_GRAINS_A_LINE = 5  # small change within so many grains shares a line


@dataclass(frozen=True)
class StoryLine:
    """One line of a story, times from its recording's start; `text` is plain, whole sentences.

    `kind` is "events", "not observed", "nothing recognised" or "not recognisable". `certainty` is "plain" or
    "probably", that of what leads the line; the text says it, too. `event_ids` are all events that the line stands for,
    `claims` what exactly it says of them.
    """

    recording: Recording
    start_ms: int
    end_ms: int
    text: str
    event_ids: tuple[str, ...]
    kind: str
    certainty: str = "plain"
    claims: tuple[Claim, ...] = ()

    @property
    def span(self) -> Span:
        origin_ms = self.recording.origin_ms
        return (origin_ms + self.start_ms, origin_ms + self.end_ms)

    @property
    def day(self) -> date | None:
        return _day(self.recording, self.start_ms)

    @property
    def start(self) -> str:
        return self._time(self.start_ms)

    @property
    def end(self) -> str:
        return self._time(self.end_ms)

    @property
    def when(self) -> str:
        return self.start if self.start == self.end else f"{self.start}–{self.end}"

    def _time(self, offset_ms: int) -> str:
        text = format_time(offset_ms, self.recording.recorded_at)
        is_long = self.recording.recorded_at is not None and self.recording.span_ms[1] >= _LONG_MS
        return text[:5] if is_long else text


def tell(
    parts: Sequence[tuple[Recording, EventsFound]],
    names: Mapping[str, str],
    roles: Mapping[str, Role],
    *,
    min_quiet_s: float,
) -> list[StoryLine]:
    """The story of recordings that share one clock, in order: each event is in one line.

    They share one if all their starts are known; a recording whose start is not known comes alone. Each recording tells
    its own story, day by day; where two overlap, each line has its recording's name in front. Recordings that follow
    each other are told as one: a line may end, and have events, in the next of them. The longer the recordings of a day
    are, the longer are the shortest leads and the shortest stretches of which nothing is recognised.
    """
    grains = _grains(parts)
    gaps = [row for row in story_rows(parts, min_quiet_s) if row.event is None and _is_told(row, grains)]
    lines = [_gap_line(row) for row in gaps]
    for chain in chains(parts):
        first = chain.recordings[0]
        cuts = [row.span[0] - chain.origin_ms for row in gaps]
        days: dict[date | None, list[Event]] = {}
        for event in chain.events:
            days.setdefault(_day(first, segment_span(event.segment)[0]), []).append(event)
        for events in days.values():
            lines += _event_lines(chain, pieces(events, roles, cuts), names, cuts, grains[_day(first, 0)])
    named = overlapping([recording for recording, _ in parts])
    lines = [_with_name(line) if line.recording.id in named else line for line in lines]
    return sorted(lines, key=lambda line: (line.span, line.event_ids))


def summary(lines: Sequence[StoryLine], names: Mapping[str, str], roles: Mapping[str, Role]) -> str:
    """One sentence on a day's lines: what took most of the time, with totals, and how often somebody went out.

    Empty where no line tells of events.
    """
    return sum_up((claim for line in lines for claim in line.claims), names, roles)


def headline(recordings: Sequence[Recording], day: date | None = None) -> str:
    """How long, and how much of it is on video: "3 min, all on video", "6 min of 2 h 05 min on video, 2 recordings".

    Recordings share a clock; with `day`, only what lies on that day counts.
    """
    spans = [_on_day(recording, recording.span_ms, day) for recording in recordings]
    seen = [_on_day(recording, span, day) for recording in recordings for span in recording.observed_spans]
    spans, seen = [span for span in spans if span[0] < span[1]], [span for span in seen if span[0] < span[1]]
    if not spans:
        return "nothing on video"
    whole_ms, seen_ms = max(end for _, end in spans) - min(start for start, _ in spans), total(seen)
    text = f"{said_duration(whole_ms)}, all on video"
    if whole_ms - seen_ms >= 1000:
        text = f"{said_duration(seen_ms)} of {said_duration(whole_ms)} on video" if seen_ms else "nothing on video"
    return text + (f", {len(spans)} recordings" if len(spans) > 1 else "")


def _event_lines(
    chain: Chain, found: Sequence[Piece], names: Mapping[str, str], gap_starts: Sequence[int], grain_ms: int
) -> list[StoryLine]:
    leads, rest = split_leads(found, grain_ms)
    lines = []
    for lead, inside in leads:
        text, claims = lead_sentence(lead, inside, names)
        lines.append(_line(chain, lead.whole_span, text, [lead, *inside], claims, is_sure=lead.is_sure))
    # Small change between leads and gaps shares a line.
    cuts = sorted([*gap_starts, *(lead.whole_span[0] for lead, _ in leads)])
    between: list[list[Piece]] = []
    last = (-1, 0)
    for piece in rest:
        start = piece.whole_span[0]
        place = bisect_right(cuts, start)
        if place != last[0] or start - last[1] > _GRAINS_A_LINE * grain_ms:
            between.append([])
            last = (place, start)
        between[-1].append(piece)
    for own in between:
        told, claims = list_pieces(own, names)
        span = (own[0].whole_span[0], max(piece.whole_span[1] for piece in own))
        is_sure = any(piece.is_sure for piece in own)
        lines.append(_line(chain, span, f"{capitalised(told)}.", own, claims, is_sure=is_sure))
    return lines


def _line(
    chain: Chain, span: Span, text: str, told: Sequence[Piece], claims: Sequence[Claim], *, is_sure: bool
) -> StoryLine:
    events = sorted((event for piece in told for event in piece.all_events), key=lambda e: (e.segment, e.id))
    recording, begin_ms = chain.at(span[0])
    return StoryLine(
        recording=recording,
        start_ms=span[0] - begin_ms,
        end_ms=span[1] - begin_ms,
        text=text,
        event_ids=chain.ids(event.id for event in events),
        kind=EVENTS,
        certainty="plain" if is_sure else "probably",
        claims=tuple(
            replace(
                claim,
                start_ms=claim.start_ms - begin_ms,
                end_ms=claim.end_ms - begin_ms,
                event_ids=chain.ids(claim.event_ids),
            )
            for claim in claims
        ),
    )


def _grains(parts: Sequence[tuple[Recording, EventsFound]]) -> dict[date | None, int]:
    """By the day in which recordings start, how long at least is what gets a line of its own."""
    lengths: dict[date | None, int] = {}
    for recording, _ in parts:
        day = _day(recording, 0)
        lengths[day] = lengths.get(day, 0) + recording.span_ms[1]
    return {day: min(max(length // _LINES_A_DAY, _GRAIN_MS[0]), _GRAIN_MS[1]) for day, length in lengths.items()}


def _is_told(row: Row, grains: Mapping[date | None, int]) -> bool:
    """Whether a stretch gets a line; a short one of which nothing is recognised does not in a long day."""
    grain_ms = grains[_day(row.recording, 0)]
    return row.what != NOTHING_RECOGNISED or grain_ms == _GRAIN_MS[0] or row.end_ms - row.start_ms >= grain_ms


def _gap_line(row: Row) -> StoryLine:
    kind, _, reason = row.what.partition(": ")
    text = f"{capitalised(kind)} for {said_duration(row.end_ms - row.start_ms)}" + (f": {reason}." if reason else ".")
    return StoryLine(row.recording, row.start_ms, row.end_ms, text, (), kind)


def _with_name(line: StoryLine) -> StoryLine:
    """With its recording's name in front, unless the line is of all recordings."""
    if line.kind in (NOT_OBSERVED, NOTHING_RECOGNISED):
        return line
    return replace(line, text=f"{line.recording.file_name}: {line.text}")


def _day(recording: Recording, offset_ms: int) -> date | None:
    return clock_time(recording.recorded_at, offset_ms).date() if recording.recorded_at else None


def _on_day(recording: Recording, span: Span, day: date | None) -> Span:
    """The part of a stretch of a recording that lies on `day`, on the shared clock; empty where none does."""
    start, end = shifted(span, recording.origin_ms)
    if day is not None and recording.recorded_at is not None:
        midnight = datetime.combine(day, time(), recording.recorded_at.tzinfo)
        next_midnight = datetime.combine(day + timedelta(days=1), time(), recording.recorded_at.tzinfo)
        start = max(start, to_ms(midnight.timestamp()))
        end = min(end, to_ms(next_midnight.timestamp()))
    return (start, max(start, end))

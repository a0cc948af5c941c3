"""The diary of several recordings as Markdown, between two markers: what stands around them is the user's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType

from features.files import write_bytes
from reports.diary.clock import clock_time, day_name, format_duration, format_time
from reports.diary.escaping import in_code_span, in_markdown
from reports.diary.model import DiaryModel
from reports.diary.pieces import SURE
from reports.diary.recording import Recording
from reports.diary.roles import Role
from reports.diary.rows import Row, format_percent, format_probability, phrase, story_rows, suppressed_counts
from reports.diary.story import StoryLine, headline, summary, tell
from reports.diary.wording import said_in_ten
from reports.events import EventsFound
from reports.spans import segment_span, total

_BEGIN = "<!-- diary: begin. All between this line and the one that says end is written anew. -->"
_END = "<!-- diary: end -->"

Part = tuple[Recording, EventsFound]


class NotOurDiary(Exception):
    """A file has no place for the diary: writing it would replace what somebody else wrote."""


def write_markdown(
    path: Path,
    parts: Sequence[Part],
    names: Mapping[str, str],
    model: DiaryModel,
    *,
    min_quiet_s: float,
    roles: Mapping[str, Role] = MappingProxyType({}),
    day: date | None = None,
    earlier: Path | None = None,
) -> None:
    """Write the diary of all recordings, day by day: a summary, the story, and all events in a fold.

    Recordings whose start is not known come last, each with its own times from its start. Stretches of the same day
    without video are "not observed", between recordings too; observed ones of at least `min_quiet_s` without an event
    are "nothing recognised". With `day`, nothing is told of other days.

    What is generated lies between two markers, and replaces what lies between them in the file `earlier`, or in `path`
    itself; what stands around them is kept byte for byte. Raises `NotOurDiary` where that file has no such place.
    """
    generated = "\n".join(_lines(parts, names, model, roles, min_quiet_s, day)) + "\n"
    earlier = earlier or path
    try:
        # Bytes that are no UTF-8 are kept as well.
        text = merged(earlier.read_bytes().decode("utf-8", "surrogateescape"), generated)
    except FileNotFoundError:
        text = f"{_BEGIN}\n{generated}{_END}\n"
    except NotOurDiary as error:
        raise NotOurDiary(f"{earlier}: {error}; move it, or name another folder") from error
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def forget_markdown(path: Path) -> bool:
    """Remove what `write_markdown` wrote, and the file, unless there is text of the user in it; whether it is gone."""
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return True
    with contextlib.suppress(NotOurDiary):  # the user took the markers out: all of it is the user's
        text = merged(text, "")
        if not text.replace(_BEGIN, "").replace(_END, "").strip("\ufeff \t\r\n"):
            path.unlink()
            return True
        write_bytes(path, text.encode("utf-8", "surrogateescape"))
    return False


def merged(existing: str, generated: str) -> str:
    """The text `existing` with `generated` between its two markers.

    Raises `NotOurDiary` unless it has each of them once, on a line of its own, the first one first.
    """
    places = [
        [match.start(1) for match in re.finditer(rf"^\ufeff?({re.escape(marker)})\r?$", existing, re.MULTILINE)]
        for marker in (_BEGIN, _END)
    ]
    if [len(own) for own in places] != [1, 1] or places[0] > places[1]:
        raise NotOurDiary(
            f"wanted the lines {_BEGIN} and {_END}, once each and in this order; "
            f"found {len(places[0])} and {len(places[1])} of them"
        )
    (begin,), (end,) = places
    return f"{existing[:begin]}{_BEGIN}\n{generated}{existing[end:]}"


def _lines(
    parts: Sequence[Part],
    names: Mapping[str, str],
    model: DiaryModel,
    roles: Mapping[str, Role],
    min_quiet_s: float,
    only: date | None,
) -> Iterator[str]:
    yield from ("# Diary", "")
    if trust := _trust(model):
        yield from (trust, "")
    dated = [part for part in parts if part[0].recorded_at is not None]
    stories: dict[date | None, list[StoryLine]] = {}
    for line in tell(dated, names, roles, min_quiet_s=min_quiet_s):
        if only is None or line.day == only:
            stories.setdefault(line.day, []).append(line)
    tables: dict[date | None, list[Row]] = {}
    for row in story_rows(dated, min_quiet_s):
        tables.setdefault(row.day, []).append(row)
    for day, story in sorted(stories.items(), key=lambda pair: pair[0] or date.min):
        own = [part for part in dated if day in _days(part[0])]
        yield from (f"## {day_name(day) if day else ''}", "")
        yield from _day_lines(own, story, tables.get(day, []), names, roles, day)
    for part in parts:
        if part[0].recorded_at is None and part[0].span_ms[1]:
            yield from ("## A day not known", "")
            yield f"Times are minutes and seconds from the start of {in_code_span(part[0].file_name)}."
            yield ""
            story = tell([part], names, roles, min_quiet_s=min_quiet_s)
            yield from _day_lines([part], story, story_rows([part], min_quiet_s), names, roles, None)
    yield from ("## Recordings", "")
    yield from (_recording_item(recording, found) for recording, found in parts)
    yield from ("", "---", "")
    yield from _footer(parts, names, model)


def _trust(model: DiaryModel) -> str:
    sentences = []
    if model.test_precision is not None:
        sentences.append(
            f"Of events like these, {said_in_ten(model.test_precision)} were right on recordings that the model had "
            "never seen."
        )
    return " ".join([*sentences, *([in_markdown(model.trained_on)] if model.trained_on else [])])


def _day_lines(
    parts: Sequence[Part],
    story: Sequence[StoryLine],
    rows: Sequence[Row],
    names: Mapping[str, str],
    roles: Mapping[str, Role],
    day: date | None,
) -> Iterator[str]:
    """One day: headline, summary, what is wrong, story, and all events in a fold."""
    recordings = [recording for recording, _ in parts]
    yield from (f"{_hours(recordings, day)}{headline(recordings, day)}", "")
    if told := summary(story, names, roles):
        yield from (f"*{in_markdown(told)}*", "")
    for recording in recordings:
        name = in_code_span(recording.file_name)
        if recording.is_guess:
            yield from (f"**The clock times of {name} are a guess** from {recording.clock_source}.", "")
        if recording.faults:
            yield from (f"**Something is wrong with {name}**: see Recordings, below.", "")
    yield from (f"- {line.start} {in_markdown(line.text)}" for line in story)
    events = [row for row in rows if row.event]
    unsure = sum(
        day is None or _day(recording, segment_span(event.segment)[0]) == day
        for recording, found in parts
        for event in found.less_certain
    )
    yield from ("", "<details>")
    counted = f"All {len(events)} events" if len(events) != 1 else "The one event"
    yield f"<summary>{counted}{f'; {unsure} less certain, not told' if unsure else ''}</summary>"
    yield from ("", "| Time | Duration | What | Peak | Event |", "|---|--:|---|--:|---|")
    for row in rows:
        if row.event is None:
            yield f"| {row.when} | {row.duration} | *{in_markdown(row.what)}* | | |"
        else:
            name, peak = in_markdown(names[row.event.label]), format_probability(row.event.peak_probability)
            peak = "confirmed by you" if row.event.confirmed else peak
            yield f"| {row.when} | {row.duration} | {name} | {peak} | {in_markdown(row.event.id)} |"
    yield from ("", "</details>", "")


def _hours(recordings: Sequence[Recording], day: date | None) -> str:
    """From the first minute on video to the last one, as in "08:02–08:05 · "; nothing where starts are not known."""
    if day is None:
        return ""
    first = min(recordings, key=lambda recording: recording.origin_ms)
    last = max(recordings, key=lambda recording: recording.origin_ms + recording.span_ms[1])
    start = format_time(0, first.recorded_at)[:5] if _day(first, 0) == day else "00:00"
    end = format_time(last.span_ms[1], last.recorded_at)[:5] if _day(last, last.span_ms[1]) == day else "24:00"
    return f"{start}–{end} · "


def _day(recording: Recording, offset_ms: int) -> date | None:
    return clock_time(recording.recorded_at, offset_ms).date() if recording.recorded_at else None


def _days(recording: Recording) -> set[date]:
    """All days of a recording whose start is known."""
    first, last = _day(recording, 0), _day(recording, recording.span_ms[1])
    if first is None or last is None:
        return set()
    return {date.fromordinal(number) for number in range(first.toordinal(), last.toordinal() + 1)}


def _recording_item(recording: Recording, found: EventsFound) -> str:
    line = in_code_span(recording.file_name)
    if recording.recorded_at is not None:
        line += f": {day_name(clock_time(recording.recorded_at, 0).date())}, {format_time(0, recording.recorded_at)}"
        line += f"–{format_time(recording.span_ms[1], recording.recorded_at)}"
        line += f" ({recording.utc_offset}; start from {recording.clock_source}"
        line += ", a guess)" if recording.is_guess else ")"
    else:
        line += ": start not known"
    line += "."
    if recording.clock_note:
        line += f" {in_markdown(recording.clock_note)}"
    if recording.span_ms[1]:
        count = len(found.events)
        line += f" Observed: {format_duration(total(recording.observed_spans))}"
        line += f" of {format_duration(recording.span_ms[1])}"
        if recording.missing_ms:
            line += f" (the file states {format_duration(recording.stated_ms)})"
        line += f", {count} {'event' if count == 1 else 'events'}."
    if recording.unseen_note:
        line += f" {recording.unseen_note}"
    faults = [f"  - **Wrong with this file:** {in_markdown(fault)}" for fault in recording.faults]
    return "\n".join([f"- {line}", *faults])


def _footer(parts: Sequence[tuple[Recording, EventsFound]], names: Mapping[str, str], model: DiaryModel) -> list[str]:
    suppressed = suppressed_counts([found for _, found in parts], names)
    num_dropped = sum(count for _, count in suppressed)
    dropped = f"{num_dropped} {'detection' if num_dropped == 1 else 'detections'} dropped as too short or contradicted"
    if suppressed:
        dropped += ": " + ", ".join(f"{in_markdown(phrase(name))} ({count})" for name, count in suppressed)
    return [
        "Peak is the highest probability that the model gave; it is the model's own estimate and can be wrong. "
        "*Not observed*: no video. *Nothing recognised*: video, but none of the "
        f"{model.num_labels} known activities was probable enough. "
        f"*Probably*: a mean probability below {format_percent(SURE)}.",
        "",
        f"{dropped}.",
        "",
        f"Profile {in_markdown(model.profile)}, label set {in_markdown(model.label_set)} ({model.num_labels} labels), "
        f"model {in_markdown(model.model)} {in_code_span(model.model_sha256)}, "
        f"thresholds {in_code_span(model.thresholds_sha256)}.",
    ]

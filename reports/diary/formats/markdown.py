"""The diary of several recordings as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from features.files import write_text
from reports.diary.clock import clock_time, day_name, format_duration, format_time
from reports.diary.escaping import in_code_span, in_markdown
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.diary.rows import Row, format_probability, phrase, story_rows, suppressed_counts
from reports.events import EventsFound
from reports.spans import total


def write_markdown(
    path: Path,
    parts: Sequence[tuple[Recording, EventsFound]],
    names: Mapping[str, str],
    model: DiaryModel,
    *,
    min_quiet_s: float,
) -> None:
    """Write the diary of all recordings, day by day: a table and sentences that cite their events.

    Recordings whose start is not known come last, each with its own times from its start. Stretches of the same day
    without video are "not observed", between recordings too; observed ones of at least `min_quiet_s` without an event
    are "nothing recognised".
    """
    dated = [part for part in parts if part[0].recorded_at is not None]
    days: dict[date, list[Row]] = {}
    for row in story_rows(dated, min_quiet_s):
        if row.day is not None:
            days.setdefault(row.day, []).append(row)
    lines = ["# Diary", ""]
    lines += [_recording_item(recording, found) for recording, found in parts]
    for day, rows in sorted(days.items()):
        lines += ["", f"## {day_name(day)}", "", *_table_and_sentences(rows, names)]
    for part in parts:
        if part[0].recorded_at is None and part[0].span_ms[1]:
            lines += ["", "## A day not known", ""]
            lines += [f"Times are minutes and seconds from the start of {in_code_span(part[0].file_name)}.", ""]
            lines += _table_and_sentences(story_rows([part], min_quiet_s), names)
    lines += ["", "---", "", *_footer(parts, names, model)]
    write_text(path, "\n".join(lines) + "\n")


def _table_and_sentences(rows: Sequence[Row], names: Mapping[str, str]) -> list[str]:
    lines = ["| Time | Duration | What | Peak | Event |", "|---|--:|---|--:|---|"]
    for row in rows:
        if row.event is None:
            lines.append(f"| {row.when} | {row.duration} | *{row.what}* | | |")
        else:
            name, peak = in_markdown(names[row.event.label]), format_probability(row.event.peak_probability)
            lines.append(f"| {row.when} | {row.duration} | {name} | {peak} | {in_markdown(row.event.id)} |")
    return lines


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
    faults = [f"  - **Wrong with this file:** {in_markdown(fault)}" for fault in recording.faults]
    return "\n".join([f"- {line}", *faults])


def _footer(parts: Sequence[tuple[Recording, EventsFound]], names: Mapping[str, str], model: DiaryModel) -> list[str]:
    suppressed = suppressed_counts([found for _, found in parts], names)
    num_dropped = sum(count for _, count in suppressed)
    dropped = f"{num_dropped} {'detection' if num_dropped == 1 else 'detections'} dropped as too short or contradicted"
    if suppressed:
        dropped += ": " + ", ".join(f"{phrase(name)} ({count})" for name, count in suppressed)
    return [
        "Peak is the highest probability that the model gave; it is the model's own estimate and can be wrong. "
        "*Not observed*: no video. *Nothing recognised*: video, but none of the "
        f"{model.num_labels} known activities was probable enough.",
        "",
        f"{dropped}.",
        "",
        f"Profile {in_markdown(model.profile)}, label set {in_markdown(model.label_set)} ({model.num_labels} labels), "
        f"model {in_markdown(model.model)} {in_code_span(model.model_sha256)}, "
        f"thresholds {in_code_span(model.thresholds_sha256)}.",
    ]

"""Events as CSV (RFC 4180), for spreadsheets and data frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from features import files
from reports.diary.clock import moment
from reports.diary.escaping import visible
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.events import EventsFound
from reports.spans import to_ms

HEADER = (
    *("recording", "file", "event", "label", "name", "start_s", "end_s", "start_clock", "end_clock"),
    *("clock_source", "clock_is_guess", "mean_probability", "peak_probability", "model_sha256", "thresholds_sha256"),
    *("told", "confirmed"),
)
_FORMULA_SIGNS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def write_csv(
    path: Path, recording: Recording, found: EventsFound, names: Mapping[str, str], model: DiaryModel
) -> None:
    """Write a header and one line an event, in order: seconds from the start, clock times in ISO 8601 with offset.

    `told` is false for the less certain ones, which a diary counts and does not tell. A person said of a `confirmed`
    one that it is right, gave it its label or ends, or added it.
    Clock times are empty where the recording's start is not known. Texts are on one line, controls spelled out. One
    that a spreadsheet would take for a formula gets an apostrophe in front, and so does one that begins with an
    apostrophe: take the first apostrophe off and the text is as it was. UTF-8 without a byte order mark.
    """
    rows = []
    rows_told = [(event, "true") for event in found.events] + [(event, "false") for event in found.less_certain]
    for event, is_told in sorted(rows_told, key=lambda pair: (pair[0].segment.start_s, pair[0].label)):
        rows.append(
            (
                *(cell(recording.id), cell(recording.file_name), cell(event.id)),
                *(cell(event.label), cell(names[event.label])),
                f"{event.segment.start_s:.3f}",
                f"{event.segment.end_s:.3f}",
                _clock(recording, to_ms(event.segment.start_s)),
                _clock(recording, to_ms(event.segment.end_s)),
                recording.recorded_at_source,
                "true" if recording.is_guess else "false",
                f"{event.mean_probability:.4f}",
                f"{event.peak_probability:.4f}",
                *(model.model_sha256, model.thresholds_sha256),
                *(is_told, "true" if event.confirmed else "false"),
            )
        )
    files.write_csv(path, HEADER, rows)


def cell(text: str) -> str:
    """The text as no spreadsheet computes it.

    >>> cell("=1+1"), cell("Sitting"), cell("'tis")
    ("'=1+1", 'Sitting', "''tis")
    """
    shown = visible(text)
    return f"'{shown}" if shown.lstrip().startswith((*_FORMULA_SIGNS, "'")) else shown


def _clock(recording: Recording, offset_ms: int) -> str:
    if recording.recorded_at is None:
        return ""
    return moment(recording.recorded_at, offset_ms).isoformat(timespec="milliseconds")

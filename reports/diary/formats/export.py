"""One recording in the formats that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from reports.diary.formats import FORMATS
from reports.diary.formats.activitywatch import write_activitywatch
from reports.diary.formats.boris import write_boris
from reports.diary.formats.csv import write_csv
from reports.diary.formats.dated import NoStart
from reports.diary.formats.ics import write_ics
from reports.diary.formats.jsonl import write_jsonl
from reports.diary.formats.labelstudio import write_labelstudio
from reports.diary.formats.srt import write_srt
from reports.diary.formats.vtt import write_vtt
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.events import EventsFound

Writer = Callable[[Path, Recording, EventsFound, Mapping[str, str], DiaryModel], None]

WRITERS: Mapping[str, Writer] = {
    "jsonl": write_jsonl,
    "csv": write_csv,
    "vtt": write_vtt,
    "srt": write_srt,
    "ics": write_ics,
    "activitywatch": write_activitywatch,
    "labelstudio": write_labelstudio,
    "boris": write_boris,
}


def write_formats(
    folder: Path,
    formats: Iterable[str],
    recording: Recording,
    found: EventsFound,
    names: Mapping[str, str],
    model: DiaryModel,
) -> list[str]:
    """Write the file of each of `formats`, keys of `FORMATS`, into `folder`; one that is named twice is written once.

    Returns a sentence for each format that needs a date where the recording has none: its file is not written.
    """
    refusals = []
    for name in dict.fromkeys(formats):
        try:
            WRITERS[name](folder / FORMATS[name], recording, found, names, model)
        except NoStart as refusal:
            refusals.append(str(refusal))
    return refusals

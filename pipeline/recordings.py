"""From recordings to diaries: what the stage `diary` and the command `diary write` both do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from features.decode.recorded_at import read_clock_tags
from features.files import is_no_room, private_files
from features.thumbnails import Thumbnails
from pipeline.diaries.failure import decodable, failure_line, printable
from pipeline.diaries.output import DIARY, OutputFolder, Planned
from pipeline.model_folder import Recogniser
from reports.diary.clock import local_zone
from reports.diary.formats.export import write_formats
from reports.diary.formats.markdown import write_markdown
from reports.diary.page import write_page
from reports.diary.readings import VideoFile
from reports.diary.recording import Recording
from reports.diary.starts import recording_starts
from reports.events import EventsFound, observed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiaryRun:
    """What came of the videos of a run: ids of the diaries, and a line for each damaged and each failed recording."""

    written: tuple[str, ...]
    damaged: tuple[str, ...]
    failures: tuple[str, ...]


@private_files()
def write_diaries(
    videos: Sequence[Planned],
    output: OutputFolder,
    recogniser: Recogniser,
    *,
    recorded_at: datetime | None,
    batch_size: int,
    num_workers: int,
    formats: Sequence[str] = (),
) -> DiaryRun:
    """Write events.jsonl, diary.md and diary.html into `<output>/<recording>/` for each readable video.

    So are the files of `formats`, keys of `reports.diary.formats.FORMATS`. One that a recording cannot have is a
    failure; the rest of its diary is written.

    `<output>/diary.md` covers all that are written here, day by day. `recorded_at` is when the user says that the first
    of `videos` begins, readable or not. An error inside one recording, of any type, is that recording's failure; only a
    full disk ends the run.
    """
    parts: list[tuple[Recording, EventsFound]] = []
    damaged, failures = [], [video.fault for video in videos if video.fault]
    files, zone, now = [_video_file(video.path) for video in videos], local_zone(), datetime.now(UTC)
    recording_starts(files, given=recorded_at, zone=zone, now=now)  # an impossible `recorded_at` raises before the work
    for number, video in enumerate(videos):
        path, row = video.path, video.row
        if row is None:
            continue
        recording_id = row.id
        try:
            seen = recogniser.model.recognise(path, batch_size=batch_size, num_workers=num_workers)
            end = seen.end
            file = files[number]
            # A file that was cut off lasted as long as it states.
            files[number] = replace(file, duration_s=max(end.end_s, file.duration_s or 0))
            start = recording_starts(files, given=recorded_at, zone=zone, now=now)[number]
            recording = Recording(
                id=recording_id,
                file_name=decodable(path.name),
                duration_s=end.end_s,
                recorded_at=start.at,
                recorded_at_source=start.source,
                observed=tuple(observed(seen.windows)),
                is_guess=start.is_guess,
                clock_note=start.note,
                clock_readings=start.readings,
                faults=end.faults + end.facts,
                stated_s=end.stated_s,
            )
            events = recogniser.decoding.events(
                recording_id, seen.windows, seen.probabilities, stride_s=recogniser.stride_s, careful=True
            )
            with output.writing(row, is_damaged=bool(end.faults)) as folder:
                _write_diary(folder, output.path / row.id, recording, events, recogniser, seen.thumbnails)
                refusals = write_formats(
                    folder, ("jsonl", *formats), recording, events, recogniser.names, recogniser.diary_model
                )
        except Exception as error:
            if is_no_room(error):
                raise
            log.debug("%s", path, exc_info=True)
            failures.append(failure_line(path, error))
            log.error("%s", failures[-1])
            output.add_failure(path, failures[-1])
            continue
        for refusal in refusals:
            failures.append(printable(refusal))
            log.error("%s", failures[-1])
            output.add_failure(path, failures[-1])
        parts.append((recording, events))
        damaged += [printable(f"{path}: is damaged: {fault}") for fault in end.faults]
        name = printable(path.name)
        log.info("%s: %d events, %d suppressed", name, len(events.events), events.num_suppressed)
    if parts:
        page = output.path / DIARY
        output.set_in_diary_md(recording.id for recording, _ in parts)
        try:
            write_markdown(
                page,
                parts,
                recogniser.names,
                recogniser.diary_model,
                roles=recogniser.roles,
                min_quiet_s=recogniser.min_quiet_s,
            )
        except Exception as error:
            if is_no_room(error):
                raise
            failures.append(failure_line(page, error))
    return DiaryRun(tuple(recording.id for recording, _ in parts), tuple(damaged), tuple(failures))


def _video_file(path: Path) -> VideoFile:
    """What the file's head and the file system know of it; of a file that cannot be read, its name."""
    try:
        tags, modified_s = read_clock_tags(path), path.stat().st_mtime
    except Exception:  # whatever it is, the recording's own turn tells
        return VideoFile(path.name, modified_s=None)
    return VideoFile(path.name, modified_s, tags, tags.duration_s)


def _write_diary(
    out: Path,
    earlier: Path,
    recording: Recording,
    events: EventsFound,
    recogniser: Recogniser,
    pictures: Thumbnails,
) -> None:
    names, model = recogniser.names, recogniser.diary_model
    middles = {event.id: (event.segment.start_s + event.segment.end_s) / 2 for event in events.events}
    nearest = {event_id: pictures.nearest(time_s) for event_id, time_s in middles.items()}
    thumbnails = {event_id: jpeg for event_id, jpeg in nearest.items() if jpeg is not None}
    write_markdown(
        out / DIARY,
        [(recording, events)],
        names,
        model,
        roles=recogniser.roles,
        min_quiet_s=recogniser.min_quiet_s,
        earlier=earlier / DIARY,
    )
    write_page(
        out / "diary.html",
        recording,
        events,
        names,
        model,
        thumbnails=thumbnails,
        min_quiet_s=recogniser.min_quiet_s,
    )

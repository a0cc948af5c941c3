"""From recordings to diaries: what the stage `diary` and the command `diary write` both do."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from features.decode.recorded_at import read_clock_tags
from features.files import is_no_room, private_files, write_into
from features.thumbnails import Thumbnails
from pipeline.diaries.correcting import Corrections, apply_corrections, formats_of
from pipeline.diaries.failure import decodable, failure_line, printable
from pipeline.diaries.output import STORED, OutputFolder, Planned, Row
from pipeline.diaries.own_labels import labels_for
from pipeline.diaries.pages import write_pages
from pipeline.model_folder import Recogniser
from pipeline.recognition import Recognition
from reports.changes import Changes, changes
from reports.corrections import Correction, known_times
from reports.diary.clock import local_zone
from reports.diary.formats.export import write_formats
from reports.diary.page import THUMBNAILS, nearest_ms, picture_times_ms, thumbnail_name
from reports.diary.readings import VideoFile
from reports.diary.recording import Recording, Unrecognisable
from reports.diary.starts import RecordingStart, recording_starts
from reports.diary.stored import StoredRecording, read_stored, write_stored
from reports.events import EventsFound, observed
from reports.spans import to_ms

log = logging.getLogger(__name__)

NOT_KEPT = "the cache has no embeddings of this video; `diary write` with this project's temporal model computes them"


@dataclass(frozen=True)
class DiaryRun:
    """What came of a run: ids of the recordings, a line for each damaged and each failed one, and the pages written."""

    written: tuple[str, ...]
    damaged: tuple[str, ...]
    failures: tuple[str, ...]
    pages: tuple[Path, ...]


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
    """Write `<output>/<recording>/` with events.jsonl and pictures for each readable video, then the pages of the days.

    `formats` are keys of `reports.diary.formats.FORMATS`, whose files are written beside; one that a recording cannot
    have is a failure, and the rest is written. A page tells of the recordings of all runs. `recorded_at` is when the
    user says that the first of `videos` begins, readable or not. An error inside one recording, of any type, is that
    recording's failure; only a full disk ends the run.
    """
    own_labels = labels_for(output, recogniser)
    if own_labels is not None:
        recogniser = own_labels.told_by(recogniser)
    written: list[str] = []
    damaged: list[str] = []
    failures = [video.fault for video in videos if video.fault]
    files, zone, now = [_video_file(video.path) for video in videos], local_zone(), datetime.now(UTC)
    recording_starts(files, given=recorded_at, zone=zone, now=now)  # an impossible `recorded_at` raises before the work
    for number, video in enumerate(videos):
        path, row = video.path, video.row
        if row is None:
            continue
        try:
            seen = recogniser.model.recognise(
                path, batch_size=batch_size, num_workers=num_workers, video_sha256=row.sha256
            )
            # A file that was cut off lasted as long as it states.
            lasted_s = max(seen.end.end_s, files[number].duration_s or 0)
            files[number] = replace(files[number], duration_s=lasted_s)
            start = recording_starts(files, given=recorded_at, zone=zone, now=now)[number]
            recording = recording_of(row.id, path, seen, start, recogniser.unrecognisable(seen))
            found = recogniser.events(row.id, seen, recording.unrecognisable)
            if own_labels is not None:
                found = own_labels.with_events(found, recording, seen, stride_s=recogniser.stride_s)
            with output.writing(row, is_damaged=bool(seen.end.faults)) as folder:
                _write_recording(
                    folder,
                    recording,
                    found,
                    recogniser,
                    video=video_address(path, output.path),
                    thumbnails=seen.thumbnails,
                )
                refusals = write_formats(
                    folder, ("jsonl", *formats), recording, found, recogniser.names, recogniser.diary_model
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
        written.append(row.id)
        damaged += [printable(f"{path}: is damaged: {fault}") for fault in seen.end.faults]
        log.info("%s: %d events, %d suppressed", printable(path.name), len(found.events), found.num_suppressed)
    failures += apply_corrections(output)
    pages = write_pages(output)
    return DiaryRun(tuple(written), tuple(damaged), (*failures, *pages.failures), pages.paths)


@dataclass(frozen=True)
class Restated:
    """A recording as it was stored, as another model states it, and what people said of it."""

    before: StoredRecording
    after: StoredRecording
    corrections: Sequence[Correction]

    def changes(self) -> Changes:
        known = known_times(self.corrections, self.after.names, exclusions=self.after.exclusions)
        return changes(self.before.found.events, self.after.found.events, known)


@private_files()
def restate_diaries(output: OutputFolder, recogniser: Recogniser) -> tuple[list[Restated], list[str]]:
    """Write the events of all recordings of the folder anew from what is kept of their videos, then the pages.

    No video is read. What people said of them holds. Also returns a line for each recording that stays as it is, since
    nothing is kept of its video, or whose files could not be written. Use it while the folder is `locked`.
    """
    own_labels = labels_for(output, recogniser)
    if own_labels is not None:
        recogniser = own_labels.told_by(recogniser)
    restated, failures, corrections = [], [], Corrections(output.path)
    for row in list(output.rows.values()):
        if not row.can_be_told:
            continue
        path = output.path / row.id / STORED
        try:
            before = read_stored(path)
            seen = recogniser.model.recall(row.sha256)
            if seen is None:
                failures.append(printable(f"{row.file_name}: {NOT_KEPT}; its diary stays as it is"))
                continue
            recording = replace(
                before.recording, unrecognisable=recogniser.unrecognisable(seen), seen_share=seen.seen_share
            )
            found = recogniser.events(row.id, seen, recording.unrecognisable)
            if own_labels is not None:
                found = own_labels.with_events(found, recording, seen, stride_s=recogniser.stride_s)
            fresh = Row(row.id, row.file_name, row.sha256)
            with output.writing(fresh, is_damaged=row.status == "damaged") as folder:
                after = _write_recording(
                    folder, recording, found, recogniser, video=before.video, thumbnails=seen.thumbnails
                )
                write_formats(folder, formats_of(row), recording, found, recogniser.names, recogniser.diary_model)
        except Exception as error:  # one damaged file costs itself
            if is_no_room(error):
                raise
            failures.append(failure_line(path, error))
            continue
        restated.append(Restated(before, after, corrections.of(row.sha256)))
    failures += apply_corrections(output)
    return restated, [*failures, *write_pages(output).failures]


def _video_file(path: Path) -> VideoFile:
    """What the file's head and the file system know of it; of a file that cannot be read, its name."""
    try:
        tags, modified_s = read_clock_tags(path), path.stat().st_mtime
    except Exception:  # whatever it is, the recording's own turn tells
        return VideoFile(path.name, modified_s=None)
    return VideoFile(path.name, modified_s, tags, tags.duration_s)


def recording_of(
    recording_id: str,
    path: Path,
    seen: Recognition,
    start: RecordingStart,
    unrecognisable: tuple[Unrecognisable, ...],
) -> Recording:
    """What is known of the video at `path`, as a diary's pages tell it."""
    return Recording(
        id=recording_id,
        file_name=decodable(path.name),
        duration_s=seen.end.end_s,
        recorded_at=start.at,
        recorded_at_source=start.source,
        observed=tuple(observed(seen.windows)),
        is_guess=start.is_guess,
        clock_note=start.note,
        clock_readings=start.readings,
        faults=seen.end.faults + seen.end.facts,
        stated_s=seen.end.stated_s,
        unrecognisable=unrecognisable,
        seen_share=seen.seen_share,
    )


def _write_recording(
    folder: Path,
    recording: Recording,
    found: EventsFound,
    recogniser: Recogniser,
    *,
    video: str,
    thumbnails: Thumbnails,
) -> StoredRecording:
    """Write what there is of one recording into `folder` and return it; `video` is its address as the pages name it."""
    names, model = recogniser.names, recogniser.diary_model
    stored = StoredRecording(
        recording=recording,
        found=found,
        names=names,
        roles=recogniser.roles,
        model=model,
        min_quiet_s=recogniser.min_quiet_s,
        video=video,
        exclusions=tuple((pair.first, pair.second) for pair in recogniser.decoding.exclusions),
    )
    pictures = _chosen(thumbnails, picture_times_ms(stored))
    write_into(folder / THUMBNAILS, {thumbnail_name(at_ms): jpeg for at_ms, jpeg in pictures.items()})
    stored = replace(stored, thumbnails_ms=tuple(pictures))
    write_stored(folder / STORED, stored)
    return stored


def _chosen(thumbnails: Thumbnails, times_ms: Sequence[int]) -> dict[int, bytes]:
    """The pictures that are nearest to these times, each once and in order, by their own times in milliseconds."""
    jpegs = dict(zip([to_ms(time_s) for time_s in thumbnails.times_s.tolist()], thumbnails.jpegs, strict=True))
    own_ms = sorted(jpegs)
    return {at_ms: jpegs[at_ms] for at_ms in sorted({nearest_ms(own_ms, at_ms) for at_ms in times_ms if own_ms})}


def video_address(video: Path, out: Path) -> str:
    """The address of a video relative to the folder `out`, as a page there names it; empty where there is none.

    Links are not followed, so that what somebody moves together stays together. On Windows another drive has no
    relative address.
    """
    try:
        relative = os.path.relpath(Path(video).absolute(), out.absolute())
    except ValueError:
        return ""
    return quote(os.fsencode(Path(relative).as_posix()))

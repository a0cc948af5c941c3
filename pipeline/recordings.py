"""From recordings to diaries: what the stage `diary` and the command `diary write` both do."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from features.backbone import best_device
from features.clips import Source, read_videos
from features.decode.container import UnreadableVideo, read_recorded_at
from features.decode.grid import frames_shown_at
from features.video import Clip, Segment
from heads.action_model import predict_clips
from pipeline.model_folder import Recogniser
from reports.diary.clock import recording_start
from reports.diary.formats.jsonl import write_jsonl
from reports.diary.formats.markdown import write_markdown
from reports.diary.page import write_page
from reports.diary.recording import Recording
from reports.events import EventsFound, find_events, observed

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".3gp", ".mpg", ".mpeg"}
THUMBNAIL_SIDE = 320  # pixels, the longer side


def find_videos(folder: Path) -> list[Path]:
    """The video files below `folder`, by suffix, in order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)


def write_diaries(
    videos: Sequence[Path],
    out: Path,
    recogniser: Recogniser,
    *,
    recorded_at: datetime | None,
    batch_size: int,
    num_workers: int,
) -> list[UnreadableVideo]:
    """Write events.jsonl, diary.md and diary.html into `<out>/<recording>/` for each readable video.

    With several recordings, `<out>/diary.md` covers all of them, day by day. `recorded_at` is when the user says that
    the first video begins; the others are taken to follow without a pause. Returns why the unreadable ones failed.
    """
    parts, failures = [], []
    for recording_id, path in zip(_ids(videos), videos, strict=True):
        try:
            metadata_time = read_recorded_at(path)
            windows, probabilities = _recognise(path, recogniser, batch_size=batch_size, num_workers=num_workers)
        except UnreadableVideo as failure:
            failures.append(failure)
            continue
        end_s = windows[-1].end_s
        start, source = recording_start(
            given=recorded_at,
            metadata=metadata_time,
            file_name=path.name,
            modified=datetime.fromtimestamp(path.stat().st_mtime, UTC),
            duration_s=end_s,
        )
        if recorded_at is not None:
            recorded_at += timedelta(seconds=end_s)
        recording = Recording(
            id=recording_id,
            file_name=path.name,
            duration_s=end_s,
            recorded_at=start,
            recorded_at_source=source,
            observed=tuple(observed(windows)),
        )
        events = find_events(
            recording_id,
            windows,
            probabilities,
            list(recogniser.names),
            recogniser.diary_model.rules,
            stride_s=recogniser.reader.plan.stride_s,
        )
        parts.append((recording, events))
        _write_diary(path, out / recording_id, recording, events, recogniser)
        log.info("%s: %d events, %d suppressed as too short", path.name, len(events.events), events.num_suppressed)
    if len(parts) > 1:
        write_markdown(
            out / "diary.md", parts, recogniser.names, recogniser.diary_model, min_quiet_s=recogniser.min_quiet_s
        )
    return failures


def _recognise(
    path: Path, recogniser: Recogniser, *, batch_size: int, num_workers: int
) -> tuple[list[Segment], npt.NDArray[np.float32]]:
    """The recording's windows in order, and their probabilities (n_windows, n_labels). Raises `UnreadableVideo`."""

    def keyed_clips() -> Iterator[tuple[str, Clip]]:
        for source, clips in read_videos([Source(path.stem, path)], recogniser.reader, num_workers=num_workers):
            for clip in tqdm(clips, desc=path.name, unit="window", file=sys.stderr):
                yield source.video_id, clip

    windows, rows = [], []
    for _, clip, row in predict_clips(recogniser.model, keyed_clips(), batch_size=batch_size, device=best_device()):
        windows.append(clip.segment)
        rows.append(row)
    return windows, np.stack(rows)


def _write_diary(path: Path, out: Path, recording: Recording, events: EventsFound, recogniser: Recogniser) -> None:
    names, model = recogniser.names, recogniser.diary_model
    middles = {event.id: (event.segment.start_s + event.segment.end_s) / 2 for event in events.events}
    times_s = sorted(middles.values())
    pictures = dict(zip(times_s, frames_shown_at(path, times_s, max_side=THUMBNAIL_SIDE), strict=True))
    thumbnails = {event_id: _jpeg(pictures[time_s]) for event_id, time_s in middles.items()}
    write_jsonl(out / "events.jsonl", recording, events, names, model)
    write_markdown(out / "diary.md", [(recording, events)], names, model, min_quiet_s=recogniser.min_quiet_s)
    write_page(
        out / "diary.html",
        recording,
        events,
        names,
        model,
        thumbnails=thumbnails,
        min_quiet_s=recogniser.min_quiet_s,
    )


def _jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return file.getvalue()


def _ids(videos: Sequence[Path]) -> list[str]:
    """File names without suffixes; equal ones are numbered."""
    ids: list[str] = []
    for path in videos:
        num_same = sum(other == path.stem or other.startswith(f"{path.stem}~") for other in ids)
        ids.append(f"{path.stem}~{num_same + 1}" if num_same else path.stem)
    return ids

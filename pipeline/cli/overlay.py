"""`diary overlay`: a video with what models say of it drawn on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.stage import logging_to_stderr, one_line_errors

if TYPE_CHECKING:
    from features.decode.timeline import Shown
    from features.video import Image
    from pipeline.model_folder import Recogniser
    from reports.diary.formats.overlay import Overlay, Panel
    from reports.diary.recording import Recording

log = logging.getLogger(__name__)

_BATCH_SIZE = 16  # windows
_MAX_SIDE = 1920  # pixels of the written video; panels share it
_VIDEO = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


class CannotOverlay(Exception):
    """The output cannot be written where it was asked for."""


@click.command()
@click.argument("video", type=_VIDEO)
@click.option("-o", "--out", required=True, type=_VIDEO, help="The MP4 to write; a file that is there is kept.")
@click.option(
    "--model", "models", required=True, multiple=True, type=_FOLDER, help="Model folder; several stand side by side."
)
@click.option(
    "--recorded-at",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M"]),
    help="When the video begins, such as 2026-03-14T08:02:11+01:00; without an offset, by this machine's clock.",
)
def overlay(video: Path, out: Path, models: tuple[Path, ...], recorded_at: datetime | None) -> None:
    """Write VIDEO as an MP4 with a clock, and the names and probabilities of its events while they are on.

    Frames keep their times; sound is copied where an MP4 can hold it. The picture is at most 1920 pixels wide and high.
    With several models, it stands there once for each of them. The file is readable for you alone.
    """
    with logging_to_stderr(), one_line_errors():
        _refuse(video, out)
        # Imported here, so that `--help` answers at once.
        from features.encode import write_mp4
        from features.files import private_files
        from pipeline.model_folder import load_recogniser
        from reports.diary.formats.overlay import Overlay

        recognisers = [load_recogniser(model) for model in models]
        recording, panels = _recognise(video, recognisers, recorded_at)
        with private_files():
            pictures = _drawn(video, Overlay(recording, panels), _MAX_SIDE // len(panels), recording.duration_s)
            silence = write_mp4(out, pictures, sound_of=video)
        if silence:
            log.warning("%s: %s", video, silence)
        log.info("wrote %s", out)


def _refuse(video: Path, out: Path) -> None:
    """Raise `CannotOverlay` where there is no video or the output is not free, before the work."""
    if not video.is_file():
        raise CannotOverlay(f"{video}: there is no such file")
    if out.suffix.lower() != ".mp4":
        raise CannotOverlay(f"{out}: an MP4 is written, so name it .mp4")
    if out.exists() or out.is_symlink():
        raise CannotOverlay(f"{out} is there already, and may be a recording: remove it, or name another file")


def _recognise(
    video: Path, recognisers: Sequence[Recogniser], recorded_at: datetime | None
) -> tuple[Recording, list[Panel]]:
    from features.decode.recorded_at import read_clock_tags
    from pipeline.diaries.failure import decodable
    from reports.diary.clock import local_zone
    from reports.diary.formats.overlay import Panel
    from reports.diary.readings import VideoFile
    from reports.diary.recording import Recording
    from reports.diary.starts import recording_starts
    from reports.events import observed

    tags = read_clock_tags(video)
    file = VideoFile(video.name, video.stat().st_mtime, tags, tags.duration_s)
    (start,) = recording_starts([file], given=recorded_at, zone=local_zone(), now=datetime.now(UTC))
    panels = []
    for recogniser in recognisers:
        seen = recogniser.model.recognise(video, batch_size=_BATCH_SIZE, num_workers=1)
        found = recogniser.decoding.events(
            decodable(video.stem), seen.windows, seen.probabilities, stride_s=recogniser.stride_s, careful=True
        )
        model = recogniser.diary_model
        title = f"{model.model}, {model.label_set}, {model.model_sha256[:8]}" if len(recognisers) > 1 else ""
        panels.append(Panel(found, recogniser.names, title))
        log.info("%s: %d events by %s", video.name, len(found.events), model.model)
    recording = Recording(
        id=decodable(video.stem),
        file_name=decodable(video.name),
        duration_s=seen.end.end_s,
        recorded_at=start.at,
        recorded_at_source=start.source,
        observed=tuple(observed(seen.windows)),
        is_guess=start.is_guess,
    )
    return recording, panels


def _drawn(video: Path, overlay: Overlay, max_side: int, duration_s: float) -> Iterator[Shown[Image]]:
    """Each frame with what is on while it is shown; says on stderr how far it is. Raises `UnreadableVideo`."""
    from tqdm import tqdm

    from features.decode.container import failing_as
    from features.decode.forward import decode_all, shown_frames
    from features.decode.orientation import shrunk
    from features.decode.timeline import Shown

    with failing_as(video), tqdm(total=round(duration_s), unit="s", file=sys.stderr) as progress:
        for frame in shown_frames(video, decode_all):
            image = overlay.draw(shrunk(frame.picture(), max_side), frame.pts_s)
            yield Shown(frame.pts_s, frame.until_s, image)
            progress.update(int(frame.until_s) - int(frame.pts_s))

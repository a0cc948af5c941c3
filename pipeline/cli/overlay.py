"""`diary overlay`: a video with what models say of it drawn on."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from features.files import private_files
from pipeline.cli.project import RECORDED_AT, find_project, model_of_project, open_project
from pipeline.stage import logging_to_stderr, one_line_errors

if TYPE_CHECKING:
    from features.decode.timeline import Shown
    from features.video import Image
    from pipeline.model_folder import Recogniser
    from reports.diary.formats.overlay import Overlay, Panel
    from reports.diary.readings import VideoFile
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
@click.option("--model", "folders", multiple=True, type=_FOLDER, help="Model folder; several stand side by side.")
@click.option("--compare", metavar="MODEL,…", help="Models of the project here side by side, such as linear,finetune.")
@click.option("--profile", help="Profile of the project's models.  [default: of params.yaml]")
@click.option("--labels", "label_set", help="Label set of the project's models.  [default: the first of params.yaml]")
@click.option("--project", type=_FOLDER, help="Folder of params.yaml.  [default: here or above]")
@click.option(
    "--recorded-at",
    type=RECORDED_AT,
    help="When the video begins, such as 2026-03-14T08:02:11+01:00; without an offset, by this machine's clock.",
)
def overlay(
    video: Path,
    out: Path,
    folders: tuple[Path, ...],
    compare: str | None,
    profile: str | None,
    label_set: str | None,
    project: Path | None,
    recorded_at: datetime | None,
) -> None:
    """Write VIDEO as an MP4 with a clock, and the names and probabilities of its events while they are on.

    The models are those of --model, or of --compare, or the one that `dvc repro` exported in the project here. With
    several, the picture stands there once for each. It is at most 1920 pixels wide and high. Frames keep their times;
    sound is copied where an MP4 can hold it. The file is readable for you alone.
    """
    if folders and compare is not None:
        raise click.UsageError("--model and --compare: take one of them")
    with logging_to_stderr(), one_line_errors():
        _refuse(video, out)
        # Imported here, so that `--help` answers at once.
        from features.encode import write_mp4
        from reports.diary.formats.overlay import Overlay

        file = _video_file(video)
        if compare is not None:
            names = [name.strip() for name in compare.split(",")]
            recognisers = _of_project(names, project or find_project(), profile, label_set)
        else:
            found = folders or (model_of_project(project or find_project(), profile, label_set),)
            recognisers = _of_folders(found)
        recording, panels = _recognise(video, file, recognisers, recorded_at)
        with private_files():
            pictures = _drawn(video, Overlay(recording, panels), _MAX_SIDE // len(panels), recording.duration_s)
            silence = write_mp4(out, pictures, sound_of=video)
        if silence:
            log.warning("%s: %s", video, silence)
        log.info("wrote %s", out)


def _of_folders(folders: Sequence[Path]) -> Iterator[Recogniser]:
    """One at a time, so that one is in memory at a time."""
    from pipeline.model_folder import load_recogniser

    return (load_recogniser(folder) for folder in folders)


def _of_project(names: Sequence[str], root: Path, profile: str | None, label_set: str | None) -> Iterator[Recogniser]:
    """The project's models, each in a folder that is there while the model is used."""
    from pipeline.model_folder import load_recogniser
    from pipeline.stages.export import export_model

    params, paths = open_project(root, profile, label_set)
    for name in names:
        for path in (paths.model(name), paths.scores):
            if not name or not path.exists():
                raise CannotOverlay(f"no model {name!r} in this project: {path} is missing; run `dvc repro report`")
    for name in names:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            export_model(name, Path(folder) / name, params, paths)
            yield load_recogniser(Path(folder) / name)


def _refuse(video: Path, out: Path) -> None:
    """Make the output's folder. Raise `CannotOverlay` where there is no video, or the output is not free."""
    if not video.is_file():
        raise CannotOverlay(f"{video}: there is no such file")
    if out.suffix.lower() != ".mp4":
        raise CannotOverlay(f"{out}: an MP4 is written, so name it .mp4")
    if out.exists() or out.is_symlink():
        raise CannotOverlay(f"{out} is there already, and may be a recording: remove it, or name another file")
    with private_files():
        out.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(out.parent, os.W_OK):
        raise CannotOverlay(f"{out.parent}: no permission to write there")


def _video_file(video: Path) -> VideoFile:
    """What is known of the file before it is decoded. Raises `UnreadableVideo`."""
    from features.decode.recorded_at import read_clock_tags
    from reports.diary.readings import VideoFile

    tags = read_clock_tags(video)
    return VideoFile(video.name, video.stat().st_mtime, tags, tags.duration_s)


def _recognise(
    video: Path, file: VideoFile, recognisers: Iterator[Recogniser], recorded_at: datetime | None
) -> tuple[Recording, list[Panel]]:
    from pipeline.diaries.failure import decodable, printable
    from pipeline.recordings import recording_of
    from reports.diary.clock import local_zone
    from reports.diary.formats.overlay import Panel
    from reports.diary.starts import recording_starts

    (start,) = recording_starts([file], given=recorded_at, zone=local_zone(), now=datetime.now(UTC))
    panels = []
    for recogniser in recognisers:
        seen = recogniser.model.recognise(video, batch_size=_BATCH_SIZE, num_workers=1)
        stretches = recogniser.unrecognisable(seen)
        found = recogniser.events(decodable(video.stem), seen, stretches)
        model = recogniser.diary_model
        panels.append(Panel(found, recogniser.names, f"{model.model}, {model.label_set}, {model.model_sha256[:8]}"))
        log.info("%s: %d events by %s", printable(video.name), len(found.events), model.model)
    recording = recording_of(decodable(video.stem), video, seen, start, stretches)
    return recording, panels if len(panels) > 1 else [replace(panels[0], title="")]


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
            progress.update(round(frame.until_s) - round(frame.pts_s))

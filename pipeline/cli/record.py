"""`diary record`: a camera into video files of a few minutes, and their diaries."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.stage import logging_to_stderr, one_line_errors

if TYPE_CHECKING:
    from pipeline.capture.recorder import Control
    from pipeline.capture.recording_file import RecordedFile, RecordingFile

log = logging.getLogger(__name__)

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option(
    "--camera",
    metavar="NAME|ADDRESS",
    help="Name or number of --list, or an address such as rtsp://…  [default: the first camera]",
)
@click.option("--list", "is_list", is_flag=True, help="Print this machine's cameras, and nothing else.")
@click.option("-o", "--out", type=_FOLDER, default=Path("recordings"), show_default=True, help="Folder of the files.")
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True, help="Length of a file."
)
@click.option(
    "--min-free-gb", type=click.FloatRange(0), default=1.0, show_default=True, help="Stop when less room is left."
)
@click.option(
    "--retry-s",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="How long a lost camera is tried again.",
)
@click.option("--live", is_flag=True, help="Write the diary of each file when it is finished.")
@click.option("--diaries", type=_FOLDER, default=Path("diaries"), show_default=True, help="Folder of --live's diaries.")
@click.option("--model", type=_FOLDER, help="Model folder for --live, as of `diary write`.")
@click.option("--profile", help="Profile of the project's model for --live.")
@click.option("--labels", help="Label set of the project's model for --live.")
@click.option("--project", type=_FOLDER, help="Project of the model for --live.")
def record(
    camera: str | None,
    is_list: bool,
    out: Path,
    minutes: float,
    min_free_gb: float,
    retry_s: float,
    live: bool,
    diaries: Path,
    model: Path | None,
    profile: str | None,
    labels: str | None,
    project: Path | None,
) -> None:
    """Record a camera into OUT, in video files of a few minutes, each named by when it begins.

    Space pauses, which releases the camera, and resumes; q, Ctrl-C or SIGTERM stop. Each file is complete; a kill costs
    seconds of the last one, which the next recording into OUT puts in place. There is no sound. Pictures of a camera in
    the network are kept as it sends them. All files are readable for you alone.

    A lost camera is tried again. With --live, diaries are written meanwhile, and a failing one does not end the
    recording; at the end the last ones are waited for, until Ctrl-C.

    \b
    Exit status: 0  it was stopped, and all diaries are written
                 1  the camera stayed away, the disk is full, or a diary failed; what was recorded is there
                 2  an option is wrong
    """
    with logging_to_stderr(), one_line_errors():
        from features.files import private_files
        from pipeline.capture.cameras import find_camera, list_cameras
        from pipeline.capture.keys import keys
        from pipeline.capture.live import LiveDiaries
        from pipeline.capture.recorder import Control, RecordingPlan
        from pipeline.capture.recorder import record as record_camera
        from reports.diary.clock import local_zone

        if is_list:
            cameras = list_cameras()
            for number, each in enumerate(cameras):
                click.echo(f"{number}  {each.name}  {each.url}")
            if not cameras:
                log.warning("no camera is connected to this machine; one in the network is named by its address")
            return
        plan = RecordingPlan(find_camera(camera), out, 60 * minutes, min_free_gb, retry_s, local_zone())
        control, status = Control(), _StatusLine()
        named = {"--model": model, "--profile": profile, "--labels": labels, "--project": project}
        options = [text for name, value in named.items() if value is not None for text in (name, str(value))]
        live_diaries = LiveDiaries(["-o", str(diaries), *options]) if live else None

        def on_file(file: RecordedFile) -> None:
            status.clear()
            log.info("%s: %.1f min, %.1f MB", file.path, file.duration_s / 60, file.num_bytes / 1e6)
            if live_diaries is not None:
                live_diaries.add(file.path)

        try:
            with private_files(), _stopped_by_signals(control), keys(control) as has_keys:
                log.info("recording %s%s", plan.camera.name, "; space pauses, q stops" if has_keys else "")
                record_camera(plan, control, on_file=on_file, on_progress=status.show)
        finally:
            status.clear()
            if live_diaries is not None:
                log.info("waiting for the last diaries; Ctrl-C leaves them")
                live_diaries.finish()
                if live_diaries.failed:
                    names = " ".join(str(path) for path in live_diaries.failed)
                    log.error("no diary of %s; to write them: diary write -o %s %s", names, diaries, names)
        if live_diaries is not None and live_diaries.failed:
            click.get_current_context().exit(1)


@contextmanager
def _stopped_by_signals(control: Control) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal stop the recording, and not the process."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    heeded = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # as nohup does
    before = {number: signal.signal(number, lambda *_: control.stop()) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _StatusLine:
    """What is being written, on one line of a terminal; nothing where stderr is none."""

    def __init__(self) -> None:
        self._is_shown = False

    def show(self, file: RecordingFile) -> None:
        if sys.stderr.isatty():
            line = f"{file.start:%H:%M:%S}  {file.duration_s / 60:.1f} min  {file.num_bytes / 1e6:.1f} MB"
            click.echo(f"{line}\x1b[K\r", nl=False, err=True)  # log lines are written over it
            self._is_shown = True

    def clear(self) -> None:
        if self._is_shown:
            click.echo("\x1b[K", nl=False, err=True)
            self._is_shown = False

"""`diary write`: a diary of each video, with a trained model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from pipeline.cli.project import RECORDED_AT, find_project, model_of_project
from pipeline.stage import logging_to_stderr, one_line_errors
from reports.diary.formats import FORMATS

log = logging.getLogger(__name__)

_BATCH_SIZE = 16  # windows
_DAMAGED = 3  # exit status; click's own for a wrong option is 2
_FOLDER = click.Path(file_okay=False, path_type=Path)
# One file without read permission is no reason to refuse the others.
_VIDEO = click.Path(readable=False, path_type=Path)


@click.command()
@click.argument("videos", nargs=-1, metavar="VIDEO|FOLDER…", type=_VIDEO)
@click.option("-o", "--out", required=True, type=_FOLDER, help="Folder to write to.")
@click.option("--model", type=_FOLDER, help="Model folder of `dvc repro export`.  [default: of the project here]")
@click.option("--profile", help="Profile of the project's model.  [default: of params.yaml]")
@click.option("--labels", "label_set", help="Label set of the project's model.  [default: the first of params.yaml]")
@click.option("--project", type=_FOLDER, help="Folder of params.yaml.  [default: here or above]")
@click.option(
    "--recorded-at",
    type=RECORDED_AT,
    help="When the first video begins, such as 2026-03-14T08:02:11+01:00; without an offset, by this machine's clock.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(list(FORMATS)),
    help="A further file of each recording's events; may be given several times.  [always: jsonl]",
)
def write(
    videos: tuple[Path, ...],
    out: Path,
    model: Path | None,
    profile: str | None,
    label_set: str | None,
    project: Path | None,
    recorded_at: datetime | None,
    formats: tuple[str, ...],
) -> None:
    """Write a diary of each VIDEO, or video below FOLDER, into OUT: a page a day, with the recordings of all runs.

    Needs a model folder and nothing else; in a project, the one that `dvc repro` made is the default. Videos in folders
    are known by content; hidden files are left out. Names that are equal or unsafe are changed.

    OUT/index.html leads to the days, OUT/2026-03-14.html and .md are one, OUT/<video>/ has its events and pictures, and
    OUT/manifest.json lists all. The same video's diary is replaced; those of other videos and files of yours stay.
    All of it is readable for you alone. The paths of the pages are printed at the end. Pages of another version of this
    program are written anew, without a model; with no VIDEO, that is all.

    \b
    Exit status: 0  all diaries are written
                 1  a recording failed, the others are written; or nothing could be done
                 2  an option is wrong
                 3  all diaries are written, but a recording is damaged
    """
    with logging_to_stderr(), one_line_errors():
        if not videos:
            _write_pages_alone(out)
            return
        if model is None:
            model = model_of_project(project or find_project(), profile, label_set)
        # Imported here, so that `--help` answers at once.
        from features.files import locked, private_files
        from pipeline.diaries.output import OutputFolder
        from pipeline.diaries.selection import select_videos

        selection = select_videos(videos, leave_out=out)
        if selection.skipped:
            log.warning("%s", selection.skipped_line)
        with private_files(), locked(out):
            output = OutputFolder(out)
            planned = output.plan(selection)
            failures: Sequence[str] = [video.fault for video in planned if video.fault]
            damaged: Sequence[str] = ()
            pages: Sequence[Path] = ()
            if len(failures) < len(planned):
                from pipeline.model_folder import load_recogniser
                from pipeline.recordings import write_diaries

                recogniser = load_recogniser(model)
                run = write_diaries(
                    planned,
                    output,
                    recogniser,
                    recorded_at=recorded_at,
                    batch_size=_BATCH_SIZE,
                    num_workers=1,
                    formats=formats,
                )
                failures, damaged, pages = run.failures, run.damaged, run.pages
        for line in damaged:
            log.warning("%s", line)
        for page in pages:
            click.echo(page)
        if failures:
            raise click.ClickException("\n".join(failures))
    if damaged:
        click.get_current_context().exit(_DAMAGED)


def _write_pages_alone(out: Path) -> None:
    """Write what is due of the pages of a folder of diaries, and print their paths."""
    from features.files import locked, private_files
    from pipeline.diaries.output import OutputFolder, require_diaries
    from pipeline.diaries.pages import write_pages

    require_diaries(out)
    with private_files(), locked(out):
        written = write_pages(OutputFolder(out))
    for page in written.paths:
        click.echo(page)
    if written.failures:
        raise click.ClickException("\n".join(written.failures))

"""`diary doctor`: whether everything is there for `dvc repro` and for diaries, and how long they will take here."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.project import find_project, open_project
from pipeline.stage import one_line_errors

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--profile", help="Profile to look at.  [default: of params.yaml]")
@click.option("--project", type=_FOLDER, help="Folder of params.yaml.  [default: here or above]")
@click.option("--timing/--no-timing", "is_timed", default=True, show_default=True, help="Time a few windows.")
def doctor(profile: str | None, project: Path | None, is_timed: bool) -> None:
    """Look at this machine and project, and say what is missing and how long things will take.

    Each line is ok, a warning or failed; below the latter two stands what to do. Then a few windows of the profile's
    backbone are timed, and how long `dvc repro` and an hour of video take here is estimated from them. Nothing is
    changed, and nothing is downloaded.

    \b
    Exit status: 0  nothing failed
                 1  something failed, or there is no project
                 2  an option is wrong
    """
    with one_line_errors():
        # Imported here, so that `--help` answers at once.
        from pipeline.checkup.all_checks import look

        params, paths = open_project(project or find_project(), profile, None)
        is_failed = False
        for finding in look(params, paths, is_timed=is_timed):
            click.echo(finding)
            is_failed |= finding.state == "failed"
    if is_failed:
        raise SystemExit(1)

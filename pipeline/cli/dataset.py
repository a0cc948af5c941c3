"""`diary dataset`: labelled videos of the user's as the data set that `dvc repro` trains on."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.project import find_project
from pipeline.stage import logging_to_stderr, one_line_errors

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("folder", type=_FOLDER)
@click.option("--backbone", metavar="DIR|HUB", help="Checkpoint's folder, or hf://owner/name@revision.")
@click.option("--recordings", type=_FOLDER, help="Folder of recordings to write diaries of.")
@click.option("--profile", default="folder", show_default=True, help="Profile to write or change.")
@click.option("--project", type=_FOLDER, help="Folder of params.yaml.  [default: here or above]")
def dataset(folder: Path, backbone: str | None, recordings: Path | None, profile: str, project: Path | None) -> None:
    """Make the labelled videos in FOLDER the data set of the project; `dvc repro` then trains on them.

    FOLDER holds videos and metadata.csv (or metadata.jsonl) with a row an action: file_name, start_s, end_s, label,
    and, if they are known, subject (who is filmed) and split (train, val, test). train/, val/ and test/, each with a
    file of metadata, do as well. A row with a file_name alone is of a video in which nothing happens.

    It is read and checked as a whole; no video is changed or copied. Written are params/PROFILE.yaml, the labels in
    labels/PROFILE/diary.txt (one that is there is kept), and the profile's name in params.yaml.
    """
    with logging_to_stderr(), one_line_errors():
        from pydantic import TypeAdapter, ValidationError

        from pipeline.new_profile import make_profile
        from pipeline.params import Name

        try:
            TypeAdapter(Name).validate_python(profile)
        except ValidationError:
            raise click.BadParameter(f"letters, digits, - and _, got {profile!r}", param_hint="--profile") from None
        made = make_profile(project or find_project(), profile, folder, backbone=backbone, recordings=recordings)
    for name, counts in made.splits.items():
        shown = (counts[key] for key in ("num_videos", "num_subjects", "num_intervals"))
        click.echo("{}: {} videos of {} people, {} actions".format(name, *shown))
    for label, numbers in made.num_videos.items():
        click.echo(f"  {label}: in {', '.join(f'{number} of {name}' for name, number in numbers.items())}")
    for line in made.notes:
        click.echo(line)
    if made.unused:
        click.echo(f"not in the label set, which is kept as it is: {', '.join(made.unused)}")
    click.echo(f"written: {', '.join(str(path) for path in made.written)}. Now run `dvc repro`.")

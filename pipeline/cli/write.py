"""`diary write`: a diary of each video, with a trained model."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from pipeline.layout import Layout
from pipeline.stage import logging_to_stderr, one_line_errors

_BATCH_SIZE = 16  # windows
_FOLDER = click.Path(file_okay=False, path_type=Path)


class NoModel(Exception):
    """No model folder was named, and none is in a project here."""


@click.command()
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO…", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=_FOLDER, help="Folder to write to.")
@click.option("--model", type=_FOLDER, help="Model folder of `dvc repro export`.  [default: of the project here]")
@click.option("--profile", help="Profile of the project's model.  [default: of params.yaml]")
@click.option("--labels", "label_set", help="Label set of the project's model.  [default: the first of params.yaml]")
@click.option("--project", type=_FOLDER, help="Folder of params.yaml.  [default: here or above]")
@click.option(
    "--recorded-at",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M"]),
    help="When the first video begins, such as 2026-03-14T08:02:11+01:00; without an offset, by this machine's clock.",
)
def write(
    videos: tuple[Path, ...],
    out: Path,
    model: Path | None,
    profile: str | None,
    label_set: str | None,
    project: Path | None,
    recorded_at: datetime | None,
) -> None:
    """Write events.jsonl, diary.md and diary.html for each VIDEO into OUT/<its name>/.

    Needs a model folder and nothing else; in a project, the one that `dvc repro` made is the default. Videos that
    cannot be read are named, the others are written all the same, and the exit status is 1.
    """
    with logging_to_stderr(), one_line_errors():
        if model is None:
            model = _model_of_project(project or _find_project(), profile, label_set)
        # Imported here, so that `--help` answers at once.
        from pipeline.model_folder import load_recogniser
        from pipeline.recordings import write_diaries

        failures = write_diaries(
            videos, out, load_recogniser(model), recorded_at=recorded_at, batch_size=_BATCH_SIZE, num_workers=1
        )
        if failures:
            raise click.ClickException("\n".join(str(failure) for failure in failures))


def _model_of_project(root: Path, profile: str | None, label_set: str | None) -> Path:
    from pipeline import params

    project = params.load_project(root)
    profile, label_set = profile or project.profile, label_set or project.label_sets[0]
    params.load(root, profile)  # a misspelt profile is told as such
    model = Layout(profile, label_set, root).diary_model
    if not model.is_dir():
        raise NoModel(
            f"no model for profile {profile!r} and label set {label_set!r}: {model} is missing; run `dvc repro`"
        )
    return model


def _find_project() -> Path:
    """The folder here or above that has dvc.yaml and params.yaml, else the one that this program is installed from."""
    installed = Path(__file__).resolve().parents[2]
    for folder in (Path.cwd(), *Path.cwd().parents, installed):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder
    raise NoModel("no project here: name a model folder with --model, or a project with --project")

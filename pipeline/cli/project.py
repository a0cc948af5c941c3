"""What commands share: the project that they are called in, its model, and how times are given."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.layout import Layout

if TYPE_CHECKING:
    from pipeline.params import Params

log = logging.getLogger(__name__)

RECORDED_AT = click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M"])
"""When a video begins; without an offset, by this machine's clock."""


class NoModel(Exception):
    """No model folder was named, and none is in a project here."""


def open_project(root: Path, profile: str | None, label_set: str | None) -> tuple[Params, Layout]:
    """Params and paths of a profile and label set of the project `root`; None is that of its params.yaml."""
    from pipeline import params

    project = params.load_project(root)
    paths = Layout(profile or project.profile, label_set or project.label_sets[0], root)
    return params.load(root, paths.profile), paths


def model_of_project(root: Path, profile: str | None, label_set: str | None) -> Path:
    """The model folder that the project exported. Raises `NoModel`."""
    _, paths = open_project(root, profile, label_set)
    model = paths.diary_model
    if not model.is_dir():
        raise NoModel(
            f"no model for profile {paths.profile!r} and label set {paths.labels!r}: {model} is missing; "
            "run `dvc repro`"
        )
    log.info("the model is %s, of the project %s", model, root.resolve())
    return model


def find_project() -> Path:
    """The folder here or above that holds a project of this program, else the one that it is installed from."""
    installed = Path(__file__).resolve().parents[2]
    for folder in (Path.cwd(), *Path.cwd().parents, installed):
        if _is_project(folder):
            return folder
    raise NoModel("no project here: name a model folder with --model, or a project with --project")


def _is_project(folder: Path) -> bool:
    """Whether the folder has params.yaml and a dvc.yaml that runs this program's stages: others use DVC as well."""
    try:
        stages = (folder / "dvc.yaml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return (folder / "params.yaml").is_file() and "python -m pipeline.stages.export " in stages

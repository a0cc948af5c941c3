"""The command `diary`. Finds the project and hands over; imports nothing heavy before it must."""

from __future__ import annotations

import shlex
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import click


@click.group()
@click.version_option(package_name="video-diary-logger")
def main() -> None:
    """Turn recordings into a diary one can read and trust, on this machine alone."""


@main.command()
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO…", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to."
)
@click.option("--profile", help="Section of params.yaml whose models are used.  [default: its `profile`]")
@click.option("--labels", "label_set", help="Label set whose models are used.  [default: the first of `label_sets`]")
@click.option(
    "--recorded-at",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M"]),
    help="When the first video begins, such as 2026-03-14T08:02:11+01:00; without an offset, by this machine's clock.",
)
@click.option(
    "--project", type=click.Path(file_okay=False, path_type=Path), help="Folder of params.yaml.  [default: found]"
)
def write(
    videos: tuple[Path, ...], out: Path, profile: str | None, label_set: str | None, recorded_at: datetime | None,
    project: Path | None,
) -> None:  # fmt: skip
    """Write events.jsonl, diary.md and diary.html for each VIDEO into OUT/<its name>/.

    Takes the models that `dvc repro` trained. Any video file will do; the ones that cannot be read are named, the
    others are written all the same, and the exit status is 1.
    """
    from pipeline.stage import logging_to_stderr, told_in_a_line

    with logging_to_stderr(), told_in_a_line(_Unusable):
        from features.backbone import BackboneError
        from features.preprocess import PreprocessingError
        from heads.weights import WeightsMismatch
        from pipeline import params
        from pipeline.stages.diary import load_recogniser, write_diaries

        with told_in_a_line(params.ParamsError, BackboneError, PreprocessingError, WeightsMismatch):
            root = project or _find_project()
            chosen = params.load(root / "params.yaml")
            if profile is not None:
                chosen = chosen.with_profile(profile)
            label_set = label_set or chosen.label_sets[0]
            folders = _stage_options(root, profile=chosen.profile, label_set=label_set)
            recogniser = load_recogniser(
                chosen,
                backbone=root / folders["--backbone"],
                models=root / folders["--models"],
                sweeps=root / folders["--sweeps"],
                metrics=root / folders["--metrics"],
                label_set=label_set,
            )
            failures = write_diaries(videos, out, recogniser, recorded_at=recorded_at)
        if failures:
            raise click.ClickException("\n".join(str(failure) for failure in failures))


class _Unusable(Exception):  # noqa: N818, only ever read as a sentence
    """No project, or nothing trained in it for what was asked."""


def _find_project() -> Path:
    """The folder here or above that has dvc.yaml, else the one that this program is installed from."""
    installed = Path(__file__).resolve().parents[2]
    for folder in (Path.cwd(), *Path.cwd().parents, installed):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder
    raise _Unusable("no project here: run this in the repository, or name it with --project")


def _stage_options(root: Path, *, profile: str, label_set: str) -> dict[str, str]:
    """The options of the stage `diary` as dvc.yaml gives them, which is where all paths stand."""
    import yaml

    stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    command = stages["diary"]["cmd"].replace("${item.profile}", profile).replace("${item.labels}", label_set)
    words = shlex.split(command)
    options = {word: value for word, value in pairwise(words) if word.startswith("--")}
    if not (root / options["--models"]).is_dir():
        raise _Unusable(
            f"nothing is trained for profile {profile!r} and label set {label_set!r}: "
            f"{root / options['--models']} is not there; `dvc repro` makes it"
        )
    return options


if __name__ == "__main__":
    main()

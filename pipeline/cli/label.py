"""`diary label`: activities of one's own, learned from a few stretches of one's own recordings."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.stage import logging_to_stderr, one_line_errors

if TYPE_CHECKING:
    from heads.own_labels import Certainty
    from pipeline.diaries.output import OutputFolder
    from pipeline.diaries.own_labels import Example, OwnLabels
    from reports.diary.recording import Recording

log = logging.getLogger(__name__)

_FOLDER = click.Path(file_okay=False, path_type=Path)
_VIDEO = click.Path(dir_okay=False, path_type=Path)
_DIARIES = click.option("--in", "diaries", required=True, type=_FOLDER, help="Folder that `diary write` wrote to.")
_MODEL = click.option(
    "--model", type=_FOLDER, help="Model folder of `dvc repro export`.  [default: of the project here]"
)
_MAX_NAME = 100  # characters


class BadLabel(Exception):
    """A label, its stretches or its folder is not as wanted."""


@click.group()
def label() -> None:
    """Activities of your own, that no model knows: learned from a few stretches of your recordings."""


@label.command()
@click.argument("name")
@click.option(
    "--from",
    "stretches",
    nargs=2,
    multiple=True,
    required=True,
    type=(_VIDEO, str),
    metavar="VIDEO START-END",
    help="A stretch that shows it, such as kitchen.mp4 00:12:10-00:12:40; give several. From the video's start, or, "
    "where it has a diary in the folder, as that writes times.",
)
@_DIARIES
@_MODEL
def add(name: str, stretches: tuple[tuple[Path, str], ...], diaries: Path, model: Path | None) -> None:
    """Learn the activity NAME from a handful of stretches, five or more from different moments, and keep it in DIARIES.

    A NAME that is there already is learned again with these stretches in addition. `diary write` into the same folder
    then tells of it. Says how well it is recognised, as far as the stretches show.
    """
    with logging_to_stderr(), one_line_errors():
        _require_name(name)
        from features.files import locked, sha256_of
        from pipeline.cli.project import find_project, model_of_project
        from pipeline.diaries.own_labels import Example, OwnLabels, learned, read_own_labels, write_own_labels
        from pipeline.model_folder import load_recogniser
        from pipeline.said_times import stretch_said

        output = _open(diaries)
        examples: defaultdict[Path, list[Example]] = defaultdict(list)
        recording_of: dict[Path, tuple[str, Recording | None]] = {}
        for path, text in stretches:
            if not path.is_file():
                raise BadLabel(f"{path}: there is no such file")
            if path not in recording_of:
                digest = sha256_of(path)
                recording_of[path] = digest, _told_of(output, digest)
            digest, recording = recording_of[path]
            examples[path].append(Example(digest, *stretch_said([text], recording)))
        recogniser = load_recogniser(model or model_of_project(find_project(), None, None))
        if name.strip().casefold() in {known.casefold() for known in recogniser.names.values()}:
            raise BadLabel(
                f"the model knows {name.strip()!r} already: correct its events with `diary review {diaries}`"
            )
        with locked(diaries):
            own = read_own_labels(diaries) or OwnLabels()
            before = next((each for each in own.labels if each.name.casefold() == name.strip().casefold()), None)
            stored = learned(name, examples, before, recogniser, output)
            if any(each.id == stored.id and each is not before for each in own.labels):
                raise BadLabel(f"{name.strip()!r} reads too much like another label of your own: choose another name")
            write_own_labels(diaries, own.added(stored))
        click.echo(f"{stored.name}: {_told(stored.certainty)}")
        click.echo(f"`diary write -o {diaries} VIDEO…` tells of it; `diary label like` shows what it is near to")


@label.command(name="list")
@_DIARIES
def list_labels(diaries: Path) -> None:
    """List the activities of your own, and how well each is recognised."""
    with logging_to_stderr(), one_line_errors():
        own = _labels(diaries)
        if not own.labels:
            click.echo("no labels of your own yet: `diary label add` learns one")
        for each in own.labels:
            click.echo(f"{each.name}: {_told(each.certainty)}")


@label.command()
@click.argument("name")
@_DIARIES
def remove(name: str, diaries: Path) -> None:
    """Forget the activity NAME; diaries that tell of it do so until they are written again."""
    with logging_to_stderr(), one_line_errors():
        from features.files import locked
        from pipeline.diaries.output import LABELS
        from pipeline.diaries.own_labels import write_own_labels

        _open(diaries)
        with locked(diaries):
            own = _labels(diaries)
            left = own.without(own.named(name))
            if left.labels:
                write_own_labels(diaries, left)
            else:
                (diaries / LABELS).unlink()
        click.echo(f"{own.named(name).name} is removed")


@label.command()
@click.argument("name")
@_DIARIES
@_MODEL
@click.option("-n", "--num", type=click.IntRange(min=1), default=10, show_default=True, help="How many.")
def like(name: str, diaries: Path, model: Path | None, num: int) -> None:
    """List the moments of all recordings of DIARIES that are most like the stretches of NAME: more of it, or not."""
    with logging_to_stderr(), one_line_errors():
        from features.files import locked
        from pipeline.cli.project import find_project, model_of_project
        from pipeline.diaries.failure import printable
        from pipeline.diaries.own_labels import OwnLabels, alike, kept_windows, labels_for
        from pipeline.model_folder import load_recogniser

        output = _open(diaries)
        wanted = _labels(diaries).named(name).id
        recogniser = load_recogniser(model or model_of_project(find_project(), None, None))
        with locked(diaries):
            told = labels_for(output, recogniser) or OwnLabels()
        stored = next((each for each in told.labels if each.id == wanted), None)
        if stored is None:
            raise BadLabel(f"{name!r} cannot be learned for this model, as said above: name the other with --model")
        rows = {row.sha256: row for row in output.rows.values()}
        videos = kept_windows(recogniser, output)
        if not videos:
            raise BadLabel(
                f"the cache has no embeddings of the {len(rows)} recordings of {diaries}: write their diaries again, "
                f"with a temporal model, since others keep none"
            )
        for each in alike(stored, videos, num=num):
            times = f"{_clock(each.segment.start_s)}-{_clock(each.segment.end_s)}"
            click.echo(f"{each.probability:.2f}  {times}  {printable(rows[each.video_sha256].file_name)}")
        if len(videos) < len(rows):
            log.warning(
                "%d of %d recordings are not in the cache and were not looked at", len(rows) - len(videos), len(rows)
            )


def _require_name(name: str) -> None:
    if not re.search(r"\w", name) or not name.isprintable() or len(name) > _MAX_NAME:
        raise BadLabel(f"a name has letters, no control characters, and at most {_MAX_NAME} characters; got {name!r}")


def _told_of(output: OutputFolder, video_sha256: str) -> Recording | None:
    """The recording of a video that has a diary here, whose clock times may be named."""
    from pipeline.diaries.output import STORED
    from reports.diary.stored import read_stored

    rows = [row for row in output.rows.values() if row.sha256 == video_sha256 and row.can_be_told]
    return read_stored(output.path / rows[0].id / STORED).recording if rows else None


def _clock(time_s: float) -> str:
    hours, rest_s = divmod(time_s, 3600)
    minutes, seconds = divmod(rest_s, 60)
    return f"{hours:02.0f}:{minutes:02.0f}:{seconds:05.2f}"


def _open(diaries: Path) -> OutputFolder:
    from pipeline.diaries.output import OutputFolder, require_diaries

    require_diaries(diaries)
    return OutputFolder(diaries)


def _labels(diaries: Path) -> OwnLabels:
    from pipeline.diaries.own_labels import OwnLabels, read_own_labels

    _open(diaries)
    return read_own_labels(diaries) or OwnLabels()


def _told(certainty: Certainty) -> str:
    count = f"{certainty.num_stretches} stretch{'es' * (certainty.num_stretches != 1)}"
    if certainty.recall is None or certainty.stated is None or certainty.average_precision is None:
        return f"{count}, too few to say how well it is recognised; add three or more, better five"
    return (
        f"{count}; left out in turn, {100 * certainty.recall:.0f}% of their windows are recognised, "
        f"and {100 * certainty.stated:.1f}% of all others; average precision at least {certainty.average_precision:.2f}"
    )

"""`diary purge`: removes what is kept of recordings that begin before a day."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.layout import Layout
from pipeline.stage import logging_to_stderr, one_line_errors

if TYPE_CHECKING:
    from pipeline.diaries.purging import KnownRecording, Removed

log = logging.getLogger(__name__)

_FOLDER = click.Path(file_okay=False, path_type=Path)


class NothingNamed(Exception):
    """No folder was named, or one that is not there."""


@click.command()
@click.option(
    "--before", "day", required=True, type=click.DateTime(["%Y-%m-%d"]), help="Day, such as 2026-03-14; it stays."
)
@click.option("--diaries", type=_FOLDER, help="Folder that `diary write` wrote to.")
@click.option("--recordings", type=_FOLDER, help="Folder of videos, which are deleted as well.")
@click.option("--cache/--no-cache", "is_cache", default=True, show_default=True, help="Delete their cached embeddings.")
@click.option("--learned", is_flag=True, help="Delete the model and the labels that were learned in --diaries.")
@click.option("--include-guesses", is_flag=True, help="Also those whose start is a guess.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(
    day: datetime,
    diaries: Path | None,
    recordings: Path | None,
    is_cache: bool,
    learned: bool,
    include_guesses: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Remove recordings that begin before a day: diaries with their pictures, cached embeddings, and the videos.

    A diary's word on when its recording begins comes first; a video without one goes by its own clocks. Recordings
    whose start is not known stay, and so do those whose start is a guess, unless you include them; they are named.
    Files of yours in the folders stay. Videos are deleted only where --recordings is named. What was learned of them
    stays without --learned, which knows no days: all of it goes. Lists first, then asks.

    \b
    Exit status: 0  all is removed, or nothing is that old
                 1  something could not be removed, or you said no
                 2  an option is wrong
    """
    with logging_to_stderr(), one_line_errors():
        _require_folders(diaries, recordings, learned=learned)
        from features.files import locked, private_files
        from pipeline.capture.recorder import rescue_leftovers
        from pipeline.diaries.output import OutputFolder, require_diaries
        from pipeline.diaries.purging import forget, is_before, known_recordings, learned_in, remove

        if diaries is not None:
            require_diaries(diaries)
        with ExitStack() as stack:
            stack.enter_context(private_files())
            if diaries is not None:
                stack.enter_context(locked(diaries))
            output = OutputFolder(diaries) if diaries is not None else None
            if recordings is not None:
                rescue_leftovers(recordings)
            known = known_recordings(output, recordings)
            chosen = [each for each in known if is_before(each, day.date(), include_guesses=include_guesses)]
            _tell_kept(known, day, include_guesses=include_guesses)
            for recording in chosen:
                click.echo(_listed(recording))
            places = learned_in(output) if output is not None else []
            if chosen and places and not learned:
                log.warning("what was learned stays: %s; --learned removes it", ", ".join(map(str, places)))
            to_forget = places if learned else []
            for place in to_forget:
                click.echo(f"what was learned  {place}")
            counted = f"{len(chosen)} recordings{' and what was learned' * bool(to_forget)}"
            if not chosen:
                click.echo(f"no recording is known to begin before {day:%Y-%m-%d}")
            if dry_run:
                click.echo(f"nothing is removed: {counted} would be")
                return
            if (chosen or to_forget) and not yes:
                click.confirm(f"Remove these {counted} for good?", abort=True)
            num_files, num_bytes = forget(to_forget)
            if num_files:
                click.echo(f"removed {num_files} files of what was learned ({num_bytes / 1e6:.1f} MB)")
            # With nothing to remove, this writes the pages that an interrupted purge left.
            _tell(remove(chosen, output, Layout("").cache if is_cache and chosen else None))


def _require_folders(diaries: Path | None, recordings: Path | None, *, learned: bool) -> None:
    if diaries is None and recordings is None:
        raise NothingNamed("nothing to look through: name --diaries, --recordings, or both")
    for folder in filter(None, (diaries, recordings)):
        if not folder.is_dir():
            raise NothingNamed(f"{folder}: there is no such folder")
    if learned and diaries is None:
        raise NothingNamed("--learned is of a folder of diaries: name it with --diaries")


def _tell_kept(known: Sequence[KnownRecording], day: datetime, *, include_guesses: bool) -> None:
    """Name the recordings that stay though they may be older."""
    from pipeline.diaries.purging import is_before

    for recording in known:
        if recording.start.at is None:
            log.warning("%s stays: when it begins is not known", recording.name)
        elif (
            is_before(recording, day.date(), include_guesses=True) and recording.start.is_guess and not include_guesses
        ):
            start = _minute(recording)
            log.warning("%s stays: its start, %s, is a guess; --include-guesses removes it", recording.name, start)


def _listed(recording: KnownRecording) -> str:
    parts = ["diary"] if recording.rows else []
    if recording.videos:
        num_bytes = sum(video.stat().st_size for video in recording.videos)
        parts.append(f"video, {num_bytes / 1e6:.1f} MB")
    return f"{_minute(recording)}  {recording.name}  ({'; '.join(parts)})"


def _minute(recording: KnownRecording) -> str:
    return f"{recording.start.at:%Y-%m-%d %H:%M}"


def _tell(removed: Removed) -> None:
    counts = {"videos": removed.videos, "diaries": removed.diaries, "cached files": removed.cached}
    told = [f"{count} {what} ({num_bytes / 1e6:.1f} MB)" for what, (count, num_bytes) in counts.items()]
    if removed.videos[0] or removed.diaries[0] or removed.cached[0]:
        click.echo(f"removed {', '.join(told)}")
    for path in removed.others:
        log.warning("%s stays: no run of this program wrote it", path)
    if removed.faults:
        raise click.ClickException("\n".join(removed.faults))

"""What the commands share: arguments of a stage, logs on stderr, and an error as a line with exit status 1."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from features.files import atomic_folder, is_no_room, write_csv, write_text
from pipeline import params
from pipeline.layout import Layout

log = logging.getLogger(__name__)

OWN_PACKAGES = ("__main__", "features", "heads", "reports", "pipeline")


def stage(function: Callable[..., None]) -> click.Command:
    """Make `main(params, paths)` the command of a stage, `python -m pipeline.stages.<name> PROFILE [LABELS]`.

    Values of options that are added to the command are passed on by name.
    """

    @functools.wraps(function)
    def run(profile: str, labels: str, **options: Any) -> None:
        with logging_to_stderr(), one_line_errors():
            function(params.load(Path(), profile), Layout(profile, labels), **options)

    return click.command()(click.argument("profile")(click.argument("labels", default="")(run)))


def write_not_asked_for(why: str, folders: Iterable[Path], tables: Iterable[Path] = ()) -> None:
    """Write a stage's outs, all of which DVC wants, where the params do not ask for it: folders that say `why`."""
    for folder in folders:
        with atomic_folder(folder) as partial:
            write_text(partial / "not_asked_for.txt", f"Empty: {why}.\n")
    for table in tables:
        write_csv(table, ["not_asked_for"], [])
    log.info("nothing to do: %s", why)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Inside a click command: this project's own errors, a full disk or GPU and an unreadable file become "Error: …".

    The message of an error that this project defines tells the user what to do; any other error keeps its traceback.
    """
    try:
        yield
    except OSError as error:
        if is_no_room(error):
            raise click.ClickException(
                f"no room to write{f' {error.filename}' if error.filename else ''}: {error.strerror}; "
                "what was finished is kept: make room and run again, and it continues from there"
            ) from error
        if error.filename is None:
            raise
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    except Exception as error:
        torch = sys.modules.get("torch")  # not imported for this: some stages run without it
        if torch is not None and isinstance(error, torch.OutOfMemoryError):
            raise click.ClickException(
                f"no room on the GPU: {str(error).partition('. See')[0]}; what was finished is kept: end what else "
                "uses the GPU, or lower extract.batch_size, or a training's batch_size (raise its accumulation by as "
                "much)"
            ) from error
        if type(error).__module__.partition(".")[0] not in OWN_PACKAGES:
            raise
        raise click.ClickException(str(error)) from error


@contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Show this project's log lines from INFO on, other libraries' from WARNING on; undone at the end."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root = logging.getLogger()
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in OWN_PACKAGES}
    root.addHandler(handler)
    for logger in levels:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        for logger, level in levels.items():
            logger.setLevel(level)

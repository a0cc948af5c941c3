"""What every stage's command shares: logs go to stderr, and a foreseen error is a line there and exit status 1.

Knows nothing of what a stage does; names no error itself, so that importing it imports nothing heavy.
"""

from __future__ import annotations

import errno
import functools
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OWN_LOGGERS = ("__main__", "features", "heads", "reports", "pipeline")


def stage(*foreseen: type[Exception]) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function with click options under it a stage's command.

        @stage(ParamsError, LabelError)
        @click.option("--out", …)
        def main(out: Path) -> None: …

    `foreseen` are the errors whose message alone tells the user what to do; any other keeps its traceback.
    """

    def make(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:
            with logging_to_stderr(), told_in_a_line(*foreseen):
                function(*args, **kwargs)

        return click.command()(run)

    return make


def path_option(flag: str, help: str, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A required option that is a path; `name` is the function's argument where the flag's own name will not do."""
    return click.option(flag, *([name] if name else []), type=click.Path(path_type=Path), required=True, help=help)


params_option = click.option(
    "--params", "params_file", type=click.Path(path_type=Path), default="params.yaml", show_default=True
)


@contextmanager
def told_in_a_line(*foreseen: type[Exception]) -> Iterator[None]:
    """Inside a click command: `foreseen` errors, a full disk, and a file that cannot be opened, become "Error: …"."""
    try:
        yield
    except foreseen as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise click.ClickException(
                f"no room to write{f' {error.filename}' if error.filename else ''}: {error.strerror}; "
                "what was finished is kept: make room, run again, and it goes on from there"
            ) from error
        if error.filename is None:
            raise
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error


@contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Show this project's log lines from INFO on, other libraries' from WARNING on; undone at the end."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root = logging.getLogger()
    own = {logging.getLogger(name): logging.getLogger(name).level for name in _OWN_LOGGERS}
    root.addHandler(handler)
    for logger in own:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        for logger, level in own.items():
            logger.setLevel(level)

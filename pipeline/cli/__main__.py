"""The group of commands; `python -m pipeline.cli` is `diary`."""

from __future__ import annotations

import click

<<<<<<< HEAD
from pipeline.cli.overlay import overlay
=======
from pipeline.cli.purge import purge
>>>>>>> k7
from pipeline.cli.record import record
from pipeline.cli.write import write


@click.group()
@click.version_option(package_name="video-diary-logger")
def main() -> None:
    """Turn recordings into a diary that you can read and trust, on this machine alone."""


main.add_command(purge)
main.add_command(record)
main.add_command(write)
main.add_command(overlay)

if __name__ == "__main__":
    main()

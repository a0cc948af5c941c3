"""The group of commands; `python -m pipeline.cli` is `diary`."""

from __future__ import annotations

import click

from pipeline.cli.amend import amend
from pipeline.cli.dataset import dataset
from pipeline.cli.doctor import doctor
from pipeline.cli.label import label
from pipeline.cli.learn import learn
from pipeline.cli.overlay import overlay
from pipeline.cli.purge import purge
from pipeline.cli.record import record
from pipeline.cli.review import review
from pipeline.cli.verdicts import verdicts
from pipeline.cli.write import write


@click.group()
@click.version_option(package_name="video-diary-logger")
def main() -> None:
    """Turn recordings into a diary that you can read and trust, on this machine alone."""


for command in (record, write, review, amend, learn, verdicts, label, overlay, purge, dataset, doctor):
    main.add_command(command)

if __name__ == "__main__":
    main()

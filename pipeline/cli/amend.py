"""`diary amend`: say from the shell what is right or wrong in a diary."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline.stage import logging_to_stderr, one_line_errors

log = logging.getLogger(__name__)


@click.command()
@click.argument("diaries", metavar="FOLDER", type=click.Path(file_okay=False, path_type=Path))
@click.argument("words", nargs=-1, metavar="EVENT_ID right|wrong|relabel LABEL|move START END|note TEXT")
@click.option("--add", metavar="LABEL", help="Add what nothing states: --add LABEL RECORDING START END.")
@click.option("--undo", is_flag=True, help="Take back your last word, of amend or review; given alone.")
@click.option("--name", help="Who says so.  [default: the account's name]")
def amend(diaries: Path, words: tuple[str, ...], add: str | None, undo: bool, name: str | None) -> None:
    """Say that an event of a diary is right or wrong, has another label or other ends, or that one is missing.

    FOLDER is one that `diary write` wrote to, and EVENT_ID an event's id as pages and events.jsonl have it. LABEL is
    the id or the name of a label. START and END are times as the diary writes them, such as 08:01:15, or from the start
    of the video: 75.5, 1:15 or 0:01:15. START-END in one word does as well.

    \b
    diary amend diaries kitchen-004 wrong
    diary amend diaries kitchen-007 move 08:01:15 08:02:00
    diary amend diaries --add "Washing a dish" kitchen 08:05:00 08:06:30

    What is said is added to FOLDER/corrections.jsonl, and the pages are written anew.
    """
    with logging_to_stderr(), one_line_errors():
        # Imported here, so that `--help` answers at once.
        from features.files import private_files
        from pipeline.diaries.output import CORRECTIONS
        from pipeline.review.amending import added, amended, undone
        from pipeline.review.judgement import account_name
        from pipeline.review.recordings import open_diaries, reviewed_recordings
        from pipeline.review.rewriting import rewrite
        from reports.corrections import append_correction

        output, _ = open_diaries(diaries)
        recordings, faults = reviewed_recordings(output)
        for line in faults:
            log.warning("%s", line)
        who = name or account_name()
        if undo:
            correction = undone(output.path, recordings, words, who=who)
        elif add is not None:
            correction = added(recordings, add, words, who=who)
        else:
            correction = amended(output.path, recordings, words, who=who)
        with private_files():
            append_correction(output.path / CORRECTIONS, correction)
        if failures := rewrite(output.path):
            raise click.ClickException("\n".join(failures))

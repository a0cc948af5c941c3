"""`diary review`: look at what a diary states, and say what is right."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.stage import logging_to_stderr, one_line_errors

if TYPE_CHECKING:
    from pipeline.review.recordings import Reviewed

log = logging.getLogger(__name__)

WAYS = ("uncertainty", "even", "balanced", "random", "in-order")
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


class NothingComplete(Exception):
    """No recording was reviewed as a whole."""


@click.command()
@click.argument("diaries", metavar="FOLDER|DAY", type=click.Path(path_type=Path))
@click.option(
    "--by",
    type=click.Choice(WAYS),
    default=WAYS[0],
    show_default=True,
    help="What is asked: what is uncertain, evenly over probabilities or labels, at random, or all in order of time.",
)
@click.option("-n", "--num", type=click.IntRange(min=1), help="How much is asked.  [default: 60; all in order]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another one, another sample.")
@click.option("--name", help="Who judges.  [default: the account's name]")
@click.option("--videos", type=_FOLDER, help="Where the videos are now, if they were moved; known by content.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of this machine to serve at.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port to serve at.  [default: a free one]")
@click.option("--truth", is_flag=True, help="Write <recording>.truth.csv of what was reviewed as a whole, and end.")
def review(
    diaries: Path,
    by: str,
    num: int | None,
    seed: int,
    name: str | None,
    videos: Path | None,
    host: str,
    port: int,
    truth: bool,
) -> None:
    """Serve a page that plays what a diary states, and takes what you say of it: right, wrong, something else.

    FOLDER is one that `diary write` wrote to; DAY is a page in it, such as diaries/2026-03-14. Answers are kept in
    FOLDER/corrections.jsonl from the moment that they are given, and the pages of the diary follow them. A quarter of
    what is asked are stretches without events, so that what was missed is known, too; what you answered in an earlier
    review is not asked again.

    Open the address that is printed; end with Ctrl-C. It is served to this machine alone, unless --host names an
    address that others reach.
    """
    with logging_to_stderr(), one_line_errors():
        # Imported here, so that `--help` answers at once.
        from pipeline.review.recordings import each_video_once, found_again, open_diaries, reviewed_recordings

        output, key = open_diaries(diaries)
        recordings, faults = reviewed_recordings(output, key)
        recordings = each_video_once(found_again(recordings, videos) if videos else recordings)
        for line in faults:
            log.warning("%s", line)
        if truth:
            _write_truths(output.path, recordings)
            return
        from features.files import private_files
        from pipeline.diaries.correcting import Corrections
        from pipeline.diaries.failure import printable
        from pipeline.review.judgement import account_name
        from pipeline.review.queue import queue
        from pipeline.review.rewriting import Rewriter
        from pipeline.review.server import Address, serve
        from pipeline.review.session import ReviewSession

        who = name or account_name()
        corrections = Corrections(output.path)
        said = {each.id: corrections.of(each.video_sha256) for each in recordings}
        items = queue(recordings, said, who=who, way=by, num=num, seed=seed)
        rewriter = Rewriter(output.path)
        session = ReviewSession(
            output.path, recordings, items, who=who, on_change=rewriter.changed, close=rewriter.close
        )

        def tell(address: Address) -> None:
            if not address.host.startswith("127.") and address.host not in ("localhost", "::1"):
                log.warning(
                    "whoever can reach %s and learns the address below can watch these recordings and change what is "
                    "said of them; nothing is encrypted on the way",
                    address.authority,
                )
            without_video = [each.stored.recording.file_name for each in recordings if each.video is None]
            if without_video:
                log.warning(
                    "not where they were, so they cannot be played: %s; say with --videos where they are",
                    ", ".join(map(printable, without_video)),
                )
            click.echo(address.url)

        with private_files():  # for all threads: which files others may read is a matter of the process
            serve(session, host=host, port=port, on_start=tell)


def _write_truths(folder: Path, recordings: list[Reviewed]) -> None:
    from features.files import private_files
    from pipeline.review.truth import write_truths

    with private_files():
        paths, left = write_truths(folder, recordings)
    for line in left:
        log.warning("%s", line)
    for path in paths:
        click.echo(path)
    if not paths:
        raise NothingComplete("no recording was reviewed as a whole: mark what is left as complete in `diary review`")

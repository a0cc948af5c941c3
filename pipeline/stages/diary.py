"""Stage `diary`: events and a readable diary of each recording."""

from __future__ import annotations

import logging

from features.files import atomic_folder, private_files
from pipeline.diaries.correcting import take_along
from pipeline.diaries.output import OutputFolder
from pipeline.diaries.selection import select_videos
from pipeline.layout import Layout
from pipeline.model_folder import load_recogniser
from pipeline.params import Params
from pipeline.recordings import write_diaries
from pipeline.stage import stage

log = logging.getLogger(__name__)


class NothingWritten(Exception):
    """There are recordings, and none of them can be read."""


@stage
def main(params: Params, paths: Layout) -> None:
    """Write the diary of every recording anew, with what people said of the earlier one.

    A recording that cannot be read or is damaged is told, and listed.

    Fails if there are recordings and none of them can be read. A profile may have no recordings at all.
    """
    with private_files(), atomic_folder(paths.diaries) as out:
        if all(entry.name.startswith(".") for entry in paths.recordings.iterdir()):
            log.warning("%s is empty: there is no recording to write a diary of", paths.recordings)
            return
        selection = select_videos([paths.recordings])
        if selection.skipped:
            log.warning("%s", selection.skipped_line)
        take_along(paths.diaries, out)
        output = OutputFolder(out)
        videos = output.plan(selection)
        run = write_diaries(
            videos,
            output,
            load_recogniser(paths.diary_model),
            recorded_at=None,
            batch_size=params.extract.batch_size,
            num_workers=min(1, params.extract.num_workers),
        )
        if not run.written:
            raise NothingWritten("no diary was written:\n" + "\n".join(run.failures))
        for line in run.damaged:
            log.warning("%s", line)
        take_along(paths.diaries, out)  # what was said meanwhile, for the next run


if __name__ == "__main__":
    main()

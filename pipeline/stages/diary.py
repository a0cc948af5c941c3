"""Stage `diary`: events and a readable diary of each recording."""

from __future__ import annotations

import logging

from pipeline.layout import Layout
from pipeline.model_folder import load_recogniser
from pipeline.params import Params
from pipeline.recordings import find_videos, write_diaries
from pipeline.stage import stage

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """Write the diary of every recording; one that cannot be read is a warning."""
    paths.diaries.mkdir(parents=True, exist_ok=True)
    failures = write_diaries(
        find_videos(paths.recordings),
        paths.diaries,
        load_recogniser(paths.diary_model),
        recorded_at=None,
        batch_size=params.extract.batch_size,
        num_workers=min(1, params.extract.num_workers),
    )
    for failure in failures:
        log.warning("%s", failure)


if __name__ == "__main__":
    main()

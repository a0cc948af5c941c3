"""Stage `prepare`: the manifest with its splits, and its counts; label sets and roles are checked."""

from __future__ import annotations

import logging
from pathlib import Path

from features.files import write_json
from pipeline.dataset import kinds, labels, manifest
from pipeline.dataset.roles import check_roles, read_roles
from pipeline.layout import Layout
from pipeline.params import Params, load_project
from pipeline.stage import stage

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """Check the label sets and their roles, and split the videos into train, val and test."""
    label_sets = [labels.read_label_set(paths.label_sets / f"{name}.txt") for name in load_project(Path()).label_sets]
    videos, classes, notes = kinds.read(paths.dataset, val_share=params.prepare.val_share, seed=params.prepare.seed)
    for label_set in label_sets:
        labels.check(label_set, classes)
        labels.warn_of_unseen(label_set, videos)
    check_roles(paths.roles, read_roles(paths.roles), classes)

    manifest.write(paths.manifest, videos)
    facts = videos.facts()
    videos_with_label = {label_set.name: videos.num_videos_with(label_set.ids) for label_set in label_sets}
    write_json(
        paths.facts, {"splits": facts, "videos_with_label": videos_with_label, **({"notes": notes} if notes else {})}
    )
    for note in notes:
        log.info("%s", note)
    for name, counts in facts.items():
        counted = (counts[key] for key in ("num_videos", "num_subjects", "num_intervals"))
        log.info("%s: %d videos of %d subjects, %d intervals", name, *counted)


if __name__ == "__main__":
    main()

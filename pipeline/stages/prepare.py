"""Stage `prepare`: from the official annotations and the label sets to the manifest and what it counts."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from pipeline import params
from pipeline.dataset import labels, manifest
from pipeline.stage import params_option, path_option, stage

log = logging.getLogger(__name__)


@stage(params.ParamsError, labels.LabelError, manifest.ManifestError)
@path_option("--dataset", "Folder in the official layout.")
@path_option("--labels", "Folder of label sets.", "labels_dir")
@path_option("--out", "Folder of the manifest, to be written.")
@path_option("--facts", "JSON of counts, to be written.")
@params_option
def main(dataset: Path, labels_dir: Path, out: Path, facts: Path, params_file: Path) -> None:
    """Check the label sets and cut the videos into train, val and test."""
    chosen = params.load(params_file)
    classes = labels.read_classes(manifest.annotations_dir(dataset) / "Charades_v1_classes.txt")
    label_sets = [labels.read_label_set(labels_dir / f"{name}.txt") for name in chosen.label_sets]
    for label_set in label_sets:
        labels.check(label_set, classes)
    prepare = chosen.active.prepare
    videos = manifest.read_charades(dataset, classes, val_share=prepare.val_share, seed=prepare.seed)

    manifest.write(out, videos)
    splits = videos.facts()
    with_label = {each.name: videos.num_videos_with(each.ids) for each in label_sets}
    counts_of = {"splits": splits, "videos_with_label": with_label}
    facts.parent.mkdir(parents=True, exist_ok=True)
    facts.write_text(json.dumps(counts_of, indent=2) + "\n", encoding="utf-8")
    for name, counts in splits.items():
        log.info(
            "%s: %d videos of %d subjects, %d intervals",
            name, counts["num_videos"], counts["num_subjects"], counts["num_intervals"],
        )  # fmt: skip


if __name__ == "__main__":
    main()

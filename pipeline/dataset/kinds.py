"""The kinds of data set that there are, told by their files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pipeline.dataset import charades, video_folder
from pipeline.dataset.labels import LabelSet
from pipeline.dataset.manifest import Manifest, ManifestError


class Annotations(NamedTuple):
    """A data set's videos in their splits, its classes, and what else is to be known of how they came about."""

    videos: Manifest
    classes: LabelSet
    notes: tuple[str, ...] = ()


def read(dataset: Path, *, val_share: float, seed: int) -> Annotations:
    """Read what lies in the folder `dataset`: annotations of Charades, or metadata beside videos.

    Splits that the data set does not state are cut off train by subject, each with about `val_share` of the videos.
    Raises `ManifestError`.
    """
    if charades.is_there(dataset):
        return Annotations(*charades.read(dataset, val_share=val_share, seed=seed))
    if video_folder.metadata_files(dataset):
        return Annotations(*video_folder.read(dataset, val_share=val_share, seed=seed))
    raise ManifestError(
        f"{dataset}: no Charades_v1_train.csv in it, nor in Charades/ below it; no tables of HuggingFaceM4/charades, "
        "saved to disk or as parquet; no metadata.csv or metadata.jsonl, nor in train/, val/ or test/; is "
        "fetch.dataset_dir the right folder?"
    )

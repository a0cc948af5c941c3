"""Charades: the official annotations and file layout. Only this module and `charades_tables` know them.

Annotations are CSV files in the data set's folder or in `Charades/` below it, or the tables of `charades_tables`;
videos are `<id>.mp4` in `Charades_v1_480/` or `Charades_v1/`.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.dataset import charades_tables
from pipeline.dataset.csv_rows import csv_rows, require_faultless
from pipeline.dataset.labels import LabelSet, read_classes
from pipeline.dataset.manifest import Interval, Manifest, ManifestError, VideoEntry, shortened
from pipeline.dataset.split import cut_off

log = logging.getLogger(__name__)

_COLUMNS = ("id", "subject", "scene", "actions", "length")  # those that are read, of the official eleven
_VIDEO_FOLDERS = ("Charades_v1_480", "Charades_v1")
_VIDEO_ID = re.compile(r"[A-Za-z0-9_-]+")


def read(dataset: Path, *, val_share: float, seed: int) -> tuple[Manifest, LabelSet]:
    """Read the manifest and the classes of the data set in the folder `dataset`.

    Val is cut off the train file by subject (`cut_off`); the test file is test. A row that cannot be understood raises
    `ManifestError` with file and line. A video without a file stays in the manifest with a warning; if no video has
    one, that is an error.
    """
    path_of = _video_paths(dataset)
    if folder := _annotations_folder(dataset):
        classes = read_classes(folder / "Charades_v1_classes.txt")
        sources = {split: folder / f"Charades_v1_{split}.csv" for split in ("train", "test")}
        rows = {split: csv_rows(path, _COLUMNS) for split, path in sources.items()}
    else:
        classes, sources, rows = charades_tables.read(dataset)
    known = frozenset(classes.ids)
    train, test = (_entries(sources[split], rows[split], split, known, path_of) for split in ("train", "test"))
    videos = [*train, *test]
    missing = [video.video_id for video in videos if not (dataset / video.path).is_file()]
    if len(missing) == len(videos):
        raise ManifestError(
            f"{dataset}: none of the {len(videos)} videos is there; looked for {shortened(missing)} as <id>.mp4 in "
            f"{' and '.join(f'{name}/' for name in _VIDEO_FOLDERS)}"
        )
    if missing:
        log.warning("%d of %d videos have no file in %s: %s", len(missing), len(videos), dataset, shortened(missing))
    return Manifest((*cut_off(train, val_share, seed), *test)), classes


def is_there(dataset: Path) -> bool:
    """Whether the folder holds annotations of Charades, in either form."""
    return _annotations_folder(dataset) is not None or bool(charades_tables.find(dataset))


def _annotations_folder(dataset: Path) -> Path | None:
    """The folder of the CSV files, if there is one."""
    for folder in (dataset, dataset / "Charades"):
        if (folder / "Charades_v1_train.csv").is_file():
            return folder
    return None


def _video_paths(dataset: Path) -> Callable[[str], str]:
    """A function from a video's id to its path, or, without a file, to the path that it should have."""
    folders = [name for name in _VIDEO_FOLDERS if (dataset / name).is_dir()]
    files = {name: {path.name for path in (dataset / name).iterdir()} for name in folders}

    def path_of(video_id: str) -> str:
        file = f"{video_id}.mp4"
        folder = next((name for name in folders if file in files[name]), [*folders, _VIDEO_FOLDERS[0]][0])
        return f"{folder}/{file}"

    return path_of


def _entries(
    path: Path,
    rows: Iterable[tuple[int, dict[str, str]]],
    split: str,
    known: frozenset[str],
    path_of: Callable[[str], str],
) -> list[VideoEntry]:
    videos: list[VideoEntry] = []
    line_of: dict[str, int] = {}
    faults: list[str] = []
    for line, row in rows:
        try:
            video = _video(row, split, known, path_of)
            if video.video_id in line_of:
                raise ValueError(f"{video.video_id} is already on line {line_of[video.video_id]}")
        except ValueError as error:
            faults.append(f"{path}:{line}: {error}")
        else:
            videos.append(video)
            line_of[video.video_id] = line
    require_faultless(faults)
    if not videos:
        raise ManifestError(f"{path}: has no rows")
    return videos


def _video(row: dict[str, str], split: str, known: frozenset[str], path_of: Callable[[str], str]) -> VideoEntry:
    if None in row or None in row.values():
        raise ValueError("more or fewer fields than the header names")
    video_id, subject = row["id"].strip(), row["subject"].strip()
    if not _VIDEO_ID.fullmatch(video_id):
        raise ValueError(f"an id is letters and digits, got {video_id!r}")
    if not subject:
        raise ValueError(f"{video_id}: no subject")
    length_s = _seconds(row["length"], f"{video_id}: length")
    return VideoEntry(
        video_id=video_id,
        path=path_of(video_id),
        subject=subject,
        scene=row["scene"].strip(),
        split=split,
        length_s=length_s,
        intervals=tuple(_interval(text, video_id, known) for text in row["actions"].split(";") if text.strip()),
    )


def _interval(text: str, video_id: str, known: frozenset[str]) -> Interval:
    parts = text.split()
    if len(parts) != 3:
        raise ValueError(f'{video_id}: expected an action like "c092 11.90 21.20", got {text!r}')
    if parts[0] not in known:
        raise ValueError(f"{video_id}: {parts[0]} is not among the {len(known)} classes")
    return Interval(parts[0], *(_seconds(part, f"{video_id}: {parts[0]}") for part in parts[1:]))


def _seconds(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{what}: expected seconds from 0 on, got {text!r}")
    return value

"""The manifest: which videos there are, what happens in them when, and which split each is in.

Reads the official Charades annotations, cuts val off the train file by subject, keeps one parquet file a split. Knows
what the annotations state; knows nothing of what a video file holds, of windows or of label sets.
"""

from __future__ import annotations

import csv
import logging
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import datasets
import numpy as np

from features.video import Segment
from pipeline.dataset.labels import LabelSet

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")

_COLUMNS = ("id", "subject", "scene", "actions", "length")  # those that are read, of the official eleven
_VIDEO_FOLDERS = ("Charades_v1_480", "Charades_v1")
_VIDEO_ID = re.compile(r"[A-Za-z0-9_-]+")
_FEATURES = datasets.Features(
    {
        "video_id": datasets.Value("string"),
        "path": datasets.Value("string"),
        "subject": datasets.Value("string"),
        "scene": datasets.Value("string"),
        "length_s": datasets.Value("float64"),
        "intervals": datasets.List(
            {
                "label": datasets.Value("string"),
                "start_s": datasets.Value("float64"),
                "end_s": datasets.Value("float64"),
            }
        ),
    }
)


class ManifestError(Exception):
    """Annotations or a manifest cannot be used. The message has a line for each fault, with its file."""


class Action(NamedTuple):
    """A label and when it is seen."""

    label: str
    segment: Segment


@dataclass(frozen=True)
class Interval:
    """A label and its times as the annotator stated them: maybe past the video's end, maybe reversed."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class VideoEntry:
    """A video of the data set: its file (`path`, relative to the data set's folder) and what is stated about it."""

    video_id: str
    path: str
    subject: str
    scene: str
    split: str
    length_s: float
    intervals: tuple[Interval, ...]

    @cached_property
    def actions(self) -> tuple[Action, ...]:
        """The intervals that have a time, clipped to the stated length, in the order stated; a label may come twice.

        Reversed or empty ones, and ones that begin after the end, are in `classes` only.
        """
        return tuple(
            Action(each.label, Segment(each.start_s, min(each.end_s, self.length_s)))
            for each in self.intervals
            if each.start_s < min(each.end_s, self.length_s)
        )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Every label that the video carries at any time, or at no usable one; sorted, each once."""
        return tuple(sorted({each.label for each in self.intervals}))

    @property
    def num_clipped(self) -> int:
        return sum(each.start_s < self.length_s < each.end_s for each in self.intervals)

    @property
    def num_reversed_or_empty(self) -> int:
        return sum(each.end_s <= each.start_s for each in self.intervals)

    @property
    def num_past_the_end(self) -> int:
        return sum(self.length_s <= each.start_s < each.end_s for each in self.intervals)


@dataclass(frozen=True)
class Manifest:
    """All videos of a data set. No id twice, and never a subject in two splits."""

    videos: tuple[VideoEntry, ...]

    def __post_init__(self) -> None:
        doubles = [video_id for video_id, times in Counter(v.video_id for v in self.videos).items() if times > 1]
        if doubles:
            raise ManifestError(f"videos that stand more than once: {_some(doubles)}")
        split_of: dict[str, str] = {}
        for video in self.videos:
            if video.split not in SPLITS:
                raise ManifestError(f"{video.video_id}: a split is one of {', '.join(SPLITS)}, got {video.split!r}")
            if split_of.setdefault(video.subject, video.split) != video.split:
                raise ManifestError(
                    f"subject {video.subject} is in {split_of[video.subject]} and, with video {video.video_id}, in "
                    f"{video.split}: scores would tell how well a person is remembered"
                )

    def split(self, name: str) -> tuple[VideoEntry, ...]:
        """The videos of train, val or test, by id; another name raises `KeyError`."""
        return self._by_split[name]

    @cached_property
    def by_id(self) -> Mapping[str, VideoEntry]:
        return {video.video_id: video for video in self.videos}

    @cached_property
    def _by_split(self) -> Mapping[str, tuple[VideoEntry, ...]]:
        ordered = sorted(self.videos, key=lambda video: video.video_id)
        return {name: tuple(video for video in ordered if video.split == name) for name in SPLITS}

    def facts(self) -> dict[str, dict[str, int | float]]:
        """Counts for each split: videos, people, hours, intervals, and what the annotations' quirks came to."""
        return {name: _facts(self.split(name)) for name in SPLITS}

    def num_videos_with(self, labels: Sequence[str]) -> dict[str, dict[str, int]]:
        """For each label, how many videos of each split carry it; 0 where none does."""
        return {
            label: {name: sum(label in video.classes for video in self.split(name)) for name in SPLITS}
            for label in labels
        }


def annotations_dir(dataset: Path) -> Path:
    """Where the CSV files are: in the data set's folder, or in `Charades/` below, as the official archive has it."""
    for folder in (dataset, dataset / "Charades"):
        if (folder / "Charades_v1_train.csv").is_file():
            return folder
    raise ManifestError(f"{dataset}: no Charades_v1_train.csv in it, nor in Charades/ below it")


def read_charades(dataset: Path, classes: LabelSet, val_share: float, seed: int) -> Manifest:
    """Read the two official files; val is cut off train by subject (`cut_val`), test stays as it is.

    A row that cannot be understood raises `ManifestError` with file and line. Videos whose file is missing stay in
    the manifest with a warning; if all of them are missing, that is an error.
    """
    folder = annotations_dir(dataset)
    known = frozenset(classes.ids)
    path_of = _video_paths(dataset)
    train = _read_csv(folder / "Charades_v1_train.csv", "train", known, path_of)
    test = _read_csv(folder / "Charades_v1_test.csv", "test", known, path_of)
    videos = [*train, *test]
    missing = [video.video_id for video in videos if not (dataset / video.path).is_file()]
    if len(missing) == len(videos):
        raise ManifestError(
            f"{dataset}: none of the {len(videos)} videos is there; looked for {_some(missing)} as <id>.mp4 in "
            f"{' and '.join(f'{name}/' for name in _VIDEO_FOLDERS)}"
        )
    if missing:
        log.warning("%d of %d videos have no file in %s: %s", len(missing), len(videos), dataset, _some(missing))
    return Manifest((*cut_val(train, val_share, seed), *test))


def cut_val(videos: Sequence[VideoEntry], val_share: float, seed: int) -> tuple[VideoEntry, ...]:
    """Put whole subjects into val until it has about `val_share` of the videos, and of each class's videos.

    Starting from an empty val, subjects are visited in an order drawn from `seed`, again and again; one moves into
    val or out of it if that brings the counts nearer to their targets, until a whole round moves nobody. Same videos
    and seed, same split. At least one subject is on either side; fewer than two raise `ManifestError`.
    """
    subjects = sorted({video.subject for video in videos})
    if len(subjects) < 2:
        raise ManifestError(f"val is cut off by subject, which takes two at least; train has {len(subjects)}")
    random.Random(seed).shuffle(subjects)
    counts = _counts(videos, subjects)
    total = counts.sum(axis=0)

    def distance(val: np.ndarray) -> float:
        # How far each count is from its target, relative to how much there is: the videos weigh as much as all classes.
        errors = (val - val_share * total) ** 2 / total
        return float(errors[0] + errors[1:].mean())

    in_val = np.zeros(len(subjects), dtype=bool)
    moved = True
    while moved:
        moved = False
        for index in range(len(subjects)):
            trial = in_val.copy()
            trial[index] = not trial[index]
            if trial.all() or (in_val.any() and not trial.any()):
                continue
            if distance(counts[trial].sum(axis=0)) < distance(counts[in_val].sum(axis=0)) - 1e-9:
                in_val, moved = trial, True
    if not in_val.any():
        in_val[min(range(len(subjects)), key=lambda index: distance(counts[index]))] = True
    val = {subject for subject, chosen in zip(subjects, in_val, strict=True) if chosen}
    return tuple(replace(video, split="val" if video.subject in val else "train") for video in videos)


def write(folder: Path, manifest: Manifest) -> None:
    """Write train.parquet, val.parquet and test.parquet: the same manifest, the same bytes.

    A split without videos raises `ManifestError` before anything is written.
    """
    empty = [name for name in SPLITS if not manifest.split(name)]
    if empty:
        raise ManifestError(f"no video is in {' nor in '.join(empty)}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in SPLITS:
        rows = [
            {
                "video_id": video.video_id,
                "path": video.path,
                "subject": video.subject,
                "scene": video.scene,
                "length_s": video.length_s,
                "intervals": [vars(each) for each in video.intervals],
            }
            for video in manifest.split(name)
        ]
        table = datasets.Dataset.from_dict({key: [row[key] for row in rows] for key in _FEATURES}, features=_FEATURES)
        partial = folder / f"{name}.parquet.partial"
        with _no_progress_bars():
            table.to_parquet(partial)
        partial.replace(folder / f"{name}.parquet")


def read(folder: Path) -> Manifest:
    """Read what `write` wrote, checked again; a file that is missing raises `ManifestError`."""
    return Manifest(tuple(video for name in SPLITS for video in _read_parquet(folder / f"{name}.parquet", name)))


def _read_parquet(path: Path, split: str) -> Iterator[VideoEntry]:
    if not path.is_file():
        raise ManifestError(f"{path}: no such file; `dvc repro prepare` writes it")
    with TemporaryDirectory() as cache, _no_progress_bars():
        table = datasets.Dataset.from_parquet(str(path), features=_FEATURES, keep_in_memory=True, cache_dir=cache)
        rows: list[dict[str, Any]] = table.to_list()
    for row in rows:
        intervals = tuple(Interval(**each) for each in row.pop("intervals"))
        yield VideoEntry(**row, split=split, intervals=intervals)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    # `datasets` draws a bar for every file, however small, and offers only a global switch.
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _video_paths(dataset: Path) -> Callable[[str], str]:
    """From a video's id to its path; where there is no such file, the path that it should have."""
    there = [name for name in _VIDEO_FOLDERS if (dataset / name).is_dir()]
    files = {name: {each.name for each in (dataset / name).iterdir()} for name in there}

    def path_of(video_id: str) -> str:
        file = f"{video_id}.mp4"
        folder = next((name for name in there if file in files[name]), [*there, _VIDEO_FOLDERS[0]][0])
        return f"{folder}/{file}"

    return path_of


def _read_csv(path: Path, split: str, known: frozenset[str], path_of: Callable[[str], str]) -> list[VideoEntry]:
    videos: list[VideoEntry] = []
    line_of: dict[str, int] = {}
    faults: list[str] = []
    for line, row in _rows(path):
        try:
            video = _video(row, split, known, path_of)
            if video.video_id in line_of:
                raise ValueError(f"{video.video_id} stands on line {line_of[video.video_id]} already")
        except ValueError as error:
            faults.append(f"{path}:{line}: {error}")
        else:
            videos.append(video)
            line_of[video.video_id] = line
    if faults:
        more = [f"{path}: {len(faults) - 20} more rows like these"] if len(faults) > 20 else []
        raise ManifestError("\n".join([*faults[:20], *more]))
    if not videos:
        raise ManifestError(f"{path}: has no rows")
    return videos


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with the line that each begins on: a script in quotes may run over several."""
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            absent = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if absent:
                raise ManifestError(f"{path}:1: no column {', '.join(absent)}; found {reader.fieldnames}")
            line = reader.line_num + 1
            for row in reader:
                yield line, row
                line = reader.line_num + 1
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file") from None
    except csv.Error as error:
        raise ManifestError(f"{path}:{line}: {error}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a text file in UTF-8: {error.reason} at byte {error.start}") from error


def _video(row: dict[str, str], split: str, known: frozenset[str], path_of: Callable[[str], str]) -> VideoEntry:
    if None in row or None in row.values():
        raise ValueError("more or fewer fields than the head of the file names")
    video_id, subject = row["id"].strip(), row["subject"].strip()
    if not _VIDEO_ID.fullmatch(video_id):
        raise ValueError(f"an id is letters and digits, got {video_id!r}")
    if not subject:
        raise ValueError(f"{video_id}: no subject")
    length_s = _seconds(row["length"], f"{video_id}: length")
    if length_s == 0:
        raise ValueError(f"{video_id}: length is 0")
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
        raise ValueError(f'{video_id}: an action like "c092 11.90 21.20" is wanted, got {text!r}')
    if parts[0] not in known:
        raise ValueError(f"{video_id}: {parts[0]} is not among the {len(known)} classes")
    return Interval(parts[0], *(_seconds(part, f"{video_id}: {parts[0]}") for part in parts[1:]))


def _seconds(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{what}: seconds from 0 on are wanted, got {text!r}")
    return value


def _counts(videos: Sequence[VideoEntry], subjects: Sequence[str]) -> np.ndarray:
    """(subjects, 1 + classes that occur): a subject's videos, and those with each class; no class at all is one too."""
    kinds = sorted({label for video in videos for label in video.classes or ("",)})
    row_of = {subject: index for index, subject in enumerate(subjects)}
    column_of = {kind: index for index, kind in enumerate(kinds, start=1)}
    counts = np.zeros((len(subjects), 1 + len(kinds)))
    for video in videos:
        counts[row_of[video.subject], [0, *(column_of[label] for label in video.classes or ("",))]] += 1
    return counts


def _facts(videos: Sequence[VideoEntry]) -> dict[str, int | float]:
    return {
        "num_videos": len(videos),
        "num_subjects": len({video.subject for video in videos}),
        "hours": round(sum(video.length_s for video in videos) / 3600, 4),
        "num_videos_without_actions": sum(not video.intervals for video in videos),
        "num_intervals": sum(len(video.intervals) for video in videos),
        "num_intervals_clipped": sum(video.num_clipped for video in videos),
        "num_intervals_reversed_or_empty": sum(video.num_reversed_or_empty for video in videos),
        "num_intervals_past_the_end": sum(video.num_past_the_end for video in videos),
    }


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")

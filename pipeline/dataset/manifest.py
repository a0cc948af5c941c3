"""The manifest: which videos there are, what happens in them when, and which split each is in.

One parquet file a split, and their hashes. The manifest holds what annotations state; video files, windows and label
sets are elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from features.files import atomic_folder, sha256_of
from features.sealed import damage_told, read_sealed_json, write_sealed_json
from features.video import Segment

SPLITS = ("train", "val", "test")
MAX_LENGTH_S = 86_400  # a day
_HASHES = "sha256.json"
_REMEDY = "run `dvc repro prepare`"


class ManifestError(Exception):
    """Annotations or a manifest cannot be used. The message has a line for each fault, with its file."""


class Action(NamedTuple):
    """A label and when it occurs."""

    label: str
    segment: Segment


@dataclass(frozen=True)
class Interval:
    """A label and its times as annotated: they may lie past the video's end, or be reversed."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class VideoEntry:
    """A video of the data set: its file (`path`, relative to the data set's folder) and what is stated about it.

    It lasts at most a day: a mistyped length would take the room of all others.
    """

    video_id: str
    path: str
    subject: str
    scene: str
    split: str
    length_s: float
    intervals: tuple[Interval, ...]

    def __post_init__(self) -> None:
        if not 0 < self.length_s <= MAX_LENGTH_S:
            raise ValueError(
                f"{self.video_id}: length must be above 0 and at most {MAX_LENGTH_S} s, a day, got {self.length_s:g}"
            )

    @cached_property
    def actions(self) -> tuple[Action, ...]:
        """The usable intervals, clipped to the stated length, in the order stated; a label may occur twice.

        Reversed or empty intervals, and those that begin after the end, count in `classes` only.
        """
        return tuple(
            Action(interval.label, Segment(interval.start_s, min(interval.end_s, self.length_s)))
            for interval in self.intervals
            if interval.start_s < min(interval.end_s, self.length_s)
        )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Every label of the video, with or without a usable time; sorted and unique."""
        return tuple(sorted({interval.label for interval in self.intervals}))

    @property
    def num_clipped(self) -> int:
        return sum(own.start_s < self.length_s < own.end_s for own in self.intervals)

    @property
    def num_reversed_or_empty(self) -> int:
        return sum(own.end_s <= own.start_s for own in self.intervals)

    @property
    def num_past_the_end(self) -> int:
        return sum(self.length_s <= own.start_s < own.end_s for own in self.intervals)


@dataclass(frozen=True)
class Manifest:
    """All videos of a data set. No id twice, and never a subject in two splits."""

    videos: tuple[VideoEntry, ...]

    def __post_init__(self) -> None:
        counts = Counter(video.video_id for video in self.videos)
        doubles = [video_id for video_id, count in counts.items() if count > 1]
        if doubles:
            raise ManifestError(f"videos that occur more than once: {shortened(doubles)}")
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

    def listed(self, name: str) -> tuple[VideoEntry, ...]:
        """The videos of a split in the order of the data set's file, which official scores rank equal ones by."""
        return tuple(video for video in self.videos if video.split == name)

    @cached_property
    def by_id(self) -> Mapping[str, VideoEntry]:
        return {video.video_id: video for video in self.videos}

    @cached_property
    def _by_split(self) -> Mapping[str, tuple[VideoEntry, ...]]:
        ordered = sorted(self.videos, key=lambda video: video.video_id)
        return {name: tuple(video for video in ordered if video.split == name) for name in SPLITS}

    def facts(self) -> dict[str, dict[str, int | float]]:
        """Counts for each split: videos, people, hours, intervals, and each quirk of the annotations."""
        return {name: _facts(self.split(name)) for name in SPLITS}

    def num_videos_with(self, labels: Sequence[str]) -> dict[str, dict[str, int]]:
        """For each label, how many videos of each split carry it; 0 where none does."""
        return {
            label: {name: sum(label in video.classes for video in self.split(name)) for name in SPLITS}
            for label in labels
        }


def write(folder: Path, manifest: Manifest) -> None:
    """Write train.parquet, val.parquet, test.parquet and their hashes: the same manifest gives the same bytes.

    A split without videos raises `ManifestError` before anything is written.
    """
    empty = [name for name in SPLITS if not manifest.split(name)]
    if empty:
        raise ManifestError(f"no video is in {' nor in '.join(empty)}")
    import datasets

    text, seconds = datasets.Value("string"), datasets.Value("float64")
    features = datasets.Features(
        {
            "video_id": text,
            "path": text,
            "subject": text,
            "scene": text,
            "length_s": seconds,
            "intervals": datasets.List({"label": text, "start_s": seconds, "end_s": seconds}),
        }
    )
    with atomic_folder(folder) as partial:
        for name in SPLITS:
            rows = [asdict(video) for video in manifest.listed(name)]
            table = datasets.Dataset.from_dict({key: [row[key] for row in rows] for key in features}, features=features)
            with _no_progress_bar():
                table.to_parquet(partial / f"{name}.parquet")
        write_sealed_json(
            partial / _HASHES, {f"{name}.parquet": sha256_of(partial / f"{name}.parquet") for name in SPLITS}
        )


def read(folder: Path) -> Manifest:
    """Read what `write` wrote and check it again. A missing file raises `ManifestError`, another one `DamagedFile`."""
    for name in (*(f"{split}.parquet" for split in SPLITS), _HASHES):
        if not (folder / name).is_file():
            raise ManifestError(f"{folder / name}: no such file; `dvc repro prepare` writes it")
    hashes = read_sealed_json(folder / _HASHES, remedy=_REMEDY)
    return Manifest(tuple(video for name in SPLITS for video in _read_split(folder / f"{name}.parquet", name, hashes)))


def _read_split(path: Path, split: str, hashes: Mapping[str, str]) -> Iterator[VideoEntry]:
    import pyarrow.parquet  # and not datasets, which takes ten times as long to import

    with damage_told(path, remedy=_REMEDY):
        if sha256_of(path) != hashes[path.name]:
            raise ValueError(f"its hash is not the one in {_HASHES}")
        for row in pyarrow.parquet.read_table(path).to_pylist():
            intervals = tuple(Interval(**interval) for interval in row.pop("intervals"))
            yield VideoEntry(**row, split=split, intervals=intervals)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """`datasets` draws a bar for every file, however small, and has only a global switch."""
    import datasets

    was_disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not was_disabled:
            datasets.enable_progress_bars()


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


def shortened(names: Sequence[str]) -> str:
    """The first five names, for a message."""
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")

"""Labelled videos of anybody's, in the convention of `datasets` for folders of videos.

`metadata.csv` or `metadata.jsonl` lies beside the videos, or in a folder of each split: a row an action, with
`file_name` (relative to the file), `start_s`, `end_s` and `label`, and, if they are known, `subject` and `split`. A row
without label and times is of a video in which nothing happens.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from features.decode.container import UnreadableVideo
from features.decode.length import video_length_s
from pipeline.dataset.csv_rows import csv_rows, require_faultless
from pipeline.dataset.labels import Label, LabelSet
from pipeline.dataset.manifest import MAX_LENGTH_S, Interval, Manifest, ManifestError, VideoEntry, shortened
from pipeline.dataset.split import cut_off

log = logging.getLogger(__name__)

_NAMES = ("metadata.csv", "metadata.jsonl")
_COLUMNS = ("file_name", "start_s", "end_s", "label")
_OPTIONAL = ("subject", "split")
_SPLIT_OF = (
    dict.fromkeys(("train", "training"), "train")
    | dict.fromkeys(("val", "valid", "validation", "dev"), "val")
    | dict.fromkeys(("test", "testing", "eval", "evaluation"), "test")
)
_PLAIN_ID = re.compile(r"\w[\w.-]*")

Row = Mapping[str, str]


@dataclass
class _Video:
    """What the rows of one video say so far."""

    subject: str
    split: str
    intervals: list[Interval] = field(default_factory=list)


@dataclass
class _Rows:
    """What all rows say: videos by path; each label's id, and on which line it first stands; faults."""

    videos: dict[str, _Video] = field(default_factory=dict)
    label_of: dict[str, str] = field(default_factory=dict)
    line_of: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def metadata_files(dataset: Path) -> list[Path]:
    """The files of metadata: of the folder itself, else of the folders of splits in it."""
    files = [file for name in _NAMES if (file := dataset / name).is_file()]
    folders = sorted(folder for folder in dataset.glob("*/") if folder.name.lower() in _SPLIT_OF)
    return files or [file for folder in folders for name in _NAMES if (file := folder / name).is_file()]


def read(dataset: Path, *, val_share: float, seed: int) -> tuple[Manifest, LabelSet, tuple[str, ...]]:
    """Read the manifest, the classes, and notes on what the metadata leave open.

    A video's id is its path below `dataset`. Without a subject a video is a subject of its own. A split that no row
    names is cut off train by subject (`cut_off`), test before val. A label's id is its text, or, of a text with
    spaces, the text in small letters and hyphens. A file that is missing or cannot be read lasts until its last
    action, so that `extract` lists it as failed. Raises `ManifestError` with a line for each fault.
    """
    files = metadata_files(dataset)
    if len({file.parent for file in files}) < len(files):
        raise ManifestError(f"{' and '.join(map(str, files))}: one folder has one file of metadata; keep one")
    rows = _Rows()
    for file in files:
        _read_file(dataset, file, rows)
    require_faultless(rows.faults)
    if not rows.videos or not rows.label_of:
        raise ManifestError(f"{', '.join(map(str, files))}: has no {'label' if rows.videos else 'rows'}")
    videos, notes = _split(_entries(dataset, rows), val_share, seed)
    labels = sorted((label_id, text) for text, label_id in rows.label_of.items())
    classes = LabelSet(
        "classes",
        tuple(Label(label_id, text) for label_id, text in labels),
        files[0],
        tuple(rows.line_of[text] for _, text in labels),
    )
    return Manifest(videos), classes, tuple(notes)


def _read_file(dataset: Path, file: Path, rows: _Rows) -> None:
    folder = file.parent.relative_to(dataset)
    folder_split = _SPLIT_OF[folder.name.lower()] if folder.parts else ""
    for line, values in csv_rows(file, _COLUMNS) if file.suffix == ".csv" else _json_rows(file):
        try:
            row = _texts(values)
            path, split = _path(row, folder), _row_split(row, folder_split)
            video = rows.videos.setdefault(path, _Video(row["subject"] or path, split))
            if (video.subject, video.split) != (row["subject"] or path, split):
                raise ValueError(f"{path}: another subject or split than on an earlier line")
            if interval := _interval(row, rows, line):
                video.intervals.append(interval)
        except ValueError as error:
            rows.faults.append(f"{file}:{line}: {error}")


def _json_rows(path: Path) -> Iterator[tuple[int, dict[Any, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # text may hold Unicode's other line ends
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not a text file in UTF-8: {error.reason} at byte {error.start}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict) or "file_name" not in row:
            raise ManifestError(f"{path}:{number}: wanted an object with {', '.join(_COLUMNS)}, got {line[:80]}")
        yield number, row


def _texts(values: Mapping[Any, Any]) -> Row:
    """The values of a row as text, empty where there is none. Raises `ValueError`."""
    if None in values:
        raise ValueError(f"more fields than the header names, from {values[None][0]!r} on: quote a text with a comma")
    texts = {name: values.get(name) for name in (*_COLUMNS, *_OPTIONAL)}
    return {name: "" if value is None else str(value).strip() for name, value in texts.items()}


def _path(row: Row, folder: Path) -> str:
    name = row["file_name"]
    path = PurePosixPath(folder.as_posix(), name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError(f"file_name is a path below the folder of the metadata, with /, got {name!r}")
    return path.as_posix()


def _row_split(row: Row, folder_split: str) -> str:
    split = _SPLIT_OF.get(row["split"].lower(), "") if row["split"] else folder_split
    if (row["split"] and not split) or (folder_split and split != folder_split):
        raise ValueError(f"split is train, val or test, and that of its folder, got {row['split']!r}")
    return split


def _interval(row: Row, rows: _Rows, line: int) -> Interval | None:
    text = " ".join(row["label"].split())
    if not text and not row["start_s"] and not row["end_s"]:
        return None
    try:
        start_s, end_s = float(row["start_s"]), float(row["end_s"])
    except ValueError:
        start_s = end_s = math.nan
    if not text or not 0 <= start_s < end_s <= MAX_LENGTH_S:
        raise ValueError(
            f"wanted a label and 0 <= start_s < end_s <= {MAX_LENGTH_S}, got label {text!r}, start_s "
            f"{row['start_s']!r}, end_s {row['end_s']!r}"
        )
    return Interval(_label_id(text, rows, line), start_s, end_s)


def _label_id(text: str, rows: _Rows, line: int) -> str:
    """The id of a label's text. Raises `ValueError` where another text has it."""
    if text not in rows.label_of:
        label_id = text if _PLAIN_ID.fullmatch(text) else re.sub(r"[^\w]+", "-", text.lower()).strip("-")
        same = next((other for other, taken in rows.label_of.items() if taken.lower() == label_id.lower()), None)
        if same is not None or not label_id:
            raise ValueError(f"label {text!r} differs too little from {same!r}: write them alike, or rename one")
        rows.label_of[text], rows.line_of[text] = label_id, line
    return rows.label_of[text]


def _entries(dataset: Path, rows: _Rows) -> list[VideoEntry]:
    """The videos with their lengths; those that cannot be read and have no action are left out.

    One that lasts longer than a day raises `ManifestError`.
    """
    entries, unreadable = [], []
    for path, video in rows.videos.items():
        length_s = max((interval.end_s for interval in video.intervals), default=0.0)
        try:
            length_s = video_length_s(dataset / path)
        except UnreadableVideo as error:
            unreadable.append(str(error))
        if length_s > MAX_LENGTH_S:
            raise ManifestError(f"{dataset / path}: lasts {length_s:g} s, and at most {MAX_LENGTH_S} are taken: cut it")
        if length_s:
            entries.append(VideoEntry(path, path, video.subject, "", video.split, length_s, tuple(video.intervals)))
    if len(unreadable) == len(rows.videos):
        raise ManifestError(f"{dataset}: none of the {len(unreadable)} videos can be read: {shortened(unreadable)}")
    if unreadable:
        log.warning("%d of %d videos cannot be read: %s", len(unreadable), len(rows.videos), shortened(unreadable))
    return entries


def _split(videos: Sequence[VideoEntry], val_share: float, seed: int) -> tuple[tuple[VideoEntry, ...], list[str]]:
    """Every video in train, val or test, and what was done for that."""
    counts = Counter(video.split for video in videos)
    if counts[""] and len(counts) > 1:
        without = [video.video_id for video in videos if not video.split]
        raise ManifestError(
            f"{len(without)} of {len(videos)} videos have no split: {shortened(without)}; name it for all or none"
        )
    notes = []
    late = [video.path for video in videos if video.num_past_the_end]
    if late:
        num_late = sum(video.num_past_the_end for video in videos)
        num_actions = sum(len(video.intervals) for video in videos)
        notes.append(
            f"{num_late} of {num_actions} actions begin after the end of their video, and are seen nowhere: "
            f"{shortened(late)}. Times are seconds from the video's start."
        )
    num_own = sum(video.subject == video.path for video in videos)
    if num_own:
        notes.append(
            f"{num_own} of {len(videos)} videos name no subject: each counts as a person of its own. Where one person "
            "is in several of them, scores on val and test are too high, since the person may be in train as well."
        )
    if counts[""]:
        videos = [replace(video, split="train") for video in videos]
    given = set(counts) - {""} or {"train"}
    if "train" not in given:
        raise ManifestError(f"no video is in train: the metadata name {', '.join(sorted(given))} alone")
    rest = tuple(videos)
    for name in ("test", "val"):
        if name not in given:
            train = [video for video in rest if video.split == "train"]
            others = [video for video in rest if video.split != "train"]
            rest = (*cut_off(train, val_share, seed, into=name), *others)
            notes.append(f"The metadata name no {name}: it is cut off by subject, about {val_share:.0%} of the videos.")
    return rest, notes

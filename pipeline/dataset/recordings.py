"""Recordings: their files by id, and what truly happens in those that somebody has annotated.

Those to tune on lie in `val/` below the recordings' folder, those to report on in `test/`. Beside each annotated
`<name>.mp4` lies `<name>.truth.csv` with the columns start_s, end_s, label.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Mapping
from pathlib import Path

from features.video import Segment
from pipeline.dataset.manifest import Action
from pipeline.diaries.selection import NothingSelected, select_videos

_TRUTH = ".truth.csv"


class TruthError(Exception):
    """A file of true events cannot be used."""


def recording_paths(folder: Path) -> dict[str, Path]:
    """The videos below `folder` by id, which is their path relative to it; none where there is none."""
    try:
        videos = select_videos([folder]).videos if folder.is_dir() else ()
    except NothingSelected:
        return {}
    return {path.relative_to(folder).as_posix(): path for path in videos}


def true_actions(folder: Path, split: str, among: Collection[str]) -> dict[str, tuple[Action, ...]]:
    """What happens in the annotated recordings of a split, by id, of those `among`; sorted. Raises `TruthError`."""
    paths = {recording_id: folder / recording_id for recording_id in sorted(among)}
    return {
        recording_id: read_truth(truth)
        for recording_id, path in paths.items()
        if recording_id.startswith(f"{split}/") and (truth := path.with_name(path.stem + _TRUTH)).is_file()
    }


def read_truth(path: Path) -> tuple[Action, ...]:
    """The rows of a truth file in order of time. Raises `TruthError` with path and line."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        try:
            actions = [_action(row) for row in rows]
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise TruthError(
                f"{path}:{rows.line_num}: wanted start_s,end_s,label with 0 <= start_s < end_s: {error}"
            ) from error
    return tuple(sorted(actions, key=lambda action: action.segment))


def _action(row: Mapping[str, str]) -> Action:
    segment = Segment(float(row["start_s"]), float(row["end_s"]))
    if segment.start_s < 0 or segment.end_s == math.inf or not row["label"]:
        raise ValueError(f"got {row}")
    return Action(row["label"], segment)

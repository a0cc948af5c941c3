"""Recordings that people judged in part, as a file: what stage `finetune` learns from where it is asked to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.files import private_files
from features.sealed import damage_told, read_sealed_json, write_sealed_json
from features.video import Segment
from heads.targets import known_targets, window_targets

_REMEDY = "run `dvc repro train`"

Stretches = Sequence[tuple[str, Segment]]


@dataclass(frozen=True)
class JudgedVideo:
    """The stretches, each with its label, in which something is `on`, and all that were `judged`, on or off."""

    on: Stretches
    judged: Stretches

    def targets(
        self, segments: Sequence[Segment], labels: Sequence[str], *, min_overlap_s: float
    ) -> npt.NDArray[np.float16]:
        """What overlaps each segment, (n, L): 1, 0, or nan where it is not known."""
        is_on = window_targets(segments, self.on, labels, min_overlap_s=min_overlap_s)
        return known_targets(segments, is_on, self.judged, labels)


@dataclass(frozen=True)
class JudgedRecording:
    """A recording whose bytes have the hash `sha256`, and the `windows` in which something is known."""

    sha256: str
    windows: tuple[int, ...]
    video: JudgedVideo


def write_judged(path: Path, recordings: Mapping[str, JudgedRecording], *, repeats: int) -> None:
    """Write recordings by id, and how often an epoch has them; readable for its owner alone."""
    rows = {
        recording_id: {
            "sha256": recording.sha256,
            "windows": recording.windows,
            "on": _written(recording.video.on),
            "judged": _written(recording.video.judged),
        }
        for recording_id, recording in recordings.items()
    }
    content = {"repeats": repeats, "recordings": rows} if rows else {"recordings": {}}
    with private_files():
        write_sealed_json(path, content, sort_keys=True)


def read_judged(path: Path) -> tuple[dict[str, JudgedRecording], int]:
    """What `write_judged` got. Raises `DamagedFile`, or `FileNotFoundError`."""
    with damage_told(path, remedy=_REMEDY):
        content = read_sealed_json(path, remedy=_REMEDY)
        recordings = {
            recording_id: JudgedRecording(
                row["sha256"], tuple(row["windows"]), JudgedVideo(_read(row["on"]), _read(row["judged"]))
            )
            for recording_id, row in content["recordings"].items()
        }
        return recordings, content.get("repeats", 1)


def _written(stretches: Stretches) -> list[tuple[str, float, float]]:
    return [(label, segment.start_s, segment.end_s) for label, segment in stretches]


def _read(rows: Sequence[tuple[str, float, float]]) -> Stretches:
    return [(label, Segment(start_s, end_s)) for label, start_s, end_s in rows]

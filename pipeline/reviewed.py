"""Recordings that people reviewed, as training data: what their corrections say of windows, and what nobody said."""

from __future__ import annotations

import csv
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.store.embeddings import Embeddings
from features.video import Segment
from heads.predictions import rows_by_video
from heads.targets import cell_targets, known_targets, window_cells, window_targets
from heads.training.sequences import Sequences, sequences_of
from reports.corrections import Correction, known_times
from reports.exclusions import Exclusion
from reports.spans import Span

log = logging.getLogger(__name__)

_KEPT_APART = ("val/", "test/")
"""Recordings below these choose a model or measure it, and teach none."""


@dataclass(frozen=True, eq=False)
class ReviewedWindows:
    """The windows of recordings that somebody judged in part, and their targets (n, L): 1, 0, or nan where unknown.

    `windows` are what overlaps a window, `cells` what is on in its cell.
    """

    embeddings: Embeddings
    windows: npt.NDArray[np.float16]
    cells: npt.NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def num_recordings(self) -> int:
        return len(np.unique(self.embeddings.video_ids))

    def sequences(self, features: Sequence[str], *, stride_s: float, repeats: int) -> list[Sequences]:
        """The recordings for a training of temporal heads, `repeats` times; none where nobody judged anything."""
        if not len(self):
            return []
        return [sequences_of(self.embeddings, self.cells, features=features, stride_s=stride_s)] * repeats

    def facts(self, *, repeats: int) -> dict[str, Any]:
        """What a model's config says of them; nothing where nobody judged anything."""
        if not len(self):
            return {}
        known = int((~np.isnan(self.cells)).sum())
        facts = {"num_recordings": self.num_recordings, "num_windows": len(self), "num_known": known}
        return {"reviewed": facts | {"repeats": repeats}}


def read_hashes(path: Path) -> dict[str, str]:
    """The hash of each embedded recording, by id, as stage `extract_recordings` lists them."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["recording"]: row["sha256"] for row in csv.DictReader(file)}


def usable_corrections(
    corrections: Iterable[Correction], sha256s: Mapping[str, str]
) -> dict[str, tuple[Correction, ...]]:
    """The corrections of each recording, by id, that a training may see; `sha256s` has the recordings' hashes by id.

    A recording below val/ or test/ teaches nothing, nor does a copy of one. Of equal files the first id stands for all.
    """
    ids: defaultdict[str, list[str]] = defaultdict(list)
    for recording_id, sha256 in sorted(sha256s.items()):
        ids[sha256].append(recording_id)
    by_video: defaultdict[str, list[Correction]] = defaultdict(list)
    for correction in corrections:
        by_video[correction.video_sha256].append(correction)
    usable: dict[str, tuple[Correction, ...]] = {}
    for sha256, own in by_video.items():
        apart = [recording_id for recording_id in ids[sha256] if recording_id.startswith(_KEPT_APART)]
        if apart:
            log.info("%d corrections teach nothing: %s chooses or measures models", len(own), apart[0])
        elif not ids[sha256]:
            log.info("%d corrections teach nothing: no recording here has the hash %s…", len(own), sha256[:16])
        else:
            usable[ids[sha256][0]] = tuple(own)
    return usable


def reviewed_windows(
    corrections: Mapping[str, Sequence[Correction]],
    embeddings: Embeddings,
    labels: Sequence[str],
    *,
    exclusions: Iterable[Exclusion],
    min_overlap_s: float,
    stride_s: float,
) -> ReviewedWindows:
    """The windows of these recordings, by id, that are embedded, with all that their corrections say of them."""
    pairs = [(pair.first, pair.second) for pair in exclusions]
    rows = embeddings.select(sorted(set(corrections) & set(embeddings.video_ids.tolist())))
    log.info("learning from what people said of %d recordings", len(np.unique(rows.video_ids)))
    windows, cells = (np.empty((len(rows), len(labels)), dtype=np.float16) for _ in range(2))
    for video_id, own in rows_by_video(rows.video_ids).items():
        segments = [Segment(*times) for times in zip(rows.start_s[own], rows.end_s[own], strict=True)]
        known = known_times(corrections[video_id], labels, exclusions=pairs)
        on, judged = _stretches(known.on), [*_stretches(known.on), *_stretches(known.off)]
        is_on = window_targets(segments, on, labels, min_overlap_s=min_overlap_s)
        windows[own] = known_targets(segments, is_on, judged, labels)
        cells[own] = known_targets(
            window_cells(segments, stride_s=stride_s),
            cell_targets(segments, on, labels, stride_s=stride_s),
            judged,
            labels,
        )
    return ReviewedWindows(rows, windows, cells)


def _stretches(times: Mapping[str, Sequence[Span]]) -> list[tuple[str, Segment]]:
    return [(label, Segment(start / 1000, end / 1000)) for label, spans in times.items() for start, end in spans]

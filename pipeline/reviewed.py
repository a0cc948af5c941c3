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

from features.provenance import require_provenance
from features.store.embeddings import Embeddings, read_embeddings
from features.video import Segment
from heads.predictions import rows_by_video
from heads.targets import cell_targets, known_targets, window_cells
from heads.training.sequences import Sequences, sequences_of
from pipeline.dataset.judged import JudgedRecording, JudgedVideo
from pipeline.dataset.manifest import Manifest
from reports.corrections import Correction, Known, known_times, read_corrections
from reports.exclusions import Exclusion, find_exclusions
from reports.spans import Span, without

log = logging.getLogger(__name__)

_KEPT_APART = ("val/", "test/")
"""Recordings below these choose a model or measure it, and teach none."""

_BESIDE_MS = 1000
"""A review plays a clip with this much before and after the event."""


@dataclass(frozen=True, eq=False)
class ReviewedWindows:
    """The windows of recordings that somebody judged in part, and their targets (n, L): 1, 0, or nan where unknown.

    `windows` are what overlaps a window, `cells` what is on in its cell. `videos`, by recording id, have the stretches.
    """

    embeddings: Embeddings
    windows: npt.NDArray[np.float16]
    cells: npt.NDArray[np.float16]
    videos: Mapping[str, JudgedVideo]

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def num_recordings(self) -> int:
        return len(np.unique(self.embeddings.video_ids))

    def repeated(self, features: Sequence[str], *, repeats: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Features and targets for heads on windows, `repeats` times; none where nobody judged anything."""
        return [(self.embeddings.side_by_side(features), self.windows)] * repeats if len(self) else []

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

    def recordings(self, sha256s: Mapping[str, str]) -> dict[str, JudgedRecording]:
        """Each recording with the windows that somebody judged; `sha256s` has the hashes by id."""
        is_known = np.isfinite(self.windows).sum(axis=1) > 0
        return {
            video_id: JudgedRecording(
                sha256s[video_id], tuple(self.embeddings.window[rows][is_known[rows]].tolist()), self.videos[video_id]
            )
            for video_id, rows in rows_by_video(self.embeddings.video_ids).items()
        }


def read_hashes(path: Path) -> dict[str, str]:
    """The hash of each embedded recording, by id, as stage `extract_recordings` lists them."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["recording"]: row["sha256"] for row in csv.DictReader(file)}


def teaching_corrections(
    corrections: Iterable[Correction], sha256s: Mapping[str, str]
) -> dict[str, tuple[Correction, ...]]:
    """The corrections of each video, by its hash, that a training may see; `sha256s` has the recordings' hashes by id.

    A recording below val/ or test/ teaches nothing, and no other file with the same bytes does.
    """
    apart = {sha256: recording_id for recording_id, sha256 in sha256s.items() if recording_id.startswith(_KEPT_APART)}
    by_video: defaultdict[str, list[Correction]] = defaultdict(list)
    for correction in corrections:
        by_video[correction.video_sha256].append(correction)
    for sha256 in apart.keys() & by_video.keys():
        log.info(
            "%d corrections of %s teach nothing: it chooses or measures models", len(by_video[sha256]), apart[sha256]
        )
    return {sha256: tuple(own) for sha256, own in by_video.items() if sha256 not in apart}


def read_reviewed(
    corrections_file: Path,
    hashes: Path,
    store: Path,
    videos: Manifest,
    nothing: Embeddings,
    labels: Sequence[str],
    *,
    expected: Mapping[str, Any],
    min_overlap_s: float,
    stride_s: float,
) -> ReviewedWindows:
    """What people said of recordings that are neither val nor test; where nobody did, none of the rows of `nothing`.

    The `store` of the recordings' embeddings has the `expected` provenance, or raises `ProvenanceMismatch`; train's
    `videos` say what excludes what.
    """
    corrections: Mapping[str, Sequence[Correction]] = {}
    embeddings = nothing
    if said := read_corrections(corrections_file):
        corrections = corrections_here(said, read_hashes(hashes))
        embeddings, provenance = read_embeddings(store)
        require_provenance(provenance, expected=expected, path=store)
    return reviewed_windows(
        corrections,
        embeddings,
        labels,
        exclusions=find_exclusions([(video.length_s, video.actions) for video in videos.split("train")], labels),
        min_overlap_s=min_overlap_s,
        stride_s=stride_s,
    )


def corrections_here(
    corrections: Iterable[Correction], sha256s: Mapping[str, str]
) -> dict[str, tuple[Correction, ...]]:
    """Those of `teaching_corrections` by recording id; of equal files the first id stands for all."""
    ids = {sha256: recording_id for recording_id, sha256 in sorted(sha256s.items(), reverse=True)}
    here = {}
    for sha256, own in teaching_corrections(corrections, sha256s).items():
        if sha256 in ids:
            here[ids[sha256]] = own
        else:
            log.warning("%d corrections teach nothing: no recording here has the hash %s…", len(own), sha256[:16])
    return here


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
    if corrections:
        log.info("learning from what people said of %d recordings", len(np.unique(rows.video_ids)))
    windows, cells = (np.empty((len(rows), len(labels)), dtype=np.float16) for _ in range(2))
    videos = {}
    for video_id, own in rows_by_video(rows.video_ids).items():
        segments = [Segment(*times) for times in zip(rows.start_s[own], rows.end_s[own], strict=True)]
        known = known_times(corrections[video_id], labels, exclusions=pairs)
        on, beside = _stretches(known.on), _stretches(_beside(corrections[video_id], known))
        judged = [*on, *_stretches(known.off), *beside]
        videos[video_id] = JudgedVideo(on, judged)
        windows[own] = videos[video_id].targets(segments, labels, min_overlap_s=min_overlap_s)
        cells[own] = known_targets(
            window_cells(segments, stride_s=stride_s),
            cell_targets(segments, on, labels, stride_s=stride_s),
            judged,
            labels,
        )
    return ReviewedWindows(rows, windows, cells, videos)


def _beside(corrections: Sequence[Correction], known: Known) -> dict[str, list[Span]]:
    """By label, the moments beside what a person gave its ends: there it is off, unless something else says on."""
    beside: defaultdict[str, list[Span]] = defaultdict(list)
    for correction in corrections:
        if correction.verdict in ("change", "add"):
            is_change = correction.verdict == "change"
            label = correction.new_label if is_change else correction.label
            start, end = correction.new_span if is_change else correction.span
            if (start, end) in known.on.get(label, ()):
                beside[label] += [(max(0, start - _BESIDE_MS), start), (end, end + _BESIDE_MS)]
    return {label: without(spans, known.on[label]) for label, spans in beside.items()}


def _stretches(times: Mapping[str, Sequence[Span]]) -> list[tuple[str, Segment]]:
    return [(label, Segment(start / 1000, end / 1000)) for label, spans in times.items() for start, end in spans]

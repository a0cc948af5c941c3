"""Val, or test where a data set has none, cut off the train videos by subject."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.dataset.manifest import ManifestError, VideoEntry


def cut_off(videos: Sequence[VideoEntry], share: float, seed: int, *, into: str = "val") -> tuple[VideoEntry, ...]:
    """Put whole subjects into another split until it has about `share` of the videos, and of each class's videos.

    Starting from an empty split, subjects are visited in an order drawn from `seed`, again and again; one moves into
    it or out of it if that brings the counts nearer to their targets, until a whole round moves nobody. Same videos
    and seed, same split. At least one subject is on either side; fewer than two raise `ManifestError`.
    """
    subjects = sorted({video.subject for video in videos})
    if len(subjects) < 2:
        raise ManifestError(f"{into} is cut off by subject, which takes at least two; train has {len(subjects)}")
    random.Random(seed).shuffle(subjects)
    counts = _counts(videos, subjects)
    total = counts.sum(axis=0)

    def distance(cut: np.ndarray) -> float:
        # How far each count is from its target, relative to how much there is: the videos weigh as much as all classes.
        errors = (cut - share * total) ** 2 / total
        return float(errors[0] + errors[1:].mean())

    is_cut = np.zeros(len(subjects), dtype=bool)
    cut = np.zeros_like(total)  # counts of the subjects that are cut off
    moved = True
    while moved:
        moved = False
        for index in range(len(subjects)):
            num_cut = int(is_cut.sum()) + (-1 if is_cut[index] else 1)
            if num_cut == len(subjects) or (is_cut.any() and not num_cut):
                continue
            trial = cut - counts[index] if is_cut[index] else cut + counts[index]
            if distance(trial) < distance(cut) - 1e-9:
                is_cut[index], cut, moved = not is_cut[index], trial, True
    if not is_cut.any():
        is_cut[min(range(len(subjects)), key=lambda index: distance(counts[index]))] = True
    chosen = {subject for subject, own in zip(subjects, is_cut, strict=True) if own}
    return tuple(replace(video, split=into if video.subject in chosen else "train") for video in videos)


def _counts(videos: Sequence[VideoEntry], subjects: Sequence[str]) -> np.ndarray:
    """(subjects, 1 + classes that occur): a subject's videos, and those with each class; no class at all is one too."""
    kinds = sorted({label for video in videos for label in video.classes or ("",)})
    row_of = {subject: index for index, subject in enumerate(subjects)}
    column_of = {kind: index for index, kind in enumerate(kinds, start=1)}
    counts = np.zeros((len(subjects), 1 + len(kinds)))
    for video in videos:
        counts[row_of[video.subject], [0, *(column_of[label] for label in video.classes or ("",))]] += 1
    return counts

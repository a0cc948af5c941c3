"""Val, cut off the train videos by subject."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.dataset.manifest import ManifestError, VideoEntry


def cut_val(videos: Sequence[VideoEntry], val_share: float, seed: int) -> tuple[VideoEntry, ...]:
    """Put whole subjects into val until it has about `val_share` of the videos, and of each class's videos.

    Starting from an empty val, subjects are visited in an order drawn from `seed`, again and again; one moves into
    val or out of it if that brings the counts nearer to their targets, until a whole round moves nobody. Same videos
    and seed, same split. At least one subject is on either side; fewer than two raise `ManifestError`.
    """
    subjects = sorted({video.subject for video in videos})
    if len(subjects) < 2:
        raise ManifestError(f"val is cut off by subject, which takes at least two; train has {len(subjects)}")
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


def _counts(videos: Sequence[VideoEntry], subjects: Sequence[str]) -> np.ndarray:
    """(subjects, 1 + classes that occur): a subject's videos, and those with each class; no class at all is one too."""
    kinds = sorted({label for video in videos for label in video.classes or ("",)})
    row_of = {subject: index for index, subject in enumerate(subjects)}
    column_of = {kind: index for index, kind in enumerate(kinds, start=1)}
    counts = np.zeros((len(subjects), 1 + len(kinds)))
    for video in videos:
        counts[row_of[video.subject], [0, *(column_of[label] for label in video.classes or ("",))]] += 1
    return counts

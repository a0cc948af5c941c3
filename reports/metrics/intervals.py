"""How sure a score is: 95% intervals, bootstrapped by subject.

Videos of one person are not independent, so people are drawn with replacement and each comes with all its rows
(the cluster bootstrap: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). An interval is
that of the percentiles. Scores of two models on the same draws are paired: so are their differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.metrics.events import Agreement
from reports.thresholds import Bools, Floats

NUM_DRAWS = 1000
_ELEMENTS = 4_000_000  # of the arrays that one step of `mean_average_precisions` makes: 32 MB each


@dataclass(frozen=True)
class Interval:
    """A score, and the bounds that 95 of 100 draws of other people lie within; nan where nothing can be said."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Six digits; None is nan."""
        return {key: round(value, 6) if math.isfinite(value) else None for key, value in vars(self).items()}


@dataclass(frozen=True, eq=False)
class Draws:
    """How often each draw has each of the `subjects`: `times` (n_draws, n_subjects). The first is all of them once."""

    subjects: tuple[str, ...]
    times: npt.NDArray[np.int64]


def draw_subjects(subjects: Sequence[str], *, seed: int, num_draws: int = NUM_DRAWS) -> Draws:
    """As many people as there are `subjects`, with replacement, `num_draws` times.

    A subject given twice is one.
    """
    own = tuple(sorted(set(subjects)))
    times = np.zeros((num_draws, len(own)), dtype=np.int64)
    if own:
        times += np.random.default_rng(seed).multinomial(len(own), np.full(len(own), 1 / len(own)), size=num_draws)
    return Draws(own, np.concatenate([np.ones((1, len(own)), dtype=np.int64), times]))


def f1_scores(counts: Mapping[str, Agreement], draws: Draws) -> Floats:
    """F1 of each draw, (n_draws + 1,), of what each subject's rows count; a subject without counts counts nothing.

    Counts of nobody among the draws' subjects raise.
    """
    if strangers := sorted(set(counts) - set(draws.subjects)):
        raise ValueError(f"counts of {', '.join(strangers)}, who is in no draw")
    own = [counts.get(subject, Agreement()) for subject in draws.subjects]
    table = np.array([(each.both, each.stated, each.true) for each in own], dtype=np.float64).reshape(-1, 3)
    both, stated, true = (draws.times @ table).T
    return _ratios(2 * both, stated + true)


def counts_by_subject(decisions: Bools, targets: Bools, subjects: Sequence[str]) -> dict[str, Agreement]:
    """What each subject's rows of decisions and targets (n, L) count, over all labels; `subjects` are (n,)."""
    names, numbers = np.unique(np.asarray(subjects, dtype=np.str_), return_inverse=True)
    rows = np.stack([(decisions & targets).sum(axis=1), decisions.sum(axis=1), targets.sum(axis=1)], axis=1)
    sums = np.zeros((len(names), 3), dtype=np.int64)
    np.add.at(sums, numbers, rows)
    return {name: Agreement(*own) for name, own in zip(names.tolist(), sums.tolist(), strict=True)}


def mean_average_precisions(probabilities: Floats, targets: Bools, subjects: Sequence[str], draws: Draws) -> Floats:
    """Mean over the labels of each draw's average precision, (n_draws + 1,).

    Rows of `probabilities` and `targets` (n, L) belong to `subjects` (n,). Equal probabilities share a rank, as in
    scikit-learn; a label without positives in a draw is in no mean of that draw.
    """
    return _mean_average_precisions(probabilities, targets, subjects, draws, ties_share_a_rank=True)


def official_mean_average_precisions(scores: Floats, targets: Bools, subjects: Sequence[str], draws: Draws) -> Floats:
    """The same of the official average precision: equal scores rank in the order of the rows.

    Only the copies of one row, of a person who was drawn more than once, share a rank.
    """
    return _mean_average_precisions(scores, targets, subjects, draws, ties_share_a_rank=False)


def _mean_average_precisions(
    scores: Floats, targets: Bools, subjects: Sequence[str], draws: Draws, *, ties_share_a_rank: bool
) -> Floats:
    """Only ranks that hold a positive add to a precision: what each subject has up to them is counted once for all
    draws, and a draw weighs the subjects.
    """
    names, own_numbers = np.unique(np.asarray(subjects, dtype=np.str_), return_inverse=True)
    number_of = {subject: k for k, subject in enumerate(draws.subjects)}
    numbers = np.array([number_of[name] for name in names.tolist()], dtype=np.int64)[own_numbers]
    num_subjects, times = len(draws.subjects), draws.times.astype(np.float64)
    sums, num_labels = np.zeros(len(times)), np.zeros(len(times))
    for k in np.flatnonzero(targets.any(axis=0)):
        order = np.argsort(-scores[:, k], kind="stable")
        descending, positive, sorted_numbers = scores[order, k], targets[order, k], numbers[order]
        ends = np.arange(len(order))  # of each run of rows that share a rank
        if ties_share_a_rank:
            ends = np.flatnonzero(np.append(descending[1:] != descending[:-1], True))
        hit_ends = ends[np.unique(np.searchsorted(ends, np.flatnonzero(positive)))]
        cell = np.searchsorted(hit_ends, np.arange(len(order))) * num_subjects + sorted_numbers
        size = (len(hit_ends) + 1) * num_subjects  # the rows behind the last positive are one run more
        stated, hits = (
            np.bincount(cells, minlength=size).reshape(-1, num_subjects)[:-1].cumsum(axis=0).T.astype(np.float64)
            for cells in (cell, cell[positive])
        )
        gained = np.diff(hits, axis=1, prepend=0)
        step = max(1, _ELEMENTS // len(hit_ends))
        for first in range(0, len(times), step):
            own = times[first : first + step]
            precisions = own @ hits
            num_positives = precisions[:, -1].copy()
            num_stated = own @ stated
            np.divide(precisions, num_stated, out=precisions, where=num_stated > 0)  # elsewhere there are no hits
            precisions *= own @ gained
            has_positives = num_positives > 0
            precision_sums = precisions.sum(axis=1)[has_positives]
            sums[first : first + step][has_positives] += precision_sums / num_positives[has_positives]
            num_labels[first : first + step] += has_positives
    return _ratios(sums, num_labels)


def interval(scores: Floats) -> Interval:
    """The interval of scores (n_draws + 1,), the first of everybody once; draws without a score are left out."""
    finite = scores[1:][np.isfinite(scores[1:])]
    low, high = np.percentile(finite, [2.5, 97.5]) if len(finite) else (math.nan, math.nan)
    return Interval(float(scores[0]), float(low), float(high))


def _ratios(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)

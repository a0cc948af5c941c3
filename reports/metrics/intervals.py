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


def mean_average_precisions(probabilities: Floats, targets: Bools, subjects: Sequence[str], draws: Draws) -> Floats:
    """Mean over the labels of each draw's average precision, (n_draws + 1,).

    Rows of `probabilities` and `targets` (n, L) belong to `subjects` (n,). Equal probabilities share a rank, as in
    scikit-learn; a label without positives in a draw is in no mean of that draw.
    """
    number_of = {subject: k for k, subject in enumerate(draws.subjects)}
    numbers = np.array([number_of[subject] for subject in subjects], dtype=np.int64)
    sums, num_labels = np.zeros(len(draws.times)), np.zeros(len(draws.times))
    step = max(1, _ELEMENTS // max(1, len(numbers)))
    for k in range(targets.shape[1]):
        order = np.argsort(-probabilities[:, k], kind="stable")
        positive, sorted_numbers = targets[order, k], numbers[order]
        descending = probabilities[order, k]
        ends = np.flatnonzero(np.append(descending[1:] != descending[:-1], True))  # of each run of equal ones
        for first in range(0, len(draws.times), step):
            weights = draws.times[first : first + step, sorted_numbers]
            stated = np.cumsum(weights, axis=1)[:, ends]
            hits = np.cumsum(np.where(positive, weights, 0), axis=1)[:, ends]
            gained = np.diff(hits, axis=1, prepend=0)
            num_positives = hits[:, -1]
            precisions = np.divide(hits, stated, out=np.zeros(hits.shape), where=stated > 0)
            has_positives = num_positives > 0
            precision_sums = (precisions * gained).sum(axis=1)[has_positives]
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

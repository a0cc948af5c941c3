"""Shares, counts and agreement from judged samples, each with a 95% interval. Knows arrays, no verdict.

Every item has a weight: how many it stands for, 1 over the chance that it was drawn with. Intervals do not shrink
because a large part of all items was judged: they are of what a home like this one gives, not of these hours alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.metrics.intervals import Interval

_Z = 1.959963984540054
"""Of 100 draws from a normal distribution, 95 lie within this many standard deviations."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Share:
    """Of `num` judged items `num_right` are right; `interval` is of the share that this tells of all items."""

    interval: Interval
    num: int
    num_right: int


def wilson(share: float, num: float) -> Interval:
    """Wilson's score interval of a share of `num` items, which need not be a whole number; nan for none."""
    if not num > 0:
        return Interval(math.nan, math.nan, math.nan)
    middle = share + _Z**2 / (2 * num)
    half = _Z * math.sqrt(share * (1 - share) / num + _Z**2 / (4 * num**2))
    scale = 1 + _Z**2 / num
    return Interval(share, max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale))


def effective_num(weights: Floats) -> float:
    """How many items of equal weight say as much (Kish, Survey Sampling, 1965): their number, if all weigh the same."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def weighted_share(is_right: Bools, weights: Floats) -> Share:
    """The share of right ones among all items, by Hájek's estimator: the sum of weights of the right ones over all.

    Its interval is Wilson's of as many items as the weights are worth; with equal weights, Wilson's own.
    """
    total = float(weights.sum())
    share = float(weights[is_right].sum() / total) if total else math.nan
    return Share(wilson(min(share, 1.0), effective_num(weights)), len(is_right), int(is_right.sum()))


def weighted_count(counts: npt.NDArray[np.integer], weights: Floats) -> Interval:
    """The sum of `counts` over all items, by Horvitz's and Thompson's estimator, from those of the judged ones.

    Its interval takes counts as Poisson's (Fay and Feuer, "Confidence intervals for directly standardized rates",
    1997): it says how many there may be where none was seen. nan without items.
    """
    from scipy.special import gammaincinv

    if not len(counts):
        return Interval(math.nan, math.nan, math.nan)
    total, variance, largest = (
        float((weights * counts).sum()),
        float((weights**2 * counts).sum()),
        float(weights.max()),
    )
    low = variance / total * float(gammaincinv(total**2 / variance, 0.025)) if total else 0.0
    above, spread = total + largest, variance + largest**2
    return Interval(total, low, spread / above * float(gammaincinv(above**2 / spread, 0.975)))


def part_of_sum(part: Interval, rest: Interval) -> Interval:
    """part / (part + rest), of two independent estimates (Donner and Zou's MOVER for ratios, 2012)."""
    m, low_m, high_m = rest.value, rest.low, rest.high
    t, low_t, high_t = part.value, part.low, part.high
    if not (t + m > 0):
        return Interval(math.nan, math.nan, math.nan)
    if not (t > 0 and low_t > 0):
        return Interval(t / (t + m), 0.0, 1.0)
    product = m * t
    under = product**2 - low_m * high_t * (2 * m - low_m) * (2 * t - high_t)
    least = (product - math.sqrt(max(under, 0.0))) / (high_t * (2 * t - high_t)) if 2 * t > high_t else 0.0
    over = product**2 - high_m * low_t * (2 * m - high_m) * (2 * t - low_t)
    most = (product + math.sqrt(max(over, 0.0))) / (low_t * (2 * t - low_t))
    return Interval(t / (t + m), 1 / (1 + most), 1 / (1 + max(least, 0.0)))


def lowest_threshold(probabilities: Floats, is_right: Bools, weights: Floats, *, precision: float) -> float | None:
    """The lowest probability from which on items are surely that often right: the low end of Wilson's interval is.

    None where no threshold does. Many are tried, so that it is a little too good.
    """
    order = np.argsort(-probabilities, kind="stable")
    lowest = None
    for end in np.flatnonzero(np.append(np.diff(probabilities[order]) != 0, True)).tolist() if len(order) else []:
        own = order[: end + 1]
        if weighted_share(is_right[own], weights[own]).interval.low >= precision:
            lowest = float(probabilities[order[end]])
    return lowest


def cohens_kappa(first: Sequence[object], second: Sequence[object]) -> Interval:
    """How much two people agree beyond chance on the same items (Cohen, 1960); 1 is always, 0 is as by chance.

    The interval is that of large samples (Fleiss, Cohen and Everitt, 1969). nan where both say the same of all.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} answers are not of the same items")
    names = sorted({*map(str, first), *map(str, second)})
    row_of = {name: row for row, name in enumerate(names)}
    table = np.zeros((len(names), len(names)))
    for one, other in zip(first, second, strict=True):
        table[row_of[str(one)], row_of[str(other)]] += 1
    if len(names) < 2:
        return Interval(math.nan, math.nan, math.nan)
    table /= len(first)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    observed, by_chance = float(np.trace(table)), float(rows @ columns)
    kappa = (observed - by_chance) / (1 - by_chance)
    agreed = float((np.diag(table) * (1 - (rows + columns) * (1 - kappa)) ** 2).sum())
    apart = table * (columns[:, None] + rows[None, :]) ** 2
    differed = (1 - kappa) ** 2 * float(apart.sum() - np.trace(apart))
    variance = agreed + differed - (kappa - by_chance * (1 - kappa)) ** 2
    half = _Z * math.sqrt(max(variance, 0.0) / len(first)) / (1 - by_chance)
    return Interval(kappa, kappa - half, kappa + half)

"""Shares, counts and agreement: against statsmodels, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.inter_rater import cohens_kappa as reference_kappa
from statsmodels.stats.proportion import proportion_confint

from reports.review.sampling import Chance, Item, draw
from reports.review.statistics import (
    cohens_kappa,
    effective_num,
    lowest_threshold,
    part_of_sum,
    weighted_count,
    weighted_share,
)


@pytest.mark.parametrize(("num_right", "num"), [(0, 5), (3, 7), (50, 60), (60, 60), (1, 1)])
def test_an_equally_weighted_share_has_wilsons_interval(num_right: int, num: int) -> None:
    """That of statsmodels, whatever the weight."""
    is_right = np.arange(num) < num_right
    share = weighted_share(is_right, np.full(num, 3.7))
    assert (share.num, share.num_right) == (num, num_right)
    assert share.interval.value == pytest.approx(num_right / num)
    reference = proportion_confint(num_right, num, method="wilson")
    assert (share.interval.low, share.interval.high) == pytest.approx(reference, abs=1e-12)


def test_a_share_of_nothing_is_not_a_number() -> None:
    """And so is a count."""
    nothing = np.array([], dtype=bool)
    assert math.isnan(weighted_share(nothing, np.array([])).interval.value)
    assert math.isnan(weighted_count(nothing.astype(int), np.array([])).high)


def test_weights_make_a_share_that_of_all() -> None:
    """Two of which one stands for nine: one in ten is right; both are worth less than two."""
    share = weighted_share(np.array([True, False]), np.array([1.0, 9.0]))
    assert share.interval.value == pytest.approx(0.1)
    assert effective_num(np.array([1.0, 9.0])) == pytest.approx(100 / 82)


def test_kappa_is_that_of_statsmodels() -> None:
    """Value and interval, of two and of three answers; one answer alone says nothing."""
    random = np.random.default_rng(0)
    for answers in (2, 3):
        first = random.integers(0, answers, 80)
        second = np.where(random.random(80) < 0.7, first, random.integers(0, answers, 80))
        table = np.zeros((answers, answers))
        np.add.at(table, (first, second), 1)
        reference = reference_kappa(table)
        own = cohens_kappa(first.tolist(), second.tolist())
        assert (own.value, own.low, own.high) == pytest.approx(
            (reference.kappa, reference.kappa_low, reference.kappa_upp)
        )
    assert math.isnan(cohens_kappa(["right"] * 5, ["right"] * 5).value)


def test_a_count_says_how_many_there_may_be_where_none_was_seen() -> None:
    """With equal weights the interval is the exact one of a Poisson count."""
    none = weighted_count(np.zeros(10, dtype=int), np.full(10, 1.0))
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(-math.log(0.025))
    five = weighted_count(np.array([2, 0, 3, 0]), np.full(4, 10.0))
    assert (five.value, five.low, five.high) == pytest.approx((50, 16.235, 116.683), abs=1e-3)


def test_the_lowest_threshold_is_sure_of_its_precision() -> None:
    """100 right ones above 0.7 and 100 wrong ones below: 0.9 holds down to a little below 0.7; five are too few."""
    probabilities = np.linspace(1, 0.4, 200)
    is_right = np.arange(200) < 100
    threshold = lowest_threshold(probabilities, is_right, np.ones(200), precision=0.9)
    assert threshold is not None
    assert 0.66 < threshold < 0.7
    assert (
        weighted_share(is_right[probabilities >= threshold], np.ones((probabilities >= threshold).sum())).interval.low
        >= 0.9
    )
    assert lowest_threshold(probabilities[:5], is_right[:5], np.ones(5), precision=0.9) is None
    assert lowest_threshold(np.array([]), np.array([], dtype=bool), np.array([]), precision=0.9) is None


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["random", "uncertainty", "even", "balanced"])
def test_intervals_hold_the_truth_in_95_of_100_reviews(strategy: str) -> None:
    """Precision and recall of 400 events and 150 stretches, from 80 answers; the mean of the estimates is the truth."""
    random = np.random.default_rng(1)
    probability = random.beta(4, 2, 400)
    is_right = random.random(400) < probability
    label = random.choice(["cup", "book", "broom"], 400, p=[0.7, 0.2, 0.1])
    missed = random.poisson(0.4, 150)
    items = [Item("r", (10 * n, 10 * n + 9), str(label[n]), f"e{n}", float(probability[n])) for n in range(400)]
    items += [Item("quiet", (10 * n, 10 * n + 9)) for n in range(150)]
    truth = {"precision": is_right.mean(), "recall": is_right.sum() / (is_right.sum() + missed.sum())}
    hits, values = dict.fromkeys(truth, 0), {name: [] for name in truth}  # type: dict[str, int], dict[str, list[float]]
    num_reviews = 400
    for seed in range(num_reviews):
        queue = draw(items, num=80, strategy=strategy, seed=seed)
        chances = {each.key: Chance.parse(each.sampling) for each in queue}
        rows = {kind: [e.span[0] // 10 for e in queue if bool(e.label) == kind] for kind in (True, False)}
        weights = {
            kind: np.array([1 / c.probability for e in queue if bool(e.label) == kind and (c := chances[e.key])])
            for kind in (True, False)
        }
        share = weighted_share(is_right[rows[True]], weights[True]).interval
        num_events = weights[True].sum()
        right = type(share)(share.value * num_events, share.low * num_events, share.high * num_events)
        recall = part_of_sum(right, weighted_count(missed[rows[False]], weights[False]))
        for name, own in (("precision", share), ("recall", recall)):
            hits[name] += own.low <= truth[name] <= own.high
            values[name].append(own.value)
    for name, value in truth.items():
        assert np.mean(values[name]) == pytest.approx(value, abs=0.02), name
        assert hits[name] / num_reviews >= 0.93, (name, hits[name] / num_reviews)

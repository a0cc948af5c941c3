"""Intervals by subject: against scikit-learn draw by draw, and against what clusters must do to a width."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from reports.metrics.events import Agreement
from reports.metrics.intervals import draw_subjects, f1_scores, interval, mean_average_precisions

PEOPLE = [f"p{k}" for k in range(7)]
World = tuple[np.ndarray, np.ndarray, list[str]]


@pytest.fixture
def world() -> World:
    rng = np.random.default_rng(5)
    targets = rng.random((300, 4)) < [0.3, 0.1, 0.02, 0.0]
    probabilities = np.round(np.clip(targets * 0.3 + rng.random((300, 4)) * 0.7, 0, 1), 1)  # with ties
    return probabilities, targets, [PEOPLE[k] for k in rng.integers(7, size=300)]


def repeated(draw: np.ndarray, names: tuple[str, ...], subjects: list[str]) -> np.ndarray:
    times = dict(zip(names, draw.tolist(), strict=True))
    return np.repeat(np.arange(len(subjects)), [times[subject] for subject in subjects])


def test_mean_average_precision_of_each_draw_is_that_of_its_repeated_rows(world: World) -> None:
    probabilities, targets, subjects = world
    draws = draw_subjects(subjects, seed=1, num_draws=40)
    scores = mean_average_precisions(probabilities, targets, subjects, draws)
    for draw, score in zip(draws.times, scores, strict=True):
        rows = repeated(draw, draws.subjects, subjects)
        own = [
            average_precision_score(targets[rows, k], probabilities[rows, k])
            for k in range(targets.shape[1])
            if targets[rows, k].any()
        ]
        assert score == pytest.approx(np.mean(own), abs=1e-12)


def test_many_rows_are_done_in_steps_that_change_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, targets, subjects = world
    draws = draw_subjects(subjects, seed=1, num_draws=40)
    at_once = mean_average_precisions(probabilities, targets, subjects, draws)
    monkeypatch.setattr("reports.metrics.intervals._ELEMENTS", 900)
    assert np.array_equal(mean_average_precisions(probabilities, targets, subjects, draws), at_once)


def test_f1_of_each_draw_is_that_of_its_repeated_rows(world: World) -> None:
    probabilities, targets, subjects = world
    decisions = probabilities >= 0.5
    counts = {
        person: Agreement(
            *(int(cells[[s == person for s in subjects]].sum()) for cells in (decisions & targets, decisions, targets))
        )
        for person in PEOPLE
    }
    draws = draw_subjects(subjects, seed=2, num_draws=40)
    for draw, score in zip(draws.times, f1_scores(counts, draws), strict=True):
        rows = repeated(draw, draws.subjects, subjects)
        assert score == pytest.approx(f1_score(targets[rows].ravel(), decisions[rows].ravel()), abs=1e-12)


def test_the_first_draw_is_everybody_once_and_the_interval_holds_it() -> None:
    draws = draw_subjects([*PEOPLE, "p0"], seed=0)
    assert draws.times[0].tolist() == [1] * 7
    assert (draws.times.sum(axis=1) == 7).all()
    counts = {person: Agreement(both=k, stated=6, true=8) for k, person in enumerate(PEOPLE)}
    found = interval(f1_scores(counts, draws))
    assert found.value == pytest.approx(2 * 21 / (7 * 14))
    assert found.low < found.value < found.high


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    names = [f"p{k:02}" for k in range(40)]
    covered = 0
    for world in range(200):
        skill = np.clip(rng.normal(0.6, 0.15, 40), 0, 1)
        counts = {name: Agreement(round(20 * s), 20, 20) for name, s in zip(names, skill, strict=True)}
        found = interval(f1_scores(counts, draw_subjects(names, seed=world, num_draws=400)))
        covered += found.low <= 0.6 <= found.high
    assert 180 <= covered <= 198  # of 200; a bootstrap by row would reach about 150


def test_the_same_seed_gives_the_same_draws_and_pairs_two_models() -> None:
    first, second = (draw_subjects(PEOPLE, seed=3) for _ in range(2))
    assert np.array_equal(first.times, second.times)
    worse = {person: Agreement(k, 10, 10) for k, person in enumerate(PEOPLE)}
    better = {person: Agreement(k + 1, 10, 10) for k, person in enumerate(PEOPLE)}
    difference = interval(f1_scores(better, first) - f1_scores(worse, first))
    assert difference.low == pytest.approx(0.1) == difference.high  # though each of them varies by far more
    assert interval(f1_scores(better, first)).high - interval(f1_scores(better, first)).low > 0.2


def test_what_cannot_be_said_is_nan() -> None:
    nobody = draw_subjects([], seed=0, num_draws=3)
    assert math.isnan(interval(f1_scores({}, nobody)).value)
    draws = draw_subjects(["a", "b"], seed=0, num_draws=50)
    found = interval(f1_scores({"a": Agreement(1, 1, 1)}, draws))  # b has done nothing, and nothing was stated of b
    assert (found.value, found.low, found.high) == (1, 1, 1)
    assert interval(f1_scores({}, draws)).to_json() == {"value": None, "low": None, "high": None}
    with pytest.raises(ValueError, match="c, who is in no draw"):
        f1_scores({"c": Agreement(1, 1, 1)}, draws)

"""Which events and stretches without events a review asks about."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from features.video import Segment
from reports.corrections import Correction
from reports.diary import readings
from reports.diary.recording import Recording, Unrecognisable
from reports.events import Event, EventsFound
from reports.review.sampling import QUIET, STRATEGIES, Chance, Item, draw, inclusion_probabilities, questions

RECORDING = Recording(
    "kitchen",
    "kitchen.mp4",
    60.0,
    None,
    readings.UNKNOWN,
    (Segment(0, 25), Segment(30, 60)),
    unrecognisable=(Unrecognisable(Segment(50, 60), "too dark"),),
)


def event(name: str, label: str, start_s: float, end_s: float, probability: float = 0.8) -> Event:
    return Event(name, label, Segment(start_s, end_s), probability, probability)


FOUND = EventsFound(
    (event("a", "cup", 2, 4), event("b", "book", 3, 6), event("c", "cup", 31, 33, 0.6)),
    {},
    (event("less", "book", 40, 44, 0.3),),
)


def verdict(kind: str, label: str, start_s: float, end_s: float) -> Correction:
    where = f"{kind}-{label}-{start_s}"
    return Correction(where, kind, "v" * 64, "ann", "2026-03-14T08:00:00+01:00", label, start_s, end_s)  # type: ignore[arg-type]


def test_a_recording_is_asked_about_in_order_of_time() -> None:
    """Events, the less certain ones too, and pieces of at most 10 s of what is neither event nor unrecognisable."""
    asked = questions(RECORDING, FOUND)
    assert [(each.span, each.label, each.is_told) for each in asked] == [
        ((0, 2_000), "", True),
        ((2_000, 4_000), "cup", True),
        ((3_000, 6_000), "book", True),
        ((6_000, 15_500), "", True),
        ((15_500, 25_000), "", True),
        ((31_000, 33_000), "cup", True),
        ((33_000, 40_000), "", True),
        ((40_000, 44_000), "book", False),
        ((44_000, 50_000), "", True),
    ]


def test_what_was_judged_is_not_asked_again_even_if_a_new_model_moves_it() -> None:
    """Half of the time is enough, whatever the verdict; a verdict on another label at that time is none."""
    judged = [
        verdict("right", "cup", 2.5, 4.5),
        verdict("wrong", "cup", 3, 6),
        verdict("complete", "", 6, 15.5),
        verdict("skip", "book", 40, 44),
        verdict("skip", "", 0, 2),
    ]
    left = [(each.span[0], each.label) for each in questions(RECORDING, FOUND, judged)]
    assert left == [(3_000, "book"), (15_500, ""), (31_000, "cup"), (33_000, ""), (44_000, "")]


def world(num: int = 300, seed: int = 0) -> list[Item]:
    random = np.random.default_rng(seed)
    labels = random.choice(["cup", "book", "broom"], num, p=[0.8, 0.15, 0.05])
    events = [
        Item("r", (1000 * n, 1000 * n + 900), str(label), f"e{n}", float(p))
        for n, (label, p) in enumerate(zip(labels, random.beta(4, 2, num), strict=True))
    ]
    return events + [Item("quiet", (1000 * n, 1000 * n + 900)) for n in range(100)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_item_is_drawn_as_often_as_its_chance_says(strategy: str) -> None:
    """Over many seeds; so a sum weighted by 1 / chance is on average that of all items (Horvitz and Thompson)."""
    items, num_draws = world(), 600
    counts: Counter[str] = Counter()
    chances: dict[str, float] = {}
    for seed in range(num_draws):
        queue = draw(items, num=60, strategy=strategy, seed=seed)
        assert len(queue) == 60
        assert len({each.key for each in queue}) == 60
        for each in queue:
            chance = Chance.parse(each.sampling)
            assert chance is not None
            assert chance.num == (45 if each.label else 15)
            assert chance.strategy == (strategy if each.label else QUIET)
            chances[str(each.key)] = chance.probability
            counts[str(each.key)] += 1
    keys = [key for key in chances if chances[key] < 1]
    expected = np.array([chances[key] * num_draws for key in keys])
    seen = np.array([counts[key] for key in keys])
    deviations = (seen - expected) / np.sqrt(expected * (1 - expected / num_draws))
    assert abs(deviations.mean()) < 0.2
    assert deviations.std() < 1.25
    assert all(counts[key] == num_draws for key in chances if chances[key] == 1)


def test_each_strategy_prefers_what_it_is_for() -> None:
    """Uncertainty the middle, even all tenths, balanced all labels, random nothing."""
    items = world()

    def drawn(strategy: str) -> list[Item]:
        return [each for seed in range(30) for each in draw(items, num=45, strategy=strategy, seed=seed, quiet_share=0)]

    doubt = {
        name: float(np.mean([abs((each.probability or 0) - 0.5) for each in drawn(name)]))
        for name in ("uncertainty", "random")
    }
    assert doubt["uncertainty"] < 0.9 * doubt["random"]
    rare = {name: Counter(each.label for each in drawn(name))["broom"] for name in ("balanced", "random")}
    assert rare["balanced"] > 4 * rare["random"]
    tenths = {
        name: Counter(int(10 * (each.probability or 0)) for each in drawn(name)).get(2, 0)
        for name in ("even", "random")
    }
    assert tenths["even"] > 2 * tenths["random"]


def test_a_queue_depends_on_the_seed_and_not_on_the_order_of_the_items() -> None:
    """The same seed gives the same queue; another one another queue under another name."""
    items = world()
    first = draw(items, num=20, strategy="random", seed=3)
    assert draw(items[::-1], num=20, strategy="random", seed=3) == first
    other = draw(items, num=20, strategy="random", seed=4)
    assert {each.key for each in other} != {each.key for each in first}
    assert {each.sampling.split()[-1] for each in first}.isdisjoint(each.sampling.split()[-1] for each in other)


def test_where_one_kind_is_short_the_other_fills_the_queue() -> None:
    """And where both are, the queue is all there is, each with a chance of 1."""
    items = world(num=300)
    few_quiet = [each for each in items if each.label] + [Item("quiet", (0, 900))]
    queue = draw(few_quiet, num=40, strategy="random", seed=0)
    assert Counter(bool(each.label) for each in queue) == {True: 39, False: 1}
    few_events = [each for each in items if not each.label] + [items[0]]
    assert Counter(bool(each.label) for each in draw(few_events, num=40, strategy="even", seed=0))[True] == 1
    everything = draw(few_quiet, num=1000, strategy="uncertainty", seed=0)
    assert len(everything) == 301
    assert all(each.sampling.split()[1] == "1" for each in everything)
    assert draw([], num=5, strategy="random", seed=0) == []


def test_a_chance_is_read_back_from_its_text() -> None:
    """Anything else is none: an answer that nobody was asked for."""
    chance = Chance("uncertainty", 0.123456, 45, "3fa2c1d0", is_told=False)
    assert Chance.parse(str(chance)) == chance
    assert Chance.parse(str(replace(chance, is_told=True))) == replace(chance, is_told=True)
    for text in ("", "in order", "amend", "random 0 of 5 in ab", "random 1.5 of 5 in ab", "random e-- of 5 in ab"):
        assert Chance.parse(text) is None, text


def test_chances_are_in_proportion_until_they_are_certain() -> None:
    """They sum to the number that is drawn."""
    assert inclusion_probabilities(np.array([1.0, 1.0, 2.0, 100.0]), 2).tolist() == [0.25, 0.25, 0.5, 1.0]
    assert inclusion_probabilities(np.ones(3), 3).tolist() == [1, 1, 1]
    assert inclusion_probabilities(np.ones(3), 0).tolist() == [0, 0, 0]

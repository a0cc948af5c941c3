"""What people's verdicts tell of a diary: `Verdicts`."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from reports.corrections import Correction
from reports.metrics.intervals import Interval
from reports.review.answers import Answer, all_answers, of_last_model, weighted
from reports.review.statistics import (
    Bools,
    Floats,
    Share,
    cohens_kappa,
    lowest_threshold,
    part_of_sum,
    weighted_count,
    weighted_share,
)

_NUM_BINS = 10
NO_INTERVAL = Interval(math.nan, math.nan, math.nan)
ESTIMATORS = {
    "precision": "Hajek's: the weights (1 / chance) of right events over those of all; 95% interval by Wilson, of as "
    "many events as the weights are worth (Kish)",
    "recall": "told and right / (that + missed), Horvitz's and Thompson's sums; missed is what was added in stretches "
    "without events, what an event turned out to be instead, and less certain events that are right; 95% interval by "
    "Donner and Zou (MOVER) of Wilson's and of Fay and Feuer's. What was missed beside an event, at the same time, "
    "nobody was asked",
    "kappa": "Cohen's, of right and wrong; 95% interval by Fleiss, Cohen and Everitt (1969)",
}


@dataclass(frozen=True)
class Bin:
    """Events with a mean probability in [`low`, `high`), the highest bin with its end; `probability` is their mean."""

    low: float
    high: float
    probability: float
    right: Share


@dataclass(frozen=True)
class Agreement:
    """Cohen's kappa of two people on the `num` events that both judged."""

    people: tuple[str, str]
    num: int
    kappa: Interval


@dataclass(frozen=True)
class Verdicts:
    """What the verdicts on one model's events tell.

    `is_sample` where items were drawn with known chances; else the numbers are of the judged items alone.
    `num_stretches` without events were judged; without any, recall is nan. `thresholds` has for each wished precision
    the lowest mean probability that reaches it, None where none does. `num_other_models` and `num_not_drawn` answers
    are left out.
    """

    model_sha256: str
    is_sample: bool
    precision: Share
    of_label: Mapping[str, Share]
    recall: Interval
    missed: Interval
    num_stretches: int
    bins: tuple[Bin, ...]
    thresholds: Mapping[float, float | None]
    agreements: tuple[Agreement, ...]
    num_other_models: int
    num_not_drawn: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, for `dvc metrics`; nan is null."""
        return {
            "precision": _share(self.precision),
            "recall": self.recall.to_json() | {"num_stretches": self.num_stretches},
            "missed": self.missed.to_json(),
            "labels": {label: _share(share) for label, share in sorted(self.of_label.items())},
            "reliability": [
                {"from": each.low, "to": each.high, "probability": round(each.probability, 6), **_share(each.right)}
                for each in self.bins
            ],
            "thresholds": {f"{wished:g}": threshold for wished, threshold in self.thresholds.items()},
            "kappa": [
                {"people": list(each.people), "num": each.num, **each.kappa.to_json()} for each in self.agreements
            ],
            "is_sample": self.is_sample,
            "model_sha256": self.model_sha256,
            "num_answers_on_other_models": self.num_other_models,
            "num_answers_not_drawn": self.num_not_drawn,
            "estimators": ESTIMATORS,
        }


def verdicts(corrections: Sequence[Correction], *, wished: Iterable[float] = (0.8, 0.9, 0.95)) -> Verdicts:
    """What the corrections of all recordings tell of the model whose event was judged last."""
    of_model, num_other_models = of_last_model(all_answers(corrections))
    answers, num_not_drawn = weighted(of_model)
    events = [answer for answer in answers if answer.label]
    stretches = [answer for answer in answers if not answer.label]
    told = [answer for answer in events if answer.is_told]
    precision = weighted_share(_is_right(told), _weights(told))
    of_label = {
        label: weighted_share(_is_right(own), _weights(own))
        for label in {answer.label for answer in told}
        if (own := [answer for answer in told if answer.label == label])
    }
    missed = weighted_count(np.array([answer.num_missed for answer in answers], dtype=np.int64), _weights(answers))
    num_told = float(_weights(told).sum())
    right = Interval(*(bound * num_told for bound in vars(precision.interval).values()))
    known = [answer for answer in events if answer.probability is not None]
    probabilities = np.array([answer.probability for answer in known], dtype=np.float64)
    return Verdicts(
        model_sha256=next((answer.model_sha256 for answer in reversed(of_model) if answer.label), ""),
        is_sample=any(answer.chance is not None for answer in answers),
        precision=precision,
        of_label=of_label,
        recall=part_of_sum(right, missed) if stretches and told else NO_INTERVAL,
        missed=missed if stretches else NO_INTERVAL,
        num_stretches=len(stretches),
        bins=_bins(known, probabilities),
        thresholds={
            share: lowest_threshold(probabilities, _is_right(known), _weights(known), precision=share)
            for share in wished
        },
        agreements=_agreements(of_model),
        num_other_models=num_other_models,
        num_not_drawn=num_not_drawn,
    )


def _is_right(answers: Sequence[Answer]) -> Bools:
    return np.array([answer.is_right for answer in answers], dtype=np.bool_)


def _weights(answers: Sequence[Answer]) -> Floats:
    return np.array([answer.weight for answer in answers], dtype=np.float64)


def _bins(events: Sequence[Answer], probabilities: Floats) -> tuple[Bin, ...]:
    """Bins that have events."""
    numbers = np.minimum((probabilities * _NUM_BINS).astype(np.int64), _NUM_BINS - 1)
    is_right, weights = _is_right(events), _weights(events)
    bins = []
    for number in np.unique(numbers).tolist():
        own = numbers == number
        mean = float(np.average(probabilities[own], weights=weights[own]))
        share = weighted_share(is_right[own], weights[own])
        bins.append(Bin(number / _NUM_BINS, (number + 1) / _NUM_BINS, mean, share))
    return tuple(bins)


def _agreements(answers: Sequence[Answer]) -> tuple[Agreement, ...]:
    """Of each two people who judged the same events, those with the most in common first."""
    said: defaultdict[str, dict[object, bool]] = defaultdict(dict)
    for answer in answers:
        if answer.label:
            said[answer.who][answer.item] = answer.is_right
    shared = Counter(
        {(one, other): len(said[one].keys() & said[other].keys()) for one, other in combinations(sorted(said), 2)}
    )
    found = []
    for (one, other), num in shared.most_common():
        if num:
            items = [item for item in said[one] if item in said[other]]
            kappa = cohens_kappa([said[one][item] for item in items], [said[other][item] for item in items])
            found.append(Agreement((one, other), num, kappa))
    return tuple(found)


def _share(share: Share) -> dict[str, float | int | None]:
    return share.interval.to_json() | {"num": share.num, "num_right": share.num_right}

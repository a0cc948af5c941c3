"""Ratios measured in one run: what a row of the benchmark is. Knows time and ratios; knows nothing of what is measured.

A topic is a module here with `measure() -> list[Row]`. Sizes are keywords of it, the real ones their defaults, so that
a test runs the same code small. Nothing else may run on the machine while a topic measures.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Row:
    """One ratio: `measured` beside its `goal`, or None and in `note` the reason that it was not measured.

    `name` says what was measured, `ratio` what was divided by what. A row without a `goal` informs. `details` holds the
    seconds behind the ratio, and whatever else somebody who doubts it would ask for; JSON can hold it.
    """

    name: str
    ratio: str
    measured: float | None
    goal: float | None = None
    better: Literal["higher", "lower"] = "higher"
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or not self.ratio:
            raise ValueError(f"a row says what was measured, and what was divided by what, got {self}")
        if self.measured is None and not self.note:
            raise ValueError(f"{self.name}: a row that was not measured says why")
        if self.measured is not None and not math.isfinite(self.measured):
            raise ValueError(f"{self.name}: a ratio is finite, got {self.measured}")

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None where there is none, or no measurement."""
        if self.measured is None or self.goal is None:
            return None
        return self.measured >= self.goal if self.better == "higher" else self.measured <= self.goal


@dataclass(frozen=True)
class Seconds:
    """What each round of a measurement took, in seconds; the same number of rounds for all that are compared."""

    rounds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        return statistics.median(self.rounds)

    def over(self, other: Seconds) -> float:
        """The median over rounds of this one's time divided by the other's: neighbours in time, so drift cancels."""
        return statistics.median(a / b for a, b in zip(self.rounds, other.rounds, strict=True))

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(tuple(a + b for a, b in zip(self.rounds, other.rounds, strict=True)))

    def __truediv__(self, count: float) -> Seconds:
        return Seconds(tuple(each / count for each in self.rounds))

    def details(self, name: str) -> dict[str, float]:
        return {f"{name}_median_s": self.median_s, f"{name}_min_s": min(self.rounds)}


@dataclass(frozen=True)
class Taken:
    """What a way of doing something took: on the wall's clock, and of all cores' time in this process."""

    wall: Seconds
    cpu: Seconds


def interleaved(ways: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, Taken]:
    """Time all ways in each round, every other round in reverse order; warm up before, where a first time is slower."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            ways[name]()
            taken[name].append((time.perf_counter() - wall_s, time.process_time() - cpu_s))
    return {name: Taken(*(Seconds(each) for each in zip(*times, strict=True))) for name, times in taken.items()}

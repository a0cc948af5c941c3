"""What a row of the benchmark is: a ratio of times measured in one run. Knows nothing of what is measured.

A topic is a module here with `measure() -> list[Row]`. The functions below it take sizes as arguments, so that a test
runs the same code on small inputs. Nothing else may run on the machine while a topic measures.
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
    """One ratio and its goal.

    `name` says what was measured, `ratio` what was divided by what. `measured` is None if it could not be measured;
    `note` then says why. `goal` is None for a row that only informs. `details` (JSON) holds the seconds behind the
    ratio and the sizes that were used.
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
            raise ValueError(f"a row needs a name and a ratio, got {self}")
        if self.measured is None and not self.note:
            raise ValueError(f"{self.name}: a row that was not measured says why in its note")
        if self.measured is not None and not math.isfinite(self.measured):
            raise ValueError(f"{self.name}: a ratio must be finite, got {self.measured}")

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal or a measurement."""
        if self.measured is None or self.goal is None:
            return None
        return self.measured >= self.goal if self.better == "higher" else self.measured <= self.goal


@dataclass(frozen=True)
class Seconds:
    """The seconds that each round took. What is compared has the same number of rounds."""

    rounds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        return statistics.median(self.rounds)

    def over(self, other: Seconds) -> float:
        """The median over rounds of this time divided by the other's in the same round, so that drift cancels."""
        return statistics.median(a / b for a, b in zip(self.rounds, other.rounds, strict=True))

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(tuple(a + b for a, b in zip(self.rounds, other.rounds, strict=True)))

    def __truediv__(self, count: float) -> Seconds:
        return Seconds(tuple(round_s / count for round_s in self.rounds))

    def details(self, name: str) -> dict[str, float]:
        return {f"{name}_median_s": self.median_s, f"{name}_min_s": min(self.rounds)}


@dataclass(frozen=True)
class Taken:
    """Wall time, and CPU time of this process on all cores, of one way of doing the work."""

    wall: Seconds
    cpu: Seconds


def interleaved(ways: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, Taken]:
    """Time all ways in each round, every other round in reverse order.

    Nothing is warmed up here: call a way beforehand if its first call is slower.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            ways[name]()
            taken[name].append((time.perf_counter() - wall_s, time.process_time() - cpu_s))
    return {name: Taken(*map(Seconds, zip(*times, strict=True))) for name, times in taken.items()}

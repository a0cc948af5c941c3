"""What happens in one video: numbers and words over time, and the actions that they show."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field

from pipeline.demo.world import Person, Room


class Track:
    """A number over time, moved by eased steps; constant before the first and after the last."""

    def __init__(self, value: float) -> None:
        self._starts: list[float] = []
        self._moves: list[tuple[float, float, float, float]] = []
        self._initial = self.value = value

    def move(self, start_s: float, end_s: float, value: float) -> None:
        self._starts.append(start_s)
        self._moves.append((start_s, end_s, self.value, value))
        self.value = value

    def at(self, time_s: float) -> float:
        k = bisect.bisect_right(self._starts, time_s) - 1
        if k < 0:
            return self._initial
        start_s, end_s, before, after = self._moves[k]
        if time_s >= end_s:
            return after
        share = (time_s - start_s) / (end_s - start_s)
        return before + (after - before) * share * share * (3 - 2 * share)


class Choice:
    """A word over time, with how far the change to it has come: ("rest", "reach", 0.3)."""

    def __init__(self, value: str) -> None:
        self._changes: list[tuple[float, float, str, str]] = [(-2.0, -1.0, value, value)]
        self.value = value

    def change(self, start_s: float, end_s: float, value: str) -> None:
        self._changes.append((start_s, end_s, self.value, value))
        self.value = value

    def at(self, time_s: float) -> tuple[str, str, float]:
        k = bisect.bisect_right(self._changes, (time_s, math.inf, "", "")) - 1
        start_s, end_s, before, after = self._changes[max(k, 0)]
        share = min(1.0, max(0.0, (time_s - start_s) / (end_s - start_s)))
        return before, after, share * share * (3 - 2 * share)


@dataclass
class Story:
    """What happens in one video: tracks to render it by, and `actions` as (class id, start_s, end_s)."""

    person: Person
    room: Room
    length_s: float
    actions: list[tuple[str, float, float]] = field(default_factory=list)
    x: Track = field(default_factory=lambda: Track(130.0))
    facing: Track = field(default_factory=lambda: Track(1.0))
    sit: Track = field(default_factory=lambda: Track(0.0))
    lie: Track = field(default_factory=lambda: Track(0.0))
    depth: Track = field(default_factory=lambda: Track(0.0))  # 1: behind the doorway
    door: Track = field(default_factory=lambda: Track(0.0))  # 1: open
    light: Track = field(default_factory=lambda: Track(1.0))  # 1: on
    lid: Track = field(default_factory=lambda: Track(0.0))  # 1: the laptop is open
    hand: Choice = field(default_factory=lambda: Choice("rest"))
    held: Choice = field(default_factory=lambda: Choice(""))

"""Which events and stretches without events a review asks about, each with the chance that it was drawn with.

The chance is what makes estimates from a few answers true of everything: an event that is asked about with a chance of
one in ten stands for ten (Horvitz and Thompson, "A generalization of sampling without replacement from a finite
universe", 1952). So it travels with the item, and with the answer, as text: `Chance`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt

from reports.corrections import Correction, known_times
from reports.diary.recording import Recording
from reports.events import Event, EventsFound
from reports.spans import Span, segment_span, total, union, without

STRATEGIES = ("uncertainty", "even", "balanced", "random")
"""Events near a probability of 0.5 more often; all tenths of the probability alike; all labels alike; all alike."""
QUIET = "quiet"
"""The strategy of stretches without events: all pieces alike."""
QUIET_MS = 10_000
"""Stretches without events are asked about in pieces of at most this length: as long as one can keep in mind."""
SHORTEST_QUIET_MS = 2_000
"""Shorter ones are not asked about."""

_LEAST_UNCERTAINTY = 0.1
"""The chance of a sure event beside that of one of 0.5: no answer stands for more than ten times another one."""
_BINS = 10
_TEXT = re.compile(r"(\w+) ([0-9.e-]+) of (\d+) in ([0-9a-f]+)( untold)?")


@dataclass(frozen=True)
class Chance:
    """How an item came to be asked about, and how probable that was.

    It is one of `num` items of its kind (events, or stretches without) in the queue `draw`. An event that is not
    `is_told` is one that the diary counts as less certain.
    """

    strategy: str
    probability: float
    num: int
    draw: str
    is_told: bool = True

    def __str__(self) -> str:
        untold = "" if self.is_told else " untold"
        return f"{self.strategy} {self.probability:.6g} of {self.num} in {self.draw}{untold}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What `str` of a chance gave; None for any other text, as of an answer that nobody was asked for."""
        match = _TEXT.fullmatch(text)
        if match is None:
            return None
        strategy, probability, num, draw, untold = match.groups()
        try:
            chance = float(probability)
        except ValueError:
            return None
        return cls(strategy, chance, int(num), draw, not untold) if 0 < chance <= 1 and int(num) else None


@dataclass(frozen=True)
class Item:
    """One question: is this event right? With an empty `label`: is nothing on in this time?

    `probability` is the mean one of the event; `sampling` is the `Chance` of an item that was drawn, as text.
    """

    recording_id: str
    span: Span
    label: str = ""
    event_id: str = ""
    probability: float | None = None
    sampling: str = ""
    is_told: bool = True

    @property
    def key(self) -> tuple[str, Span, str]:
        return (self.recording_id, self.span, self.label)


def questions(recording: Recording, found: EventsFound, corrections: Sequence[Correction] = ()) -> list[Item]:
    """All that can be asked of a recording, in order of time: its events, the less certain ones too, and the rest.

    The rest is what was observed and is neither an event nor unrecognisable, in pieces. `corrections` are those of the
    recording's video; what they judge for at least half of its time, and what they skip, is not asked again.
    """
    events = [*found.events, *found.less_certain]
    known = known_times(corrections, {event.label for event in events})
    complete = union(each.span for each in corrections if each.verdict == "complete")
    skipped = {(each.label, each.span) for each in corrections if each.verdict == "skip"}
    told = {event.id for event in found.events}

    def item(event: Event) -> Item:
        span = segment_span(event.segment)
        return Item(recording.id, span, event.label, event.id, event.mean_probability, "", is_told=event.id in told)

    items = []
    for asked in map(item, events):
        judged = [*known.on[asked.label], *known.off[asked.label]]
        if not _is_judged(asked.span, judged) and (asked.label, asked.span) not in skipped:
            items.append(asked)
    taken = [segment_span(event.segment) for event in events]
    taken += [segment_span(stretch.segment) for stretch in recording.unrecognisable]
    for span in without(recording.observed_spans, taken):
        for piece in _pieces(span):
            if not _is_judged(piece, complete) and ("", piece) not in skipped:
                items.append(Item(recording.id, piece))
    return sorted(items, key=lambda each: (each.span, each.label))


def _is_judged(span: Span, judged: Iterable[Span]) -> bool:
    return 2 * total(without([span], judged)) <= span[1] - span[0]


def _pieces(span: Span) -> list[Span]:
    """The span in equal pieces of at most `QUIET_MS`; none where it is too short to be asked about."""
    start, end = span
    if end - start < SHORTEST_QUIET_MS:
        return []
    count = -(-(end - start) // QUIET_MS)
    edges = [start + (end - start) * number // count for number in range(count + 1)]
    return list(pairwise(edges))


def draw(items: Iterable[Item], *, num: int, strategy: str, seed: int, quiet_share: float = 0.25) -> list[Item]:
    """A queue of `num` of the items, all where there are fewer, each with its chance; the same `seed`, the same queue.

    `quiet_share` of it are stretches without events. Where there are too few of either, the other fills up. The order
    is random: whoever stops early has judged a sample as well.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"a strategy is one of {', '.join(STRATEGIES)}, got {strategy!r}")
    if num < 0 or not 0 <= quiet_share <= 1:
        raise ValueError(f"wanted 0 or more items and a share from 0 to 1, got {num} and {quiet_share}")
    population = sorted(items, key=lambda item: item.key)
    events = [item for item in population if item.label]
    quiet = [item for item in population if not item.label]
    num_quiet = min(round(num * quiet_share), len(quiet))
    num_events = min(num - num_quiet, len(events))
    num_quiet = min(num - num_events, len(quiet))
    name = hashlib.sha256(repr((seed, num, strategy, quiet_share, population)).encode()).hexdigest()[:8]
    random = np.random.default_rng(seed)
    drawn = []
    for kind, count, own in ((strategy, num_events, events), (QUIET, num_quiet, quiet)):
        chances = inclusion_probabilities(_sizes(kind, own), count)
        for row in _systematic(chances, random):
            chance = Chance(kind, float(chances[row]), count, name, own[row].is_told)
            drawn.append(replace(own[row], sampling=str(chance)))
    return [drawn[row] for row in random.permutation(len(drawn))]


def _sizes(strategy: str, items: Sequence[Item]) -> npt.NDArray[np.float64]:
    """How much more probable each of the items is to be drawn than others, (n,)."""
    if strategy == "balanced":
        of_label = Counter(item.label for item in items)
        return np.array([1 / of_label[item.label] for item in items])
    probabilities = np.array([item.probability or 0.0 for item in items])
    if strategy == "uncertainty":
        return np.maximum(4 * probabilities * (1 - probabilities), _LEAST_UNCERTAINTY)
    if strategy == "even":
        bins = np.minimum((probabilities * _BINS).astype(np.int64), _BINS - 1)
        return 1 / np.bincount(bins, minlength=_BINS)[bins]
    return np.ones(len(items))


def inclusion_probabilities(sizes: npt.NDArray[np.float64], num: int) -> npt.NDArray[np.float64]:
    """Chances (n,) in proportion to `sizes`, at most 1, that sum to `num`; what would have more than 1 is certain."""
    certain = np.zeros(len(sizes), dtype=np.bool_)
    chances = np.zeros(len(sizes))
    while num > certain.sum():
        chances[:] = (num - certain.sum()) * sizes / sizes[~certain].sum()
        above = ~certain & (chances >= 1)
        if not above.any():
            break
        certain |= above
    chances[certain] = 1
    return chances


def _systematic(chances: npt.NDArray[np.float64], random: np.random.Generator) -> list[int]:
    """Rows drawn with exactly these chances: every whole step along their sum, in random order (Madow, 1949)."""
    certain = np.flatnonzero(chances >= 1)
    others = random.permutation(np.flatnonzero(chances < 1))
    ends = np.cumsum(chances[others])
    num = round(float(ends[-1])) if len(ends) else 0
    rows = np.searchsorted(ends, random.random() + np.arange(num), side="right")
    return [*certain.tolist(), *others[np.minimum(rows, len(others) - 1)].tolist()]

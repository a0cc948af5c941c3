"""What belongs together in a story: `Piece`, `pieces`, `split_leads`. Knows roles and times, no words.

A begin or an end belongs to the state or hold beside it, a use to the hold that it lies in, a pass to the way back.
Then the longest state or hold leads, and takes along what lies at least half inside it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reports.diary.roles import LASTING, Role
from reports.events import Event
from reports.spans import Span, segment_span, total

SURE = 0.8
"""From this mean calibrated probability on, a thing is told plainly; below it is "probably".

Calibrated probabilities are shares: of the events that diaries of 20 recordings of people in no split state, 92 in 100
above it are right, and 77 in 100 below. What is below a label's careful rule is no event, and is not told.
"""

_BESIDE_MS = 2_000  # a begin or an end lies no farther than this from the start or the end of its state
_RETURN_MS = 8_000  # the way back after at most this
_SAME_MS = 10_000  # the same with shorter gaps is one


@dataclass
class Piece:
    """Events of one label that are told as one, with what belongs to them.

    `opening` and `closing` are the begin and the end of a state or hold; `uses` happen with the thing in
    hand. `unsaid` are begins and ends in the midst of their state: they contradict it and are not told. `is_return`: a
    pass and the way back. A label without a role has None.
    """

    label: str
    role: Role | None
    events: list[Event]
    opening: Event | None = None
    closing: Event | None = None
    uses: list[Piece] = field(default_factory=list)
    unsaid: list[Event] = field(default_factory=list)
    is_return: bool = False

    @property
    def kind(self) -> str:
        return self.role.kind if self.role else ""

    @property
    def thing(self) -> str:
        return self.role.thing if self.role else ""

    @property
    def lasts(self) -> bool:
        """Whether how long it takes is said."""
        return self.role is None or self.role.kind in LASTING

    @property
    def span(self) -> Span:
        """Of its own events."""
        spans = [segment_span(event.segment) for event in self.events]
        return (spans[0][0], max(end for _, end in spans))

    @property
    def whole_span(self) -> Span:
        """With its begin and its end."""
        own = self.span
        start = segment_span(self.opening.segment)[0] if self.opening else own[0]
        end = segment_span(self.closing.segment)[1] if self.closing else own[1]
        return (min(start, own[0]), max(end, own[1]))

    @property
    def total_ms(self) -> int:
        """How long it takes: a state or hold with the gaps between its events, in which it went on."""
        if self.kind in ("state", "hold"):
            return self.span[1] - self.span[0]
        return total(segment_span(event.segment) for event in self.events)

    @property
    def times(self) -> int:
        """How often it happens."""
        return 1 if self.kind in ("state", "hold") else len(self.events)

    @property
    def is_sure(self) -> bool:
        return is_sure(self.events)

    @property
    def all_events(self) -> list[Event]:
        """Of all that is told with it, in order."""
        found = [*self.events, *self.unsaid, *(event for event in (self.opening, self.closing) if event)]
        found += [event for use in self.uses for event in use.all_events]
        return sorted(found, key=lambda event: (event.segment, event.id))


def is_sure(events: Sequence[Event]) -> bool:
    """Whether events are told plainly, by the mean of their calibrated probabilities."""
    return sum(1.0 if event.confirmed else event.mean_probability for event in events) >= SURE * len(events)


def pieces(events: Iterable[Event], roles: Mapping[str, Role], gap_starts: Sequence[int] = ()) -> list[Piece]:
    """The events of one recording as pieces, in order: each event is in one of them.

    Nothing goes on over a stretch that begins at one of `gap_starts`, of which nothing is known.
    """
    found = [
        Piece(event.label, roles.get(event.label), [event])
        for event in sorted(events, key=lambda event: (event.segment, event.label))
    ]
    things: dict[str, list[Piece]] = {}
    for piece in found:
        if piece.kind in ("state", "hold"):
            things.setdefault(piece.thing, []).append(piece)
    homes = {thing: _Timeline([(piece.span, piece) for piece in own]) for thing, own in things.items()}
    kept = [piece for piece in found if piece.thing not in homes or not _has_joined(piece, homes[piece.thing])]
    return sorted(_merged(_with_returns(kept), gap_starts), key=lambda piece: piece.whole_span)


def split_leads(found: Sequence[Piece], shortest_ms: int) -> tuple[list[tuple[Piece, list[Piece]]], list[Piece]]:
    """Leads, each with the pieces that are told with it, in order, and the pieces that no lead takes.

    A lead lasts at least `shortest_ms`. What is done leads only where it lasts twice as long as a state or hold that
    could lead it.
    """
    timeline = _Timeline([(piece.whole_span, piece) for piece in found])
    weights = {id(piece): piece.total_ms / (1 if piece.kind in ("state", "hold") else 2) for piece in found}
    taken: set[int] = set()
    told = []
    for lead in sorted(found, key=lambda piece: -weights[id(piece)]):
        if id(lead) in taken or not lead.lasts or lead.total_ms < shortest_ms:
            continue
        taken.add(id(lead))
        inside = [
            piece
            for span, piece in timeline.overlapping(lead.whole_span)
            if id(piece) not in taken and _is_mostly_in(span, lead.whole_span)
        ]
        taken.update(id(piece) for piece in inside)
        told.append((lead, inside))
    told.sort(key=lambda pair: pair[0].whole_span)
    return told, [piece for piece in found if id(piece) not in taken]


class _Timeline:
    """Pieces by their spans, in order."""

    def __init__(self, entries: Iterable[tuple[Span, Piece]]) -> None:
        self.entries = sorted(entries, key=lambda entry: entry[0])
        self._starts = [start for (start, _), _ in self.entries]
        self._longest_ms = max((end - start for (start, end), _ in self.entries), default=0)

    def overlapping(self, span: Span) -> list[tuple[Span, Piece]]:
        """What overlaps or touches `span`."""
        first = bisect_left(self._starts, span[0] - self._longest_ms)
        entries = self.entries[first : bisect_right(self._starts, span[1])]
        return [entry for entry in entries if entry[0][1] >= span[0]]


def _has_joined(piece: Piece, homes: _Timeline) -> bool:
    """Whether `piece` went to a state or hold of its thing."""
    span = piece.span
    near = homes.overlapping((span[0] - _BESIDE_MS, span[1] + _BESIDE_MS))
    if piece.kind == "use":
        holds = [(_overlap(span, own), home) for own, home in near if home.kind == "hold" and _is_mostly_in(span, own)]
        if holds:
            max(holds, key=lambda pair: pair[0])[1].uses.append(piece)
        return bool(holds)
    if piece.kind not in ("begin", "end"):
        return False
    is_begin, (event,) = piece.kind == "begin", piece.events
    beside = [
        (distance, home)
        for own, home in near
        if (home.opening if is_begin else home.closing) is None
        and (distance := _distance(span, own[0] if is_begin else own[1])) <= _BESIDE_MS
    ]
    if beside:
        home = min(beside, key=lambda pair: pair[0])[1]
        if is_begin:
            home.opening = event
        else:
            home.closing = event
        return True
    midst = [home for own, home in near if _is_mostly_in(span, own)]
    for home in midst[:1]:
        home.unsaid.append(event)
    return bool(midst)


def _with_returns(found: Sequence[Piece]) -> list[Piece]:
    """Two passes of a label with a short time between them become a way out and back."""
    kept: list[Piece] = []
    last: dict[str, Piece] = {}
    for piece in found:
        out = last.pop(piece.label, None)
        if out is not None and piece.span[0] - out.span[1] <= _RETURN_MS:
            out.events += piece.events
            out.is_return = True
            continue
        if piece.kind == "pass":
            last[piece.label] = piece
        kept.append(piece)
    return kept


def _merged(found: Sequence[Piece], gap_starts: Sequence[int]) -> list[Piece]:
    """The same again after a short gap is one piece.

    A state or hold is not where its end or a new begin was seen, another one of its kind, or nothing in the gap.
    """
    kept: list[Piece] = []
    last: dict[str, Piece] = {}
    for piece in found:
        before = last.get(piece.label)
        if before is not None and _goes_on(before, piece, last.values(), gap_starts):
            before.events += piece.events
            before.uses += piece.uses
            before.unsaid += piece.unsaid
            before.closing = piece.closing
            continue
        if piece.kind in ("use", "", "state", "hold"):
            last[piece.label] = piece
        kept.append(piece)
    return kept


def _goes_on(before: Piece, piece: Piece, others: Iterable[Piece], gap_starts: Iterable[int]) -> bool:
    """Whether `piece` begins shortly behind `before`, of the same label, and nothing says that this one had ended."""
    if piece.span[0] - before.span[1] >= _SAME_MS:
        return False
    if piece.kind not in ("state", "hold"):
        return True
    is_apart = before.closing is not None or piece.opening is not None
    is_apart = is_apart or any(before.span[1] <= start <= piece.span[0] for start in gap_starts)
    return not is_apart and not any(
        other.kind == piece.kind and other.label != piece.label and other.span[1] > before.span[1] for other in others
    )


def _overlap(span: Span, other: Span) -> int:
    return max(0, min(span[1], other[1]) - max(span[0], other[0]))


def _is_mostly_in(span: Span, other: Span) -> bool:
    """Whether at least half of `span` lies in `other`."""
    return 2 * _overlap(span, other) >= span[1] - span[0]


def _distance(span: Span, at_ms: int) -> int:
    return max(0, span[0] - at_ms, at_ms - span[1])

"""Clauses of a story: `Claim`, `list_pieces`, `lead_sentence`. Words for pieces, and what exactly the words claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from reports.diary.pieces import Piece, is_sure
from reports.diary.rows import phrase
from reports.diary.wording import capitalised, listed, said_duration, said_times, said_together
from reports.events import Event
from reports.spans import segment_span, total

Names = Mapping[str, str]

_MOST = 8  # clauses of a list; what is shortest beyond them is counted
_COUNTED_MS = 6_000  # uses that last longer on average are not counted: short pauses in them are not seen
_MOMENT_MS = 2_000  # what a thing without a duration weighs


@dataclass(frozen=True)
class Claim:
    """What a line says of one label: `times` times from `start_ms` to `end_ms`, `total_ms` in all.

    Times count from the recording's start. `is_return`: pairs of passes are told as ways out and back. `is_sure`: not
    told as "probably". `is_counted`: how often is said, `is_timed`: how long. Of what is probable neither is.
    `is_told`: in words of its own, not only counted among "more events".
    """

    label: str
    times: int
    start_ms: int
    end_ms: int
    total_ms: int
    event_ids: tuple[str, ...]
    is_sure: bool = True
    is_return: bool = False
    is_counted: bool = True
    is_timed: bool = True
    is_told: bool = True


@dataclass(frozen=True)
class _Clause:
    phrase: str
    suffix: str  # how often, how long, what was done with it
    thing: str
    kind: str
    is_sure: bool
    claims: tuple[Claim, ...]


def lead_sentence(lead: Piece, inside: Sequence[Piece], names: Names) -> tuple[str, list[Claim]]:
    """The sentence of a lead and of what is told with it, and its claims."""
    clause = _clause([lead], names, before="", with_uses=False)
    text, claims = ("" if clause.is_sure else "probably ") + clause.phrase + clause.suffix, [*clause.claims]
    if lead.kind == "state":
        parts: list[tuple[str, Sequence[Piece], str]] = [(": ", [*lead.uses, *inside], "")]
    else:
        parts = [(": ", lead.uses, lead.thing), ("; meanwhile ", inside, "")]
    for joint, own, thing in parts:
        if own:
            told, told_claims = list_pieces(own, names, before=thing)
            text, claims = text + joint + told, claims + told_claims
    return f"{capitalised(text)}.", claims


def list_pieces(
    own: Sequence[Piece], names: Names, *, before: str = "", is_brief: bool = False
) -> tuple[str, list[Claim]]:
    """Pieces as one list of clauses, grouped with counts: what is sure first, then what is probable; and the claims.

    Where there is much, what is least is only counted. `before` is the thing of the words in front. `is_brief`: within
    parentheses.
    """
    clauses: dict[bool, list[_Clause]] = {True: [], False: []}
    groups = _groups(own)
    heaviest = sorted(range(len(groups)), key=lambda i: -_weight_ms(groups[i]))[:_MOST]
    for group in (groups[i] for i in sorted(heaviest)):
        of_kind = clauses[is_sure([event for piece in group for event in piece.events])]
        thing = of_kind[-1].thing if of_kind else before
        clause = _clause(group, names, before=thing, is_brief=is_brief)
        if of_kind and _are_opposite(of_kind[-1], clause):
            other = of_kind.pop()
            both = said_together(other.phrase, clause.phrase)
            clause = _Clause(both, clause.suffix, clause.thing, "", clause.is_sure, other.claims + clause.claims)
        of_kind.append(clause)
    texts = [clause.phrase + clause.suffix for clause in clauses[True]]
    if clauses[False]:
        texts.append(f"probably {listed([clause.phrase + clause.suffix for clause in clauses[False]])}")
    untold = [group for i, group in enumerate(groups) if i not in heaviest]
    if untold:
        count = sum(len(piece.all_events) for group in untold for piece in group)
        texts.append(f"{count} more events" if count > 1 else "one more event")
    claims = [claim for sure in (True, False) for clause in clauses[sure] for claim in clause.claims]
    rest = [claim for group in untold for claim in _clause(group, names, before="").claims]
    return listed(texts), [*claims, *(replace(claim, is_told=False) for claim in rest)]


def _groups(own: Iterable[Piece]) -> list[list[Piece]]:
    """Pieces of one label together, labels of one thing beside each other, in the order in which they first occur."""
    things: dict[str, dict[tuple[str, bool], list[Piece]]] = {}
    for piece in sorted(own, key=lambda piece: piece.whole_span):
        labels = things.setdefault(piece.thing or piece.label, {})
        labels.setdefault((piece.label, piece.is_return), []).append(piece)
    return [group for labels in things.values() for group in labels.values()]


def _weight_ms(group: Sequence[Piece]) -> int:
    return sum(piece.total_ms if piece.lasts else _MOMENT_MS * len(piece.events) for piece in group)


def _clause(
    group: Sequence[Piece], names: Names, *, before: str, is_brief: bool = False, with_uses: bool = True
) -> _Clause:
    """Pieces of one label; `before` is the thing that was spoken of just before."""
    first = group[0]
    claim = _claim(group)
    claims = []
    said = phrase(names[first.label]) if first.role is None else first.role.phrase
    if first.role and first.role.together:
        opening = first.opening if len(group) == 1 else None
        if opening and is_sure([opening]):
            claims.append(_claim_of([opening], times=1))
        if claims or first.is_return or (first.kind == "use" and first.thing == before):
            said = first.role.together
    is_long = first.kind in ("use", "") and claim.total_ms > _COUNTED_MS * claim.times
    is_counted = claim.is_sure and not is_long
    times = said_times(len(group) if first.is_return else claim.times) if is_counted else ""
    is_timed = claim.is_sure and first.lasts and not (times and is_brief)
    used = ""
    if with_uses and (uses := [use for piece in group for use in piece.uses]):
        used, more = list_pieces(uses, names, before=first.thing, is_brief=True)
        claims += more
    duration = said_duration(claim.total_ms) if is_timed else ""
    if times and duration:
        suffix = f" {times} ({duration}" + (f"; {used})" if used else ")")
    else:
        suffix = (f" {times}" if times else f" for {duration}" if duration else "") + (f" ({used})" if used else "")
    claims.insert(0, replace(claim, is_counted=is_counted, is_timed=is_timed))
    return _Clause(said, suffix, first.thing, first.kind, claim.is_sure, tuple(claims))


def _are_opposite(before: _Clause, after: _Clause) -> bool:
    """Whether two clauses are told as one: "opened and closed the door"."""
    return (
        before.kind == after.kind == "toggle"
        and before.thing == after.thing
        and before.suffix == after.suffix
        and bool(set(before.phrase.split()) & set(after.phrase.split()))
    )


def _claim(group: Sequence[Piece]) -> Claim:
    """Of pieces of one label, with all that could be said of them."""
    events = [event for piece in group for event in piece.events]
    claim = _claim_of(events, times=sum(piece.times for piece in group))
    return replace(claim, total_ms=sum(piece.total_ms for piece in group), is_return=group[0].is_return)


def _claim_of(events: Sequence[Event], *, times: int) -> Claim:
    spans = [segment_span(event.segment) for event in events]
    return Claim(
        label=events[0].label,
        times=times,
        start_ms=min(start for start, _ in spans),
        end_ms=max(end for _, end in spans),
        total_ms=total(spans),
        event_ids=tuple(event.id for event in events),
        is_sure=is_sure(events),
        is_timed=False,
    )

"""Whether what a story claims is true, and whether its lines contradict each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from reports.diary.clauses import Claim
from reports.diary.roles import Role
from reports.diary.story import StoryLine
from reports.spans import Span, total

Truth = Sequence[tuple[str, int, int]]
"""(label, start, end) in milliseconds of the recording."""


def is_true(claim: Claim, truth: Truth) -> bool:
    """Whether a claim holds: once is an interval at IoU 0.3; a count is the exact count in its stretch.

    Of what a story says how long, the sum is right within a quarter or 2 s. What is said without how often and how long
    is true of at least half of its time.
    """
    own = [(start, end) for label, start, end in truth if label == claim.label]
    stretch = (claim.start_ms, claim.end_ms)
    if not claim.is_counted and not claim.is_timed:
        return 2 * sum(_shared(span, stretch) for span in own) >= claim.total_ms
    if claim.times == 1 and claim.is_counted:
        matching = [span for span in own if 10 * _shared(span, stretch) >= 3 * _joint(span, stretch)]
        matching = sorted(matching, key=lambda span: -_shared(span, stretch))[:1]
    else:
        matching = [span for span in own if 2 * _shared(span, stretch) >= span[1] - span[0]]
    if claim.is_counted and len(matching) != claim.times:
        return False
    true_ms = total(matching)
    return not claim.is_timed or abs(true_ms - claim.total_ms) <= max(2_000, true_ms / 4)


def contradictions(lines: Sequence[StoryLine], roles: Mapping[str, Role]) -> list[str]:
    """What cannot both be: an event told twice, a gap where something is told, two postures or two things in hand."""
    faults = []
    for first, second in combinations(lines, 2):
        if set(first.event_ids) & set(second.event_ids):
            faults.append(f"told twice: {first.text} {second.text}")
        gaps = [line for line in (first, second) if line.kind != "events"]
        others = [line for line in (first, second) if line.kind == "events"]
        if gaps and others:
            faults += [
                f"{gaps[0].text} {others[0].text}"
                for claim in others[0].claims
                if claim.times == 1 and _shared((gaps[0].start_ms, gaps[0].end_ms), (claim.start_ms, claim.end_ms))
            ]
    claims = [claim for line in lines for claim in line.claims if claim.is_told and claim.times == 1]
    claims = [claim for claim in claims if claim.label in roles]
    for one, other in combinations(claims, 2):
        kinds = {roles[one.label].kind, roles[other.label].kind}
        shared_ms = _shared((one.start_ms, one.end_ms), (other.start_ms, other.end_ms))
        if one.label != other.label and kinds in ({"state"}, {"hold"}) and shared_ms > 1_000:
            faults.append(f"{one} and {other}")
    return faults


def _shared(span: Span, other: Span) -> int:
    return max(0, min(span[1], other[1]) - max(span[0], other[0]))


def _joint(span: Span, other: Span) -> int:
    return max(span[1], other[1]) - min(span[0], other[0])

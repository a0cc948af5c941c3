"""One sentence on many claims: `sum_up`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reports.diary.clauses import Claim
from reports.diary.roles import LASTING, Role
from reports.diary.rows import phrase
from reports.diary.wording import capitalised, listed, said_duration, said_times

_NUM_LEADS = 3


@dataclass
class _Sum:
    """All claims of one label."""

    label: str
    role: Role | None
    is_return: bool
    times: int = 0
    total_ms: int = 0
    is_counted: bool = True

    def add(self, claim: Claim) -> None:
        self.times += claim.times
        self.total_ms += claim.total_ms
        self.is_counted = self.is_counted and claim.is_counted

    @property
    def counted(self) -> str:
        """In few words and how often or how long: "drank 14 times"."""
        said = self.role.together or self.role.phrase if self.role else self.label
        if not self.is_counted:
            return f"{said} for {said_duration(self.total_ms)}"
        return f"{said} {said_times(self.times // 2 if self.is_return else self.times)}".rstrip()


def sum_up(claims: Iterable[Claim], names: Mapping[str, str], roles: Mapping[str, Role]) -> str:
    """What took most of the time, with totals and with what was done meanwhile with a thing in hand; ways out and back.

    Of what is sure; where nothing is, of what is probable, without numbers. Empty without claims that last.
    """
    told = list(claims)
    sums = _sums([claim for claim in told if claim.is_sure], roles)
    leads = _leads(sums)
    if not leads:
        probable = [_said(own, names) for own in _leads(_sums(told, roles))[:_NUM_LEADS]]
        return f"Probably {listed(probable)}." if probable else ""
    held = {own.role.thing for own in leads if own.role and own.role.kind == "hold"}
    uses = [own for own in leads if own.role and own.role.kind == "use" and own.role.thing in held]
    clauses = []
    for own in [own for own in leads if own not in uses][:_NUM_LEADS]:
        said, used = _said(own, names), ""
        if own.role and own.role.kind == "hold":
            used = listed([use.counted for use in uses if use.role and use.role.thing == own.role.thing])
        duration, times = said_duration(own.total_ms), said_times(own.times) if own.is_counted else ""
        if times:
            clauses.append(f"{said} {times} ({duration} in all{f'; {used}' if used else ''})")
        else:
            clauses.append(f"{said} for {duration}{f' ({used})' if used else ''}")
    clauses += [own.counted for own in sums if own.is_return]
    return f"{capitalised(listed(clauses))}."


def _sums(claims: Iterable[Claim], roles: Mapping[str, Role]) -> list[_Sum]:
    """One for each label, and one for the ways out and back of each."""
    sums: dict[tuple[str, bool], _Sum] = {}
    for claim in claims:
        own = _Sum(claim.label, roles.get(claim.label), claim.is_return)
        sums.setdefault((claim.label, claim.is_return), own).add(claim)
    return list(sums.values())


def _leads(sums: Iterable[_Sum]) -> list[_Sum]:
    """What lasts, the longest first."""
    lasting = [own for own in sums if own.role is None or own.role.kind in LASTING]
    return sorted(lasting, key=lambda own: (-own.total_ms, own.label))


def _said(own: _Sum, names: Mapping[str, str]) -> str:
    return own.role.phrase if own.role else phrase(names[own.label])

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
    sure_times: int = 0
    is_counted: bool = True

    def add(self, claim: Claim) -> None:
        self.times += claim.times
        self.total_ms += claim.total_ms
        self.is_counted = self.is_counted and claim.is_counted
        self.sure_times += claim.times if claim.is_sure else 0

    @property
    def doubt(self) -> str:
        return "" if 2 * self.sure_times >= self.times else "probably "

    @property
    def counted(self) -> str:
        """In few words and how often or how long: "drank 14 times"."""
        said = self.role.together or self.role.phrase if self.role else self.label
        if not self.is_counted:
            return f"{said} for {said_duration(self.total_ms)}"
        return f"{said} {said_times(self.times // 2 if self.is_return else self.times)}".rstrip()


def sum_up(claims: Iterable[Claim], names: Mapping[str, str], roles: Mapping[str, Role]) -> str:
    """What took most of the time, with totals and with what was done meanwhile with a thing in hand; ways out and back.

    Empty without claims that last.
    """
    sums: dict[tuple[str, bool], _Sum] = {}
    for claim in claims:
        own = _Sum(claim.label, roles.get(claim.label), claim.is_return)
        sums.setdefault((claim.label, claim.is_return), own).add(claim)
    lasting = [own for own in sums.values() if own.role is None or own.role.kind in LASTING]
    uses: dict[str, list[_Sum]] = {own.role.thing: [] for own in lasting if own.role and own.role.kind == "hold"}
    leads = []
    for own in lasting:
        if own.role and own.role.kind == "use" and own.role.thing in uses:
            uses[own.role.thing].append(own)
        else:
            leads.append(own)
    leads.sort(key=lambda own: (-own.total_ms, own.label))
    clauses = []
    for own in leads[:_NUM_LEADS]:
        said = own.doubt + (own.role.phrase if own.role else phrase(names[own.label]))
        used = ""
        if own.role and own.role.kind == "hold":
            used = listed([use.counted for use in uses[own.role.thing]])
        duration, times = said_duration(own.total_ms), said_times(own.times) if own.is_counted else ""
        if times:
            clauses.append(f"{said} {times} ({duration} in all{f'; {used}' if used else ''})")
        else:
            clauses.append(f"{said} for {duration}{f' ({used})' if used else ''}")
    clauses += [own.doubt + own.counted for own in sums.values() if own.is_return]
    clauses.sort(key=lambda clause: clause.startswith("probably "))
    return f"{capitalised(listed(clauses))}." if clauses else ""

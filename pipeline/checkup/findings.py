"""What a check says: whether something is as it should be, what was found, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from pipeline.stage import OWN_PACKAGES

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """The `name` of what was looked at, what was `found`, and `remedy`, what to do, unless `found` says it already."""

    name: str
    state: State
    found: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.state == "ok" and self.remedy:
            raise ValueError(f"{self.name}: what is ok needs no remedy, got {self.remedy}")

    def __str__(self) -> str:
        return f"{self.state:8}{self.name}: {self.found}" + (f"\n        {self.remedy}" if self.remedy else "")


def checked(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What the check finds; whatever it raises is a finding too, so that the other checks are made as well."""
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except Exception as error:
        if type(error).__module__.partition(".")[0] in OWN_PACKAGES:
            findings.append(Finding(name, "failed", str(error)))
        else:
            cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            findings.append(Finding(name, "failed", cause, "nothing else can work here before this does"))
    return findings


def gib(num_bytes: float) -> str:
    """Such as "12.3 GiB"."""
    return f"{num_bytes / 2**30:.3g} GiB"


def duration(seconds: float) -> str:
    """Such as "40 s", "12 min", "3 h 20 min" or "5 days"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{round(minutes / 60 / 24)} days"

"""`Role`: what a label is in a story, and how people say it."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("state", "begin", "end", "hold", "use", "toggle", "pass")
"""How a body is, what starts and ends that or a hold, a thing in hand, what is done for a while, what is done in a
moment, and a way through."""

LASTING = ("state", "hold", "use")
"""Kinds of which a story says how long."""

_TOGETHER = ("state", "hold", "use", "pass")


@dataclass(frozen=True)
class Role:
    """What a label is in a story.

    `thing` joins labels: a begin or an end belongs to a state or hold of that thing, a use to a hold of it. `phrase` is
    in the past, without a subject: "had a cup in hand". `together` is the phrase where the label is told together with
    another one: a state or hold with its begin ("picked up a cup and held it"), a use inside the line of its hold or
    after another label of its thing ("drank"), a pass with the way back ("went out and came back"). Where it is empty,
    the phrase stays.
    """

    kind: str
    thing: str
    phrase: str
    together: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a role is one of {', '.join(KINDS)}, got {self.kind!r}")
        for name, text in (("thing", self.thing), ("phrase", self.phrase)):
            if not text:
                raise ValueError(f"a {name} is missing")
        if self.together and self.kind not in _TOGETHER:
            raise ValueError(f"{self.kind} has no words for together, got {self.together!r}")

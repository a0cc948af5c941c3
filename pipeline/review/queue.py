"""What a review asks: a sample of all that can be asked of recordings, or all of it in order, and what answers it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pipeline.review.recordings import Reviewed
from reports.corrections import Correction
from reports.review.sampling import Item, draw, questions

_NUM = 60
IN_ORDER = "in-order"
"""The way of a queue that is not drawn by a strategy: all that the diary tells of and what lies between, by time."""


def queue(
    recordings: Sequence[Reviewed],
    said: Mapping[str, Sequence[Correction]],
    *,
    who: str,
    way: str,
    num: int | None,
    seed: int,
) -> list[Item]:
    """Up to `num` questions that `who` has not answered yet; where it is None, 60 of a sample, or all in order.

    They are drawn by the strategy `way`, or come in order of time. `said` has the corrections by recording. Where two
    people have answered nothing, the same `seed` asks both the same.
    """
    items: list[Item] = []
    for reviewed in recordings:
        own = [correction for correction in said[reviewed.id] if correction.who == who]
        stored = reviewed.stored
        found = replace(stored.found, less_certain=()) if way == IN_ORDER else stored.found
        items += questions(stored.recording, found, own)
    if way == IN_ORDER:
        return [replace(item, sampling=IN_ORDER) for item in items[:num]]
    return draw(items, num=_NUM if num is None else num, strategy=way, seed=seed)


def answer(item: Item, corrections: Iterable[Correction]) -> Correction | None:
    """The last of the corrections of the item's video that answers it; None where there is none."""
    verdicts = ("right", "wrong", "change", "skip") if item.label else ("complete", "skip")
    answers = [
        correction
        for correction in corrections
        if correction.verdict in verdicts and correction.label == item.label and correction.span == item.span
    ]
    return answers[-1] if answers else None

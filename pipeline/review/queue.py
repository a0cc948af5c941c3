"""What is asked in a review, and in which order: events that a diary states, and stretches without any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from reports.corrections import Correction
from reports.diary.stored import StoredRecording
from reports.spans import Span, segment_span, without

QUIET_MS = 10_000
"""Stretches without events are asked about in pieces of at most this length: as long as one can keep in mind."""
_SHORTEST_QUIET_MS = 2_000


@dataclass(frozen=True)
class Item:
    """One question: is this event right? With an empty `label`: is nothing on in this time?

    `probability` is the mean one of the event; `sampling` says how the item was drawn.
    """

    recording_id: str
    span: Span
    label: str = ""
    event_id: str = ""
    probability: float | None = None
    sampling: str = "in order"


def answer(item: Item, corrections: Iterable[Correction]) -> Correction | None:
    """The last of the corrections of the item's video that answers it; None where there is none."""
    verdicts = ("right", "wrong", "change", "skip") if item.label else ("complete", "skip")
    answers = [
        correction
        for correction in corrections
        if correction.verdict in verdicts and correction.label == item.label and correction.span == item.span
    ]
    return answers[-1] if answers else None


def questions(stored: StoredRecording) -> list[Item]:
    """All that can be asked of a recording, in order of time: each event, and what lies between them in pieces."""
    name, events = stored.recording.id, stored.found.events
    items = [Item(name, segment_span(event.segment), event.label, event.id, event.mean_probability) for event in events]
    for span in without(stored.recording.observed_spans, [item.span for item in items]):
        items += [Item(name, piece) for piece in _pieces(span)]
    return sorted(items, key=lambda item: (item.span, item.label))


def _pieces(span: Span) -> list[Span]:
    """The span in equal pieces of at most `QUIET_MS`; none where it is too short to be asked about."""
    start, end = span
    if end - start < _SHORTEST_QUIET_MS:
        return []
    count = -(-(end - start) // QUIET_MS)
    edges = [start + (end - start) * number // count for number in range(count + 1)]
    return list(pairwise(edges))


def queue(
    recordings: Sequence[StoredRecording],
    said: Mapping[str, Sequence[Correction]],
    *,
    who: str,
    sampling: str,
    num: int,
) -> list[Item]:
    """Up to `num` questions that `who` has not answered yet; `said` has the corrections by recording."""
    own = {name: [each for each in corrections if each.who == who] for name, corrections in said.items()}
    items = [item for stored in recordings for item in questions(stored)]
    return [item for item in items if answer(item, own.get(item.recording_id, ())) is None][:num]

"""Corrections in the words of a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from pipeline.diaries.correcting import Corrections
from pipeline.review.judgement import make_correction
from pipeline.review.recordings import Reviewed
from pipeline.said_times import stretch_said
from reports.corrections import Correction
from reports.events import Event

_USAGE = "wanted EVENT_ID right, wrong, relabel LABEL, move START END, or note TEXT"


class CannotAmend(Exception):
    """What was said does not fit the diary."""


def amended(folder: Path, recordings: Sequence[Reviewed], words: Sequence[str], *, who: str) -> Correction:
    """The correction of an event: its id as the pages have it, what is said, and what belongs to that.

    Raises `CannotAmend`, `BadTime`, or `BadJudgement`.
    """
    if len(words) < 2:
        raise CannotAmend(f"{_USAGE}; got {' '.join(words) or 'nothing'}")
    event_id, verdict, *details = words
    reviewed, event = _event(folder, recordings, event_id)
    start_s, end_s = round(event.segment.start_s, 3), round(event.segment.end_s, 3)
    new: dict[str, str | float] = {}
    match (verdict, details):
        case ("right" | "wrong", []):
            pass
        case ("note", [text]):
            new = {"note": text}
        case ("relabel", [label]):
            new = {"new_label": _label(reviewed, label), "new_start_s": start_s, "new_end_s": end_s}
        case ("move", [_] | [_, _]):
            new_start_s, new_end_s = stretch_said(details, reviewed.stored.recording)
            new = {"new_label": event.label, "new_start_s": new_start_s, "new_end_s": new_end_s}
        case _:
            raise CannotAmend(f"{_USAGE}; got {' '.join(words)}")
    said = {
        "recording": reviewed.id,
        "verdict": "change" if verdict in ("relabel", "move") else verdict,
        "who": who,
        "label": event.label,
        "start_s": start_s,
        "end_s": end_s,
        "event_id": event_id,
        "probability": event.mean_probability,
        "sampling": "amend",
    }
    return make_correction(reviewed, said | new)


def added(recordings: Sequence[Reviewed], label: str, words: Sequence[str], *, who: str) -> Correction:
    """The correction that adds an event to RECORDING from START to END. Raises as `amended` does."""
    if len(words) not in (2, 3):
        raise CannotAmend(
            f"wanted --add LABEL RECORDING START END; got {' '.join(words) or 'nothing'} behind the label"
        )
    by_id = {reviewed.id: reviewed for reviewed in recordings}
    if words[0] not in by_id:
        raise CannotAmend(f"there is no recording {words[0]!r}; there are {', '.join(by_id)}")
    reviewed = by_id[words[0]]
    start_s, end_s = stretch_said(words[1:], reviewed.stored.recording)
    said = {
        "recording": reviewed.id,
        "verdict": "add",
        "who": who,
        "label": _label(reviewed, label),
        "start_s": start_s,
        "end_s": end_s,
        "sampling": "amend",
    }
    return make_correction(reviewed, said)


def undone(folder: Path, recordings: Sequence[Reviewed], words: Sequence[str], *, who: str) -> Correction:
    """The correction that takes back the last one of `who`. Raises `CannotAmend`."""
    if words:
        raise CannotAmend(f"--undo is given alone; got {' '.join(words)}")
    corrections = Corrections(folder)
    own = [
        (correction.when, correction.id, reviewed)
        for reviewed in recordings
        for correction in corrections.of(reviewed.video_sha256)
        if correction.who == who
    ]
    if not own:
        raise CannotAmend(f"there is nothing to undo: {who} has said nothing of these recordings")
    _, last, reviewed = max(own, key=lambda each: datetime.fromisoformat(each[0]))
    return make_correction(reviewed, {"recording": reviewed.id, "verdict": "undo", "who": who, "undoes": last})


def _event(folder: Path, recordings: Sequence[Reviewed], event_id: str) -> tuple[Reviewed, Event]:
    corrections = Corrections(folder)
    for reviewed in recordings:
        # Of what a model stated a correction has removed some: it can be judged again.
        told = reviewed.stored.with_corrections(corrections.of(reviewed.video_sha256)).found
        stated = reviewed.stored.found
        for event in (*told.events, *stated.events, *stated.less_certain):
            if event.id == event_id:
                return reviewed, event
    raise CannotAmend(
        f"there is no event {event_id!r} in {folder}; ids stand in events.jsonl and in the pages, such as "
        f"{next((e.id for each in recordings for e in each.stored.found.events), 'kitchen-001')}"
    )


def _label(reviewed: Reviewed, said: str) -> str:
    """The label's id, from its id or its name; case does not matter."""
    names: Mapping[str, str] = reviewed.stored.names
    if said in names:
        return said
    fitting = [label for label, name in names.items() if name.casefold() == said.strip().casefold()]
    if len(fitting) != 1:
        near = [name for name in names.values() if said.casefold() in name.casefold()] or list(names.values())
        raise CannotAmend(f"{said!r} is no label of {reviewed.id}; wanted one of: {', '.join(near)}")
    return fitting[0]

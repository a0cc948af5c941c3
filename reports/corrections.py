"""What people say of a diary's events: `Correction`, a line of corrections.jsonl, and `Known`, what follows of them.

A correction is tied to the hash of the video's bytes, a label and a time, and to no event's id: it holds for what a new
model states, and for a file that was renamed or moved.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from features.files import append_line, remove_lines
from features.video import Segment
from reports.events import Event, EventsFound
from reports.spans import Span, segment_span, union, without

log = logging.getLogger(__name__)

Verdict = Literal["right", "wrong", "change", "add", "complete", "skip", "note", "undo"]
_SHORTEST_MS = 300
"""What is left of a stated event beside what a person corrected is no event if it is shorter."""


class BadCorrection(Exception):
    """A correction contradicts itself."""


@dataclass(frozen=True)
class Correction:
    """One verdict of `who` at `when` (ISO 8601 with offset) on [`start_s`, `end_s`) of a video, by its `video_sha256`.

    | verdict | says that in this time |
    |---|---|
    | right | `label` is on, and ends with it |
    | wrong | `label` is not on |
    | change | it was `new_label` from `new_start_s` to `new_end_s`, and not `label` elsewhere in this time |
    | add | `label` is on, which nothing stated |
    | complete | nothing else is on than what is right, added or changed |
    | skip, note | nothing: somebody looked and could not tell, or wrote a `note` |
    | undo | the correction with the id `undoes` was never made |

    `event_id`, `probability` and `model_sha256` are of the event that was judged, empty or None where there was none;
    `sampling` says how it came to be judged. Ids are unique.
    """

    id: str
    verdict: Verdict
    video_sha256: str
    who: str
    when: str
    label: str = ""
    start_s: float = 0.0
    end_s: float = 0.0
    new_label: str = ""
    new_start_s: float | None = None
    new_end_s: float | None = None
    undoes: str = ""
    note: str = ""
    event_id: str = ""
    probability: float | None = None
    model_sha256: str = ""
    sampling: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in get_args(Verdict):
            raise BadCorrection(f"a verdict is one of {', '.join(get_args(Verdict))}, got {self.verdict!r}")
        if not self.id or not self.video_sha256:
            raise BadCorrection("a correction has an id and the hash of a video")
        try:
            when = datetime.fromisoformat(self.when)
        except (TypeError, ValueError) as error:
            raise BadCorrection(f"{self.when!r} is no time in ISO 8601") from error
        if when.utcoffset() is None:
            raise BadCorrection(f"{self.when} has no offset from UTC")
        if self.verdict in ("right", "wrong", "change", "add") and not self.label:
            raise BadCorrection(f"{self.verdict!r} needs a label")
        if self.verdict not in ("undo", "note") and not 0 <= self.start_s < self.end_s:
            raise BadCorrection(f"a stretch ends after it starts, got {self.start_s} to {self.end_s}")
        if self.verdict == "change":
            if not self.new_label or self.new_start_s is None or self.new_end_s is None:
                raise BadCorrection("'change' needs a new label, start and end")
            if not 0 <= self.new_start_s < self.new_end_s:
                raise BadCorrection(f"a stretch ends after it starts, got {self.new_start_s} to {self.new_end_s}")
        if (self.verdict == "undo") != bool(self.undoes):
            raise BadCorrection("'undo', and nothing else, names the correction that it undoes")

    @property
    def span(self) -> Span:
        return segment_span(Segment(self.start_s, self.end_s))

    @property
    def new_span(self) -> Span:
        assert self.new_start_s is not None
        assert self.new_end_s is not None
        return segment_span(Segment(self.new_start_s, self.new_end_s))


def append_correction(path: Path, correction: Correction) -> None:
    """Add it to the file; once this returns, a kill or a power cut does not lose it."""
    append_line(path, json.dumps(dataclasses.asdict(correction), ensure_ascii=True, allow_nan=False))


def read_corrections(path: Path) -> list[Correction]:
    """The corrections in the order in which they were made, without those undone; none where there is no file.

    A line that is none, such as one that a power cut left unfinished, is passed over with a warning.
    """
    corrections: dict[str, Correction] = {}
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            correction = Correction(**json.loads(line))
        except (ValueError, TypeError, BadCorrection) as error:
            log.warning("%s, line %d is passed over: it is no correction (%s)", path, number, error)
            continue
        if correction.verdict == "undo":
            corrections.pop(correction.undoes, None)
        else:
            corrections[correction.id] = correction
    return list(corrections.values())


def forget_corrections(path: Path, video_sha256: str) -> int:
    """Remove the lines of a video from the file, those that are damaged too, and say how many."""
    return remove_lines(path, lambda line: video_sha256.encode() in line)


@dataclass(frozen=True)
class Known:
    """When each label is known to be `on` and known to be `off` in one video, by label, in order and apart.

    All other time nobody judged.
    """

    on: Mapping[str, Sequence[Span]]
    off: Mapping[str, Sequence[Span]]


def known_times(
    corrections: Iterable[Correction], labels: Collection[str], *, exclusions: Iterable[tuple[str, str]] = ()
) -> Known:
    """What the corrections of one video say of `labels`; where two differ the later one holds.

    A label is off while one that excludes it is on.
    """
    on: defaultdict[str, list[Span]] = defaultdict(list)
    off: defaultdict[str, list[Span]] = defaultdict(list)
    complete: list[Span] = []

    def judge(label: str, span: Span, *, is_on: bool) -> None:
        yes, no = (on, off) if is_on else (off, on)
        no[label] = without(no[label], [span])
        # Two events that touch stay two.
        yes[label] = [*without_joining(yes[label], span), span]

    for correction in corrections:
        match correction.verdict:
            case "right" | "add":
                judge(correction.label, correction.span, is_on=True)
            case "wrong":
                judge(correction.label, correction.span, is_on=False)
            case "change":
                judge(correction.label, correction.span, is_on=False)
                judge(correction.new_label, correction.new_span, is_on=True)
            case "complete":
                complete.append(correction.span)
    for first, second in exclusions:
        for label, other in ((first, second), (second, first)):
            off[other] = without([*off[other], *on[label]], on[other])
    return Known(
        {label: tuple(sorted(on[label])) for label in labels},
        {label: tuple(union([*off[label], *without(complete, on[label])])) for label in labels},
    )


def without_joining(spans: Sequence[Span], taken: Span) -> list[Span]:
    """The spans with `taken` cut out of each; those that touch stay apart."""
    return [piece for span in spans for piece in without([span], [taken])]


def corrected(found: EventsFound, known: Known, recording_id: str) -> EventsFound:
    """The events with what is known in place of what a model says of the same label and time.

    An event that is known is `confirmed`, with the probability of the stated one that it overlaps most, 1 where there
    is none. What is left of a stated event beside it, or is very short, goes. Ids stay, so that a list of corrections
    that was made with a page at hand fits: a known event has the id of the stated one, one that nothing stated
    "<recording_id>-<label>-<milliseconds>".
    """
    events = [piece for event in found.events for piece in _pieces(event, known)]
    for label, spans in known.on.items():
        stated = [event for event in (*found.events, *found.less_certain) if event.label == label]
        for span in spans:
            segment = Segment(span[0] / 1000, span[1] / 1000)
            nearest = max(stated, key=lambda event: event.segment.overlap_s(segment), default=None)
            event_id, peak, mean = "", 1.0, 1.0
            if nearest is not None and nearest.segment.overlap_s(segment):
                event_id, peak, mean = nearest.id, nearest.peak_probability, nearest.mean_probability
            events.append(Event(event_id, label, segment, peak, mean, confirmed=True))
    events.sort(key=lambda event: (event.segment.start_s, event.label))
    taken: set[str] = set()
    for place, event in enumerate(events):
        if not event.id or event.id in taken:
            start_ms, _ = segment_span(event.segment)
            events[place] = replace(event, id=f"{recording_id}-{event.label}-{start_ms}")
        taken.add(events[place].id)
    return replace(
        found,
        events=tuple(events),
        less_certain=tuple(event for event in found.less_certain if _pieces(event, known) == [event]),
    )


def _pieces(event: Event, known: Known) -> list[Event]:
    """What of a stated event nobody judged, without what touches a known event of its label."""
    on, off = known.on.get(event.label, ()), known.off.get(event.label, ())
    span = segment_span(event.segment)
    pieces = without([span], [*on, *off])
    if pieces == [span]:
        return [event]
    edges = {edge for known_span in on for edge in known_span}
    return [
        replace(event, segment=Segment(start / 1000, end / 1000))
        for start, end in pieces
        if end - start >= _SHORTEST_MS and start not in edges and end not in edges
    ]

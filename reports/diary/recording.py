"""`Recording`: one video file, when it begins, and what of it was observed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from features.video import Segment
from reports.diary import readings
from reports.diary.clock import format_offset, moment
from reports.spans import Span, segment_span, to_ms

_SOURCE_PHRASES = {
    readings.GIVEN: "the user",
    readings.GPS: "the file’s GPS track",
    readings.METADATA: "the file’s metadata",
    readings.NAME: "the file name",
    readings.CHAPTER: "the end of the chapter before",
    readings.FOLLOWS: "the end of the recording before",
    readings.MODIFIED: "the file modification time",
}

_NEARLY_ALL = 0.9
"""Of a picture's area: of what lies outside more than this, nothing is said."""


@dataclass(frozen=True)
class Unrecognisable:
    """A stretch that was observed and of which the model can say nothing, with the reason, such as "too dark"."""

    segment: Segment
    reason: str


@dataclass(frozen=True)
class Recording:
    """One video file and what of it was seen.

    `recorded_at` is when its first frame was taken, with an offset from UTC, or None; `is_guess`, `clock_note` and
    `clock_readings` are those of `starts.RecordingStart`. `observed` are the stretches that the model saw, in order and
    apart; the `unrecognisable` ones, in order and apart, lie within them and hold no event. `stated_s` is how long the
    file says that it is, and `faults` are sentences on what decoding found wrong. `seen_share` are the shares of the
    picture's width and height, in its middle, that the model saw.
    """

    id: str
    file_name: str
    duration_s: float
    recorded_at: datetime | None
    recorded_at_source: str
    observed: tuple[Segment, ...]
    is_guess: bool = False
    clock_note: str = ""
    clock_readings: tuple[readings.ClockReading, ...] = ()
    stated_s: float | None = None
    faults: tuple[str, ...] = ()
    unrecognisable: tuple[Unrecognisable, ...] = ()
    seen_share: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if self.recorded_at is not None and self.recorded_at.utcoffset() is None:
            raise ValueError(f"{self.id}: recorded_at needs an offset from UTC, got {self.recorded_at.isoformat()}")
        if self.recorded_at_source not in readings.SOURCES:
            raise ValueError(f"{self.id}: recorded_at_source is one of {readings.SOURCES}")
        if (self.recorded_at is None) != (self.recorded_at_source == readings.UNKNOWN):
            raise ValueError(f"{self.id}: start {self.recorded_at} does not fit source {self.recorded_at_source!r}")
        if not self.duration_s >= 0 or any(a.end_s > b.start_s for a, b in pairwise(self.observed)):
            raise ValueError(f"{self.id}: a duration of {self.duration_s} s and {self.observed} do not fit")
        if any(a.segment.end_s > b.segment.start_s for a, b in pairwise(self.unrecognisable)):
            raise ValueError(f"{self.id}: {self.unrecognisable} overlap or are out of order")

    @property
    def span_ms(self) -> Span:
        """From 0 to the end of the file; windows on a time grid may reach a little beyond its last frame."""
        ends_s = [self.duration_s, *(stretch.end_s for stretch in self.observed)]
        return (0, to_ms(max(ends_s)))

    @property
    def stated_ms(self) -> int:
        """How long the file says that it is; 0 where it does not say."""
        return 0 if self.stated_s is None else to_ms(self.stated_s)

    @property
    def missing_ms(self) -> int:
        """By how much the file ends before it says; 0 up to a second, which is rounding."""
        missing_ms = self.stated_ms - self.span_ms[1]
        return missing_ms if missing_ms > 1000 else 0

    @property
    def unseen_note(self) -> str:
        """A sentence on what of the picture the model did not see; empty where that is a tenth of its area or less."""
        width, height = self.seen_share
        if width * height >= _NEARLY_ALL:
            return ""
        parts = [f"{share:.0%} of its {side}" for side, share in (("width", width), ("height", height)) if share < 1]
        return f"The model sees the middle of the picture: {' and '.join(parts)}."

    @property
    def observed_spans(self) -> list[Span]:
        return [segment_span(stretch) for stretch in self.observed]

    @property
    def origin_ms(self) -> int:
        """Milliseconds from 1970 to the recording's start; 0 where the start is not known."""
        return 0 if self.recorded_at is None else to_ms(self.recorded_at.timestamp())

    @property
    def utc_offset(self) -> str:
        """As in "UTC+01:00", or "UTC+02:00, later UTC+01:00"; empty where the start is not known."""
        if self.recorded_at is None:
            return ""
        first, last = format_offset(self.recorded_at), format_offset(moment(self.recorded_at, self.span_ms[1]))
        return first if first == last else f"{first}, later {last}"

    @property
    def clock_source(self) -> str:
        """The source as part of a sentence that says where the start comes from."""
        return _SOURCE_PHRASES.get(self.recorded_at_source, "nowhere")

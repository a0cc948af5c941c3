"""`Recording`: one video file, when it begins, and what of it was observed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from features.video import Segment
from reports.diary.spans import Span, segment_span, to_ms

RECORDED_AT_SOURCES = (
    "container metadata",
    "file name",
    "file modification time",
    "given by the user",
    "unknown",
)
"""Where a recording's start may be known from."""


@dataclass(frozen=True)
class Recording:
    """One video file and what of it was seen.

    `recorded_at` is when its first frame was taken, with an offset from UTC, or None; `observed` are the stretches that
    the model saw, in order and apart.
    """

    id: str
    file_name: str
    duration_s: float
    recorded_at: datetime | None
    recorded_at_source: str
    observed: tuple[Segment, ...]

    def __post_init__(self) -> None:
        if self.recorded_at is not None and self.recorded_at.utcoffset() is None:
            raise ValueError(f"{self.id}: recorded_at needs an offset from UTC, got {self.recorded_at.isoformat()}")
        if self.recorded_at_source not in RECORDED_AT_SOURCES:
            raise ValueError(f"{self.id}: recorded_at_source is one of {RECORDED_AT_SOURCES}")
        if (self.recorded_at is None) != (self.recorded_at_source == "unknown"):
            raise ValueError(f"{self.id}: start {self.recorded_at} does not fit source {self.recorded_at_source!r}")
        if not self.duration_s >= 0 or any(a.end_s > b.start_s for a, b in pairwise(self.observed)):
            raise ValueError(f"{self.id}: a duration of {self.duration_s} s and {self.observed} do not fit")

    @property
    def span_ms(self) -> Span:
        """From 0 to the end of the file; windows on a time grid may reach a little beyond its last frame."""
        ends_s = [self.duration_s, *(stretch.end_s for stretch in self.observed)]
        return (0, to_ms(max(ends_s)))

    @property
    def observed_spans(self) -> list[Span]:
        return [segment_span(stretch) for stretch in self.observed]

    @property
    def origin_ms(self) -> int:
        """Milliseconds from 1970 to the recording's start; 0 where the start is not known."""
        return 0 if self.recorded_at is None else to_ms(self.recorded_at.timestamp())

    @property
    def utc_offset(self) -> str:
        """As in "UTC+01:00"; empty where the start is not known."""
        if self.recorded_at is None:
            return ""
        return f"UTC{self.recorded_at.strftime('%z')[:3]}:{self.recorded_at.strftime('%z')[3:5]}"

    @property
    def clock_source(self) -> str:
        """The source as part of a sentence that says where the start comes from."""
        source = self.recorded_at_source
        return "the user" if source == "given by the user" else f"the {source.replace('container', 'file’s')}"

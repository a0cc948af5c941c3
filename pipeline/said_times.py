"""Times of a video in the words of a shell: from its start, or by the clock, as its diary writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from reports.diary.recording import Recording

_TIME = re.compile(r"(?:(?:(\d{1,3}):)?(\d{1,6}):)?(\d{1,9}(?:\.\d{1,9})?)")
_BETWEEN = re.compile(r"\s*[-–]\s*|\s+")  # pages have a dash
_DAY_S = 86_400


class BadTime(Exception):
    """What was said is no time, or no stretch of time."""


def stretch_said(words: Sequence[str], recording: Recording | None = None) -> tuple[float, float]:
    """Seconds from the start of the video, of START and END in two words, or of START-END in one.

    Each is as `seconds_said` reads it. Raises `BadTime`.
    """
    said = " ".join(words)
    times = [time for word in words for time in _BETWEEN.split(word.strip()) if time]
    if len(times) != 2:
        raise BadTime(f"a stretch is written START-END, such as 00:12:10-00:12:40, got {said!r}")
    start_s, end_s = (seconds_said(time, recording) for time in times)
    if not start_s < end_s:
        raise BadTime(f"a stretch ends after it starts, got {said!r}")
    return start_s, end_s


def seconds_said(said: str, recording: Recording | None = None) -> float:
    """Seconds from the start of the video, of "75.5", "1:15" or "08:01:15". Raises `BadTime`.

    A time with hours is the clock's where the recording is on then, behind midnight on the next day; else it is from
    the video's start, unless that is beyond its end.
    """
    time = _TIME.fullmatch(said)
    if time is None:
        raise BadTime(f"{said!r} is no time: wanted seconds such as 75.5, or a time such as 08:01:15")
    time_s = int(time[1] or 0) * 3600 + int(time[2] or 0) * 60 + float(time[3])
    if time[1] is None or recording is None or recording.recorded_at is None:
        return time_s
    start, length_s = recording.recorded_at, recording.span_ms[1] / 1000
    at = start.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(seconds=time_s)
    offset_s = at.timestamp() - start.timestamp()
    clock_s = round(offset_s if offset_s > -1 else offset_s + _DAY_S, 3)
    return time_s if time_s <= length_s < clock_s else clock_s

"""What a file's head says of when it was recorded: texts as they stand there, not yet weighed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from av.container import InputContainer
from av.error import FFmpegError

from features.decode.container import opened, stated_duration_s
from features.decode.gopro import gps_start

_TIME_TAGS = (
    "com.apple.quicktime.creationdate",  # has the offset of the place
    "date_recorded",  # Matroska
    "datetimeoriginal",  # EXIF's name, in Motion-JPEG and AVI
    "creation_time",
    "creationdate",  # FLV
    "date",  # Matroska, QuickTime's ©day, AVI's ICRD
)
"""Tags that may hold a time, the most telling first; in lower case, as FFmpeg keeps the case of each format."""


@dataclass(frozen=True)
class ClockTags:
    """What is known of a file's clock without decoding it.

    `times` has the text of each tag that may hold a time, the most telling first; `maker` is "Android", "GoPro" or
    whatever the file states; `duration_s` is what the file states, often wrong, or None; `gps_start` is when it begins
    by its GPS track, in UTC.
    """

    times: Mapping[str, str] = field(default_factory=dict)
    maker: str = ""
    duration_s: float | None = None
    gps_start: datetime | None = None


def read_clock_tags(path: Path) -> ClockTags:
    """The time tags in the file's head. Decodes nothing. Raises `UnreadableVideo`."""
    with opened(path) as (container, stream):
        tags = {key.lower(): text for key, text in container.metadata.items() if text}
        of_stream = {key.lower(): text for key, text in stream.metadata.items() if text}
        times = {}
        for tag in _TIME_TAGS:
            if tag in tags:
                times[tag] = tags[tag]
            if of_stream.get(tag, tags.get(tag)) != tags.get(tag):
                times[f"{tag} of the video stream"] = of_stream[tag]
        return ClockTags(
            times=times,
            maker=_maker(container, tags),
            duration_s=stated_duration_s(container, stream),
            gps_start=_gps_start(container),
        )


def _gps_start(container: InputContainer) -> datetime | None:
    try:
        return gps_start(container)
    except FFmpegError:  # damage, which decoding reports
        return None


def _maker(container: InputContainer, tags: Mapping[str, str]) -> str:
    if any(tag.startswith("com.android.") for tag in tags):
        return "Android"
    if any("GoPro" in stream.metadata.get("handler_name", "") for stream in container.streams):
        return "GoPro"
    return tags.get("com.apple.quicktime.make") or tags.get("make") or ""

"""Progress by seconds of video, with the speed in times real time and the time that is left."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TextIO

from tqdm import tqdm

from features.decode.container import UnreadableVideo, opened, stated_duration_s


def stated_seconds(path: Path) -> float | None:
    """How long the file's head says that the video is; 0 of one that cannot be read."""
    try:
        with opened(path) as (container, stream):
            return stated_duration_s(container, stream)
    except UnreadableVideo:
        return 0.0


class VideoSeconds(tqdm):
    """A bar of the seconds of several videos, by id: each goes on to the second that `reach` names.

    `stated_s` are the lengths that the videos state, None where one states nothing: then no end is shown. Videos of
    which a part is done already begin at `done_s`.
    """

    _stated_s: Mapping[str, float | None]
    _reached_s: dict[str, float]

    @classmethod
    def of(
        cls, stated_s: Mapping[str, float | None], *, done_s: Mapping[str, float], desc: str, file: TextIO | None = None
    ) -> Self:
        lengths = [length for length in stated_s.values() if length is not None]
        total = sum(lengths) if len(lengths) == len(stated_s) else None
        until = " of {total:.0f}" if total else ""
        bar = cls(
            total=total,
            initial=sum(done_s.values()),
            desc=desc,
            file=file or sys.stderr,
            disable=not stated_s,
            bar_format="{desc}: {n:.0f}" + until + " s of video, {speed}" + (", {remaining} left" if total else ""),
        )
        bar._stated_s, bar._reached_s = stated_s, dict(done_s)
        return bar

    def reach(self, video_id: str, time_s: float) -> None:
        """The video is done up to `time_s`, which may be past the end that it states."""
        time_s = min(time_s, self._stated_s.get(video_id) or time_s)
        self.update(max(0.0, time_s - self._reached_s.get(video_id, 0.0)))
        self._reached_s[video_id] = max(time_s, self._reached_s.get(video_id, 0.0))

    @property
    def format_dict(self) -> dict[str, Any]:
        values = super().format_dict
        elapsed_s, done_s = values["elapsed"], values["n"] - values["initial"]
        speed = f"{done_s / elapsed_s:.1f}x real time" if elapsed_s and done_s else "starting"
        return {**values, "speed": speed}

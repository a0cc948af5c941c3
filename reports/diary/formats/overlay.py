"""Events drawn onto the pictures of the recording: names with probabilities, and a clock."""

from __future__ import annotations

import bisect
import functools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pixels
from PIL import ImageDraw, ImageFont

from features.video import Image
from reports.diary.clock import format_offset, moment
from reports.diary.escaping import visible
from reports.diary.formats.spans import stretches
from reports.diary.recording import Recording
from reports.diary.story import format_probability
from reports.events import Event, EventsFound
from reports.spans import to_ms

_SHADE = (0, 0, 0, 176)
_WHITE = (255, 255, 255, 255)
_LABELS_SHARE = 0.6  # of the picture's height that labels may cover
_MAX_SIGNS = 300  # of a line: no picture shows more
_MISSING = "\U0010ffff"  # no font has it

Patch = npt.NDArray[np.uint8]
"""RGBA pixels (H, W, 4)."""


@dataclass(frozen=True)
class Panel:
    """What one model says of a recording; `title` stands above it where it is not empty."""

    found: EventsFound
    names: Mapping[str, str]
    title: str = ""


class Overlay:
    """Draws what models say onto the pictures of one recording, a panel for each model, side by side."""

    def __init__(self, recording: Recording, panels: Sequence[Panel]) -> None:
        self._recording = recording
        self._panels = [_Drawn(panel) for panel in panels]

    def draw(self, image: Image, time_s: float) -> Image:
        """The picture that is shown at `time_s`, (H, W, 3), with all that is on then: (H, W * number of panels, 3)."""
        time_ms = to_ms(time_s)
        clock = _clock_text(self._recording, time_ms)
        return np.concatenate([panel.draw(image, time_ms, clock) for panel in self._panels], axis=1)


class _Drawn:
    """A panel with its events by time, and what was drawn last: most pictures have what the one before had."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._stretches = stretches(panel.found.events)
        self._starts_ms = [start_ms for (start_ms, _), _ in self._stretches]
        self._head: tuple[object, Patch | None] = (None, None)
        self._labels: tuple[object, Patch | None] = (None, None)

    def draw(self, image: Image, time_ms: int, clock: str) -> Image:
        height, width = image.shape[:2]
        size = min(40, max(11, height // 24))
        active = self._active(time_ms)
        if self._head[0] != (clock, image.shape):
            lines = [(clock, None), *([(self._panel.title, None)] if self._panel.title else [])]
            self._head = ((clock, image.shape), _patch(lines, size, width, height))
        if self._labels[0] != (active, image.shape):
            self._labels = ((active, image.shape), self._label_patch(active, size, width, height))
        drawn = image.copy()
        if self._head[1] is not None:
            _blend(drawn, self._head[1], top=0)
        if self._labels[1] is not None:
            _blend(drawn, self._labels[1], top=height - len(self._labels[1]))
        return drawn

    def _active(self, time_ms: int) -> tuple[Event, ...]:
        place = bisect.bisect_right(self._starts_ms, time_ms) - 1
        if place < 0 or time_ms >= self._stretches[place][0][1]:
            return ()
        return self._stretches[place][1]

    def _label_patch(self, active: Sequence[Event], size: int, width: int, height: int) -> Patch | None:
        if not active:
            return None
        events = sorted(active, key=lambda event: (-event.mean_probability, event.label))
        room = max(1, int(height * _LABELS_SHARE) // _line_height(size))
        kept = events if len(events) <= room else events[: room - 1]
        lines: list[tuple[str, str | None]] = [
            (f"{self._panel.names[event.label]} {format_probability(event.mean_probability)}", event.label)
            for event in kept
        ]
        if len(kept) < len(events):
            lines.append((f"and {len(events) - len(kept)} more", None))
        return _patch(lines, size, width, height)


def _clock_text(recording: Recording, time_ms: int) -> str:
    """Date, time and offset, or the time from the start where the recording's is not known; seconds are begun ones."""
    if recording.recorded_at is None:
        seconds = time_ms // 1000
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    now: datetime = moment(recording.recorded_at, time_ms)
    return f"{now:%Y-%m-%d %H:%M:%S} {format_offset(now)}{' (a guess)' if recording.is_guess else ''}"


def _patch(lines: Sequence[tuple[str, str | None]], size: int, max_width: int, max_height: int) -> Patch:
    """Lines of text on a shade, no larger than a picture; a label's line begins with a bar of its colour."""
    font, line_height, margin = _font(size), _line_height(size), size // 3
    texts = [_fitting(text, font, max_width - 4 * margin) for text, _ in lines]
    width = min(max_width, 4 * margin + max(round(font.getlength(text) + 0.5) for text in texts))
    patch = Pixels.new("RGBA", (width, min(max_height, line_height * len(lines))), _SHADE)
    pen = ImageDraw.Draw(patch)
    for number, (text, (_, label)) in enumerate(zip(texts, lines, strict=True)):
        top = number * line_height
        if label is not None:
            pen.rectangle((margin // 2, top + 2, margin, top + line_height - 3), fill=_colour(label))
        pen.text((2 * margin, top + line_height / 2), text, font=font, fill=_WHITE, anchor="lm")
    return np.asarray(patch)


def _blend(image: Image, patch: Patch, *, top: int) -> None:
    """Lay the patch over the picture, at its left edge."""
    height, width = patch.shape[:2]
    below = image[top : top + height, :width]
    alpha = patch[:, :, 3:].astype(np.uint16)
    below[:] = (patch[:, :, :3] * alpha + below * (255 - alpha) + 127) // 255


def _fitting(text: str, font: ImageFont.FreeTypeFont, max_width: int) -> str:
    """The text on one line, in signs that the font has, cut where it is too long."""
    shown = "".join(char if _has_glyph(char) else "\N{REPLACEMENT CHARACTER}" for char in visible(text)[:_MAX_SIGNS])
    if font.getlength(shown) <= max_width:
        return shown
    while shown and font.getlength(f"{shown}…") > max_width:
        shown = shown[:-1]
    return f"{shown}…"


@functools.lru_cache(maxsize=4096)
def _has_glyph(char: str) -> bool:
    font = _font(20)
    return char.isspace() or bytes(font.getmask(char)) != bytes(font.getmask(_MISSING))


@functools.lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings: Pillow's own font has the signs of English alone."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def _line_height(size: int) -> int:
    return size * 3 // 2


def _colour(label: str) -> str:
    """Of a label, the same in every video."""
    return f"hsl({zlib.crc32(label.encode(errors='replace')) % 360}, 80%, 60%)"

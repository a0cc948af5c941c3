"""Bars as SVG, which paper shows too: a browser prints no backgrounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Bar:
    """A bar from 0 to `value`, of 1; nan and None leave it out."""

    value: float | None
    colour: str


def bar(value: float, colour: str, *, low: float = math.nan, high: float = math.nan) -> Markup:
    """One bar on its track, and a line from `low` to `high` where they are known."""
    line = ""
    if math.isfinite(low) and math.isfinite(high):
        line = f'<path class="whisker" d="M{100 * low:.1f} 5H{100 * high:.1f}"/>'
    return _svg(10, f'<rect class="track" width="100" height="10"/>{_rect(Bar(value, colour), 0, 10)}{line}')


def bars(own: Sequence[Bar], *, tick: float) -> Markup:
    """Bars from top to bottom, and a line across at `tick`."""
    rects = "".join(_rect(each, 3 * k, 2.6) for k, each in enumerate(own))
    height = 3 * len(own)
    line = f'<path class="tick" d="M{100 * tick:.1f} 0V{height}"/>' if math.isfinite(tick) else ""
    return _svg(height, rects + line)


def _rect(own: Bar, y: float, height: float) -> str:
    if own.value is None or math.isnan(own.value):
        return ""
    return f'<rect y="{y:g}" width="{100 * own.value:.1f}" height="{height:g}" fill="{own.colour}"/>'


def _svg(height: int, content: str) -> Markup:
    """Numbers and the page's own colours alone are in it."""
    return Markup(
        f'<svg class="bar" viewBox="0 0 100 {height}" preserveAspectRatio="none" aria-hidden="true">{content}</svg>'
    )

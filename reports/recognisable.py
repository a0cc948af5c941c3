"""Where a recording shows something that its model can speak of, and the events there. Knows windows and no pixels.

Each window has a reason why nothing can be said of it, or none. Plain checks of the picture come first, then the
distance from what the model was trained on. A single odd window says little: each takes the reason that most of the
windows that overlap it have, so that what lasts less than about a window is neither told nor hides an event.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from features.pictures import WindowPictures
from features.sealed import damage_told, read_sealed_json, write_sealed_json
from features.video import Segment
from heads.targets import window_cells
from reports.decoding import Decoding
from reports.diary.recording import Unrecognisable
from reports.events import EventsFound, touching_runs

TOO_DARK = "too dark"
ONE_COLOUR = "one colour, as if the lens were covered"
STILL = "the picture stands still"
UNLIKE = "unlike anything the model was trained on"

_FALSE_ALARMS, _MARGIN = 0.01, 1.25
_REMEDY = "run `dvc repro sweep`, or export the model again with `dvc repro export`"


@dataclass(frozen=True)
class Limits:
    """From where a window is not recognisable; luma and its differences from 0 to 1, black to white.

    `max_distance` is chosen on val. The others hold for any camera:

    - `dark` is ten of 255 grey levels: a picture whose mean and whose contrast are below it is sensor noise, or black.
      A candle in a dark room has contrast; the demo's rooms with the light off have a mean of 75 and a contrast of 16.
    - `flat` is five grey levels, whatever the brightness: noise of as much as 12 in each pixel of a covered lens
      has no more once the picture has been made small.
    - `still` is a hundredth of a grey level. Encoders remove the noise of a scene in which nothing moves, so that a
      picture that hangs cannot be told from a room in which nothing ever does: it has to last `still_s`, and somebody
      who breathes moves more. A refresh of the picture, which an encoder makes now and then, does not end it.
    """

    max_distance: float
    dark: float = 10 / 255
    flat: float = 5 / 255
    still: float = 0.01 / 255
    still_s: float = 60.0

    @classmethod
    def chosen(cls, val_distances: npt.NDArray[np.floating]) -> Self:
        """A quarter more than the distance that one in a hundred of val's windows exceeds, with somebody in it or not.

        Windows of one room lie about as far as each other, and val has few rooms: where the hundredth alone was the
        limit, it took whole stretches from single videos of val, and with them true events.
        """
        if not len(val_distances):
            raise ValueError("val has no windows to choose a limit on")
        return cls(max_distance=round(_MARGIN * float(np.quantile(val_distances, 1 - _FALSE_ALARMS)), 4))

    def save(self, path: Path) -> None:
        """Write as JSON, with its hash."""
        write_sealed_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises `DamagedFile`, or `FileNotFoundError`."""
        with damage_told(path, remedy=_REMEDY):
            return cls(**read_sealed_json(path, remedy=_REMEDY))


def unrecognisable(
    windows: Sequence[Segment],
    distances: npt.NDArray[np.floating],
    pictures: WindowPictures | None,
    limits: Limits,
    *,
    stride_s: float,
) -> tuple[Unrecognisable, ...]:
    """The stretches of sorted `windows` (n,) of which nothing can be said, in order and apart; borders are of cells.

    `distances` (n,) are from what the model was trained on. Without `pictures` that alone counts.
    """
    if len(distances) != len(windows) or (pictures is not None and len(pictures.motion) != len(windows)):
        raise ValueError(f"{len(windows)} windows, and {len(distances)} distances")
    cells = window_cells(windows, stride_s=stride_s)
    reasons = _by_majority(windows, _reasons(windows, cells, distances, pictures, limits))
    stretches = []
    for reason in (TOO_DARK, ONE_COLOUR, STILL, UNLIKE):
        own = np.array([each == reason for each in reasons], dtype=np.bool_)
        for first, end in touching_runs(cells, own):
            stretches.append(Unrecognisable(Segment(cells[first].start_s, cells[end - 1].end_s), reason))
    return tuple(sorted(stretches, key=lambda stretch: stretch.segment))


def recognisable_events(
    decoding: Decoding,
    recording_id: str,
    windows: Sequence[Segment],
    probabilities: npt.NDArray[np.floating],
    stretches: Sequence[Unrecognisable],
    *,
    stride_s: float,
    careful: bool = False,
) -> EventsFound:
    """`Decoding.events` of sorted windows outside the `stretches`: no event lies in one, or reaches into one.

    What is left is decoded cell by cell, as if nothing had been observed in the stretches.
    """
    if stretches:
        cells = window_cells(windows, stride_s=stride_s)
        inside = [any(_is_inside(cell, stretch.segment) for stretch in stretches) for cell in cells]
        windows = [cell for cell, is_inside in zip(cells, inside, strict=True) if not is_inside]
        probabilities = probabilities[~np.array(inside)]
    return decoding.events(recording_id, windows, probabilities, stride_s=stride_s, careful=careful)


def _is_inside(cell: Segment, stretch: Segment) -> bool:
    return stretch.start_s <= cell.start_s and cell.end_s <= stretch.end_s


def _reasons(
    windows: Sequence[Segment],
    cells: Sequence[Segment],
    distances: npt.NDArray[np.floating],
    pictures: WindowPictures | None,
    limits: Limits,
) -> list[str]:
    """Each window's own reason, or ""."""
    reasons = np.where(distances > limits.max_distance, UNLIKE, "").astype(object)
    if pictures is not None:
        for first, end in touching_runs(cells, _still(windows, pictures.motion < limits.still)):
            if cells[end - 1].end_s - cells[first].start_s >= limits.still_s:
                reasons[first:end] = STILL
        reasons[pictures.contrast < limits.flat] = ONE_COLOUR
        reasons[(pictures.brightness < limits.dark) & (pictures.contrast < limits.dark)] = TOO_DARK
    return [str(reason) for reason in reasons]


def _still(windows: Sequence[Segment], is_still: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """`is_still` (n,) with those windows that move between still ones, and all of which hold one instant."""
    bridged = is_still.copy()
    numbers = np.flatnonzero(is_still).tolist()
    for before, after in pairwise(numbers):
        if after > before + 1 and windows[after - 1].start_s < windows[before + 1].end_s:
            bridged[before:after] = True
    return bridged


def _by_majority(windows: Sequence[Segment], reasons: Sequence[str]) -> list[str]:
    """Each window's reason by the majority of the windows that overlap it; its own, where two are as frequent."""
    voted = []
    first = 0
    for number, window in enumerate(windows):
        while windows[first].end_s <= window.start_s:
            first += 1
        end = number + 1
        while end < len(windows) and windows[end].start_s < window.end_s:
            end += 1
        counts = Counter(reasons[first:end])
        voted.append(max(counts, key=lambda reason: (counts[reason], reason == reasons[number])))
    return voted

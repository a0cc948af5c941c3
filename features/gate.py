"""The motion gate: windows in which nothing has moved since the last one that was embedded take its embedding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from features.video import Clip

VERSION = 1
"""Part of the key of what is cached: raised when other windows repeat."""

_CELLS = 16  # on either side of a frame
_CELL_PIXELS = 8  # on either side of a cell; of larger ones every second, third … pixel counts
_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # of red, green, blue: BT.709


@dataclass(frozen=True)
class MotionGate:
    """When a window repeats the last embedded one: no part of its frames differs, and it begins at most `max_s` later.

    Frame by frame, none of the 16 x 16 cells of the picture has a mean luma that differs by more than `max_change`, on
    a scale of 0 to 1. A cell counts, not the whole picture: a hand that moves is small. A strip has more cells.
    """

    max_change: float
    max_s: float

    def to_json(self) -> dict[str, float]:
        """What the provenance of gated embeddings says of it."""
        return {**asdict(self), "version": VERSION}

    def marked(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        """The clips of one video, all of them and in order; those that repeat are without pixels."""
        embedded: Clip | None = None
        cells: npt.NDArray[np.float32] = np.empty(0, dtype=np.float32)
        for clip in clips:
            own = _cell_luma(clip.frames)
            is_late = embedded is None or clip.segment.start_s - embedded.segment.start_s > self.max_s
            if is_late or np.abs(own - cells).max() > self.max_change:
                embedded, cells = clip, own
                yield clip
            else:
                yield replace(clip, frames=clip.frames[:, :0, :0], repeats=True)


def batches(clips: Iterable[Clip], batch_size: int) -> Iterator[list[Clip]]:
    """Batches that hold up to `batch_size` clips to be embedded, each with those behind it that repeat it."""
    batch: list[Clip] = []
    num_embedded = 0
    for clip in clips:
        if num_embedded == batch_size and not clip.repeats:
            yield batch
            batch, num_embedded = [], 0
        batch.append(clip)
        num_embedded += not clip.repeats
    if batch:
        yield batch


def embedded_row(batch: Iterable[Clip]) -> npt.NDArray[np.int64]:
    """For each clip of a batch, (n,), its row among those of the batch that are embedded."""
    return np.cumsum([not clip.repeats for clip in batch]) - 1


def _cell_luma(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Mean luma of each cell of the frames (T, H, W, 3), (T, 16, 16); where H and W do not divide, an edge is left.

    The longer side of a strip has as many more cells.
    """
    num_frames, height, width, _ = frames.shape
    shorter = min(height, width)
    step = max(1, shorter // (_CELLS * _CELL_PIXELS))
    luma = frames[:, ::step, ::step].astype(np.float32) @ (_LUMA / np.float32(255))
    down, across = (round(_CELLS * side / shorter) for side in (height, width))
    rows, columns = luma.shape[1] // down, luma.shape[2] // across
    cut = luma[:, : rows * down, : columns * across]
    return cut.reshape(num_frames, down, rows, across, columns).mean(axis=(2, 4))

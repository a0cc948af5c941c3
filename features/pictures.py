"""What the pixels of windows show before any model looks: `WindowPictures`. Knows numbers and no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_SIDE = 64  # pixels that suffice on either side: of larger frames every second, third … pixel counts
_LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # of red, green, blue: BT.709


PictureNumbers = tuple[float, float, float]
"""Brightness, contrast and motion of one window."""


@dataclass(frozen=True, eq=False)
class WindowPictures:
    """Three numbers (n,) float32 of each window's frames, by luma from 0 to 1.

    `brightness` is the mean; `contrast` the standard deviation within a frame, mean of the frames; `motion` the mean
    absolute difference between a frame and the next, 0 where there is one frame.
    """

    brightness: npt.NDArray[np.float32]
    contrast: npt.NDArray[np.float32]
    motion: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if not self.brightness.shape == self.contrast.shape == self.motion.shape == (len(self.brightness),):
            raise ValueError("pictures need one brightness, contrast and motion for each window")

    @classmethod
    def of(cls, numbers: Sequence[PictureNumbers]) -> WindowPictures:
        """From what `picture_numbers` says of each window."""
        return cls(*np.array(numbers, dtype=np.float32).reshape(-1, 3).T)

    @classmethod
    def joined(cls, parts: Sequence[WindowPictures]) -> WindowPictures:
        """Those of a video's parts, in order."""
        names = ("brightness", "contrast", "motion")
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def picture_numbers(frames: npt.NDArray[np.uint8]) -> PictureNumbers:
    """(brightness, contrast, motion) of one window's `frames` (T, H, W, 3); a regular sample of large ones."""
    _, height, width, _ = frames.shape
    step = max(1, min(height, width) // _SIDE)
    luma = frames[:, ::step, ::step] @ (_LUMA / 255)
    motion = float(np.abs(np.diff(luma, axis=0)).mean()) if len(luma) > 1 else 0.0
    return float(luma.mean()), float(luma.std(axis=(1, 2)).mean()), motion

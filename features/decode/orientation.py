"""How a stored picture is mirrored, turned and stretched until it is upright with square pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import av
import numpy as np
from av.buffer import Buffer
from av.video.reformatter import VideoReformatter

from features.video import Image

MAX_SHOWN_PIXELS = 2**25
"""Of an upright picture: 8K has as many."""


@dataclass(frozen=True)
class Orientation:
    """Makes a stored picture upright: mirrors it left to right if `mirrored`, then turns it counterclockwise.

    `quarter_turns` is 0 … 3. Together the two express all eight ways to hold a camera.
    """

    quarter_turns: int = 0
    mirrored: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.quarter_turns <= 3:
            raise ValueError(f"quarter_turns lie in 0 … 3, got {self.quarter_turns}")

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """From the display matrix that the decoder attaches to a frame; no matrix turns nothing.

        Where other data beside it is of a type unknown to PyAV, as in Apple's spatial video, no picture is mirrored.
        """
        # A frame whose side data was read waits for the cyclic garbage collector: here a tiny copy waits in its place.
        tiny = VideoReformatter().reformat(frame, width=16, height=16, format="gray", interpolation="POINT", threads=1)
        try:
            matrix = tiny.side_data.get("DISPLAYMATRIX")
        except ValueError:
            return cls(round(frame.rotation / 90) % 4)
        return cls.from_matrix(np.frombuffer(bytes(matrix), np.int32).tolist()) if isinstance(matrix, Buffer) else cls()

    @classmethod
    def from_matrix(cls, matrix: Sequence[int]) -> Orientation:
        """From a container's display matrix: nine numbers, row by row, for row vectors; y points down.

        Angles are rounded to the nearest quarter turn. A matrix of zeros turns nothing.
        """
        a, b, _, c, d = (float(value) for value in matrix[:5])
        mirrored = a * d < b * c
        if mirrored:  # without the flip of x, the rest is a turn
            a, b = -a, -b
        return cls(round(-math.atan2(b, a) / (math.pi / 2)) % 4, mirrored)

    def upright(self, image: Image) -> Image:
        """The stored `image` (H, W, 3) upright: (H, W, 3), or (W, H, 3) after an odd number of quarter turns."""
        return np.ascontiguousarray(np.rot90(image[:, ::-1] if self.mirrored else image, self.quarter_turns))

    def shown_size(self, height: int, width: int, pixel_aspect: float) -> tuple[int, int]:
        """(height, width) upright with square pixels: the stored height is kept, the stored width stretched.

        Both shrink where that makes more than `MAX_SHOWN_PIXELS`.
        """
        shrink = min(1.0, math.sqrt(MAX_SHOWN_PIXELS / (height * width * pixel_aspect)))
        height, width = max(1, round(height * shrink)), max(1, round(width * pixel_aspect * shrink))
        return (width, height) if self.quarter_turns % 2 else (height, width)


def resized(image: Image, size: tuple[int, int]) -> Image:
    """`image` (H, W, 3) at `size` (height, width), bilinear with antialiasing; the same array if it has that size."""
    if image.shape[:2] == size:
        return image
    import torch
    import torch.nn.functional as F

    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    stretched = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
    return np.ascontiguousarray(stretched[0].permute(1, 2, 0).numpy())


def shrunk(image: Image, max_side: int | None) -> Image:
    """`image` (H, W, 3) with neither side longer than `max_side` pixels; None keeps it, and so does a smaller one."""
    if max_side is None or max(image.shape[:2]) <= max_side:
        return image
    height, width = (max(1, round(side * max_side / max(image.shape[:2]))) for side in image.shape[:2])
    return resized(image, (height, width))

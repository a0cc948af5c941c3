"""Small pictures of a video, as JPEG: `Thumbnail`, `Thumbnails`. Knows pixels, times and bytes, and no file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt
from PIL import Image

MAX_SIDE = 240
"""Pixels of a thumbnail's longer side; a smaller picture keeps its size."""

_QUALITY = 70


@dataclass(frozen=True)
class Thumbnail:
    """The `jpeg` of a whole upright frame that is shown at `time_s`."""

    time_s: float
    jpeg: bytes

    @classmethod
    def of(cls, image: npt.NDArray[np.uint8], time_s: float) -> Thumbnail:
        """Of the picture `image` (H, W, 3): the same pixels give the same bytes."""
        picture = Image.fromarray(image)
        picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=_QUALITY)
        return cls(time_s, file.getvalue())


class PackedJpegs(Sequence[bytes]):
    """JPEGs of the `sizes` (n,), one after the other in `content` uint8, which may lie in a mapped file."""

    def __init__(self, content: npt.NDArray[np.uint8], sizes: Sequence[int]) -> None:
        ends = np.cumsum(sizes, dtype=np.int64).tolist()
        if (ends[-1] if ends else 0) != len(content):
            raise ValueError(f"JPEGs of {sum(sizes)} bytes do not fit {len(content)}")
        self._content, self._ends = content, [0, *ends]

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        return self._content[self._ends[number] : self._ends[number + 1]].tobytes()


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """The `jpegs` (n,) of whole upright frames, shown at `times_s` (n,) in ascending order; there may be none."""

    times_s: npt.NDArray[np.float64]
    jpegs: Sequence[bytes]

    def __post_init__(self) -> None:
        if self.times_s.shape != (len(self.jpegs),) or np.any(np.diff(self.times_s) <= 0):
            raise ValueError(f"{len(self.jpegs)} thumbnails need as many ascending times, got {self.times_s.shape}")

    @classmethod
    def none(cls) -> Thumbnails:
        return cls(np.empty(0), [])

    @classmethod
    def of(cls, thumbnails: Sequence[Thumbnail]) -> Thumbnails:
        """All of one video's, in order."""
        times_s = np.array([thumbnail.time_s for thumbnail in thumbnails], dtype=np.float64)
        return cls(times_s, [thumbnail.jpeg for thumbnail in thumbnails])

    @classmethod
    def joined(cls, parts: Sequence[Thumbnails]) -> Thumbnails:
        """Those of a video's parts, in order."""
        return cls(np.concatenate([part.times_s for part in parts]), [jpeg for part in parts for jpeg in part.jpegs])

    @property
    def shape(self) -> tuple[int, int] | None:
        """(H, W) of the first one, which has the shape of the video's pictures but for rounding; None without one."""
        if not len(self.jpegs):
            return None
        with Image.open(io.BytesIO(self.jpegs[0])) as picture:
            return picture.height, picture.width

    def nearest(self, time_s: float) -> bytes | None:
        """The picture whose time is nearest, the earlier of two; None where there are none."""
        if not len(self.times_s):
            return None
        return self.jpegs[int(np.argmin(np.abs(self.times_s - time_s)))]

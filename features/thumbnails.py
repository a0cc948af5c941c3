"""Small pictures of a video, as JPEG: `Thumbnails`. Knows times and bytes and no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """The `jpegs` (n,) of whole upright frames, shown at `times_s` (n,) in ascending order; there may be none."""

    times_s: npt.NDArray[np.float64]
    jpegs: Sequence[bytes]

    def __post_init__(self) -> None:
        if self.times_s.shape != (len(self.jpegs),) or np.any(np.diff(self.times_s) <= 0):
            raise ValueError(f"{len(self.jpegs)} thumbnails need as many ascending times, got {self.times_s.shape}")

    def nearest(self, time_s: float) -> bytes | None:
        """The picture whose time is nearest, the earlier of two; None where there are none."""
        if not len(self.times_s):
            return None
        return self.jpegs[int(np.argmin(np.abs(self.times_s - time_s)))]

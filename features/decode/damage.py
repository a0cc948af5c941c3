"""Counts of what is wrong with a video file, and the sentences that report them. Knows no file and no decoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_GAP_S = 1.0


@dataclass
class Damage:
    """Counts that grow while a file is read; all stay zero for an intact file."""

    num_packets: int = 0
    num_damaged: int = 0
    num_concealed: int = 0
    num_misplaced: int = 0
    num_gaps: int = 0
    longest_gap: tuple[float, float] = (0.0, 0.0)

    def add_pause(self, start_s: float, end_s: float) -> None:
        """Count a pause without a new frame as a gap if it is longer than a second."""
        if end_s - start_s > _GAP_S:
            self.num_gaps += 1
            self.longest_gap = max(self.longest_gap, (start_s, end_s), key=lambda gap: gap[1] - gap[0])

    def sentences(self, end_s: float, stated_s: float | None) -> Iterator[str]:
        """Warnings about a video that ends at `end_s` and whose file states `stated_s`. None for an intact one."""
        faults = []
        if self.num_damaged:
            faults.append(f"{self.num_damaged} of {self.num_packets} packets are damaged")
        if self.num_concealed:
            faults.append(f"{self.num_concealed} frames came out incomplete")
        if self.num_misplaced:
            faults.append(f"{self.num_misplaced} frames whose times do not fit were left out")
        if stated_s is not None and end_s < stated_s - _GAP_S:
            faults.append("shorter than stated")
        if faults:
            stated = "no duration" if stated_s is None else f"{stated_s:.2f} s"
            yield f"{', '.join(faults)}; it ends at {end_s:.2f} s, the file states {stated}"
        if self.num_gaps:
            start_s, stop_s = self.longest_gap
            yield (
                f"nothing new is shown for more than {_GAP_S:g} s in {self.num_gaps} places, "
                f"the longest from {start_s:.2f} s to {stop_s:.2f} s"
            )

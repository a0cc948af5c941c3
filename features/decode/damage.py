"""What decoding finds out about a video file: counts while it is read, `VideoEnd` when it is read. Knows no decoder."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

from features.video import Segment

_GAP_S = 1.0

T = TypeVar("T")


@dataclass(frozen=True)
class VideoEnd:
    """What is known of a video that was read to its end.

    It ends at `end_s`, where its last frame does; `stated_s` is what its head states, None if nothing. `pauses` are the
    stretches of more than a second in which nothing new is shown. `num_restarts` counts where its clock starts anew.
    `faults` are sentences on what is damaged or missing, `facts` on what is unusual and right; none in most files.
    """

    end_s: float
    stated_s: float | None = None
    num_packets: int = 0
    num_damaged: int = 0
    num_concealed: int = 0
    num_misplaced: int = 0
    num_restarts: int = 0
    pauses: tuple[Segment, ...] = ()
    faults: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> VideoEnd:
        """What `to_json` gave, also after a file."""
        tuples = {name: tuple(content[name]) for name in ("faults", "facts")}
        return cls(**{**content, **tuples, "pauses": tuple(Segment(**pause) for pause in content["pauses"])})


@dataclass
class Damage:
    """Counts that grow while a file is read; all stay zero for an intact file."""

    num_packets: int = 0
    num_damaged: int = 0
    num_concealed: int = 0
    num_misplaced: int = 0
    num_restarts: int = 0
    pauses: list[Segment] = field(default_factory=list)

    def add_pause(self, start_s: float, end_s: float) -> None:
        """Keep a stretch without a new frame as a pause if it is longer than a second."""
        if end_s - start_s > _GAP_S:
            self.pauses.append(Segment(start_s, end_s))

    def end(self, end_s: float, stated_s: float | None) -> VideoEnd:
        """What is known of the video, which ends at `end_s` and whose file states `stated_s`."""
        return VideoEnd(
            end_s=end_s,
            stated_s=stated_s,
            num_packets=self.num_packets,
            num_damaged=self.num_damaged,
            num_concealed=self.num_concealed,
            num_misplaced=self.num_misplaced,
            num_restarts=self.num_restarts,
            pauses=tuple(self.pauses),
            faults=tuple(self._faults(end_s, stated_s)),
            facts=tuple(self._facts()),
        )

    def _faults(self, end_s: float, stated_s: float | None) -> Iterator[str]:
        faults = []
        if self.num_damaged:
            faults.append(f"{self.num_damaged} of {self.num_packets} packets are damaged")
        if self.num_concealed:
            faults.append(f"{self.num_concealed} frames came out incomplete")
        if self.num_misplaced:
            faults.append(f"{self.num_misplaced} frames whose times do not fit were left out")
        # What is stated of a file whose clock starts anew was often reckoned from that clock.
        if stated_s is not None and end_s < stated_s - _GAP_S and not self.num_restarts:
            faults.append("shorter than stated")
        if faults:
            stated = "no duration" if stated_s is None else f"{stated_s:.2f} s"
            yield f"{', '.join(faults)}; it ends at {end_s:.2f} s, the file states {stated}"

    def _facts(self) -> Iterator[str]:
        if self.num_restarts:
            yield f"its clock starts anew {_times(self.num_restarts)}; what follows is taken to follow at once"
        if self.pauses:
            longest = max(self.pauses, key=lambda pause: pause.duration_s)
            yield (
                f"nothing new is shown for more than {_GAP_S:g} s in {_places(len(self.pauses))}, "
                f"the longest from {longest.start_s:.2f} s to {longest.end_s:.2f} s"
            )


class VideoItems(Generic[T]):
    """An iterator of a video's frames or clips; once it is exhausted, `end` is what decoding knows of the video.

    Before that `end` is None, and it stays None where reading stopped before the video's end.
    """

    def __init__(self, items: Generator[T, None, VideoEnd | None]) -> None:
        self._items = items
        self.end: VideoEnd | None = None

    def __iter__(self) -> VideoItems[T]:
        return self

    def __next__(self) -> T:
        try:
            return next(self._items)
        except StopIteration as stop:
            self.end = self.end or stop.value
            raise StopIteration(self.end) from None

    def close(self) -> None:
        self._items.close()


def _times(count: int) -> str:
    return "1 time" if count == 1 else f"{count} times"


def _places(count: int) -> str:
    return "1 place" if count == 1 else f"{count} places"

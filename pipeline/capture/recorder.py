"""A recording as a whole: file after file, through pauses and lost cameras, until it is stopped."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from fractions import Fraction
from pathlib import Path

import av
from filelock import FileLock, Timeout

from features.files import is_no_room
from pipeline.capture.cameras import Camera
from pipeline.capture.recording_file import (
    HIDDEN,
    RecordedFile,
    RecordingFile,
    hidden_folder,
    put_leftovers_in_place,
)
from pipeline.capture.stream import Arrival, CameraLost, CameraStream

log = logging.getLogger(__name__)

_MAX_WAIT_S = 15.0  # between two tries to reach a camera
_MAX_JUMP_S = 2.0  # of a camera's clock; a longer one begins a new file
_PROGRESS_EVERY_S = 1.0
_OVERDUE = 2  # times its length: a file ends then, and a stream without a place to cut loses a picture or two
_GB = 1e9


class CameraGone(Exception):
    """A camera stayed away for longer than the user waits."""


class NoRoomLeft(Exception):
    """The disk has less room than the user wants to keep."""


class InUse(Exception):
    """Another process records into the folder."""


class Control:
    """What the user wants of a recording: to go on, pause or stop. Set by keys and signals, from any thread."""

    def __init__(self) -> None:
        self.is_paused = False
        self._stopped = threading.Event()

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    @property
    def is_interrupted(self) -> bool:
        return self.is_paused or self.is_stopped

    def stop(self) -> None:
        self._stopped.set()

    def wait(self, seconds: float) -> None:
        """Wait, at most until `stop`."""
        self._stopped.wait(seconds)


@dataclass(frozen=True)
class RecordingPlan:
    """Files of `file_s` seconds from `camera` in `folder`, while `min_free_gb` stay free on its disk.

    A lost camera is tried again for `retry_s` seconds. File names are by the clock of `zone`.
    """

    camera: Camera
    folder: Path
    file_s: float
    min_free_gb: float
    retry_s: float
    zone: tzinfo


def record(
    plan: RecordingPlan,
    control: Control,
    *,
    on_file: Callable[[RecordedFile], None],
    on_progress: Callable[[RecordingFile], None],
) -> None:
    """Record until `control` says stop; every file is complete before `on_file` gets it.

    A pause releases the camera. Raises `CameraGone`, `NoRoomLeft` and `InUse`, and `OSError` where the disk is full;
    what was recorded until then is there.
    """
    with _held(plan.folder):
        for path in put_leftovers_in_place(plan.folder):
            log.warning("kept what an interrupted recording left: %s", path)
        lost_s, wait_s = None, 1.0
        while not control.is_stopped:
            if control.is_paused:
                log.info("paused, and the camera is off; space goes on")
                while control.is_paused and not control.is_stopped:
                    control.wait(0.1)
                continue
            session = _Session(plan, on_file, on_progress)
            try:
                session.run(control)
            except CameraLost as error:
                if session.has_recorded or lost_s is None:
                    lost_s, wait_s = time.monotonic(), 1.0
                if time.monotonic() + wait_s - lost_s > plan.retry_s:
                    raise CameraGone(f"{error}; it did not come back within {plan.retry_s:g} s") from error
                log.warning("%s; trying again in %g s", error, wait_s)
                control.wait(wait_s)
                wait_s = min(2 * wait_s, _MAX_WAIT_S)


def rescue_leftovers(folder: Path) -> list[Path]:
    """Put in place what killed recordings into `folder`, or a folder below, left; one that goes on is let alone."""
    rescued = []
    for hidden in sorted(folder.rglob(HIDDEN)):
        with contextlib.suppress(InUse), _held(hidden.parent):
            rescued += put_leftovers_in_place(hidden.parent)
    return rescued


class _Session:
    """A recording for as long as a camera is open."""

    def __init__(
        self,
        plan: RecordingPlan,
        on_file: Callable[[RecordedFile], None],
        on_progress: Callable[[RecordingFile], None],
    ) -> None:
        self._plan, self._on_file, self._on_progress = plan, on_file, on_progress
        self._file: RecordingFile | None = None
        self._origin_s: float | None = None  # wall-clock time of the stream's zero
        self._last: tuple[Fraction, float] | None = None  # the last packet's stamp, and when it arrived
        self._key: Arrival | None = None  # a key frame at which the file may end
        self._told_s = 0.0
        self.has_recorded = False

    def run(self, control: Control) -> None:
        """Record until `control` pauses or stops. Raises what `record` does, and `CameraLost`."""
        _check_room(self._plan)
        with CameraStream(self._plan.camera) as stream:
            try:
                for arrival in stream.arrivals(until=lambda: control.is_interrupted):
                    self._add(arrival, stream)
                    self._tell()
                self._add_rest(stream)
            except CameraLost:
                self._add_rest(stream)
                raise
            except av.FFmpegError as error:
                if is_no_room(error):
                    raise
                raise CameraLost(f"{self._plan.camera.name}: what it sends cannot be written ({error})") from error
            finally:
                self._close_file()

    def _add(self, arrival: Arrival, stream: CameraStream) -> None:
        if self._last is None:
            self._origin_s = stream.origin_s
        self._check_clock(arrival)
        if not stream.is_copied:
            self._encode(arrival, stream.video)
            return
        self._copy(arrival, stream.video)

    def _copy(self, arrival: Arrival, video: av.VideoStream) -> None:
        """Add a packet as it is; files begin with key frames that no earlier picture is needed for.

        The packet after a key frame tells: pictures that are shown before it lean on both sides, and would be lost.
        """
        key, self._key = self._key, None
        if key is not None:
            is_open = arrival.stamp_s < key.stamp_s
            if not is_open or self._is_due(key.stamp_s, times=_OVERDUE):
                self._next_file(key.stamp_s, key.at_s, video, is_copied=True)
            self._add_packet(key)
        if arrival.packet.is_keyframe and self._file is None:
            self._next_file(arrival.stamp_s, arrival.at_s, video, is_copied=True)
        elif arrival.packet.is_keyframe and self._is_due(arrival.stamp_s):
            self._key = arrival
            return
        self._add_packet(arrival)

    def _add_packet(self, arrival: Arrival) -> None:
        if self._file is not None:  # what comes before the first key frame cannot be shown
            self._file.add_packet(arrival.packet)

    def _check_clock(self, arrival: Arrival) -> None:
        """End the file where the camera's clock goes back, or further ahead than time went by."""
        dts_s, before = (arrival.packet.dts or 0) * arrival.packet.time_base, self._last
        self._last = (dts_s, arrival.at_s)
        if self._file is None or before is None:
            return
        step_s = float(dts_s - before[0])
        if step_s < -_MAX_JUMP_S or step_s > arrival.at_s - before[1] + _MAX_JUMP_S:
            log.warning("the camera's clock jumped by %.1f s; a new file begins", step_s)
            self._end_copy()
            self._close_file()
            self._origin_s = None

    def _encode(self, arrival: Arrival | None, video: av.VideoStream) -> None:
        """Decode and encode a packet; None takes what the decoder still holds."""
        frames: list[av.VideoFrame] = []
        with contextlib.suppress(av.InvalidDataError):  # a damaged picture, as the first ones of many cameras
            frames = video.decode(arrival.packet if arrival else None)
        for frame in frames:
            time_base = frame.time_base or video.time_base
            if frame.pts is None or time_base is None:
                continue
            stamp_s = frame.pts * time_base
            if self._is_due(stamp_s):
                self._next_file(stamp_s, arrival.at_s if arrival else time.time(), video, is_copied=False)
            assert self._file is not None
            self._file.add_frame(frame, stamp_s)

    def _add_rest(self, stream: CameraStream) -> None:
        self._end_copy()
        if self._file is not None and not stream.is_copied:
            self._encode(None, stream.video)

    def _end_copy(self) -> None:
        key, self._key = self._key, None
        if key is not None:
            self._add_packet(key)

    def _is_due(self, stamp_s: Fraction, *, times: float = 1) -> bool:
        return self._file is None or self._file.seconds_until(stamp_s) >= times * self._plan.file_s

    def _next_file(self, stamp_s: Fraction, at_s: float, video: av.VideoStream, *, is_copied: bool) -> None:
        """Begin a file with the picture of this stamp, which arrived at `at_s`.

        Its start is counted by the stream's clock from the first file's, so that files join, and set again to the
        arrival once that is later by more than a camera's clock or the network explain, as after a sleep.
        """
        self._close_file()
        _check_room(self._plan)
        stamp = float(stamp_s)
        if self._origin_s is None or at_s - (self._origin_s + stamp) > _MAX_JUMP_S:
            self._origin_s = at_s - stamp
        start = datetime.fromtimestamp(self._origin_s + stamp, UTC).astimezone(self._plan.zone)
        self._file = RecordingFile(self._plan.folder, start, video, first_s=stamp_s, is_copied=is_copied)
        self.has_recorded = True

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None and (recorded := file.close()) is not None:
            self._on_file(recorded)

    def _tell(self) -> None:
        now_s = time.monotonic()
        if self._file is not None and now_s - self._told_s >= _PROGRESS_EVERY_S:
            self._told_s = now_s
            self._on_progress(self._file)


def _check_room(plan: RecordingPlan) -> None:
    free_gb = shutil.disk_usage(plan.folder).free / _GB
    if free_gb < plan.min_free_gb:
        raise NoRoomLeft(
            f"{plan.folder}: {free_gb:.1f} GB are free and {plan.min_free_gb:g} GB are to stay free: the recording "
            "ends here; make room, or lower --min-free-gb"
        )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    lock = FileLock(hidden_folder(folder) / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InUse(f"{folder}: another process records into it: name another folder with -o") from error
    try:
        yield
    finally:
        lock.release()

"""Which picture a video file shows when.

Time counts from the first shown frame, by presentation timestamps. Frame counts, frame rates and durations that a
container states are not trusted. Each file is decoded in one thread; decode several files side by side instead.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import av

from features.decode.container import UnreadableVideo, failing_as
from features.decode.damage import VideoEnd, VideoItems
from features.decode.forward import decode_all, decode_needed, shown_frames
from features.decode.orientation import shrunk
from features.decode.skipping import NeedsFullDecode
from features.decode.timeline import TOLERANCE_S, Shown, on_grid
from features.decode.with_decord import doubts_about_decord, grid_by_decord
from features.video import Frame, Image

_log = logging.getLogger(__name__)

VERSION = 2
"""Part of the provenance of all that is made from frames. Raise it when any file gives other frames or pixels."""

Decoder = Literal["auto", "pyav", "decord"]
"""The library that decodes; `auto` takes, for each file, one that is known to be right on it."""


def decoder_provenance(decoder: Decoder) -> dict[str, Any]:
    """The decoder and the versions of the libraries that it decodes with, since others may give other pixels."""
    versions: dict[str, str] = {}
    if decoder != "decord":
        libraries = ("libavcodec", "libavformat", "libswscale")
        versions = {name: ".".join(map(str, av.library_versions[name])) for name in libraries}
        versions["av"] = metadata.version("av")
    if decoder != "pyav":
        versions["decord"] = metadata.version("decord2")
    return {"name": decoder, "version": VERSION, **versions}


def frames_on_grid(path: Path, *, sample_fps: float, decoder: Decoder, max_still_s: float = 1.0) -> VideoItems[Frame]:
    """The frames shown at t = 0, 1 / sample_fps, 2 / sample_fps … while t lies before the video's end.

    Shown at t is the last frame whose time is at most t + 2 ms. Where nothing new is shown for longer than
    `max_still_s`, the times after that are left out until a new frame comes. Images are upright with square pixels, in
    full resolution, all of the first one's size; neighbours may share one array, so do not write into them. At least
    one frame comes, or `UnreadableVideo` is raised. A damaged file gives the frames that it has. When all have been
    taken, the iterator's `end` is what decoding knows of the video.

    `pyav` decodes in one forward pass, holds a few frames at a time, and logs a warning where something is damaged or
    missing. In H.264 and HEVC in MP4 it skips unneeded non-reference frames: an intact file gives the same pictures,
    and damage in skipped frames goes unseen. `decord` holds all requested frames in memory, decodes some twice where it
    seeks, and conceals damage silently; forced on a file that it is not known to be right on, it may give wrong frames
    or pixels that are not square, or hang on MPEG-TS.

    `auto` takes decord where it is known to be right, else PyAV. To choose, it opens the file once more. It decodes
    nothing for that, unless it takes decord: then all packets are read and one is decoded.
    """
    if sample_fps <= 0:
        raise ValueError(f"sample_fps must be positive, got {sample_fps}")
    if decoder == "pyav":
        return VideoItems(_grid_by_pyav(path, sample_fps, max_still_s))
    doubt = next(doubts_about_decord(path), None)
    if decoder == "decord":
        if doubt:
            _log.warning("%s: decord is forced, and may show wrong frames: %s", path, doubt)
        return VideoItems(_listed(*grid_by_decord(path, sample_fps, max_still_s)))
    if doubt is None:
        try:
            return VideoItems(_listed(*grid_by_decord(path, sample_fps, max_still_s)))
        except UnreadableVideo as error:
            _log.warning("%s; reading it with PyAV", error)
    return VideoItems(_grid_by_pyav(path, sample_fps, max_still_s))


def frames_shown_at(path: Path, times_s: Sequence[float], *, max_side: int | None = None) -> list[Image]:
    """The pictures shown at `times_s`, which must ascend, in one forward pass that ends after the last of them.

    A time before the video gives its first frame, a time after its end its last. No times give no pictures. With
    `max_side`, each is shrunk to at most that many pixels in width and height as soon as it is decoded. Raises
    `UnreadableVideo`, whatever goes wrong.
    """
    if list(times_s) != sorted(times_s):
        raise ValueError(f"times must ascend, got {list(times_s)}")
    images: list[Image] = []
    if not times_s:
        return images
    with failing_as(path), contextlib.closing(shown_frames(path, decode_all)) as frames:
        for shown in frames:
            num_due = bisect.bisect_left(times_s, shown.until_s - TOLERANCE_S)
            if num_due > len(images):
                images += [shrunk(shown.picture(), max_side)] * (num_due - len(images))
            if len(images) == len(times_s):
                return images
        return images + [shrunk(shown.picture(), max_side)] * (len(times_s) - len(images))


def _grid_by_pyav(path: Path, sample_fps: float, max_still_s: float) -> Generator[Frame, None, VideoEnd | None]:
    num_yielded = 0
    for decode in (functools.partial(decode_needed, sample_fps=sample_fps), decode_all):
        with contextlib.suppress(NeedsFullDecode):
            shown = VideoItems(shown_frames(path, decode))
            for frame in itertools.islice(_converted(shown, sample_fps, max_still_s), num_yielded, None):
                yield frame
                num_yielded += 1
            return shown.end
    return None


def _listed(frames: Sequence[Frame], end: VideoEnd) -> Generator[Frame, None, VideoEnd]:
    yield from frames
    return end


def _converted(frames: Iterable[Shown[Callable[[], Image]]], sample_fps: float, max_still_s: float) -> Iterator[Frame]:
    """The frames of the grid; one that is picked several times is converted once."""
    converted: Callable[[], Image] | None = None
    for time_s, shown in on_grid(frames, sample_fps, max_still_s=max_still_s):
        if shown.picture is not converted:
            image, converted = shown.picture(), shown.picture
        yield Frame(time_s, shown.pts_s, shown.until_s, image)

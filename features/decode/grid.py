"""Which picture a video file shows when.

Time counts from the first shown frame, by presentation timestamps. Frame counts, frame rates and durations that a
container states are not trusted. One thread decodes a file: FFmpeg's frame threads give other pixels of damaged files
for each number of threads, and cost more CPU; decode several files side by side instead.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import av

from features.decode.container import UnreadableVideo
from features.decode.forward import CLOCK_S, NeedsFullDecode, Shown, decoded, on_grid, shown_frames
from features.decode.skipping import decoded_sparingly
from features.decode.with_decord import doubts_about_decord, grid_by_decord
from features.video import Frame, Image

_log = logging.getLogger(__name__)

VERSION = 1
"""Part of the provenance of anything made from frames: raised when, for some file, other frames or pixels come out."""

Decoder = Literal["auto", "pyav", "decord"]
"""Who decodes: `auto` takes for each file the one that is known to be right on it."""


def decoder_provenance(decoder: Decoder) -> dict[str, Any]:
    """The decoder and the versions of the libraries that it decodes with: others may give other pixels."""
    versions: dict[str, str] = {}
    if decoder != "decord":
        libraries = ("libavcodec", "libavformat", "libswscale")
        versions = {name: ".".join(map(str, av.library_versions[name])) for name in libraries}
        versions["av"] = metadata.version("av")
    if decoder != "pyav":
        versions["decord"] = metadata.version("decord2")
    return {"name": decoder, "version": VERSION, **versions}


def frames_on_grid(path: Path, *, sample_fps: float, decoder: Decoder) -> Iterator[Frame]:
    """The frames shown at t = 0, 1 / sample_fps, 2 / sample_fps … while t lies before the video's end.

    Shown at t is the last frame whose time is at most t + 2 ms. Images are upright with square pixels, in full
    resolution, all of the first one's size; neighbours may share one array, so do not write into them. At least one
    frame comes, or `UnreadableVideo` is raised. A damaged file gives the frames that it has.

    `pyav` decodes in one forward pass, holds a few frames at a time, and logs a warning where something is damaged or
    missing. In H.264 and HEVC in MP4 it skips unneeded non-reference frames: a whole file gives the same pictures, and
    damage in skipped frames goes unseen. `decord` holds all requested frames in memory, decodes some twice where it
    seeks, and conceals damage silently; forced on a file that it is not known to be right on, it may give wrong frames
    or pixels that are not square, or hang on MPEG-TS.

    `auto` takes decord where it is known to be right, else PyAV. The choice opens the file once more and reads its
    packets; where it is decord, one frame is decoded, too.
    """
    if sample_fps <= 0:
        raise ValueError(f"sample_fps must be positive, got {sample_fps}")
    if decoder == "pyav":
        return _grid_by_pyav(path, sample_fps)
    doubt = next(doubts_about_decord(path), None)
    if decoder == "decord":
        if doubt:
            _log.warning("%s: decord is forced, and may show wrong frames: %s", path, doubt)
        return iter(grid_by_decord(path, sample_fps))
    if doubt is None:
        try:
            return iter(grid_by_decord(path, sample_fps))
        except UnreadableVideo as error:
            _log.warning("%s; reading it with PyAV", error)
    return _grid_by_pyav(path, sample_fps)


def frames_shown_at(path: Path, times_s: Sequence[float]) -> list[Image]:
    """The pictures shown at `times_s`, which must ascend, in one forward pass that ends behind the last of them.

    A time before the video gives its first frame, a time behind its end its last. No times give no pictures.
    """
    if list(times_s) != sorted(times_s):
        raise ValueError(f"times must ascend, got {list(times_s)}")
    images: list[Image] = []
    if not times_s:
        return images
    with contextlib.closing(shown_frames(path, decoded)) as shown:
        for one in shown:
            num_due = bisect.bisect_left(times_s, one.until_s - CLOCK_S)
            if num_due > len(images):
                images += [one.picture()] * (num_due - len(images))
            if len(images) == len(times_s):
                return images
    return images + [one.picture()] * (len(times_s) - len(images))


def _grid_by_pyav(path: Path, sample_fps: float) -> Iterator[Frame]:
    num_given = 0
    for decode in (functools.partial(decoded_sparingly, sample_fps=sample_fps), decoded):
        with contextlib.suppress(NeedsFullDecode):
            for frame in itertools.islice(_converted(shown_frames(path, decode), sample_fps), num_given, None):
                yield frame
                num_given += 1
            return


def _converted(shown: Iterable[Shown[Callable[[], Image]]], sample_fps: float) -> Iterator[Frame]:
    converted: Shown[Callable[[], Image]] | None = None
    for time_s, one in on_grid(shown, sample_fps):
        if one is not converted:
            image, converted = one.picture(), one
        yield Frame(time_s, one.pts_s, one.until_s, image)

"""From video files to preprocessed clips, decoded in worker processes. Knows videos by id and no backbone.

Each video is decoded once, in order. The consumer of the clips decides what an unreadable video means.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from features.decode.container import UnreadableVideo, failing_as
from features.decode.damage import VideoEnd, VideoItems
from features.decode.grid import Decoder, frames_on_grid
from features.gate import MotionGate
from features.pictures import picture_numbers
from features.preprocess import Preprocessing
from features.thumbnails import Thumbnail, Thumbnails
from features.video import Clip, Frame, Views, WindowPlan, cut_clips
from features.workers import WorkerLost, imap_processes, still_alive

VideoClips = VideoItems[Clip]
"""A video's clips; once all are taken, `end` is what decoding knows of the video."""

_CLIPS_AHEAD = 32
"""Clips of one video that may wait to be taken: those of a video of 30 s."""

_HANG_S = 300.0
"""decord decodes the whole file before its first frame; allow five minutes."""


@dataclass(frozen=True)
class Source:
    """A video to read: its id, its file, and its windows by number, all of them where `windows` is None.

    `first_frame` frames of the time grid are skipped before windows are cut: window k begins that much later. With
    `thumbnails`, clips bring one of their middle each. Windows before `first_window` are decoded and left out.
    """

    video_id: str
    path: Path
    windows: frozenset[int] | None = None
    first_frame: int = 0
    thumbnails: bool = False
    first_window: int = 0


@dataclass(frozen=True)
class ClipReader:
    """How a source becomes clips: the windows, the preprocessing of each frame, the decoder, and perhaps a motion gate.

    The gate marks clips of videos that are read as a whole. With `views` `three`, frames of a picture that is no square
    are strips: `Preprocessing.views_of` makes the squares that the model sees.
    """

    plan: WindowPlan
    preprocessing: Preprocessing
    decoder: Decoder
    gate: MotionGate | None = None
    views: Views = "center"

    def clips(self, source: Source) -> VideoClips:
        """The source's clips in order, one in memory at a time; raises `UnreadableVideo`, whatever goes wrong.

        A video of which every window is wanted and none is without a pause is unreadable, too.
        """
        return VideoItems(self._clips_or_failure(source))

    def seen_share(self, thumbnails: Thumbnails) -> tuple[float, float]:
        """The shares of the width and height of a video's pictures that are in its clips; all where none is known."""
        shape = thumbnails.shape
        return (1.0, 1.0) if shape is None else self.preprocessing.seen_share(*shape, self.views)

    def _clips_or_failure(self, source: Source) -> Generator[Clip, None, VideoEnd | None]:
        with failing_as(source.path):
            return (yield from self._clips(source))

    def _clips(self, source: Source) -> Generator[Clip, None, VideoEnd | None]:
        plan = self.plan
        frames = frames_on_grid(
            source.path, sample_fps=plan.sample_fps, decoder=self.decoder, max_still_s=plan.max_still_s
        )
        middles = _Middles(plan, source)
        whole = middles.noted(_watched(frames)) if source.thumbnails else _watched(frames)
        cropped = self.preprocessing.resize_crop_frames(whole, self.views)
        last = math.inf if source.windows is None else max(source.windows, default=-1)
        window = -1
        clips = _numbered(cut_clips(cropped, plan, first_frame=source.first_frame))
        if self.gate is not None and source.windows is None:
            clips = self.gate.marked(clips)
        for clip in clips:
            window = clip.window
            if window > last:
                return None
            if window >= source.first_window and (source.windows is None or window in source.windows):
                thumbnail = middles.of(window)
                yield clip if clip.repeats else replace(clip, thumbnail=thumbnail)
            if window == last:
                return None
        if window < 0 and source.windows is None and frames.end is not None:
            pauses = f"{frames.end.end_s:.2f} s with pauses of more than {plan.max_still_s:g} s"
            raise UnreadableVideo(source.path, f"no window of {plan.window_s:g} s without a pause", pauses)
        return frames.end


def _numbered(clips: Iterable[Clip]) -> Iterator[Clip]:
    for clip in clips:
        yield replace(clip, numbers=picture_numbers(clip.frames))


class _Middles:
    """Thumbnails of the frames in the middle of windows, each made when the whole frame is at hand.

    A window that ends before its middle has none, unless it is the first one: then it has one of the first frame.
    """

    def __init__(self, plan: WindowPlan, source: Source) -> None:
        self._plan, self._source = plan, source
        self._waiting: dict[int, Thumbnail] = {}  # by step of the time grid
        self._is_first = source.first_window == 0

    def noted(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The same frames."""
        stride, middle = self._plan.stride_frames, self._plan.num_frames // 2
        first_middle = middle + self._source.first_window * stride
        is_first = self._is_first
        for frame in frames:
            step = round(frame.time_s * self._plan.sample_fps) - self._source.first_frame
            if is_first or (step >= first_middle and (step - middle) % stride == 0):
                self._waiting[step] = Thumbnail.of(frame.image, frame.time_s)
            is_first = False
            yield frame

    def of(self, window: int) -> Thumbnail | None:
        """The window's thumbnail, if its frames were noted. Windows are asked for in order."""
        middle = window * self._plan.stride_frames + self._plan.num_frames // 2
        passed = {step: self._waiting.pop(step) for step in list(self._waiting) if step <= middle}
        first = next(iter(passed.values()), None) if self._is_first else None
        self._is_first = False
        return passed.get(middle, first)


def _watched(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The same frames; a worker that finds no window in many of them is not taken for a hung one."""
    for frame in frames:
        still_alive()
        yield frame


@dataclass(frozen=True)
class _WorkerReader:
    """A reader in a process of its own, which leaves the other cores to other workers and to the model."""

    reader: ClipReader

    def __call__(self, source: Source) -> VideoClips:
        torch.set_num_threads(1)
        return self.reader.clips(source)


def read_videos(
    sources: Sequence[Source], reader: ClipReader, *, num_workers: int
) -> Generator[tuple[Source, VideoClips], None, None]:
    """Each source in order, with an iterator of its clips that raises `UnreadableVideo`.

    When all clips have been taken, the iterator's `end` is what decoding knows of the video; it is None where not all
    of the video was read.

    Clips that are not taken before the next source is asked for are dropped. With 0 workers decoding happens in this
    process, and a decoder that crashes ends it; in a worker a crash or a hang makes that video unreadable.
    """
    if num_workers == 0:
        for source in sources:
            yield source, reader.clips(source)
        return
    for source, clips in imap_processes(
        _WorkerReader(reader),
        sources,
        expected=UnreadableVideo,
        num_workers=num_workers,
        ahead=_CLIPS_AHEAD,
        hang_s=_HANG_S,
    ):
        yield source, VideoItems(_readable(source, clips))


def _readable(source: Source, clips: Generator[Clip, None, VideoEnd | None]) -> Generator[Clip, None, VideoEnd | None]:
    try:
        return (yield from clips)
    except WorkerLost as lost:
        raise UnreadableVideo(source.path, f"its decoder {lost.cause}", lost.detail) from lost

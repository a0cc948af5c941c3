"""From video files to preprocessed clips, decoded in worker processes. Knows videos by id; knows no backbone.

Decoding goes through each video once, in order. Whoever takes the clips decides what an unreadable video means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from features.decode.grid import Decoder, UnreadableVideo, frames_on_grid
from features.preprocess import Preprocessing
from features.video import Clip, WindowPlan, cut_clips
from features.workers import Ended, work_apart

_CLIPS_AHEAD = 32
"""Clips of one video that wait to be taken: a worker is through with a video of 30 s before it must wait."""

_HANG_S = 300.0
"""decord gives its first frame when it has read a video to its end, which may take long at a busy machine's leisure."""


@dataclass(frozen=True)
class Source:
    """A video to read: its id, its file, and which windows of it, by number; all of them where `windows` is None.

    `first_frame` frames of the time grid are passed over before windows are cut: window k then begins that much later.
    """

    video_id: str
    path: Path
    windows: frozenset[int] | None = None
    first_frame: int = 0


@dataclass(frozen=True)
class Finished:
    """A video's end in a stream of clips: `failure` says why it could not be read to the end, or is None."""

    video_id: str
    failure: UnreadableVideo | None


@dataclass(frozen=True)
class Reading:
    """How a source becomes clips: the windows, the preprocessing of each frame, and the decoder."""

    plan: WindowPlan
    preprocessing: Preprocessing
    decoder: Decoder

    def clips(self, source: Source) -> Iterator[Clip]:
        """The source's clips in order, one in memory at a time; raises `UnreadableVideo`."""
        frames = frames_on_grid(source.path, sample_fps=self.plan.sample_fps, decoder=self.decoder)
        clips = cut_clips(self.preprocessing.resize_crop_frames(islice(frames, source.first_frame, None)), self.plan)
        last = None if source.windows is None else max(source.windows, default=-1)
        for number, clip in enumerate(clips):
            if source.windows is None or number in source.windows:
                yield clip
            if number == last:
                return

    def __call__(self, source: Source) -> Iterator[Clip | Finished]:
        """The source's clips, then its end: what a worker does."""
        failure = None
        try:
            yield from self.clips(source)
        except UnreadableVideo as error:
            failure = error
        yield Finished(source.video_id, failure)


@dataclass(frozen=True)
class _Apart:
    """A reading in a process of its own, which leaves the other cores to other workers and to the model."""

    reading: Reading

    def __call__(self, source: Source) -> Iterator[Clip | Finished]:
        torch.set_num_threads(1)
        return self.reading(source)


def stream_clips(
    sources: Sequence[Source], reading: Reading, *, num_workers: int
) -> Iterator[tuple[str, Clip] | Finished]:
    """All clips as (video id, clip), in the order of `sources` whatever the number of workers; then its `Finished`.

    With 0 workers decoding happens in this process, and a decoder that crashes takes it down. In a worker it costs
    that video: it is `Finished` with a failure that says so, as is one that hangs.
    """
    if num_workers == 0:
        for source in sources:
            for item in reading(source):
                yield item if isinstance(item, Finished) else (source.video_id, item)
        return
    for source, item in work_apart(
        _Apart(reading), sources, num_workers=num_workers, ahead=_CLIPS_AHEAD, hang_s=_HANG_S
    ):
        if isinstance(item, Finished):
            yield item
        elif not isinstance(item, Ended):
            yield source.video_id, item
        elif item.lost is not None:
            how, found = item.lost
            yield Finished(source.video_id, UnreadableVideo(source.path, f"its decoder {how}", found))


def read_passes(sources: Sequence[Source], reading: Reading, *, num_workers: int) -> Iterator[tuple[str, list[Clip]]]:
    """One (video id, clips) for each source, in the order of `sources` whatever the number of workers.

    For sources of few windows each, since a source's clips are held together; an unreadable video raises.
    """
    clips: list[Clip] = []
    for item in stream_clips(sources, reading, num_workers=num_workers):
        if not isinstance(item, Finished):
            clips.append(item[1])
            continue
        if item.failure is not None:
            raise item.failure
        yield item.video_id, clips
        clips = []

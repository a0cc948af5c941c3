"""From video files to preprocessed clips, decoded in worker processes. Knows videos by id and no backbone.

Each video is decoded once, in order. The consumer of the clips decides what an unreadable video means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from features.decode.container import UnreadableVideo, failing_as
from features.decode.grid import Decoder, frames_on_grid
from features.preprocess import Preprocessing
from features.video import Clip, WindowPlan, cut_clips
from features.workers import WorkerLost, imap_processes

_CLIPS_AHEAD = 32
"""Clips of one video that may wait to be taken: those of a video of 30 s."""

_HANG_S = 300.0
"""decord decodes the whole file before its first frame; allow five minutes."""


@dataclass(frozen=True)
class Source:
    """A video to read: its id, its file, and its windows by number, all of them where `windows` is None.

    `first_frame` frames of the time grid are skipped before windows are cut: window k begins that much later.
    """

    video_id: str
    path: Path
    windows: frozenset[int] | None = None
    first_frame: int = 0


@dataclass(frozen=True)
class ClipReader:
    """How a source becomes clips: the windows, the preprocessing of each frame, and the decoder."""

    plan: WindowPlan
    preprocessing: Preprocessing
    decoder: Decoder

    def clips(self, source: Source) -> Iterator[Clip]:
        """The source's clips in order, one in memory at a time; raises `UnreadableVideo`, whatever goes wrong."""
        with failing_as(source.path):
            yield from self._clips(source)

    def _clips(self, source: Source) -> Iterator[Clip]:
        frames = frames_on_grid(source.path, sample_fps=self.plan.sample_fps, decoder=self.decoder)
        clips = cut_clips(self.preprocessing.resize_crop_frames(islice(frames, source.first_frame, None)), self.plan)
        last = None if source.windows is None else max(source.windows, default=-1)
        for clip in clips:
            if source.windows is None or clip.window in source.windows:
                yield clip
            if clip.window == last:
                return


@dataclass(frozen=True)
class _WorkerReader:
    """A reader in a process of its own, which leaves the other cores to other workers and to the model."""

    reader: ClipReader

    def __call__(self, source: Source) -> Iterator[Clip]:
        torch.set_num_threads(1)
        return self.reader.clips(source)


def read_videos(
    sources: Sequence[Source], reader: ClipReader, *, num_workers: int
) -> Iterator[tuple[Source, Iterator[Clip]]]:
    """Each source in order, with an iterator of its clips that raises `UnreadableVideo`.

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
        yield source, _readable(source, clips)


def _readable(source: Source, clips: Iterator[Clip]) -> Iterator[Clip]:
    try:
        yield from clips
    except WorkerLost as lost:
        raise UnreadableVideo(source.path, f"its decoder {lost.cause}", lost.detail) from lost

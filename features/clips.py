"""From video files to preprocessed clips, decoded in worker processes. Knows videos by id; knows no backbone.

Decoding goes through each video once, in order. Whoever takes the clips decides what an unreadable video means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from features.decode import Decoder, UnreadableVideo, frames_on_grid
from features.preprocess import Preprocessing
from features.video import Clip, WindowPlan, cut_clips


@dataclass(frozen=True)
class Source:
    """A video to read: its id, its file, and which windows of it, by number; all of them where `windows` is None."""

    video_id: str
    path: Path
    windows: frozenset[int] | None = None


@dataclass(frozen=True)
class Reading:
    """How a source becomes clips: the windows, the preprocessing of each frame, and the decoder."""

    plan: WindowPlan
    preprocessing: Preprocessing
    decoder: Decoder

    def clips(self, source: Source) -> Iterator[Clip]:
        """The source's clips in order, one in memory at a time; raises `UnreadableVideo`."""
        frames = frames_on_grid(source.path, sample_fps=self.plan.sample_fps, decoder=self.decoder)
        clips = cut_clips(self.preprocessing.resize_crop_frames(frames), self.plan)
        last = None if source.windows is None else max(source.windows)
        for number, clip in enumerate(clips):
            if source.windows is None or number in source.windows:
                yield clip
            if number == last:
                return


@dataclass(frozen=True)
class Finished:
    """A video's end in a stream of clips: `failure` says why it could not be read to the end, or is None."""

    video_id: str
    failure: UnreadableVideo | None


@dataclass(frozen=True)
class _Stream(IterableDataset):
    sources: Sequence[Source]
    reading: Reading

    def __iter__(self) -> Iterator[tuple[str, Clip] | Finished]:
        worker = get_worker_info()
        mine = self.sources if worker is None else self.sources[worker.id :: worker.num_workers]
        for source in mine:
            failure = None
            try:
                for clip in self.reading.clips(source):
                    yield source.video_id, clip
            except UnreadableVideo as error:
                failure = error
            yield Finished(source.video_id, failure)


@dataclass(frozen=True)
class _Passes(Dataset):
    sources: Sequence[Source]
    reading: Reading

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, k: int) -> tuple[str, list[Clip]]:
        return self.sources[k].video_id, list(self.reading.clips(self.sources[k]))


def stream_clips(
    sources: Sequence[Source], reading: Reading, *, num_workers: int
) -> Iterator[tuple[str, Clip] | Finished]:
    """All clips of all sources as (video id, clip), each video's in order and followed by its `Finished`.

    Videos are interleaved where there are several workers. With 0 workers decoding happens in this process.
    """
    return iter(_loader(_Stream(sources, reading), num_workers, prefetch=8))


def read_passes(sources: Sequence[Source], reading: Reading, *, num_workers: int) -> Iterator[tuple[str, list[Clip]]]:
    """One (video id, clips) for each source, in the order of `sources` whatever the number of workers.

    For sources of few windows each, since a source's clips are held together; an unreadable video raises.
    """
    return iter(_loader(_Passes(sources, reading), num_workers, prefetch=2))


def _loader(dataset: Dataset, num_workers: int, prefetch: int) -> DataLoader:
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=num_workers,
        prefetch_factor=prefetch if num_workers else None,
        # Forked children of a process whose torch has threads may hang; macOS spawns anyway.
        multiprocessing_context="spawn" if num_workers else None,
        collate_fn=_as_it_is,
    )


def _as_it_is(item: object) -> object:
    return item

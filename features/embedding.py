"""Decoding beside the forward pass: from sources to each one's embeddings. Knows batches; knows no cache, no output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from features.clips import Finished, Reading, Source, stream_clips
from features.decode import UnreadableVideo
from features.encoder import POOLINGS, Backbone
from features.store import VideoEmbeddings
from features.video import Clip


@dataclass(frozen=True, eq=False)
class EmbeddedVideo:
    """A source that was read to its end: its windows' embeddings, and tokens of those that they were asked of.

    `token_windows` are those windows' numbers, `tokens` (len(token_windows), N, D) what enters the last block.
    """

    source: Source
    embeddings: VideoEmbeddings
    token_windows: tuple[int, ...]
    tokens: torch.Tensor


@dataclass(frozen=True)
class FailedVideo:
    """A source that could not be read to its end, or of which a window's embedding is not finite."""

    source: Source
    failure: UnreadableVideo


def embed_videos(
    backbone: Backbone, sources: Sequence[Source], reading: Reading, *, token_windows: Mapping[str, frozenset[int]],
    batch_size: int, num_workers: int, device: torch.device,
) -> Iterator[EmbeddedVideo | FailedVideo]:  # fmt: skip
    """Embed sources one after the other, in their order, while workers decode the next ones.

    A batch holds up to `batch_size` windows of one video and never of two, so that a video's embeddings are the same
    whatever others are read beside it. `token_windows` says by video id of which windows tokens are kept as well.
    `backbone` is on `device`. One video's embeddings and tokens are in memory at a time, and a batch of clips.
    """
    by_id = {source.video_id: source for source in sources}
    backbone.eval()

    def batches() -> Iterator[_Batch]:
        batch = _Batch()
        first_number = 0
        for item in stream_clips(sources, reading, num_workers=num_workers):
            if isinstance(item, Finished):
                batch.finished = item
            else:
                batch.clips.append(item[1])
            if batch.finished or len(batch.clips) == batch_size:
                video_id = item.video_id if isinstance(item, Finished) else item[0]
                windows = by_id[video_id].windows
                numbers = range(first_number, first_number + len(batch.clips))
                batch.numbers = list(numbers) if windows is None else [sorted(windows)[number] for number in numbers]
                batch.keep = [k for k, number in enumerate(batch.numbers) if number in token_windows.get(video_id, ())]
                first_number = 0 if batch.finished else numbers.stop
                yield batch
                batch = _Batch()

    parts: list[_Part] = []
    for part in _one_ahead(_forward(backbone, reading, batch, device) for batch in batches()):
        parts.append(part)
        if part.finished:
            yield _put_together(by_id[part.finished.video_id], parts)
            parts = []


@dataclass
class _Batch:
    """Clips of one video; `numbers` are their windows', `keep` the places of those of which tokens are kept."""

    clips: list[Clip] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    keep: list[int] = field(default_factory=list)
    finished: Finished | None = None


@dataclass(frozen=True)
class _Part:
    """What came of a batch, without its pixels; complete when `there` has happened, on a device that runs ahead."""

    segments: Sequence[tuple[float, float, int]]
    pooled: Mapping[str, torch.Tensor]
    token_windows: Sequence[int]
    tokens: torch.Tensor
    finished: Finished | None
    there: torch.cuda.Event | None


# Not a generator: there, inference mode would leak to whoever takes what it yields.
@torch.inference_mode()
def _forward(backbone: Backbone, reading: Reading, batch: _Batch, device: torch.device) -> _Part:
    pooled: dict[str, torch.Tensor] = {}
    tokens = torch.empty(0, dtype=backbone.dtype)
    there = None
    if batch.clips:
        frames = torch.from_numpy(np.stack([clip.frames for clip in batch.clips]))
        on_cuda = device.type == "cuda"
        if on_cuda:
            frames = frames.pin_memory()
        pixels = reading.preprocessing.normalise(frames.to(device, non_blocking=on_cuda), backbone.dtype)
        prefix = backbone.prefix(pixels)
        # Copied, so that the results of a batch do not keep all of it in memory.
        pooled = {
            name: vectors.to(torch.float16).to("cpu", non_blocking=on_cuda)
            for name, vectors in backbone.pool_each(backbone.last_block(prefix), POOLINGS).items()
        }
        tokens = prefix[batch.keep].to("cpu", non_blocking=on_cuda)
        if on_cuda:
            there = torch.cuda.Event()
            there.record()
    return _Part(
        [(clip.segment.start_s, clip.segment.end_s, clip.num_padded) for clip in batch.clips],
        pooled, [batch.numbers[k] for k in batch.keep], tokens, batch.finished, there,
    )  # fmt: skip


def _one_ahead(running: Iterable[_Part]) -> Iterator[_Part]:
    """Each part when it is there: waited for only when the next batch is on the device, which so has no pause."""
    before: list[_Part] = []
    for part in running:
        yield from map(_waited_for, before)
        before = [part]
    yield from map(_waited_for, before)


def _waited_for(part: _Part) -> _Part:
    if part.there is not None:
        part.there.synchronize()
    return part


def _put_together(source: Source, parts: Sequence[_Part]) -> EmbeddedVideo | FailedVideo:
    """One video of its batches' results."""
    finished = parts[-1].finished
    if finished is not None and finished.failure is not None:
        return FailedVideo(source, finished.failure)
    filled = [part for part in parts if part.segments]
    start_s, end_s, num_padded = zip(*(segment for part in filled for segment in part.segments), strict=True)
    embeddings = VideoEmbeddings(
        np.array(start_s, dtype=np.float64), np.array(end_s, dtype=np.float64), np.array(num_padded, dtype=np.int32),
        {name: torch.cat([part.pooled[name] for part in filled]).numpy() for name in POOLINGS},
    )  # fmt: skip
    fault = embeddings.not_finite()
    if fault:
        return FailedVideo(source, UnreadableVideo(source.path, "its embedding is not finite", fault))
    tokens = torch.cat([part.tokens for part in filled])
    return EmbeddedVideo(source, embeddings, tuple(number for part in filled for number in part.token_windows), tokens)

"""Decoding beside the forward pass: from sources to each one's embeddings. Knows batches; knows no cache, no output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from features.backbone import POOLINGS, Backbone
from features.clips import Finished, Reading, Source, stream_clips
from features.decode.grid import UnreadableVideo
from features.store.embeddings import VideoEmbeddings
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
                batch.keep = [number in token_windows.get(video_id, ()) for number in batch.numbers]
                first_number = 0 if batch.finished else numbers.stop
                yield batch
                batch = _Batch()

    parts: list[_Part] = []
    with _cores(device) as cores:
        running = (_started(backbone, reading, batch, device, cores) for batch in batches())
        for part in _one_ahead(running):
            parts.append(part)
            if part.finished:
                yield _put_together(by_id[part.finished.video_id], parts)
                parts = []


Results = tuple[dict[str, torch.Tensor], torch.Tensor]
"""Of a batch: its pooled vectors (B, D) float16 by pooling, and the tokens that are kept, (k, N, D)."""


@dataclass
class _Batch:
    """Clips of one video; `numbers` are their windows', `keep` says of which of them tokens are kept."""

    clips: list[Clip] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    keep: list[bool] = field(default_factory=list)
    finished: Finished | None = None


@dataclass(frozen=True)
class _Part:
    """A batch that is being computed, without its pixels; `results` waits for what comes of it."""

    segments: Sequence[tuple[float, float, int]]
    token_windows: Sequence[int]
    finished: Finished | None
    results: Callable[[], Results]


@dataclass(frozen=True)
class _Cores:
    """Threads that each compute a share of a batch."""

    threads: Executor
    count: int


@contextmanager
def _cores(device: torch.device) -> Iterator[_Cores | None]:
    """On a CPU as many threads as torch works with, and torch within each with one; None for other devices.

    Torch's own threads share single operations and wait for each other after each one: where operations are small, or
    a decoder is at one of the cores, the others idle. And so the sums are the same on any number of cores.
    """
    if device.type != "cpu":
        yield None
        return
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count) as threads:
            yield _Cores(threads, count)
    finally:
        torch.set_num_threads(count)


def _started(backbone: Backbone, reading: Reading, batch: _Batch, device: torch.device, cores: _Cores | None) -> _Part:
    """A batch on its way through the backbone; nothing is waited for."""

    @torch.inference_mode()
    def embedded(frames: torch.Tensor, keep: torch.Tensor) -> Results:
        prefix = backbone.prefix(reading.preprocessing.normalise(frames, backbone.dtype))
        pooled = backbone.pool_each(backbone.last_block(prefix), POOLINGS)
        # Indexed, which copies: the few tokens that are kept must not keep all the others in memory.
        return {name: vectors.to(torch.float16) for name, vectors in pooled.items()}, prefix[keep]

    results: Callable[[], Results]
    if not batch.clips:
        results = _nothing
    elif cores is not None:
        shares = [each.chunk(cores.count) for each in _stacked(batch)]
        results = partial(_joined, [cores.threads.submit(embedded, *share) for share in zip(*shares, strict=True)])
    else:
        frames, keep = _stacked(batch)
        on_cuda = device.type == "cuda"
        if on_cuda:
            frames = frames.pin_memory()
        pooled, tokens = embedded(frames.to(device, non_blocking=on_cuda), keep.to(device))
        # On CUDA these copies are under way, too, until the event has happened.
        pooled = {name: vectors.to("cpu", non_blocking=on_cuda) for name, vectors in pooled.items()}
        tokens = tokens.to("cpu", non_blocking=on_cuda)
        there = torch.cuda.Event() if on_cuda else None
        if there is not None:
            there.record()
        results = partial(_there, pooled, tokens, there)
    return _Part(
        [(clip.segment.start_s, clip.segment.end_s, clip.num_padded) for clip in batch.clips],
        [number for number, is_kept in zip(batch.numbers, batch.keep, strict=True) if is_kept],
        batch.finished,
        results,
    )


def _stacked(batch: _Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames (B, T, H, W, 3) uint8, and of which clips tokens are kept, (B,) bool."""
    return torch.from_numpy(np.stack([clip.frames for clip in batch.clips])), torch.tensor(batch.keep)


def _nothing() -> Results:
    return {}, torch.empty(0)


def _joined(shares: Sequence[Future[Results]]) -> Results:
    done = [share.result() for share in shares]
    return {name: torch.cat([pooled[name] for pooled, _ in done]) for name in POOLINGS}, torch.cat(
        [tokens for _, tokens in done]
    )


def _there(pooled: dict[str, torch.Tensor], tokens: torch.Tensor, event: torch.cuda.Event | None) -> Results:
    if event is not None:
        event.synchronize()
    return pooled, tokens


def _one_ahead(parts: Iterable[_Part]) -> Iterator[_Part]:
    """Each part only when the next one has been started, so that there is no pause between them."""
    before: list[_Part] = []
    for part in parts:
        yield from before
        before = [part]
    yield from before


def _put_together(source: Source, parts: Sequence[_Part]) -> EmbeddedVideo | FailedVideo:
    """One video of its batches' results."""
    finished = parts[-1].finished
    if finished is not None and finished.failure is not None:
        return FailedVideo(source, finished.failure)
    filled = [part for part in parts if part.segments]
    pooled, tokens = zip(*(part.results() for part in filled), strict=True)
    start_s, end_s, num_padded = zip(*(segment for part in filled for segment in part.segments), strict=True)
    embeddings = VideoEmbeddings(
        np.array(start_s, dtype=np.float64), np.array(end_s, dtype=np.float64), np.array(num_padded, dtype=np.int32),
        {name: torch.cat([each[name] for each in pooled]).numpy() for name in POOLINGS},
    )  # fmt: skip
    fault = embeddings.not_finite()
    if fault:
        return FailedVideo(source, UnreadableVideo(source.path, "its embedding is not finite", fault))
    windows = tuple(number for part in filled for number in part.token_windows)
    return EmbeddedVideo(source, embeddings, windows, torch.cat(tokens))

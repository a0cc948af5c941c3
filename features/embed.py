"""Embeddings of videos, part by part, decoded beside the forward pass. Knows batches, no cache and no output file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from features.backbone import Backbone
from features.clips import ClipReader, Source, read_videos
from features.decode.container import UnreadableVideo
from features.decode.damage import VideoEnd
from features.gate import batches as batches_of
from features.gate import embedded_row
from features.pictures import PictureNumbers, WindowPictures
from features.pooling import join_views
from features.store.embeddings import VideoEmbeddings
from features.thumbnails import Thumbnail, Thumbnails
from features.video import Clip

Results = tuple[dict[str, torch.Tensor], torch.Tensor]
"""Of a batch: pooled vectors (B, D) float16 by pooling, and the block inputs that are kept, (k, N, D)."""


PART_WINDOWS = 64
"""A longer video comes in parts of so many windows each, up to the end of a batch."""


@dataclass(frozen=True, eq=False)
class EmbeddedVideo:
    """Embeddings of the windows of a video, or of a part, and the block inputs of those that they are kept for.

    `block_inputs` (len(block_input_windows), N, D) are in the order of the window numbers `block_input_windows`.
    `end` is what decoding found; None where not all clips were taken. `thumbnails` are those that the source asked for.
    """

    embeddings: VideoEmbeddings
    block_input_windows: tuple[int, ...]
    block_inputs: torch.Tensor
    end: VideoEnd | None
    thumbnails: Thumbnails

    @classmethod
    def joined(cls, parts: Sequence[EmbeddedVideo]) -> EmbeddedVideo:
        """One video of its parts, in order; its `end` is the last one's."""
        parts = [part for part in parts[:-1] if len(part.embeddings)] + [parts[-1]]
        if len(parts) == 1:
            return parts[0]
        return cls(
            VideoEmbeddings.joined([part.embeddings for part in parts if len(part.embeddings)]),
            tuple(window for part in parts for window in part.block_input_windows),
            torch.cat([part.block_inputs for part in parts if len(part.embeddings)]),
            parts[-1].end,
            Thumbnails.joined([part.thumbnails for part in parts]),
        )


@dataclass
class PendingPart:
    """A part of a video, decoded, that may still be on its way through the backbone: its windows are in order.

    Each video has one that `is_last`. `failure` is why the video could not be decoded any further.
    """

    source: Source
    batches: list[_SubmittedBatch] = field(default_factory=list)
    is_last: bool = False
    end: VideoEnd | None = None
    failure: UnreadableVideo | None = None

    @property
    def num_windows(self) -> int:
        return sum(len(batch.rows) for batch in self.batches)

    def result(self) -> EmbeddedVideo:
        """Wait for the part; raises `UnreadableVideo` where it cannot be read or an embedding is not finite."""
        if self.failure is not None:
            raise self.failure
        return assemble_video(self.source, self.batches, self.end)


def embed_videos(
    backbone: Backbone,
    sources: Sequence[Source],
    reader: ClipReader,
    *,
    block_input_windows: Mapping[str, frozenset[int]],
    batch_size: int,
    num_workers: int,
    device: torch.device,
    part_windows: int = PART_WINDOWS,
    submitted: Callable[[str, float], None] | None = None,
) -> Iterator[tuple[Source, PendingPart]]:
    """Embed the sources in their order, part by part, while workers decode the next ones.

    A batch embeds up to `batch_size` windows of one video and never of two, so that a video's embeddings do not depend
    on the videos read beside it. `block_input_windows`, by video id, are the windows whose block inputs are kept.
    `backbone` is on `device`. A part has `part_windows` windows, up to the end of a batch, or what is left of
    the video: two parts' results and two batches of clips are in memory at a time, however long a video is. A part
    comes when the next batch has been submitted, so that the device does not idle. `submitted` hears of each batch up
    to which second of its video it reaches.
    """
    backbone.eval()
    previous: PendingPart | None = None
    with _cores(device) as cores:
        for source, clips in read_videos(sources, reader, num_workers=num_workers):
            part = PendingPart(source)
            kept = block_input_windows.get(source.video_id, frozenset())
            try:
                for batch in batches_of(clips, batch_size):
                    if part.num_windows >= part_windows:
                        previous, part = part, PendingPart(source)
                    part.batches.append(submit_batch(backbone, reader, batch, kept, device, cores))
                    if submitted is not None:
                        submitted(source.video_id, batch[-1].segment.end_s)
                    if previous is not None:
                        yield previous.source, previous
                        previous = None
                    elif len(part.batches) > 1:
                        part.batches[-2].wait()
                part.end = clips.end
            except UnreadableVideo as failure:
                part.failure = failure
            if previous is not None:
                yield previous.source, previous
            part.is_last = True
            previous = part
        if previous is not None:
            yield previous.source, previous


@dataclass
class _SubmittedBatch:
    """A batch on its way through the backbone, without its pixels."""

    rows: Sequence[tuple[int, float, float, int]]
    embedded_row: npt.NDArray[np.int64]
    numbers: Sequence[PictureNumbers]
    thumbnails: Sequence[Thumbnail]
    block_input_windows: Sequence[int]
    _pending: Callable[[], Results]
    _results: Results | None = None

    def wait(self) -> Results:
        if self._results is None:
            self._results = self._pending()
        return self._results


@dataclass(frozen=True)
class _Cores:
    """Threads that each compute a share of a batch."""

    threads: Executor
    count: int


@contextmanager
def _cores(device: torch.device) -> Iterator[_Cores | None]:
    """On a CPU as many threads as torch uses, each with one torch thread; None for other devices.

    Torch's own threads share single operations and wait for each other after each: where operations are small, or a
    decoder uses one of the cores, the others idle. Shares of a batch also give the same sums on any number of cores.
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


def submit_batch(
    backbone: Backbone,
    reader: ClipReader,
    batch: Sequence[Clip],
    kept: frozenset[int],
    device: torch.device,
    cores: _Cores | None,
) -> _SubmittedBatch:
    """Send a batch through the backbone without waiting for it.

    Block inputs of the windows `kept` are kept, where there are several views of a window those of its middle.
    """

    @torch.inference_mode()
    def embedded(frames: torch.Tensor, keep: torch.Tensor) -> Results:
        pooled, kept_inputs = [], []
        for view in reader.preprocessing.views_of(frames):
            block_input = backbone.block_input(reader.preprocessing.normalise(view, backbone.dtype))
            pooled.append(backbone.pool_each(backbone.last_block(block_input), backbone.poolings))
            # Copied: the few that are kept must not keep all the others in memory. Indexed by numbers that the CPU has:
            # a mask on a GPU would make this thread wait for it.
            rows = [block_input[row : row + 1] for row in keep.nonzero().flatten().tolist()]
            kept_inputs.append(torch.cat(rows or [block_input[:0]]))
        return {name: vectors.to(torch.float16) for name, vectors in join_views(pooled).items()}, kept_inputs[0]

    embedded_clips = [clip for clip in batch if not clip.repeats]
    frames = _stacked([clip.frames for clip in embedded_clips], pinned=device.type == "cuda")
    keep = torch.tensor([clip.window in kept for clip in embedded_clips])
    pending: Callable[[], Results]
    if cores is not None:
        shares = zip(frames.chunk(cores.count), keep.chunk(cores.count), strict=True)
        pending = partial(_joined, [cores.threads.submit(embedded, *share) for share in shares])
    else:
        on_cuda = device.type == "cuda"
        pooled, block_inputs = embedded(frames.to(device, non_blocking=on_cuda), keep)
        # On CUDA these copies are under way, too, until the event has happened.
        pooled = {name: vectors.to("cpu", non_blocking=on_cuda) for name, vectors in pooled.items()}
        block_inputs = block_inputs.to("cpu", non_blocking=on_cuda)
        copied = torch.cuda.Event() if on_cuda else None
        if copied is not None:
            copied.record()
        pending = partial(_copied, pooled, block_inputs, copied)
    return _SubmittedBatch(
        [(clip.window, clip.segment.start_s, clip.segment.end_s, clip.num_padded) for clip in batch],
        embedded_row(batch),
        [clip.numbers for clip in batch if clip.numbers is not None],
        [clip.thumbnail for clip in batch if clip.thumbnail is not None],
        [clip.window for clip in embedded_clips if clip.window in kept],
        pending,
    )


def _stacked(images: Sequence[npt.NDArray[np.uint8]], *, pinned: bool) -> torch.Tensor:
    """Images of one shape (…) as (n, …); `pinned` memory is what CUDA copies from while the CPU goes on."""
    stacked = torch.empty((len(images), *images[0].shape), dtype=torch.uint8, pin_memory=pinned)
    np.stack(images, out=stacked.numpy())
    return stacked


def _joined(shares: Sequence[Future[Results]]) -> Results:
    results = [share.result() for share in shares]
    pooled = {name: torch.cat([vectors[name] for vectors, _ in results]) for name in results[0][0]}
    return pooled, torch.cat([block_inputs for _, block_inputs in results])


def _copied(pooled: dict[str, torch.Tensor], block_inputs: torch.Tensor, event: torch.cuda.Event | None) -> Results:
    if event is not None:
        event.synchronize()
    return pooled, block_inputs


def assemble_video(source: Source, batches: Sequence[_SubmittedBatch], end: VideoEnd | None) -> EmbeddedVideo:
    """One video of its batches' results; raises `UnreadableVideo` where an embedding is not finite.

    No batches give no windows: of a video that ends before all the windows that its source names.
    """
    if not batches:
        no_numbers = np.empty(0, dtype=np.int32)
        none = VideoEmbeddings(no_numbers, np.empty(0), np.empty(0), no_numbers, {}, WindowPictures.of([]))
        return EmbeddedVideo(none, (), torch.empty(0), end, Thumbnails.none())
    pooled, block_inputs = zip(*(batch.wait() for batch in batches), strict=True)
    window, start_s, end_s, num_padded = zip(*(row for batch in batches for row in batch.rows), strict=True)
    embeddings = VideoEmbeddings(
        np.array(window, dtype=np.int32),
        np.array(start_s, dtype=np.float64),
        np.array(end_s, dtype=np.float64),
        np.array(num_padded, dtype=np.int32),
        {
            name: np.concatenate(
                [vectors[name].numpy()[batch.embedded_row] for vectors, batch in zip(pooled, batches, strict=True)]
            )
            for name in pooled[0]
        },
        WindowPictures.of([numbers for batch in batches for numbers in batch.numbers]),
    )
    fault = embeddings.not_finite()
    if fault:
        raise UnreadableVideo(source.path, "its embedding is not finite", fault)
    windows = tuple(window for batch in batches for window in batch.block_input_windows)
    thumbnails = Thumbnails.of([thumbnail for batch in batches for thumbnail in batch.thumbnails])
    return EmbeddedVideo(embeddings, windows, torch.cat(block_inputs), end, thumbnails)

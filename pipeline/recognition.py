"""From a video file to a model's probabilities for each of its windows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from features.backbone import Backbone, best_device
from features.cache import EmbeddingCache
from features.clips import ClipReader, Source, read_videos
from features.decode.damage import VideoEnd
from features.extraction import BlockInputSelection, extract, provenance
from features.gate import batches, embedded_row
from features.hashes import hashed
from features.pictures import WindowPictures
from features.pooling import join_views
from features.progress import VideoSeconds, stated_seconds
from features.store.embeddings import VideoEmbeddings
from features.thumbnails import Thumbnails
from features.twins import apart, twins
from features.video import Clip, Segment
from heads.action_model import ActionModel
from heads.temporal import TemporalEnsemble, video_hidden, video_probabilities

Embed = Callable[[Backbone, EmbeddingCache], tuple[VideoEmbeddings, VideoEnd, Thumbnails, str]]


@dataclass(frozen=True, eq=False)
class Recognition:
    """A video's `windows` (n,) in order, the `probabilities` (n, L) of their labels, and what decoding found.

    `pictures` are what the windows' pixels show, `vectors` by pooling (n, D) what the frozen backbone makes of them,
    `hidden()` computes what the last layers of temporal heads see of them, (n, H); of other heads H is 0.
    `seen_share` are the shares of the picture's width and height that the model sees.
    """

    windows: Sequence[Segment]
    probabilities: npt.NDArray[np.float32]
    end: VideoEnd
    pictures: WindowPictures
    thumbnails: Thumbnails
    vectors: Mapping[str, npt.NDArray[np.float16]]
    hidden: Callable[[], npt.NDArray[np.float32]]
    seen_share: tuple[float, float] = (1.0, 1.0)


class VideoModel(Protocol):
    """What recognises actions in a video file."""

    def recognise(self, path: Path, *, batch_size: int, num_workers: int, video_sha256: str = "") -> Recognition:
        """Read the whole video, whose bytes have that hash if it is known; raises `UnreadableVideo`."""

    def recall(self, video_sha256: str) -> Recognition | None:
        """The same from what is kept of the video with these bytes, which is not read; None where nothing is."""


@dataclass(frozen=True)
class WindowModel:
    """Looks at each window alone: a linear head, on the backbone as it came or with its last block finetuned.

    `frozen` is the backbone as it came; `model` may share all its blocks but the last.
    """

    model: ActionModel
    frozen: Backbone
    reader: ClipReader

    def recognise(self, path: Path, *, batch_size: int, num_workers: int, video_sha256: str = "") -> Recognition:
        """Decode the video, and run backbone and head on each window; nothing is kept."""
        device = best_device()
        self.model.to(device)
        self.frozen.to(device)
        rows: list[npt.NDArray[np.float32]] = []
        vectors: dict[str, list[npt.NDArray[np.float16]]] = {name: [] for name in self.frozen.poolings}
        windows, numbers, thumbnails = [], [], []
        videos = read_videos([Source("", path, thumbnails=True)], self.reader, num_workers=num_workers)
        _, clips = next(videos)  # asked for another video, it would drop what is left of this one
        with VideoSeconds.of({"": stated_seconds(path)}, done_s={}, desc="recognise") as bar:
            for batch in batches(clips, batch_size):
                probabilities, pooled = self._recognised([clip for clip in batch if not clip.repeats], device)
                row_of = embedded_row(batch)
                rows.append(probabilities[row_of])
                for name, each in pooled.items():
                    vectors[name].append(each[row_of])
                windows += [clip.segment for clip in batch]
                numbers += [clip.numbers for clip in batch if clip.numbers is not None]
                thumbnails += [clip.thumbnail for clip in batch if clip.thumbnail is not None]
                bar.reach("", batch[-1].segment.end_s)
        videos.close()
        assert clips.end is not None  # all clips were taken
        pictures = Thumbnails.of(thumbnails)
        return Recognition(
            windows,
            np.concatenate(rows),
            clips.end,
            WindowPictures.of(numbers),
            pictures,
            {name: np.concatenate(each) for name, each in vectors.items()},
            lambda: np.empty((len(windows), 0), dtype=np.float32),
            self.reader.seen_share(pictures),
        )

    def recall(self, video_sha256: str) -> Recognition | None:
        """None: nothing is kept."""
        return None

    @torch.inference_mode()
    def _recognised(
        self, batch: Sequence[Clip], device: torch.device
    ) -> tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[np.float16]]]:
        """Probabilities (B, L) of a batch, and vectors (B, D) by pooling."""
        frames = torch.from_numpy(np.stack([clip.frames for clip in batch])).to(device)
        views = self.model.block_inputs(frames)
        probabilities = self.model.tail(*views).float().sigmoid().cpu().numpy()
        pooled = join_views(
            [self.frozen.pool_each(self.frozen.last_block(view), self.frozen.poolings) for view in views]
        )
        return probabilities, {name: each.to("cpu", torch.float16).numpy() for name, each in pooled.items()}


@dataclass(frozen=True)
class SequenceModel:
    """Looks at the windows of the whole video: temporal heads on `features` of the frozen backbone's embeddings.

    Embeddings come from the `cache`, or go into it: with another head the same video is not decoded again. `frozen` is
    the backbone as it came with its own cache, where `backbone` has a finetuned block.
    """

    head: TemporalEnsemble
    features: Sequence[str]
    backbone: Backbone
    reader: ClipReader
    cache: EmbeddingCache
    frozen: tuple[Backbone, EmbeddingCache] | None = None

    def recognise(self, path: Path, *, batch_size: int, num_workers: int, video_sha256: str = "") -> Recognition:
        """Embed the video, unless it has been, and run the head on all its windows."""
        embed = partial(_embedded, path, self.reader, batch_size=batch_size, num_workers=num_workers)
        digest = video_sha256 or hashed([path], self.cache.root)[0].get(path, "")
        if digest and self._uses_kept(digest) and (seen := self.recall(digest)):
            return seen
        if digest and self.frozen is not None and not any(_is_begun(cache, digest) for _, cache in self._encoders):
            self._embed_together(embed)
        video, end, thumbnails, _ = embed(self.backbone, self.cache)
        frozen_vectors = video.vectors if self.frozen is None else embed(*self.frozen)[0].vectors
        return self._seen(video, end, thumbnails, frozen_vectors)

    @property
    def _encoders(self) -> list[tuple[Backbone, EmbeddingCache]]:
        return [(self.backbone, self.cache), *([self.frozen] if self.frozen is not None else [])]

    def _uses_kept(self, video_sha256: str) -> bool:
        """Whether the caches have all that there is of the video, which is used now."""
        for _, cache in self._encoders:
            with cache.locked():
                if not (cache.has(video_sha256) and cache.has_thumbnails(video_sha256)):
                    return False
                cache.mark_used([video_sha256], now_ns=time.time_ns())
        return True

    def _embed_together(self, embed: Embed) -> None:
        """Fill both caches by one pass, in which all blocks but the last run once."""
        (own, _), (frozen, _) = self._encoders
        both = twins(own, frozen)
        together = EmbeddingCache(self.cache.root, provenance(both, self.reader))
        video, end, thumbnails, video_sha256 = embed(both, together)
        for (_, cache), part in zip(self._encoders, apart(video), strict=True):
            with cache.locked():
                cache.put_thumbnails(video_sha256, thumbnails)
                cache.put(video_sha256, part, end)
        with together.locked():
            for piece in together.folder.glob(f"{video_sha256}*"):
                piece.unlink(missing_ok=True)  # another process may be at the same video

    def recall(self, video_sha256: str) -> Recognition | None:
        """From the embeddings in the cache."""
        kept = _kept(self.cache, video_sha256)
        frozen = kept if self.frozen is None else _kept(self.frozen[1], video_sha256)
        return None if kept is None or frozen is None else self._seen(*kept, frozen[0].vectors)

    def _seen(
        self,
        video: VideoEmbeddings,
        end: VideoEnd,
        thumbnails: Thumbnails,
        frozen_vectors: Mapping[str, npt.NDArray[np.float16]],
    ) -> Recognition:
        """What the head says of a video's embeddings."""
        vectors = [video.vectors[name] for name in self.features]
        stride_s, seen_share = self.reader.plan.stride_s, self.reader.seen_share(thumbnails)
        probabilities = video_probabilities(self.head, vectors, video.start_s, stride_s=stride_s)
        hidden = partial(video_hidden, self.head, vectors, video.start_s, stride_s=stride_s)
        windows = [Segment(start_s, end_s) for start_s, end_s in zip(video.start_s, video.end_s, strict=True)]
        assert video.pictures is not None  # the cache keeps them
        return Recognition(windows, probabilities, end, video.pictures, thumbnails, frozen_vectors, hidden, seen_share)


def _embedded(
    path: Path, reader: ClipReader, backbone: Backbone, cache: EmbeddingCache, *, batch_size: int, num_workers: int
) -> tuple[VideoEmbeddings, VideoEnd, Thumbnails, str]:
    """What the cache holds of the video, once it does, and the hash of the bytes that it has by now.

    Raises `UnreadableVideo`.
    """
    with cache.locked():
        extraction = extract(
            backbone,
            [Source("", path)],
            reader,
            cache=cache,
            selection=BlockInputSelection({}, "fp32"),
            batch_size=batch_size,
            num_workers=num_workers,
            device=best_device(),
            thumbnails=True,
        )
        if extraction.failures:
            raise extraction.failures[""]
        digest = extraction.sha256s[""]
        return cache.load(digest), cache.video_end(digest), cache.load_thumbnails(digest), digest


def _is_begun(cache: EmbeddingCache, video_sha256: str) -> bool:
    """Whether the cache has embeddings of the video, or some of its parts."""
    with cache.locked():
        return cache.has(video_sha256) or cache.unfinished(video_sha256, thumbnails=True).num_parts > 0


def _kept(cache: EmbeddingCache, video_sha256: str) -> tuple[VideoEmbeddings, VideoEnd, Thumbnails] | None:
    """What the cache holds of the video with these bytes; None where it has no embeddings."""
    with cache.locked():
        if not cache.has(video_sha256):
            return None
        thumbnails = cache.load_thumbnails(video_sha256) if cache.has_thumbnails(video_sha256) else Thumbnails.none()
        return cache.load(video_sha256), cache.video_end(video_sha256), thumbnails

"""From a video file to a model's probabilities for each of its windows."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from features.backbone import Backbone, best_device
from features.cache import EmbeddingCache
from features.clips import ClipReader, Source, read_videos
from features.decode.damage import VideoEnd
from features.extraction import BlockInputSelection, extract
from features.pictures import WindowPictures, picture_numbers
from features.video import Clip, Segment
from heads.action_model import ActionModel, predict_clips
from heads.temporal import TemporalHead, predict_sequence, window_steps


@dataclass(frozen=True, eq=False)
class Recognition:
    """A video's `windows` (n,) in order, the `probabilities` (n, L) of their labels, and what decoding found.

    `pictures` are what the windows' pixels show, `vectors` by pooling (n, D) what the frozen backbone makes of them.
    """

    windows: Sequence[Segment]
    probabilities: npt.NDArray[np.float32]
    end: VideoEnd
    pictures: WindowPictures
    vectors: Mapping[str, npt.NDArray[np.float16]]


class VideoModel(Protocol):
    """What recognises actions in a video file."""

    def recognise(self, path: Path, *, batch_size: int, num_workers: int) -> Recognition:
        """Read the whole video; raises `UnreadableVideo`."""


@dataclass(frozen=True)
class WindowModel:
    """Looks at each window alone: a linear head, on the backbone as it came or with its last block finetuned.

    `frozen` is the backbone as it came.
    """

    model: ActionModel
    frozen: Backbone
    reader: ClipReader

    def recognise(self, path: Path, *, batch_size: int, num_workers: int) -> Recognition:
        """Decode the video, and run backbone and head on each window; nothing is kept."""
        ends: list[VideoEnd | None] = []

        def keyed_clips() -> Iterator[tuple[str, Clip]]:
            for source, clips in read_videos([Source("", path)], self.reader, num_workers=num_workers):
                for clip in tqdm(clips, unit="window", file=sys.stderr):
                    yield source.video_id, clip
                ends.append(clips.end)

        windows, rows, numbers, means = [], [], [], []
        self.frozen.to(best_device())
        for _, clip, row in predict_clips(self.model, keyed_clips(), batch_size=batch_size, device=best_device()):
            windows.append(clip.segment)
            rows.append(row)
            numbers.append(picture_numbers(clip.frames))
            means.append(self._mean(clip))
        (end,) = ends
        assert end is not None  # all clips were taken
        return Recognition(windows, np.stack(rows), end, _pictures(numbers), {"mean": np.concatenate(means)})

    @torch.inference_mode()
    def _mean(self, clip: Clip) -> npt.NDArray[np.float16]:
        frames = torch.from_numpy(clip.frames)[None].to(best_device())
        tokens = self.frozen.tokens(self.reader.preprocessing.normalise(frames, self.frozen.dtype))
        return self.frozen.pool_each(tokens, ["mean"])["mean"].to("cpu", torch.float16).numpy()


@dataclass(frozen=True)
class SequenceModel:
    """Looks at the windows of the whole video: a temporal head on `features` of the frozen backbone's embeddings.

    Embeddings come from the `cache`, or go into it: with another head the same video is not decoded again.
    """

    head: TemporalHead
    features: Sequence[str]
    backbone: Backbone
    reader: ClipReader
    cache: EmbeddingCache

    def recognise(self, path: Path, *, batch_size: int, num_workers: int) -> Recognition:
        """Embed the video, unless it has been, and run the head on all its windows."""
        with self.cache.locked():
            extraction = extract(
                self.backbone,
                [Source("", path)],
                self.reader,
                cache=self.cache,
                selection=BlockInputSelection({}, "fp32"),
                batch_size=batch_size,
                num_workers=num_workers,
                device=best_device(),
            )
            if extraction.failures:
                raise extraction.failures[""]
            digest = extraction.sha256s[""]
            video, end = self.cache.load(digest), self.cache.video_end(digest)
        vectors = torch.from_numpy(np.concatenate([video.vectors[name] for name in self.features], axis=1))
        steps = torch.from_numpy(window_steps(video.start_s, stride_s=self.reader.plan.stride_s))
        probabilities = predict_sequence(self.head, vectors, steps).sigmoid().numpy()
        windows = [Segment(start_s, end_s) for start_s, end_s in zip(video.start_s, video.end_s, strict=True)]
        numbers = [
            picture_numbers(clip.frames)
            for _, clips in read_videos([Source("", path)], self.reader, num_workers=num_workers)
            for clip in clips
        ]
        return Recognition(windows, probabilities, end, _pictures(numbers), video.vectors)


def _pictures(numbers: Sequence[tuple[float, float, float]]) -> WindowPictures:
    return WindowPictures(*np.array(numbers, dtype=np.float32).reshape(-1, 3).T)

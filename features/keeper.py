"""Puts videos into the cache as their parts come, so that a kill costs what was at work. Knows hashes by video id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from features.backbone import DTYPES
from features.cache import EmbeddingCache, Unfinished
from features.clips import Source
from features.embed import EmbeddedVideo


@dataclass(frozen=True)
class VideoKeeper:
    """What goes where: `sha256s` of the videos by id, and by hash the windows whose block inputs are `wanted`.

    Block inputs are kept in `precision`, `thumbnails` where they are wanted.
    """

    cache: EmbeddingCache
    sha256s: Mapping[str, str]
    wanted: Mapping[str, frozenset[int]]
    precision: str
    thumbnails: bool
    begun: dict[str, Unfinished] = field(default_factory=dict, init=False)
    """Videos of which parts are kept in the cache, by id."""
    _held: dict[str, list[EmbeddedVideo]] = field(default_factory=dict, init=False)

    def resumed(self, source: Source) -> Source:
        """The source from where an earlier run was killed."""
        digest = self.sha256s[source.video_id]
        if source.windows is not None or self.wanted[digest]:
            return source  # block inputs are kept as a whole
        begun = self.cache.unfinished(digest, thumbnails=self.thumbnails)
        self.begun[source.video_id] = begun
        return replace(source, first_window=begun.next_window)

    def keep(self, source: Source, part: EmbeddedVideo, *, is_last: bool) -> None:
        """Keep the video's next part; with the last one, the video."""
        digest, begun = self.sha256s[source.video_id], self.begun.get(source.video_id)
        if not is_last and begun is None:
            self._held.setdefault(source.video_id, []).append(part)
        elif not is_last and begun is not None:
            thumbnails = part.thumbnails if self.thumbnails else None
            is_held = bool(self._held.get(source.video_id))
            if not is_held and self.cache.put_part(digest, begun.num_parts, part.embeddings, thumbnails=thumbnails):
                self.begun[source.video_id] = replace(begun, num_parts=begun.num_parts + 1)
            else:  # another process is at the same video: from here on the parts are its own
                self._held.setdefault(source.video_id, []).append(part)
        elif not self._is_finished(source, digest):
            video = EmbeddedVideo.joined([*self._stored(source), *self._held.pop(source.video_id, []), part])
            self._put(source, digest, video)
            self.drop(source)

    def drop(self, source: Source) -> None:
        """Delete the parts of a video that is finished or has failed."""
        self._held.pop(source.video_id, None)
        if self.begun.pop(source.video_id, Unfinished()).num_parts:
            self.cache.drop_parts(self.sha256s[source.video_id])

    def _is_finished(self, source: Source, digest: str) -> bool:
        """Whether another process has finished the video meanwhile, and deleted the parts that were kept."""
        is_finished = self.begun.get(source.video_id, Unfinished()).num_parts > 0 and self.cache.has(digest)
        if is_finished:
            self.drop(source)
        return is_finished

    def _stored(self, source: Source) -> Iterator[EmbeddedVideo]:
        for number in range(self.begun.get(source.video_id, Unfinished()).num_parts):
            embeddings, thumbnails = self.cache.load_part(self.sha256s[source.video_id], number)
            yield EmbeddedVideo(embeddings, (), torch.empty(0), None, thumbnails)

    def _put(self, source: Source, digest: str, video: EmbeddedVideo) -> None:
        if source.windows is None:
            assert video.end is not None  # all its clips were taken
            if self.thumbnails:
                self.cache.put_thumbnails(digest, video.thumbnails)
            self.cache.put(digest, video.embeddings, video.end)
        if self.wanted[digest]:
            block_inputs = video.block_inputs.to(DTYPES[self.precision])
            windows = video.block_input_windows
            self.cache.put_block_inputs(digest, self.precision, windows, block_inputs, asked=self.wanted[digest])

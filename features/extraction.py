"""Brings every video's embeddings into the cache, each computed once. Knows hashes and failures by video."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from tqdm import tqdm

from features import preprocess
from features.backbone import DTYPES, Backbone
from features.cache import EmbeddingCache
from features.clips import ClipReader, Source, read_videos
from features.decode.container import UnreadableVideo
from features.decode.grid import decoder_provenance
from features.embed import embed_videos
from features.hashes import hashed
from features.keeper import VideoKeeper
from features.progress import VideoSeconds, stated_seconds
from features.thumbnails import Thumbnails


@dataclass(frozen=True)
class BlockInputSelection:
    """Windows whose block inputs are stored, by video id, and the precision that they are stored in."""

    windows: Mapping[str, frozenset[int]]
    precision: str

    def of(self, video_id: str) -> frozenset[int]:
        return self.windows.get(video_id, frozenset())


@dataclass(frozen=True)
class Extraction:
    """What the cache holds after an extraction: each video's hash, its windows and those with block inputs, by id.

    Of the `failures`, `num_known` videos were known to fail before.
    """

    sha256s: Mapping[str, str]
    num_windows: Mapping[str, int]
    block_input_windows: Mapping[str, tuple[int, ...]]
    failures: Mapping[str, UnreadableVideo]
    num_embedded: int
    num_reused: int
    num_known: int = 0


def provenance(backbone: Backbone, reader: ClipReader) -> dict[str, Any]:
    """All that a video's embeddings are a function of besides its bytes, as plain JSON: the key of the cache."""
    gate = {} if reader.gate is None else {"motion_gate": reader.gate.to_json()}
    views = {} if reader.views == "center" else {"views": reader.views}
    return {
        **gate,
        **views,
        "backbone": {"sha256": backbone.weights_sha256},
        "windows": asdict(reader.plan),
        "decoder": decoder_provenance(reader.decoder),
        "preprocessing": reader.preprocessing.to_dict(),
        "preprocessing_version": preprocess.VERSION,
        "precision": next(name for name, dtype in DTYPES.items() if dtype == backbone.dtype),
        "attention": backbone.attention,
    }


def extract(
    backbone: Backbone,
    sources: Sequence[Source],
    reader: ClipReader,
    *,
    cache: EmbeddingCache,
    selection: BlockInputSelection,
    batch_size: int,
    num_workers: int,
    device: torch.device,
    thumbnails: bool = False,
    keeps_failures: bool = False,
) -> Extraction:
    """Bring every video's embeddings, and the selected block inputs, into the cache; compute only what is not there.

    With `thumbnails`, as for recordings, each video's are kept, too; a video of which they alone are missing is decoded
    and not embedded. Progress is then by seconds of video.
    Call it inside `cache.locked()`. Each video is kept as soon as it is done, and each part of a long one, so that a
    killed run costs the parts that it was at. The next run tries failed videos again, unless `keeps_failures`: then it
    is told by the cache why they failed.
    """
    sha256s, failures = hashes_of(sources, cache)
    wanted, todo = _missing(sources, sha256s, cache, selection, thumbnails=thumbnails)
    failed: dict[str, UnreadableVideo] = {}
    for digest, (reason, found) in cache.failures(todo.keys()).items() if keeps_failures else ():
        failed[digest] = UnreadableVideo(todo.pop(digest).path, reason, found)
    num_known = len(failed)
    keeper = VideoKeeper(cache, sha256s, wanted, selection.precision, thumbnails)
    resumed = [keeper.resumed(source) for source in todo.values()]
    with _seconds_bar(resumed, keeper) if thumbnails else _videos_bar(resumed) as bar:
        for source, part in embed_videos(
            backbone,
            resumed,
            reader,
            block_input_windows={source.video_id: wanted[digest] for digest, source in todo.items()},
            batch_size=batch_size,
            num_workers=num_workers,
            device=device,
            submitted=bar.reach if isinstance(bar, VideoSeconds) else None,
        ):
            digest = sha256s[source.video_id]
            if part.is_last and not isinstance(bar, VideoSeconds):
                bar.update()
            if digest in failed:
                continue
            try:
                keeper.keep(source, part.result(), is_last=part.is_last)
            except UnreadableVideo as failure:
                failed[digest] = failure
                keeper.drop(source)
                if keeps_failures and _is_of_its_bytes(failure):
                    cache.put_failure(digest, failure.reason, failure.found)
    if thumbnails:
        failed |= _add_thumbnails(
            {sha256s[source.video_id]: source for source in sources if source.video_id in sha256s},
            reader,
            cache=cache,
            failed=failed,
            num_workers=num_workers,
        )
    for source in sources:
        cause = failed.get(sha256s.get(source.video_id, ""))
        if cause is not None:
            failures[source.video_id] = UnreadableVideo(source.path, cause.reason, cause.found)
    num_embedded = len(todo.keys() - failed.keys())
    good = {video_id: digest for video_id, digest in sha256s.items() if video_id not in failures}
    cache.mark_used(good.values(), now_ns=time.time_ns())
    return Extraction(
        sha256s=good,
        num_windows={video_id: cache.num_windows(digest) for video_id, digest in good.items()},
        block_input_windows={
            video_id: cache.block_input_windows(digest, selection.precision, wanted=selection.of(video_id)) or ()
            for video_id, digest in good.items()
            if selection.of(video_id)
        },
        failures=failures,
        num_embedded=num_embedded,
        num_reused=len(good) - num_embedded,
        num_known=num_known,
    )


def _is_of_its_bytes(failure: UnreadableVideo) -> bool:
    """Whether another try must fail as well; else it failed for want of memory, a disk or a file."""
    causes = ("not a file", "cannot be opened")
    return failure.reason not in causes and not failure.found.startswith(("MemoryError", "OSError"))


def _missing(
    sources: Sequence[Source],
    sha256s: Mapping[str, str],
    cache: EmbeddingCache,
    selection: BlockInputSelection,
    *,
    thumbnails: bool,
) -> tuple[dict[str, frozenset[int]], dict[str, Source]]:
    """By hash: the windows of all videos whose block inputs are wanted, and what is to be read of those not cached."""
    cache.share(set(sha256s.values()))
    cached = cache.sound(sha256s.values())
    wanted = _wanted(sha256s, selection)
    todo: dict[str, Source] = {}
    for source in sources:
        digest = sha256s.get(source.video_id, "")
        if not digest or digest in todo:
            continue
        if digest not in cached:
            todo[digest] = replace(source, thumbnails=thumbnails)
        elif wanted[digest] and cache.block_input_windows(digest, selection.precision, wanted=wanted[digest]) is None:
            todo[digest] = Source(source.video_id, source.path, wanted[digest])
    return wanted, todo


def _videos_bar(sources: Sequence[Source]) -> tqdm[Any]:
    return tqdm(total=len(sources), desc="extract", unit="video", file=sys.stderr)


def _seconds_bar(sources: Sequence[Source], keeper: VideoKeeper) -> VideoSeconds:
    done_s = {video_id: begun.end_s for video_id, begun in keeper.begun.items()}
    stated_s = {source.video_id: stated_seconds(source.path) for source in sources}
    return VideoSeconds.of(stated_s, done_s=done_s, desc="extract")


def _add_thumbnails(
    videos: Mapping[str, Source],
    reader: ClipReader,
    *,
    cache: EmbeddingCache,
    failed: Mapping[str, UnreadableVideo],
    num_workers: int,
) -> dict[str, UnreadableVideo]:
    """Decode each of the `videos`, by hash, that has embeddings and no thumbnails; returns those that cannot be."""
    failures: dict[str, UnreadableVideo] = {}
    lacking = {
        source.video_id: digest
        for digest, source in videos.items()
        if digest not in failed and not cache.has_thumbnails(digest)
    }
    sources = [replace(videos[digest], windows=None, thumbnails=True) for digest in lacking.values()]
    for source, clips in read_videos(sources, reader, num_workers=num_workers):
        digest = lacking[source.video_id]
        try:
            thumbnails = Thumbnails.of([clip.thumbnail for clip in clips if clip.thumbnail is not None])
        except UnreadableVideo as failure:
            failures[digest] = failure
        else:
            cache.put_thumbnails(digest, thumbnails)
    return failures


def by_hash(
    sources: Sequence[Source], cache: EmbeddingCache, selection: BlockInputSelection
) -> tuple[dict[str, Source], dict[str, frozenset[int]]]:
    """The first source with each hash, of those that have one, and the windows whose block inputs are wanted of it."""
    sha256s, _ = hashes_of(sources, cache)
    videos = {sha256s[source.video_id]: source for source in reversed(sources) if source.video_id in sha256s}
    return videos, _wanted(sha256s, selection)


def _wanted(sha256s: Mapping[str, str], selection: BlockInputSelection) -> dict[str, frozenset[int]]:
    """Windows whose block inputs are wanted, by hash; two ids may have the same bytes: those that either wants."""
    wanted: dict[str, frozenset[int]] = {}
    for video_id, digest in sha256s.items():
        wanted[digest] = wanted.get(digest, frozenset()) | selection.of(video_id)
    return wanted


def hashes_of(sources: Sequence[Source], cache: EmbeddingCache) -> tuple[dict[str, str], dict[str, UnreadableVideo]]:
    """Each file's hash, and why a file has none, by video id; the cache's folder notes hashes of unchanged files."""
    by_path, unread = hashed([source.path for source in sources], cache.root)
    sha256s = {source.video_id: by_path[source.path] for source in sources if source.path in by_path}
    return sha256s, {source.video_id: unread[source.path] for source in sources if source.path in unread}

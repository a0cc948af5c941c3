"""Every video's embeddings in the cache, each computed once. Knows hashes and failures by video; knows no output."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from features import preprocess
from features.backbone import DTYPES, Backbone
from features.cache import EmbeddingCache, sha256_of
from features.clips import Reading, Source
from features.decode import grid as decode
from features.decode.grid import UnreadableVideo
from features.embed import FailedVideo, embed_videos


@dataclass(frozen=True)
class TokenChoice:
    """Of which windows tokens are wanted, by video id and number, and in which precision they are kept."""

    windows: Mapping[str, frozenset[int]]
    precision: str

    def of(self, video_id: str) -> frozenset[int]:
        return self.windows.get(video_id, frozenset())


@dataclass(frozen=True)
class Extraction:
    """What the cache holds when all is done: by video id the video's hash, its windows, and the tokens' windows."""

    sha256s: Mapping[str, str]
    num_windows: Mapping[str, int]
    token_windows: Mapping[str, tuple[int, ...]]
    failures: Mapping[str, UnreadableVideo]
    num_embedded: int
    num_reused: int


def recipe(backbone: Backbone, reading: Reading) -> dict[str, Any]:
    """All that a video's embeddings are a function of, besides its bytes, as plain JSON: the cache's key."""
    return {
        "backbone": {"sha256": backbone.weights_sha256},
        "windows": {
            "num_frames": reading.plan.num_frames,
            "sample_fps": reading.plan.sample_fps,
            "stride_s": reading.plan.stride_s,
        },
        "decoder": {"name": reading.decoder, "version": decode.VERSION, **decode.library_versions()},
        "preprocessing": reading.preprocessing.to_dict(),
        "preprocessing_version": preprocess.VERSION,
        "precision": next(name for name, dtype in DTYPES.items() if dtype == backbone.dtype),
        "attention": backbone.attention,
    }


def extract(
    backbone: Backbone, sources: Sequence[Source], reading: Reading, *, cache: EmbeddingCache, choice: TokenChoice,
    batch_size: int, num_workers: int, device: torch.device,
) -> Extraction:  # fmt: skip
    """Bring every video's embeddings, and the tokens chosen, into the cache; computes only what is not there.

    Call it inside `cache.locked()`. Each video is kept as soon as it is done, so that a killed run costs the videos
    that it was at. Failures are not kept: a video that failed is tried again by the next run.
    """
    sha256s, failures = _hashed(sources)
    cached = {digest for digest in set(sha256s.values()) if cache.has(digest)}
    # Two ids may have the same bytes: the tokens that either wants are made in one go.
    chosen: dict[str, frozenset[int]] = {}
    for video_id, digest in sha256s.items():
        chosen[digest] = chosen.get(digest, frozenset()) | choice.of(video_id)
    todo: dict[str, Source] = {}
    for source in sources:
        digest = sha256s.get(source.video_id, "")
        if not digest or digest in todo:
            continue
        if digest not in cached:
            todo[digest] = source
        elif cache.token_windows(digest, choice.precision, wanted=chosen[digest]) is None and chosen[digest]:
            todo[digest] = Source(source.video_id, source.path, chosen[digest])
    lost: dict[str, UnreadableVideo] = {}
    with tqdm(total=len(todo), desc="extract", unit="video", file=sys.stderr) as bar:
        done = embed_videos(
            backbone, list(todo.values()), reading,
            token_windows={source.video_id: chosen[digest] for digest, source in todo.items()},
            batch_size=batch_size, num_workers=num_workers, device=device,
        )  # fmt: skip
        for video in done:
            bar.update()
            digest = sha256s[video.source.video_id]
            if isinstance(video, FailedVideo):
                lost[digest] = video.failure
                continue
            if video.source.windows is None:
                cache.put(digest, video.embeddings)
            if chosen[digest]:
                tokens = video.tokens.to(DTYPES[choice.precision])
                cache.put_tokens(digest, choice.precision, video.token_windows, tokens, asked=chosen[digest])
    for source in sources:
        failure = lost.get(sha256s.get(source.video_id, ""))
        if failure is not None:
            failures[source.video_id] = UnreadableVideo(source.path, failure.reason, failure.found)
    good = {video_id: digest for video_id, digest in sha256s.items() if video_id not in failures}
    cache.mark_used(good.values(), now_ns=time.time_ns())
    return Extraction(
        sha256s=good,
        num_windows={video_id: cache.num_windows(digest) for video_id, digest in good.items()},
        token_windows={
            video_id: cache.token_windows(digest, choice.precision, wanted=choice.of(video_id)) or ()
            for video_id, digest in good.items()
            if choice.of(video_id)
        },
        failures=failures,
        num_embedded=len(todo) - len(lost),
        num_reused=len(good) - len(todo) + len(lost),
    )


def _hashed(sources: Sequence[Source]) -> tuple[dict[str, str], dict[str, UnreadableVideo]]:
    """Each file's hash, and why a file has none; by video id."""

    def hashed(source: Source) -> str | UnreadableVideo:
        try:
            return sha256_of(source.path)
        except IsADirectoryError:
            return UnreadableVideo(source.path, "not a file", found="a folder")
        except FileNotFoundError:
            return UnreadableVideo(source.path, "not a file", found="nothing")
        except OSError as error:
            return UnreadableVideo(source.path, "cannot be opened", found=error.strerror or str(error))

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = dict(zip((source.video_id for source in sources), pool.map(hashed, sources), strict=True))
    sha256s = {video_id: each for video_id, each in found.items() if isinstance(each, str)}
    return sha256s, {video_id: each for video_id, each in found.items() if isinstance(each, UnreadableVideo)}

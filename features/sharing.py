"""Shares of an extraction: several processes fill one cache, each its own part first, then what is still missing."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from features.cache import EmbeddingCache
from features.clips import Source
from features.extraction import BlockInputSelection, Extraction, by_hash

log = logging.getLogger(__name__)

_OWN, _OTHERS = 32, 8  # videos after which a share looks at what the others have done


class ShareError(Exception):
    """What is given is no share; the message says what is one."""


@dataclass(frozen=True)
class Share:
    """Part `number`, from 1, of `count`."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read "2/3"; raises `ShareError`."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        share = cls(*map(int, match.groups())) if match else None
        if share is None or not 1 <= share.number <= share.count:
            raise ShareError(f"--share is the second of three as 2/3, got {text!r}: wanted 1/n to n/n")
        return share

    def order(self, sha256s: Sequence[str]) -> tuple[list[str], list[str]]:
        """The videos that are this share's own, and all others; each in an order that no other share has.

        A video is of the share that gives it the highest weight, so that another `count` moves as few as can be.
        """
        own_videos = {digest for digest in sha256s if max(range(1, self.count + 1), key=_weight(digest)) == self.number}
        ordered = sorted(sha256s, key=lambda digest: _weight(digest)(self.number), reverse=True)
        return [each for each in ordered if each in own_videos], [each for each in ordered if each not in own_videos]


@dataclass(frozen=True)
class ShareDone:
    """What a share came to: videos that it embedded, that failed, and that others had done."""

    num_embedded: int
    num_failed: int
    num_others: int


def extract_share(
    share: Share,
    sources: Sequence[Source],
    *,
    cache: EmbeddingCache,
    selection: BlockInputSelection,
    extract: Callable[[Sequence[Source], BlockInputSelection], Extraction],
) -> ShareDone:
    """Extract this share's videos, then those of others that are still missing; files without a hash are left out.

    Every few videos it looks at what is there by now, so that little is computed twice. Call it inside
    `cache.locked()`.
    """
    videos, wanted = by_hash(sources, cache, selection)
    own, others = share.order(list(videos))
    done = [
        extract([videos[digest] for digest in part], selection)
        for part in _still_missing(own, others, wanted, cache, selection.precision)
    ]
    num_embedded = sum(each.num_embedded for each in done)
    num_failed = sum(len(each.failures) for each in done)
    return ShareDone(num_embedded, num_failed, len(videos) - num_embedded - num_failed)


def _still_missing(
    own_videos: Sequence[str],
    others: Sequence[str],
    wanted: Mapping[str, frozenset[int]],
    cache: EmbeddingCache,
    precision: str,
) -> Iterator[list[str]]:
    """The videos that nobody has done, some at a time, by hash: own ones, then others', of which few at a time."""
    for videos, size in ((own_videos, _OWN), (others, _OTHERS)):
        left = cache.lacking({digest: wanted[digest] for digest in videos}, precision)
        for first in range(0, len(left), size):
            part = cache.lacking({digest: wanted[digest] for digest in left[first : first + size]}, precision)
            if part:
                yield part


def _weight(digest: str) -> Callable[[int], bytes]:
    return lambda number: hashlib.sha256(f"{digest} {number}".encode()).digest()

"""Two backbones that differ in the last block alone, as one: the blocks before it run once for both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch

from features.backbone import Backbone
from features.store.embeddings import VideoEmbeddings


def twins(first: Backbone, second: Backbone) -> Backbone:
    """What embeds as both do: vectors of each pooling are the first's and the second's side by side, (B, 2 D).

    The second shares all modules with the first but the last block, as `with_own_last_block` makes it. It offers what
    embedding a video needs, and its hash is of both.
    """
    return cast(Backbone, _Twins(first, second))


def apart(video: VideoEmbeddings) -> tuple[VideoEmbeddings, VideoEmbeddings]:
    """The embeddings that each of two twins gives, of those that they give together."""

    def half(number: int) -> VideoEmbeddings:
        vectors = {}
        for name, both in video.vectors.items():
            size = both.shape[1] // 2
            vectors[name] = both[:, number * size : (number + 1) * size]
        return replace(video, vectors=vectors)

    return half(0), half(1)


class _Twins:
    def __init__(self, first: Backbone, second: Backbone) -> None:
        self._both = (first, second)
        hashes = "".join(each.weights_sha256 for each in self._both)
        self.weights_sha256 = hashlib.sha256(hashes.encode()).hexdigest()
        self.hidden_size = 2 * first.hidden_size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._both[0], name)

    def eval(self) -> _Twins:
        for each in self._both:
            each.eval()
        return self

    def last_block(self, block_input: torch.Tensor) -> torch.Tensor:
        """The tokens of both, (2, B, N, D)."""
        return torch.stack([each.last_block(block_input) for each in self._both])

    def pool_each(self, tokens: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        pooled = [each.pool_each(own, names) for each, own in zip(self._both, tokens, strict=True)]
        return {name: torch.cat([own[name] for own in pooled], dim=-1) for name in names}

"""From a window's tokens to one vector. Knows tensors and no model but the pooler that it is handed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

POOLINGS = ("pooler", "mean", "max")
"""Ways from a window's tokens to one vector: the checkpoint's attentive pooler, the mean or maximum over tokens."""


def pool(tokens: torch.Tensor, names: Sequence[str], pooler: nn.Module | None = None) -> dict[str, torch.Tensor]:
    """Tokens (B, N, D) to one float32 vector each, (B, D), by pooling, in the order asked for."""
    poolings = [name for name in POOLINGS if name != "pooler" or pooler is not None]
    unknown = [name for name in names if name not in poolings]
    if unknown:
        raise ValueError(f"no pooling {', '.join(unknown)}; there are {', '.join(poolings)}")
    pooled: dict[str, torch.Tensor] = {}
    for name in names:
        if name == "mean":
            pooled[name] = tokens.mean(dim=1, dtype=torch.float32)
        elif name == "max":
            pooled[name] = tokens.amax(dim=1).float()
        elif pooler is not None:
            pooled[name] = pooler(tokens).float()
    return pooled


def join_views(views: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Vectors (B, D) by pooling of several views of the same windows to one each: the maximum for max, else the mean.

    One view is as it was. So `mean` and `max` are those over the tokens of all views.
    """
    if len(views) == 1:
        return dict(views[0])
    stacked = {name: torch.stack([view[name] for view in views]) for name in views[0]}
    return {name: each.amax(dim=0) if name == "max" else each.mean(dim=0) for name, each in stacked.items()}

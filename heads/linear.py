"""The linear head: one layer from pooled features to logits, alone or several at once. Knows no backbone."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from features.sealed import damage_told
from heads import weights

_COLUMNS = 64


class LinearHead(nn.Module):
    """One linear layer on standardised features: (B, D) -> logits (B, L).

    Mean and standard deviation of the training features are part of the head: it takes embeddings as stored.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, num_features: int, num_labels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("inverse_std", torch.ones(num_features))
        self.linear = nn.Linear(num_features, num_labels)

    @torch.no_grad()
    def start_from(self, features: Tensor, targets: Tensor) -> None:
        """Standardise by features (n, D), and start where every answer is the labels' share of targets (n, L).

        What is nan in them is unknown and in no share.
        """
        # Some columns at a time: features may be float16, and many.
        self.mean.copy_(torch.cat([part.float().mean(0) for part in features.split(_COLUMNS, dim=1)]))
        std = torch.cat([part.float().std(0) for part in features.split(_COLUMNS, dim=1)])
        self.inverse_std.copy_(1 / std.clamp_min(1e-4))
        self.linear.weight.zero_()
        # A label that train never shows would start at minus infinity.
        self.linear.bias.copy_(torch.logit(targets.float().nanmean(0).nan_to_num(0).clamp(1e-4, 1 - 1e-4)))

    def standardised(self, features: Tensor) -> Tensor:
        """Features (B, D), less the training features' mean, over their standard deviation."""
        return (features.float() - self.mean) * self.inverse_std

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(self.standardised(features))


class LinearHeadGrid(nn.Module):
    """C copies of a head, to be trained at once: (B, D) -> logits (C, B, L), as one matrix product.

    Each of `heads` is a whole head with parameters of its own; they share the features.
    """

    def __init__(self, head: LinearHead, count: int) -> None:
        super().__init__()
        self.heads = [copy.deepcopy(head) for _ in range(count)]
        self.registered = nn.ModuleList(self.heads)

    def forward(self, features: Tensor) -> Tensor:
        weight = torch.cat([head.linear.weight for head in self.heads])
        bias = torch.cat([head.linear.bias for head in self.heads])
        logits = F.linear(self.heads[0].standardised(features), weight, bias)
        # Contiguous, since losses read it a dozen times and elements of a candidate are far apart in it.
        return logits.unflatten(-1, (len(self.heads), -1)).movedim(-2, 0).contiguous()


def load_linear_head(folder: Path, *, expected: Mapping[str, Any]) -> tuple[LinearHead, dict[str, Any]]:
    """A stage-1 head and its config; raises as `weights.load` does."""
    tensors, config = weights.load(folder, expected=expected)
    with damage_told(folder, remedy=weights.REMEDY):
        return head_of(tensors, config["labels"]), config


def head_of(tensors: Mapping[str, Tensor], labels: Sequence[Any]) -> LinearHead:
    """The head of these `labels` that the tensors make; raises `WeightsMismatch`."""
    weight = tensors.get("linear.weight")
    if weight is None or weight.ndim != 2 or len(weight) != len(labels):
        found = "nothing" if weight is None else tuple(weight.shape)
        raise weights.WeightsMismatch(f"linear.weight of a head of {len(labels)} labels has a row for each: {found}")
    head = LinearHead(weight.shape[1], len(weight))
    weights.load_into(head, tensors)
    return head

"""The head: one linear layer from pooled features to logits; one alone, or several at once. Knows no backbone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heads import weights


class Head(nn.Module):
    """One linear layer on standardised features: (B, D) -> logits (B, L).

    Mean and standard deviation of the training features are part of the head, so that it takes embeddings as stored.
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
        """Standardise by features (n, D), and begin where every answer is the labels' share of targets (n, L)."""
        self.mean.copy_(features.mean(0))
        self.inverse_std.copy_(1 / features.std(0).clamp_min(1e-4))
        self.linear.weight.zero_()
        # A label that train never shows would begin at minus infinity.
        self.linear.bias.copy_(torch.logit(targets.float().mean(0).clamp(1e-4, 1 - 1e-4)))

    def standardised(self, features: Tensor) -> Tensor:
        """Features (B, D) with the training features' mean and standard deviation taken out."""
        return (features.float() - self.mean) * self.inverse_std

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(self.standardised(features))


class HeadGrid(nn.Module):
    """C copies of a head, to be trained at once: (B, D) -> logits (C, B, L), as one matrix product.

    Each of `heads` is a whole head with parameters of its own; they share the features that they look at.
    """

    def __init__(self, head: Head, count: int) -> None:
        super().__init__()
        self.heads = [copy.deepcopy(head) for _ in range(count)]
        self.registered = nn.ModuleList(self.heads)

    def forward(self, features: Tensor) -> Tensor:
        weight = torch.cat([head.linear.weight for head in self.heads])
        bias = torch.cat([head.linear.bias for head in self.heads])
        logits = F.linear(self.heads[0].standardised(features), weight, bias)
        # Contiguous, since losses go over it a dozen times and elements of a candidate are far apart in it.
        return logits.unflatten(-1, (len(self.heads), -1)).movedim(-2, 0).contiguous()


def load_head(folder: Path, *, expect: dict[str, Any]) -> tuple[Head, dict[str, Any]]:
    """A stage-1 head and its description; `expect` as for `weights.load`, which raises where it does not match."""
    tensors, description = weights.load(folder, expect=expect)
    num_labels, num_features = tensors["linear.weight"].shape
    head = Head(num_features, num_labels)
    weights.load_into(head, tensors)
    return head, description

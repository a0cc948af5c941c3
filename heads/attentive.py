"""The attentive head: a learned query attends over all tokens of a window. Knows no backbone.

The frozen-backbone protocol of Yuan et al., "VideoGLUE: Video General Understanding Evaluation of Foundation Models"
(2023, arXiv:2307.03166): the encoder stays as it is, and a pooling block with a classifier learns on its tokens. Its
published numbers on Charades are video mAP.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from features.sealed import damage_told
from heads import weights

_HEAD_WIDTH = 64  # channels of an attention head, as in the encoders that are published


class AttentiveHead(nn.Module):
    """One cross-attention block with one query over tokens (B, N, D), then a linear layer: logits (B, L)."""

    def __init__(self, hidden_size: int, num_labels: int) -> None:
        super().__init__()
        num_heads = next(k for k in range(max(1, hidden_size // _HEAD_WIDTH), 0, -1) if hidden_size % k == 0)
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, hidden_size))
        self.token_norm = nn.LayerNorm(hidden_size)
        self.attention = nn.MultiheadAttention(hidden_size, num_heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(hidden_size),
            nn.Linear(hidden_size, 4 * hidden_size),
            nn.GELU(),
            nn.Linear(4 * hidden_size, hidden_size),
        )
        self.norm = nn.LayerNorm(hidden_size)
        self.linear = nn.Linear(hidden_size, num_labels)

    @torch.no_grad()
    def start_from(self, targets: Tensor) -> None:
        """Start where every answer is the labels' share of targets (n, L)."""
        self.linear.weight.zero_()
        # A label that train never shows would start at minus infinity.
        self.linear.bias.copy_(torch.logit(targets.float().mean(0).clamp(1e-4, 1 - 1e-4)))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.token_norm(tokens.float())
        query = self.query.expand(len(tokens), -1, -1)
        pooled = query + self.attention(query, tokens, tokens, need_weights=False)[0]
        pooled = pooled + self.mlp(pooled)
        return self.linear(self.norm(pooled[:, 0]))


def new_attentive_head(hidden_size: int, targets: Tensor, *, generator: torch.Generator) -> AttentiveHead:
    """A head to be trained against targets like (n, L), with weights that `generator` determines."""
    with torch.random.fork_rng([]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        head = AttentiveHead(hidden_size, targets.shape[1])
    head.start_from(targets)
    return head


def load_attentive_head(folder: Path, *, expected: Mapping[str, Any]) -> tuple[AttentiveHead, dict[str, Any]]:
    """A head in eval mode and its config; raises as `weights.load` does."""
    tensors, config = weights.load(folder, expected=expected)
    with damage_told(folder, remedy=weights.REMEDY):
        num_labels, hidden_size = tensors["linear.weight"].shape
        if num_labels != len(config["labels"]):
            raise weights.WeightsMismatch(f"{num_labels} rows of linear.weight for {len(config['labels'])} labels")
        head = AttentiveHead(hidden_size, num_labels)
        weights.load_into(head, tensors)
    return head.eval(), config

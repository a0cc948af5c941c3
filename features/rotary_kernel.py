"""A kernel for CUDA that turns queries and keys in one pass over memory, where torch's operations take five."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_BLOCK = 1024  # channels that a program turns


def turned(vectors: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Vectors (B, N, heads, D), contiguous, by tables (N, 1, D) of the same 16-bit type.

    To the bit what `vectors * cos + swapped * sin` gives, `swapped` being the two channels of each pair exchanged.
    """
    out = torch.empty_like(vectors)
    size, row = vectors.numel(), vectors.shape[2] * vectors.shape[3]
    with torch.cuda.device(vectors.device):
        _turn[(triton.cdiv(size, _BLOCK),)](
            out,
            vectors,
            cos,
            sin,
            size,
            row,
            vectors.shape[1],
            CHANNELS=vectors.shape[3],
            BLOCK=_BLOCK,
            enable_fp_fusion=False,  # a fused product and sum is rounded once
        )
    return out


@triton.jit
def _turn(out, vectors, cos, sin, size, row, num_tokens, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    place = at // row % num_tokens * CHANNELS + at % CHANNELS
    own = tl.load(vectors + at, mask=inside).to(tl.float32) * tl.load(cos + place, mask=inside).to(tl.float32)
    other = tl.load(vectors + (at ^ 1), mask=inside).to(tl.float32) * tl.load(sin + place, mask=inside).to(tl.float32)
    # Rounded before they are added, as between two operations of torch.
    kind = out.dtype.element_ty
    tl.store(out + at, own.to(kind).to(tl.float32) + other.to(kind).to(tl.float32), mask=inside)

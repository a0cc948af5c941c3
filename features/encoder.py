"""What all kinds of backbone share: a vision transformer over tubelets whose last block stands apart."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import nn

from features.checkpoint import BackboneError
from features.pooling import POOLINGS, pool

Attention = Literal["sdpa", "eager"]
"""How attention is computed: by torch's fused kernels, or plainly where a device's kernels are wrong."""


class Patches(nn.Conv3d):
    """A convolution whose steps are as large as its kernel: on CUDA a matrix product, for which there are fast kernels.

    Pixels (B, 3, T, H, W) to (B, D, T / tubelet, H / patch, W / patch).
    """

    @classmethod
    def like(cls, conv: nn.Conv3d) -> Patches:
        """The same convolution, with the same parameters."""
        patches = cls(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, device="meta")  # type: ignore[arg-type]
        patches.weight, patches.bias = conv.weight, conv.bias
        return patches

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.by_product(pixels) if pixels.is_cuda else super().forward(pixels)

    def by_product(self, pixels: torch.Tensor) -> torch.Tensor:
        """The convolution as a product of the weights and of each patch as a row."""
        t, h, w = self.kernel_size
        patches = pixels.unflatten(4, (-1, w)).unflatten(3, (-1, h)).unflatten(2, (-1, t))
        rows = patches.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
        return F.linear(rows, self.weight.flatten(1), self.bias).permute(0, 4, 1, 2, 3)


@dataclass(frozen=True)
class EncoderSizes:
    """Channels of a token, pixels of a picture's side and of a patch's, frames of a tubelet and of a published clip."""

    hidden_size: int
    crop_size: int
    patch_size: int
    tubelet_size: int
    frames_per_clip: int


class VideoEncoder(nn.Module):
    """A `Backbone` of `embeddings`, which make tokens of pixels, blocks, a layernorm, and perhaps a pooler.

    All of it is frozen. A kind says how tokens go through a block, and loads itself from a folder.
    """

    id: str
    weights_sha256: str
    attention: str
    dtype: torch.dtype

    def __init__(
        self,
        sizes: EncoderSizes,
        *,
        embeddings: nn.Module,
        blocks: nn.ModuleList,
        layernorm: nn.Module,
        pooler: nn.Module | None,
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.blocks = blocks[:-1]
        self.last: nn.Module = blocks[-1]
        self.after_last = nn.ModuleList([layernorm] + ([] if pooler is None else [pooler]))
        self.poolings: tuple[str, ...] = tuple(name for name in POOLINGS if name != "pooler" or pooler is not None)
        self.hidden_size = sizes.hidden_size
        self.frames_per_clip = sizes.frames_per_clip
        self.crop_size = sizes.crop_size
        self.tubelet_size = sizes.tubelet_size
        self.patch_size = sizes.patch_size
        self.requires_grad_(False)
        self.eval()

    def _through(self, block: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        """Tokens (B, N, D) through one of the blocks."""
        return block(hidden)

    def require_fit(self, *, num_frames: int, crop_size: int) -> None:
        """Raise `BackboneError` unless it takes clips of `num_frames` frames of `crop_size` pixels a side."""
        if num_frames % self.tubelet_size:
            raise BackboneError(
                f"windows.num_frames must be a multiple of {self.tubelet_size}, the frames that {self.id} takes "
                f"together, got {num_frames}"
            )
        if crop_size != self.crop_size:
            raise BackboneError(
                f"{self.id} takes pictures of {self.crop_size} pixels a side, its processor's file says {crop_size}; "
                "get the backbone's folder again"
            )

    def block_input_shape(self, num_frames: int) -> tuple[int, int]:
        """(N, D) of a clip's block input."""
        return num_frames // self.tubelet_size * (self.crop_size // self.patch_size) ** 2, self.hidden_size

    def train(self, mode: bool = True) -> Self:
        super().train(False)
        self.last.train(mode and any(parameter.requires_grad for parameter in self.last.parameters()))
        return self

    @torch.no_grad()
    def block_input(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (B, T, 3, H, W) to what enters the last block, (B, N, D), without gradients.

        H and W are `crop_size`: another resolution would silently give wrong positions. T is a multiple of
        `tubelet_size`: an odd frame would silently be dropped. N = T / tubelet · (H / patch) · (W / patch).
        """
        if pixels.ndim != 5 or pixels.shape[2:] != (3, self.crop_size, self.crop_size):
            raise ValueError(f"pixels are (B, T, 3, {self.crop_size}, {self.crop_size}), got {tuple(pixels.shape)}")
        if pixels.shape[1] == 0 or pixels.shape[1] % self.tubelet_size:
            raise ValueError(f"a clip is a multiple of {self.tubelet_size} frames, got {pixels.shape[1]}")
        hidden = self.embeddings(pixels)
        for block in self.blocks:
            hidden = self._through(block, hidden)
        return hidden

    def last_block(self, block_input: torch.Tensor) -> torch.Tensor:
        """What enters the last block (B, N, D), through it and the final layernorm, to tokens (B, N, D)."""
        return self.after_last[0](self._through(self.last, block_input))

    def with_own_last_block(self) -> Self:
        """A second backbone that shares all modules with this one but the last block, of which it has a copy."""
        second = copy.copy(self)
        second._modules = dict(self._modules)
        second.last = copy.deepcopy(self.last)
        return second

    def tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """The encoder's tokens (B, N, D) of normalised pixels (B, T, 3, H, W), in t, h, w order."""
        return self.last_block(self.block_input(pixels))

    def pool(self, tokens: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """The encoder's tokens (B, N, D) to one float32 vector each, (B, D), by pooling, in the order asked for."""
        return pool(tokens, names, self.after_last[1] if "pooler" in self.poolings else None)

    def pool_each(self, tokens: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """`pool`, with the same result for a window whatever others are in the batch (B, N, D), to the last bit.

        The pooler works on one vector a window: on a CPU the number of windows chooses the routine that multiplies
        them, and with it the rounding. Elsewhere a loop costs more than the bit is worth: same shapes, same results.
        """
        if tokens.device.type != "cpu":
            return self.pool(tokens, names)
        each = [self.pool(one, names) for one in tokens.split(1)]
        return {name: torch.cat([pooled[name] for pooled in each]) for name in names}

"""V-JEPA 2.1 (Meta, March 2026), for which transformers has no class: its encoder, from safetensors of this layout.

A folder holds `config.json` with `"model_type": "vjepa2_1"` and the keys of `_KEYS`, the processor's file as V-JEPA 2
has it, and the encoder's weights in `model.safetensors`, in parts or not, under the names of the published state dict
without its prefixes `module.` and `backbone.`:

    patch_embed.proj.{weight (D, 3, tubelet, patch, patch), bias}       video_mod_embed (1, 1, D)
    blocks.<k>.norm1.{weight, bias}   blocks.<k>.attn.qkv.{weight (3 D, D), bias}   blocks.<k>.attn.proj.{weight, bias}
    blocks.<k>.norm2.{weight, bias}   blocks.<k>.mlp.fc1.{weight (M, D), bias}      blocks.<k>.mlp.fc2.{weight, bias}
    norms_block.<j>.{weight, bias}

What is of pictures (`patch_embed_img`, `img_mod_embed`) and all `norms_block` but the last are left out.

What the encoder makes of a clip of T frames (3, H, W):

1. A tubelet's pixels, `tubelet` frames of `patch` x `patch`, times `patch_embed.proj`, plus `video_mod_embed`: tokens
   in the order of time, row, column.
2. Each block: x + attention(norm1(x)), then x + mlp(norm2(x)). Layernorms have an epsilon of 1e-6; the mlp is fc1,
   GELU by the error function, fc2; attention is multi-head with a scale of head_dim ** -0.5. The rows of `qkv` are
   those of queries, keys and values, each head after head.
3. Queries and keys are turned by their place. With d = 2 * (head_dim // 3 // 2), the first d channels of a head turn by
   time, the next d by row, the next d by column, the rest not at all. Channels 2 k and 2 k + 1 of such a group turn
   together by the angle place * 10000 ** (-2 k / d): (a, b) becomes (a cos - b sin, b cos + a sin). The place in time
   is the tubelet's number; rows and columns are scaled so that the last one is at 256 / patch - 1 in any resolution.
4. The last one of `norms_block`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import nn

from features.checkpoint import (
    BackboneError,
    identity,
    read_weights,
    require_complete,
    require_finite,
    weight_files,
)
from features.encoder import Attention, EncoderSizes, Patches, VideoEncoder
from features.files import sha256_of

_KEYS = (*(size.name for size in fields(EncoderSizes)), "num_hidden_layers", "num_attention_heads", "mlp_ratio")
_LEFT_OUT = ("patch_embed_img.", "img_mod_embed", "norms_block.")
_TRAINED_AT = 256  # pixels a side, whose row and column numbers positions are scaled to
_EPSILON = 1e-6


class VJepa21Backbone(VideoEncoder):
    """A V-JEPA 2.1 encoder, without attentive pooler."""

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any], *, dtype: torch.dtype, attention: Attention) -> Self:
        """Load a folder whose config.json holds `config`; a missing, unexpected or misshapen weight raises."""
        sizes, files = _sizes(folder, config), weight_files(folder)
        with torch.device("meta"):
            embeddings = _Embeddings(sizes)
            blocks = nn.ModuleList(_block(sizes, config, attention) for _ in range(config["num_hidden_layers"]))
            layernorm = nn.LayerNorm(sizes.hidden_size, eps=_EPSILON)
        weights = read_weights(files)
        norms = [int(name.split(".")[1]) for name in weights if name.startswith("norms_block.")]
        last_norm = f"norms_block.{max(norms, default=3)}."
        parts: dict[str, nn.Module] = {"": embeddings, "blocks.": blocks, last_norm: layernorm}
        wanted = {f"{part}{name}": value for part, own in parts.items() for name, value in own.state_dict().items()}
        left_out = {name for name in weights if name.startswith(_LEFT_OUT) and name not in wanted}
        require_complete(folder, _differences(wanted, {name: weights[name] for name in weights.keys() - left_out}))
        for part, own in parts.items():
            own.load_state_dict({name: weights[f"{part}{name}"].to(dtype) for name in own.state_dict()}, assign=True)
            require_finite(folder, own)
        backbone = cls(sizes, embeddings=embeddings, blocks=blocks, layernorm=layernorm, pooler=None)
        backbone.id = identity(folder, config)
        backbone.weights_sha256 = sha256_of(*files)
        backbone.attention, backbone.dtype = attention, dtype
        return backbone


def _sizes(folder: Path, config: Mapping[str, Any]) -> EncoderSizes:
    missing = [key for key in _KEYS if key not in config]
    if missing:
        raise BackboneError(f"{folder / 'config.json'} lacks {', '.join(missing)}")
    sizes = EncoderSizes(**{size.name: config[size.name] for size in fields(EncoderSizes)})
    if sizes.hidden_size % config["num_attention_heads"] or sizes.crop_size % sizes.patch_size:
        raise BackboneError(
            f"{folder / 'config.json'}: hidden_size must be a multiple of num_attention_heads, and crop_size of "
            f"patch_size, found {sizes.hidden_size} and {config['num_attention_heads']}, {sizes.crop_size} and "
            f"{sizes.patch_size}"
        )
    return sizes


class _Embeddings(nn.Module):
    """Pixels (B, T, 3, H, W) to tokens (B, N, D) of a video."""

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        kernel = (sizes.tubelet_size, sizes.patch_size, sizes.patch_size)
        self.patch_embed = nn.ModuleDict({"proj": Patches(3, sizes.hidden_size, kernel, stride=kernel)})
        self.video_mod_embed = nn.Parameter(torch.empty(1, 1, sizes.hidden_size))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tubelets = self.patch_embed["proj"](pixels.transpose(1, 2))
        return tubelets.flatten(2).transpose(1, 2) + self.video_mod_embed


class _Attention(nn.Module):
    """Attention of tokens (B, N, D) that are turned by their place in `side` x `side` patches and in time."""

    def __init__(self, hidden_size: int, num_heads: int, *, side: int, last_place: int, attention: Attention) -> None:
        super().__init__()
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)
        self._num_heads, self._side, self._last_place, self._attention = num_heads, side, last_place, attention

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(hidden).unflatten(-1, (3, self._num_heads, -1)).permute(2, 0, 3, 1, 4)
        turns = _turns(hidden.shape[1], query.shape[-1], self._side, self._last_place, hidden.device)
        query, key = _turned(query, turns), _turned(key, turns)
        if self._attention == "sdpa":
            seen = F.scaled_dot_product_attention(query, key, value)
        else:
            seen = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1) @ value
        return self.proj(seen.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, width)
        self.fc2 = nn.Linear(width, hidden_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(hidden)))


class _Block(nn.Module):
    """Tokens (B, N, D) to tokens (B, N, D)."""

    def __init__(self, hidden_size: int, attn: _Attention, mlp: _Mlp) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, eps=_EPSILON)
        self.attn = attn
        self.norm2 = nn.LayerNorm(hidden_size, eps=_EPSILON)
        self.mlp = mlp

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden + self.attn(self.norm1(hidden))
        return hidden + self.mlp(self.norm2(hidden))


def _block(sizes: EncoderSizes, config: Mapping[str, Any], attention: Attention) -> _Block:
    size = sizes.hidden_size
    attn = _Attention(
        size,
        config["num_attention_heads"],
        side=sizes.crop_size // sizes.patch_size,
        last_place=_TRAINED_AT // sizes.patch_size - 1,
        attention=attention,
    )
    return _Block(size, attn, _Mlp(size, round(size * config["mlp_ratio"])))


def _turns(
    num_tokens: int, head_dim: int, side: int, last_place: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine (N, P) of the angles by which the first P pairs of channels of a head turn, in float32."""
    token = torch.arange(num_tokens, device=device)
    scale = last_place / max(1, side - 1)
    places = [token // side**2, token % side**2 // side * scale, token % side * scale]
    num_pairs = head_dim // 3 // 2
    speeds = 10_000.0 ** (-torch.arange(num_pairs, device=device, dtype=torch.float32) / num_pairs)
    angles = torch.cat([place.to(torch.float32)[:, None] * speeds for place in places], dim=1)
    return angles.cos(), angles.sin()


def _turned(heads: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Queries or keys (B, heads, N, head_dim) with their first pairs of channels turned."""
    cosine, sine = (each.to(heads.dtype) for each in turns)
    num_turned = 2 * cosine.shape[1]
    even, odd = heads[..., 0:num_turned:2], heads[..., 1:num_turned:2]
    pairs = torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], dim=-1)
    return torch.cat([pairs.flatten(-2), heads[..., num_turned:]], dim=-1)


def _differences(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> dict[str, Sequence[Any]]:
    """Which weights are missing, too many or misshapen, as transformers lists them."""
    return {
        "missing_keys": list(wanted.keys() - found.keys()),
        "unexpected_keys": list(found.keys() - wanted.keys()),
        "mismatched_keys": [
            (name, found[name].shape, wanted[name].shape)
            for name in wanted.keys() & found.keys()
            if found[name].shape != wanted[name].shape
        ],
        "error_msgs": [],
    }

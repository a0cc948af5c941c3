"""`ActionModel`: a backbone and a head, from frames to probabilities. Knows no data set.

It is two parts: the frozen prefix, and the `Tail` that begins with the last block. What lies between them is a constant
of the clip, so the tail also runs alone, from tokens that were stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from features.backbone import Backbone
from features.preprocess import Preprocessing
from features.video import Clip
from heads import weights
from heads.linear import Head


class Tail(nn.Module):
    """The last block, the final layernorm, pooling and head: what enters the last block (B, N, D) -> logits (B, L).

    The block, the layernorm and the pooler are the backbone's own, not copies; the blocks before them are no part of
    it, and stay on their device when it moves. Tokens may come in another precision than the weights'. `features` are
    the poolings that the head takes, in its order.
    """

    def __init__(self, backbone: Backbone, head: Head, *, features: Sequence[str]) -> None:
        super().__init__()
        self.last_block = backbone.last
        self.layernorm = backbone.layernorm
        self.pooler = backbone.pooler
        self.head = head
        self.features = tuple(features)
        # Two methods and not the backbone itself, which as a part would bring all its blocks along.
        self._encode, self._pool = backbone.last_block, backbone.pool
        self._dtype = backbone.dtype

    def train(self, mode: bool = True) -> Tail:
        super().train(False)
        self.head.train(mode)
        self.last_block.train(mode and any(parameter.requires_grad for parameter in self.last_block.parameters()))
        return self

    def forward(self, tokens: Tensor) -> Tensor:
        pooled = self._pool(self._encode(tokens.to(self._dtype)), self.features)
        return self.head(torch.cat([pooled[name] for name in self.features], dim=-1))

    def trained_tensors(self) -> dict[str, Tensor]:
        """What stage 2 changes, by name: the last block and the head."""
        parts = {"last_block": self.last_block, "head": self.head}
        return {
            f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()
        }


class ActionModel(nn.Module):
    """A backbone's prefix and a tail: frames (B, T, H, W, 3) uint8 -> logits (B, L).

    Stage 1 is this with the backbone as it came; stage 2 is this with another last block. `tail` is of this `backbone`.
    """

    def __init__(self, backbone: Backbone, tail: Tail, *, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.backbone = backbone
        self.tail = tail
        self.preprocessing = preprocessing

    def prefix(self, frames: Tensor) -> Tensor:
        """Frames (B, T, H, W, 3) uint8 to what enters the last block, (B, N, D), without gradients."""
        return self.backbone.prefix(self.preprocessing.normalise(frames, self.backbone.dtype))

    def forward(self, frames: Tensor) -> Tensor:
        return self.tail(self.prefix(frames))


def load_action_model(
    folder: Path, backbone: Backbone, preprocessing: Preprocessing, *, expect: dict[str, Any]
) -> tuple[ActionModel, dict[str, Any]]:
    """The model of either stage, in eval mode: a folder with a last block replaces the backbone's."""
    tensors, description = weights.load(folder, expect=expect)
    of_block = _below("last_block.", tensors)
    of_head = _below("head.", tensors) if of_block else tensors
    num_labels, num_features = of_head["linear.weight"].shape
    tail = Tail(backbone, Head(num_features, num_labels), features=description["features"])
    weights.load_into(tail.head, of_head)
    if of_block:
        weights.load_into(tail.last_block, of_block)
    return ActionModel(backbone, tail, preprocessing=preprocessing).eval(), description


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def require_same_prefix(found: Mapping[str, Any], *, expect: Mapping[str, Any], path: Path) -> None:
    """The tokens at `path` must be what this prefix gives: all that `expect` says, their metadata `found` says too.

    Raises `WeightsMismatch` with what is wanted and found.
    """
    wanted = json.loads(json.dumps(expect))  # tuples become what JSON made of them when it was written
    differences = [
        f"{key}: wanted {value!r}, found {found.get(key)!r}" for key, value in wanted.items() if found.get(key) != value
    ]
    if differences:
        raise weights.WeightsMismatch(f"the tokens in {path} were made by something else: " + "; ".join(differences))


def predict_clips(
    model: ActionModel, clips: Iterable[tuple[str, Clip]], *, batch_size: int, device: torch.device
) -> Iterator[tuple[str, Clip, npt.NDArray[np.float32]]]:
    """Each clip again with its probabilities (L,) float32, in the order of arrival; holds one batch in memory."""
    model.to(device)
    arriving = iter(clips)
    while batch := list(islice(arriving, batch_size)):
        frames = torch.from_numpy(np.stack([clip.frames for _, clip in batch]))
        for (video_id, clip), row in zip(batch, _probabilities(model, frames, device), strict=True):
            yield video_id, clip, row


def predict_tokens(tail: Tail, batches: Iterable[Tensor], *, device: torch.device) -> npt.NDArray[np.float32]:
    """Probabilities (n, L) of windows by what enters the last block, which comes as batches of (B, N, D)."""
    tail.to(device)
    none = np.zeros((0, tail.head.linear.out_features), dtype=np.float32)
    return np.concatenate([none, *(_probabilities(tail, tokens, device) for tokens in batches)])


@torch.inference_mode()
def _probabilities(model: nn.Module, inputs: Tensor, device: torch.device) -> npt.NDArray[np.float32]:
    return model(inputs.to(device)).float().sigmoid().cpu().numpy()

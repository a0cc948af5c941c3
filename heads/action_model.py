"""A backbone and a head, from frames to probabilities. Knows no data set.

The frozen blocks come first, then the `Tail`, which begins with the last block. What lies between them is a constant of
the clip, so the tail also runs alone, from stored block inputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from features.backbone import Backbone
from features.pooling import join_views
from features.preprocess import Preprocessing
from features.sealed import damage_told
from features.video import Clip
from heads import weights
from heads.attentive import AttentiveHead
from heads.linear import LinearHead, head_of
from heads.weights import LAST_BLOCK


class Tail(nn.Module):
    """The last block, what runs behind it, and a head: block inputs (B, N, D) -> logits (B, L).

    The modules are the backbone's own, not copies; the blocks before are no part of the tail and stay on their device
    when it moves. Block inputs may have another precision than the weights. `features` are the poolings that the head
    takes, in its order.
    """

    def __init__(self, backbone: Backbone, head: LinearHead | AttentiveHead, *, features: Sequence[str]) -> None:
        super().__init__()
        self.last_block = backbone.last
        self.after_last = backbone.after_last
        self.head = head
        self.features = tuple(features)
        # Two methods and not the backbone, which as a submodule would bring all its blocks along.
        self._encode, self._pool = backbone.last_block, backbone.pool
        self._dtype = backbone.dtype

    def train(self, mode: bool = True) -> Tail:
        super().train(False)
        self.head.train(mode)
        self.last_block.train(mode and any(parameter.requires_grad for parameter in self.last_block.parameters()))
        return self

    def forward(self, *block_inputs: Tensor) -> Tensor:
        """Logits (B, L) of the block inputs (B, N, D) of one view of the windows, or of several."""
        pooled = join_views([self._pool(self._encode(each.to(self._dtype)), self.features) for each in block_inputs])
        return self.head(torch.cat([pooled[name] for name in self.features], dim=-1))

    def trained_tensors(self) -> dict[str, Tensor]:
        """What stage 2 trains, by name: the last block and the head."""
        parts = {"last_block": self.last_block, "head": self.head}
        return {
            f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()
        }


class AttentiveTail(Tail):
    """A tail whose head attends over all tokens: block inputs (B, N, D) -> logits (B, L). The last block is frozen."""

    def __init__(self, backbone: Backbone, head: AttentiveHead) -> None:
        super().__init__(backbone, head, features=())

    def forward(self, *block_inputs: Tensor) -> Tensor:
        """Logits (B, L) of the block inputs (B, N, D) of one view of the windows, or of all tokens of several."""
        with torch.no_grad():
            tokens = torch.cat([self._encode(each.to(self._dtype)) for each in block_inputs], dim=1)
        logits: Tensor = self.head(tokens)
        return logits


class ActionModel(nn.Module):
    """A backbone and its tail: frames (B, T, H, W, 3) uint8, squares or strips -> logits (B, L).

    Stage 1 has the backbone as it came, stage 2 another last block. `tail` is of this `backbone`.
    """

    def __init__(self, backbone: Backbone, tail: Tail, *, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.backbone = backbone
        self.tail = tail
        self.preprocessing = preprocessing

    def block_input(self, frames: Tensor) -> Tensor:
        """Squares (B, T, H, W, 3) uint8 to what enters the last block, (B, N, D), without gradients."""
        return self.backbone.block_input(self.preprocessing.normalise(frames, self.backbone.dtype))

    def block_inputs(self, frames: Tensor) -> list[Tensor]:
        """That of each of the views of squares or strips."""
        return [self.block_input(view) for view in self.preprocessing.views_of(frames)]

    def forward(self, frames: Tensor) -> Tensor:
        return self.tail(*self.block_inputs(frames))


def load_action_model(
    folder: Path, backbone: Backbone, preprocessing: Preprocessing, *, expected: Mapping[str, Any]
) -> tuple[ActionModel, dict[str, Any]]:
    """The model of either stage, in eval mode, and its config: a last block in the folder replaces the backbone's."""
    tensors, config = weights.load(folder, expected=expected)
    of_block = weights.below(LAST_BLOCK, tensors)
    with damage_told(folder, remedy=weights.REMEDY):
        head = head_of(weights.below("head.", tensors) if of_block else tensors, config["labels"])
        tail = Tail(backbone, head, features=config["features"])
        if head.linear.in_features != backbone.hidden_size * len(tail.features):
            raise weights.WeightsMismatch(
                f"the head takes {head.linear.in_features} features, {', '.join(tail.features)} of the backbone are "
                f"{backbone.hidden_size} each"
            )
        if of_block:
            weights.load_into(tail.last_block, of_block)
    return ActionModel(backbone, tail, preprocessing=preprocessing).eval(), config


def replace_last_block(folder: Path, backbone: Backbone, *, expected: Mapping[str, Any]) -> None:
    """Give the backbone the last block in a model's folder, and a hash of its own; without one nothing changes.

    The hash keeps what the backbone gives from now on apart from what it gave, in every cache and provenance.
    """
    from safetensors.torch import save as to_bytes

    tensors, _ = weights.load(folder, expected=expected)
    if of_block := weights.below(LAST_BLOCK, tensors):
        with damage_told(folder, remedy=weights.REMEDY):
            weights.load_into(backbone.last, of_block)
        content = backbone.weights_sha256.encode() + to_bytes(of_block)
        backbone.weights_sha256 = hashlib.sha256(content).hexdigest()


def predict_clips(
    model: ActionModel, clips: Iterable[tuple[str, Clip]], *, batch_size: int, device: torch.device
) -> Iterator[tuple[str, Clip, npt.NDArray[np.float32]]]:
    """Each clip again with its probabilities (L,) float32, in order; one batch is in memory at a time."""
    model.to(device)
    arriving = iter(clips)
    while batch := list(islice(arriving, batch_size)):
        frames = model.preprocessing.stacked([clip.frames for _, clip in batch])
        for (video_id, clip), row in zip(batch, _probabilities(model, frames, device), strict=True):
            yield video_id, clip, row


def predict_block_inputs(tail: Tail, batches: Iterable[Tensor], *, device: torch.device) -> npt.NDArray[np.float32]:
    """Probabilities (n, L) of windows, from batches of their block inputs (B, N, D)."""
    tail.to(device)
    none = np.zeros((0, tail.head.linear.out_features), dtype=np.float32)
    return np.concatenate([none, *(_probabilities(tail, batch, device) for batch in batches)])


@torch.inference_mode()
def _probabilities(model: nn.Module, inputs: Tensor, device: torch.device) -> npt.NDArray[np.float32]:
    return model(inputs.to(device)).float().sigmoid().cpu().numpy()

"""`ActionModel`: a backbone and a head, from frames to probabilities. Knows no data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from features.encoder import Backbone
from features.preprocess import Preprocessing
from features.video import Clip
from heads import weights
from heads.head import Head


class ActionModel(nn.Module):
    """A backbone and a head: frames (B, T, H, W, 3) uint8 -> logits (B, L).

    Stage 1 is this with the backbone as it came; stage 2 is this with another last block. `features` are the poolings
    that the head takes, in its order.
    """

    def __init__(
        self, backbone: Backbone, head: Head, *, preprocessing: Preprocessing, features: Sequence[str]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.preprocessing = preprocessing
        self.features = tuple(features)

    def prefix(self, frames: Tensor) -> Tensor:
        """Frames (B, T, H, W, 3) uint8 to what enters the last block, (B, N, D), without gradients."""
        return self.backbone.prefix(self.preprocessing.normalise(frames, self.backbone.dtype))

    def from_prefix(self, tokens: Tensor) -> Tensor:
        """What enters the last block (B, N, D) to logits (B, L)."""
        pooled = self.backbone.pool(self.backbone.last_block(tokens), self.features)
        return self.head(torch.cat([pooled[name] for name in self.features], dim=-1))

    def forward(self, frames: Tensor) -> Tensor:
        return self.from_prefix(self.prefix(frames))

    def trained_tensors(self) -> dict[str, Tensor]:
        """What stage 2 changes, by name: the last block and the head."""
        parts = {"last_block": self.backbone.last, "head": self.head}
        return {
            f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()
        }


def load_action_model(
    folder: Path, backbone: Backbone, preprocessing: Preprocessing, *, expect: dict[str, Any]
) -> tuple[ActionModel, dict[str, Any]]:
    """The model of either stage, in eval mode: a folder with a last block replaces the backbone's."""
    tensors, description = weights.load(folder, expect=expect)
    of_block = _below("last_block.", tensors)
    of_head = _below("head.", tensors) if of_block else tensors
    num_labels, num_features = of_head["linear.weight"].shape
    model = ActionModel(
        backbone, Head(num_features, num_labels), preprocessing=preprocessing, features=description["features"]
    )
    weights.load_into(model.head, of_head)
    if of_block:
        weights.load_into(backbone.last, of_block)
    return model.eval(), description


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def predict_clips(
    model: ActionModel, clips: Iterable[tuple[str, Clip]], *, batch_size: int, device: torch.device
) -> Iterator[tuple[str, Clip, np.ndarray]]:
    """Each clip again with its probabilities (L,) float32, in the order of arrival; holds one batch in memory."""
    model.to(device)
    arriving = iter(clips)
    while batch := list(islice(arriving, batch_size)):
        probabilities = _probabilities(model, [clip for _, clip in batch], device)
        for (video_id, clip), row in zip(batch, probabilities, strict=True):
            yield video_id, clip, row


@torch.inference_mode()
def _probabilities(model: ActionModel, clips: Sequence[Clip], device: torch.device) -> np.ndarray:
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips])).to(device)
    return model(frames).float().sigmoid().cpu().numpy()

"""CLIP with label names as prompts: what a model that saw no video and no example of the data set says of a window.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021). A checkpoint is a folder
in the Hugging Face format, on this disk: `config.json`, `model.safetensors`, the tokenizer's files, and, where its
normalisation is not CLIP's own, `preprocessor_config.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from features.files import sha256_of

if TYPE_CHECKING:
    from transformers import CLIPModel

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class ClipError(Exception):
    """A folder is no usable CLIP checkpoint."""


class ZeroShot(nn.Module):
    """Pictures (B, H, W, 3) uint8, squares -> probabilities (B, L), which sum to 1 over the prompts of a picture.

    The similarities to the prompts' texts, at the checkpoint's own temperature, through a softmax.
    """

    texts: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, model: CLIPModel, texts: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.vision: nn.Module = model.vision_model
        self.projection: nn.Module = model.visual_projection
        self.size: int = model.config.vision_config.image_size
        self.register_buffer("texts", model.logit_scale.exp() * texts)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    @torch.inference_mode()
    def forward(self, pictures: Tensor) -> Tensor:
        channels_first = pictures.movedim(-1, 1).float()
        resized = interpolate(channels_first, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 255)
        pixels = (resized / 255 - self.mean) / self.std
        images = normalize(self.projection(self.vision(pixel_values=pixels).pooler_output), dim=-1)
        return (images @ self.texts.T).softmax(dim=-1)


def load_zero_shot(folder: Path, prompts: Sequence[str]) -> tuple[ZeroShot, str]:
    """The checkpoint in `folder` with its `prompts` (L,), in eval mode, and its weights' hash. Raises `ClipError`."""
    remedy = "get the folder again, or set clip to null"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ClipError(f"{folder / 'config.json'} cannot be read ({error}): {remedy}") from error
    if kind != "clip":
        raise ClipError(f"{folder / 'config.json'}: a model of type 'clip' is wanted, found {kind!r}: {remedy}")
    try:
        from transformers import AutoTokenizer, CLIPModel

        model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        tokens = tokenizer(
            list(prompts),
            padding=True,
            truncation=True,
            max_length=model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        with torch.inference_mode():
            text = model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
            texts = normalize(model.text_projection(text.pooler_output), dim=-1)
        path = folder / "preprocessor_config.json"
        processor = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        mean, std = processor.get("image_mean", _MEAN), processor.get("image_std", _STD)
        with torch.no_grad():
            return ZeroShot(model, texts, mean=mean, std=std).eval(), sha256_of(folder / "model.safetensors")
    except Exception as error:  # a folder that nobody tried may raise anything in transformers
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ClipError(f"the CLIP checkpoint in {folder} cannot be loaded ({cause}): {remedy}") from error

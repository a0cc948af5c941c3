"""The frozen encoder: from pixels to tokens to embeddings. What any backbone offers, then V-JEPA 2.

A backbone is a folder in the Hugging Face format: `config.json`, `model.safetensors`, the processor's file. Another
kind of backbone is a file with a class, perhaps a `VideoEncoder`, and a line in `_KINDS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
from safetensors.torch import save as to_bytes
from torch import nn

from features.checkpoint import (
    WEIGHTS,
    BackboneError,
    identity,
    read_config,
    require_complete,
    require_finite,
    weight_files,
    weight_names,
)
from features.encoder import Attention, EncoderSizes, Patches, VideoEncoder
from features.files import sha256_of, write_bytes, write_json
from features.preprocess import Preprocessing
from features.rotary import share_rotary_tables
from features.vjepa21 import VJepa21Backbone

if TYPE_CHECKING:
    from transformers import VJEPA2ForVideoClassification, VJEPA2Model

_DROPPED = ("predictor.", "vjepa2.predictor.", "classifier.")
"""Parts of a V-JEPA 2 that no backbone keeps: a checkpoint may lack them."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def best_device() -> torch.device:
    """The accelerator that torch finds here, CUDA or MPS; else the CPU.

    On CUDA convolutions in float32 are exact from then on, as matrix products are; torch's default rounds what they
    multiply to ten bits (TF32), and patches would come in less than the precision that provenance states.
    """
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if found is not None and found.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    return found or torch.device("cpu")


def choose_precision(asked: str, device: torch.device) -> str:
    """What is asked; for `auto` half precision where a device is made for it: bf16 on CUDA, fp16 on MPS, else fp32.

    On a CPU bf16 where it multiplies bf16 itself: a third less CPU time for ViT-L, and embeddings whose cosine
    similarity to those in fp32 is above 0.999 in every window that was measured.
    """
    if asked != "auto":
        return asked
    on_cpu = "bf16" if _cpu_has_bf16() else "fp32"
    return {"cuda": "bf16", "mps": "fp16", "cpu": on_cpu}.get(device.type, "fp32")


def _cpu_has_bf16() -> bool:
    read = getattr(torch.cpu, "get_capabilities", None)  # which older releases of torch do not have
    capabilities: dict[str, Any] = read() if read is not None else {}
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))


class Backbone(Protocol):
    """What any encoder offers. All of it is frozen, and in eval mode whatever `train()` says.

    `last`, the last encoder block, is what finetuning may make trainable with `last.requires_grad_(True)`; `after_last`
    are the modules that run behind it. `poolings` are the ways from tokens to a vector that the checkpoint has weights
    for. `weights_sha256` is of the weights as loaded; for a checkpoint of one file, what `sha256sum` prints.
    """

    id: str
    weights_sha256: str
    attention: str
    hidden_size: int
    frames_per_clip: int
    crop_size: int
    dtype: torch.dtype
    poolings: tuple[str, ...]
    last: nn.Module
    after_last: nn.ModuleList

    def require_fit(self, *, num_frames: int, crop_size: int) -> None:
        """Raise `BackboneError` unless it takes clips of `num_frames` frames of `crop_size` pixels a side."""

    def block_input_shape(self, num_frames: int) -> tuple[int, int]:
        """(N, D) of a clip's block input."""

    def block_input(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (B, T, 3, H, W) to what enters the last block, (B, N, D), without gradients."""

    def last_block(self, block_input: torch.Tensor) -> torch.Tensor:
        """What enters the last block (B, N, D) to the encoder's tokens (B, N, D)."""

    def tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (B, T, 3, H, W) to the encoder's tokens (B, N, D)."""

    def with_own_last_block(self) -> Self:
        """A second backbone that shares all modules with this one but the last block, of which it has a copy."""

    def pool(self, tokens: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Tokens (B, N, D) to one float32 vector each, (B, D), by pooling."""

    def pool_each(self, tokens: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """`pool`, with the same result for a window whatever others are in the batch."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def eval(self) -> Self: ...

    def to(self, device: torch.device) -> Self: ...


def load_backbone(folder: Path, *, dtype: torch.dtype, attention: Attention = "sdpa") -> Backbone:
    """Load a checkpoint's folder, from this disk only. Raises `BackboneError`, also for weights that do not fit."""
    config = read_config(folder)
    kind = _KINDS.get(str(config.get("model_type")))
    if kind is None:
        raise BackboneError(
            f"{folder / 'config.json'} describes a model of type {config.get('model_type')!r}; known are "
            f"{', '.join(map(repr, _KINDS))}"
        )
    try:
        return kind.load(folder, config, dtype=dtype, attention=attention)
    except BackboneError:
        raise
    except Exception as error:  # a config that nobody tried may raise anything
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise BackboneError(f"the backbone in {folder} cannot be loaded ({cause}); get the folder again") from error


class VJepa2Backbone(VideoEncoder):
    """A V-JEPA 2 encoder, with the attentive pooler of checkpoints that have one, without predictor and classifier."""

    def __init__(self, model: VJEPA2ForVideoClassification | VJEPA2Model, *, id: str, weights_sha256: str) -> None:
        pooler: nn.Module | None = getattr(model, "pooler", None)
        encoder = (model if pooler is None else model.vjepa2).encoder
        sizes = {size.name: getattr(model.config, size.name) for size in fields(EncoderSizes)}
        super().__init__(
            EncoderSizes(**sizes),
            embeddings=encoder.embeddings,
            blocks=encoder.layer,
            layernorm=encoder.layernorm,
            pooler=pooler,
        )
        self.id = id
        self.weights_sha256 = weights_sha256
        self.attention = model.config._attn_implementation
        self.dtype = model.dtype
        patches: Any = encoder.embeddings.patch_embeddings
        patches.proj = Patches.like(patches.proj)
        share_rotary_tables([*self.blocks, self.last])

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any], *, dtype: torch.dtype, attention: Attention) -> Self:
        """Load a folder whose config.json holds `config`; a missing, unexpected or misshapen weight raises."""
        # Imported where used: importing the class takes three seconds, and training a head needs no backbone.
        from transformers import VJEPA2ForVideoClassification, VJEPA2Model

        files = weight_files(folder)
        named = VJEPA2ForVideoClassification.__name__ in (config.get("architectures") or [])
        has_pooler = named or any(name.startswith("pooler.") for name in weight_names(files))
        with _quiet_transformers():
            model, loading = (VJEPA2ForVideoClassification if has_pooler else VJEPA2Model).from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=dtype,
                attn_implementation=attention,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that they are listed below with the others, and raise
            )
        require_complete(folder, loading, dropped=_DROPPED)
        require_finite(folder, model)
        return cls(model, id=identity(folder, config), weights_sha256=sha256_of(*files))

    def _through(self, block: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        return block(hidden, None)[0]


def create(
    *,
    seed: int,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    crop_size: int,
    num_frames: int,
    num_pooler_layers: int,
    num_labels: int,
) -> VJEPA2ForVideoClassification:
    """A V-JEPA 2 with random float32 weights, the same for the same seed, and the smallest predictor there can be.

    Leaves torch's own random state as it was. Patches are 16 pixels a side and tubelets 2 frames, as published.
    """
    from transformers import VJEPA2Config, VJEPA2ForVideoClassification

    architecture = VJEPA2Config(
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        crop_size=crop_size,
        frames_per_clip=num_frames,
        num_pooler_layers=num_pooler_layers,
        num_labels=num_labels,
        pred_hidden_size=8,
        pred_num_hidden_layers=1,
        pred_num_attention_heads=1,
        pred_num_mask_tokens=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VJEPA2ForVideoClassification(architecture)


def save(
    model: VJEPA2ForVideoClassification, folder: Path, *, name: str, preprocessing: Preprocessing, dtype: torch.dtype
) -> None:
    """Write the folder that `load_backbone` and `Preprocessing.from_checkpoint` read: same model, same bytes.

    `name` becomes the backbone's id. The weights are stored as `dtype`; `config.json` is written last.
    """
    if preprocessing.crop_size != model.config.crop_size:
        raise ValueError(f"the model wants {model.config.crop_size} pixels, got {preprocessing.crop_size}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    weights = {key: value.detach().to("cpu", dtype).contiguous() for key, value in model.state_dict().items()}
    write_bytes(folder / WEIGHTS, to_bytes(weights, metadata={"format": "pt"}))  # save_file makes it 0600
    preprocessing.to_checkpoint(folder)
    content = model.config.to_diff_dict() | {
        "_name_or_path": name,
        "architectures": [type(model).__name__],
        "dtype": str(dtype).removeprefix("torch."),
    }
    write_json(folder / "config.json", content, sort_keys=True)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    from transformers.utils import logging as transformers_logging

    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


_KINDS: dict[str, type[VJepa2Backbone] | type[VJepa21Backbone]] = {
    "vjepa2": VJepa2Backbone,
    "vjepa2_1": VJepa21Backbone,
}
"""The class for each `model_type` of a config.json."""

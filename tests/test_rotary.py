"""Tables of cosines and sines instead of angles in every block: the same bits, forward and backward."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from features.backbone import Backbone, load_backbone
from tests.tiny_backbone import write_backbone

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("backbone"), num_hidden_layers=3)


def as_published(backbone: Backbone) -> Backbone:
    """A copy with the attention of transformers itself."""
    plain = copy.deepcopy(backbone)
    for block in (*plain.blocks, plain.last):  # type: ignore[attr-defined]
        del block.attention.get_position_ids, block.attention.apply_rotary_embeddings
    return plain


def pixels(num_frames: int, dtype: torch.dtype, device: str) -> torch.Tensor:
    drawn = torch.randn(2, num_frames, 3, 32, 32, generator=torch.Generator().manual_seed(num_frames))
    return drawn.to(device, dtype)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_tokens_are_those_of_transformers(folder: Path, dtype: torch.dtype, device: str) -> None:
    """In each precision, for clips of another length too, and on a backbone that goes to another device."""
    backbone = load_backbone(folder, dtype=dtype)
    with torch.inference_mode():
        for where in dict.fromkeys(("cpu", device, "cpu")):
            backbone.to(torch.device(where))
            plain = as_published(backbone)
            for num_frames in (4, 2, 8):
                clips = pixels(num_frames, dtype, where)
                assert torch.equal(backbone.tokens(clips), plain.tokens(clips))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_are_those_of_transformers(folder: Path, autocast: bool, device: str) -> None:
    """Of the last block, with tables that were made for inference, and in the precision of a training."""
    backbone = load_backbone(folder, dtype=torch.float32)
    backbone.to(torch.device(device))
    backbone.last.requires_grad_(True)
    clips = pixels(4, torch.float32, device)
    with torch.inference_mode():
        backbone.tokens(clips)
    gradients = []
    for each in (backbone, as_published(backbone)):
        with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
            tokens = each.tokens(clips)
        tokens.float().square().sum().backward()
        gradients.append([parameter.grad for parameter in each.last.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        assert ours is not None
        assert theirs is not None
        assert torch.equal(ours, theirs)
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients[0])

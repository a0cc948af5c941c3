"""Patches by a matrix product are those of the convolution."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from features.encoder import Patches

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kernel", [(2, 16, 16), (1, 4, 8), (4, 2, 3)])
def test_a_product_gives_what_the_convolution_gives(kernel: tuple[int, int, int], device: str) -> None:
    """For pictures that are no squares, and where the channels of a frame do not lie beside each other."""
    torch.manual_seed(0)
    conv = nn.Conv3d(3, 5, kernel, stride=kernel)
    patches = Patches.like(copy.deepcopy(conv)).to(device)
    t, h, w = kernel
    pixels = torch.randn(2, 3 * t, 3, 2 * h, 4 * w).transpose(1, 2)
    wanted = conv(pixels)
    assert wanted.shape == (2, 5, 3, 2, 4)
    torch.testing.assert_close(patches.by_product(pixels.to(device)).cpu(), wanted, rtol=1e-5, atol=1e-5)
    found = patches(pixels.to(device))
    assert torch.equal(found, patches.by_product(pixels.to(device)) if device == "cuda" else wanted)
    assert patches.state_dict().keys() == conv.state_dict().keys()

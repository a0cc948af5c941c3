"""`precision: auto`: half precision where the device is made for it, and what that costs in exactness."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from features.backbone import choose_precision, load_backbone

BACKBONE = Path(__file__).parents[1] / "pipeline" / "demo" / "backbone"


def test_what_is_asked_is_chosen() -> None:
    """Whatever the device; `auto` goes by the device."""
    for precision in ("fp32", "bf16", "fp16"):
        assert choose_precision(precision, torch.device("cuda")) == precision
    assert choose_precision("auto", torch.device("cuda")) == "bf16"
    assert choose_precision("auto", torch.device("mps")) == "fp16"
    assert choose_precision("auto", torch.device("xpu")) == "fp32"


def test_a_cpu_that_multiplies_bf16_gets_bf16() -> None:
    """By what Linux says of it, which torch does not read."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file() or not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("nothing says what this CPU can do")
    flags = {flag for line in cpuinfo.read_text().splitlines() if line.startswith("flags") for flag in line.split()}
    assert choose_precision("auto", torch.device("cpu")) == ("bf16" if flags & {"amx_bf16", "avx512_bf16"} else "fp32")


@torch.inference_mode()
def test_bf16_is_within_the_error_that_is_stated() -> None:
    """Cosine similarity above 0.999 in every window and pooling, also for pictures that no camera takes."""
    exact, half = (load_backbone(BACKBONE, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 8 * 3, 7, 7, generator=generator)
    smooth = F.interpolate(coarse, size=112, mode="bilinear").unflatten(1, (8, 3))
    noise = torch.rand(2, 8, 3, 112, 112, generator=generator)
    for pixels in (smooth * 4 - 2, noise * 4 - 2, torch.zeros(1, 8, 3, 112, 112)):
        wanted = exact.pool(exact.tokens(pixels), exact.poolings)
        found = half.pool(half.tokens(pixels.bfloat16()), half.poolings)
        for name in exact.poolings:
            assert F.cosine_similarity(wanted[name].double(), found[name].double()).min() > 0.999

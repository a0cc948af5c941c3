"""Inputs of the benchmark: two sizes of backbone, footage, the demo's videos."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import torch
import torch.nn.functional as F

from features.backbone import VJepa2Backbone, create
from features.decode.container import UnreadableVideo
from features.decode.grid import frames_on_grid
from features.preprocess import Preprocessing
from features.video import WindowPlan

if TYPE_CHECKING:
    from transformers import VJEPA2ForVideoClassification

ROOT = Path(__file__).parents[1]
TINY_BACKBONE = ROOT / "pipeline" / "demo" / "backbone"
DEMO_VIDEOS = ROOT / "data" / "demo" / "fetched" / "dataset" / "Charades_v1_480"

CHARADES_WINDOWS = WindowPlan(num_frames=16, sample_fps=8, stride_s=1.0, max_still_s=1.0)
"""The windows in params/charades.yaml."""

DEMO_WINDOWS = WindowPlan(num_frames=8, sample_fps=4, stride_s=0.75, max_still_s=1.0)
"""The windows in params/demo.yaml."""


class NothingToMeasure(Exception):
    """A topic's input is missing; the message says what, and how to get it."""


@dataclass(frozen=True)
class ModelSize:
    """The sizes of a V-JEPA 2 with random weights: speed does not depend on their values."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    crop_size: int
    num_frames: int
    num_pooler_layers: int
    num_labels: int

    def model(self) -> VJEPA2ForVideoClassification:
        """The model in float32, on the CPU."""
        return create(seed=0, **asdict(self)).eval()

    def backbone(self, dtype: torch.dtype) -> VJepa2Backbone:
        return VJepa2Backbone(self.model().to(dtype), id="random", weights_sha256="0" * 64)

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(self.crop_size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

    @property
    def clip_flops(self) -> float:
        """Multiplications and additions of one clip's forward pass, through encoder and pooler.

        A block of width D on N tokens costs 24·N·D² for its six D x D-wide products, of which the MLP's two count
        four each, and 4·N²·D for attention; the pooler's last layer attends with one query, so keys and values count.
        """
        n, d = self.num_frames // 2 * (self.crop_size // 16) ** 2, self.hidden_size
        block = 24 * n * d**2 + 4 * n**2 * d
        patches = 2 * n * d * (2 * 16 * 16 * 3)
        return patches + (self.num_hidden_layers + self.num_pooler_layers) * block + 4 * n * d**2


VIT_L = ModelSize(
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    crop_size=256,
    num_frames=16,
    num_pooler_layers=3,
    num_labels=174,
)
"""`facebook/vjepa2-vitl-fpc16-256-ssv2`."""


def demo_videos(num_videos: int) -> list[Path]:
    """The first `num_videos` of the demo's videos that can be read. Raises `NothingToMeasure` if there are fewer."""
    readable: list[Path] = []
    for path in sorted(DEMO_VIDEOS.glob("*.mp4")):
        if len(readable) == num_videos:
            break
        try:
            next(frames_on_grid(path, sample_fps=1.0, decoder="pyav"))
        except UnreadableVideo:
            continue
        readable.append(path)
    if len(readable) < num_videos:
        raise NothingToMeasure(
            f"data/demo/fetched/dataset has {len(readable)} of {num_videos} videos: run `make repro` first"
        )
    return readable


def write_footage(
    path: Path, *, duration_s: float, seed: int, size: tuple[int, int] = (640, 480), bit_rate: int = 440_000
) -> Path:
    """Write H.264 at 30 frames a second: a hand-held camera looks around a textured scene. `size` is (width, height).

    The bit rate is that of Charades at 480p: 16.3 GB for 9,848 videos of 30 s.
    """
    width, height = size
    rate = 30
    generator = torch.Generator().manual_seed(seed)
    scene = torch.zeros(1, 3, 720, 960)
    for cells, contrast in ((4, 120), (16, 80), (64, 40), (180, 15)):
        coarse = torch.rand(1, 3, 3 * cells, 4 * cells, generator=generator)
        scene += F.interpolate(coarse, size=scene.shape[2:], mode="bicubic") * contrast
    grain = torch.randn(8, 1, height, width, generator=generator) * 4
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate, stream.time_base = bit_rate, Fraction(1, rate)
        for number in range(round(duration_s * rate)):
            picture = _look(scene, number / rate, (height, width)) + grain[number % len(grain)]
            pixels = picture.clamp(0, 255).byte().permute(1, 2, 0).numpy()
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _look(scene: torch.Tensor, time_s: float, size: tuple[int, int]) -> torch.Tensor:
    """What the camera sees of the scene (1, 3, H, W) at a time, (3, *size). It pans, turns and zooms a little."""
    turn, zoom = 0.05 * math.sin(1.1 * time_s), 0.62 + 0.05 * math.sin(0.7 * time_s)
    right, down = 0.2 * math.sin(0.9 * time_s), 0.2 * math.cos(0.6 * time_s)
    cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
    view = torch.tensor([[[cos, -sin, right], [sin, cos, down]]])
    grid = F.affine_grid(view, [1, 3, *size], align_corners=False)
    return F.grid_sample(scene, grid, align_corners=False)[0]

"""From a decoded picture to the encoder's input, as the checkpoint's own processor does. Knows pixels, no model.

Resizing and cropping happen once a frame, on uint8; normalising happens once a batch, on the encoder's device.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from features.files import write_json
from features.video import Frame, Image, Views

VERSION = 1
"""Part of the key of what is cached: raised when other pixels come out of `Preprocessing` for some picture."""

CHECKPOINT_FILES = ("video_preprocessor_config.json", "preprocessor_config.json")
"""Where a Hugging Face folder keeps its processor's values; the first that exists counts."""

_BILINEAR = 2  # PIL's number for it, which the processor's file uses
_FIXED_STEPS: dict[str, Any] = {
    "do_resize": True,
    "do_center_crop": True,
    "do_rescale": True,
    "do_normalize": True,
    "resample": _BILINEAR,
    "rescale_factor": 1 / 255,
}


class PreprocessingError(ValueError):
    """A checkpoint's processor file is missing, or asks for something that this code does not do."""


@dataclass(frozen=True)
class Preprocessing:
    """Squares of `crop_size` pixels a side, then `mean` and `std` of each RGB channel on a scale of 0 to 1.

    With views `three` a frame becomes a strip, as long as the resized picture is, of which `views_of` makes squares.
    """

    crop_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.crop_size < 1:
            raise ValueError(f"crop_size is at least 1 pixel, got {self.crop_size}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(math.isfinite(value) for value in values):
                raise ValueError(f"{name} is three finite numbers, one an RGB channel, got {values}")
        if min(self.std) <= 0:
            raise ValueError(f"std is above zero in each channel, got {self.std}")

    @classmethod
    def from_checkpoint(cls, folder: Path) -> Preprocessing:
        """Read the processor's values from a Hugging Face folder.

        Its `size` is not read: the processor of V-JEPA 2 itself overrides it by what follows from the crop.
        """
        path = next((folder / name for name in CHECKPOINT_FILES if (folder / name).is_file()), None)
        if path is None:
            raise PreprocessingError(f"{folder} has no processor config: looked for {' and '.join(CHECKPOINT_FILES)}")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise PreprocessingError(f"{path} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise PreprocessingError(f"{path} holds one JSON object, got {type(content).__name__}")
        for key, required in _FIXED_STEPS.items():
            value = content.get(key)
            if value is not None and not (isinstance(value, bool | int | float) and math.isclose(value, required)):
                raise PreprocessingError(f"{path}: {key} must be {required}, got {value!r}")
        missing = [key for key in ("crop_size", "image_mean", "image_std") if key not in content]
        if missing:
            raise PreprocessingError(f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(content))}")
        try:
            return cls(
                crop_size=_side(content["crop_size"]),
                mean=_channels(content["image_mean"]),
                std=_channels(content["image_std"]),
            )
        except (ValueError, TypeError) as error:
            raise PreprocessingError(f"{path}: {error}") from error

    def to_checkpoint(self, folder: Path) -> None:
        """Write the processor file that `from_checkpoint`, and transformers, read back; the same bytes every time."""
        content = {
            "crop_size": {"height": self.crop_size, "width": self.crop_size},
            "data_format": "channels_first",
            **_FIXED_STEPS,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "size": {"shortest_edge": self.shortest_edge},
            "video_processor_type": "VJEPA2VideoProcessor",
        }
        write_json(folder / CHECKPOINT_FILES[0], content, sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        """These values as JSON keeps them: equal to itself after a round trip through a file."""
        return {"crop_size": self.crop_size, "mean": list(self.mean), "std": list(self.std)}

    @property
    def shortest_edge(self) -> int:
        """Pixels of the shorter side before the crop: 292 for a crop of 256."""
        return int(self.crop_size * 256 / 224)

    def resized_shape(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of a picture before it is cropped."""
        edge = self.shortest_edge
        return (edge, int(edge * width / height)) if height <= width else (int(edge * height / width), edge)

    def cropped_shape(self, height: int, width: int, views: Views) -> tuple[int, int]:
        """(H, W) of what is kept of a picture of this size: a square, or, with `three`, all of the longer side.

        A square picture has its middle alone: the ends are hardly anywhere else.
        """
        crop, (rows, columns) = self.crop_size, self.resized_shape(height, width)
        if views == "center" or rows == columns:
            return crop, crop
        return (crop, columns) if rows < columns else (rows, crop)

    def seen_share(self, height: int, width: int, views: Views) -> tuple[float, float]:
        """The shares of the width and of the height of a picture of this size that the model sees."""
        resized, cropped = self.resized_shape(height, width), self.cropped_shape(height, width, views)
        seen = [min(side, self.crop_size * 3) for side in cropped]  # a panorama has gaps between its squares
        return seen[1] / resized[1], seen[0] / resized[0]

    def resize_crop(self, image: Image, views: Views = "center") -> Image:
        """Pixels (H, W, 3) uint8 to (crop_size, crop_size, 3) uint8, or a strip; a smaller picture is enlarged."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(f"an image is (H, W, 3) uint8, got {image.shape} {image.dtype}")
        height, width, _ = image.shape
        size, (rows, columns) = self.resized_shape(height, width), self.cropped_shape(height, width, views)
        # A turned image has negative strides and a decoder's may be read-only: torch takes neither.
        # The batch axis comes first: only then does torch see channels last, and resize in half the time.
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"]))[None].permute(0, 3, 1, 2)
        if size != (height, width):
            pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
        top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
        cropped = pixels[0, :, top : top + rows, left : left + columns]
        return np.ascontiguousarray(cropped.permute(1, 2, 0).numpy())

    def resize_crop_frames(self, frames: Iterable[Frame], views: Views = "center") -> Iterator[Frame]:
        """The same frames with their images through `resize_crop`: each once, however many windows share it.

        Neighbours that share one image share it afterwards.
        """
        before: Image | None = None
        for frame in frames:
            if frame.image is not before:
                before, cropped = frame.image, self.resize_crop(frame.image, views)
            yield replace(frame, image=cropped)

    def stacked(self, clips: Sequence[Image]) -> torch.Tensor:
        """Frames (T, H, W, 3) of clips as one batch (B, T, H, W, 3); where shapes differ, as strips of their views."""
        if len({frames.shape for frames in clips}) > 1:
            clips = [self._thirds(frames) for frames in clips]
        return torch.from_numpy(np.stack(clips))

    def _thirds(self, frames: Image) -> Image:
        """The views of a clip's frames side by side, (T, crop_size, 3 crop_size, 3): a square stands there thrice."""
        middle, *ends = (view.numpy()[0] for view in self.views_of(torch.from_numpy(frames.copy())[None]))
        first, last = ends or (middle, middle)
        return np.concatenate([first, middle, last], axis=2)

    def views_of(self, frames: torch.Tensor) -> list[torch.Tensor]:
        """Frames (B, T, H, W, 3) to the squares (B, T, crop_size, crop_size, 3) in them: the middle, then both ends."""
        crop, height, width = self.crop_size, frames.shape[2], frames.shape[3]
        if height == width == crop:
            return [frames]
        if min(height, width) != crop:
            raise ValueError(f"a strip's shorter side is {crop} pixels, got {height} x {width}")
        axis, length = (2, height) if height > width else (3, width)
        return [frames.narrow(axis, start, crop) for start in ((length - crop) // 2, 0, length - crop)]

    def normalise(self, frames: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Frames (B, T, H, W, 3) uint8 to (B, T, 3, H, W) of `dtype`, on the device where the frames are.

        Computed in float32, whatever `dtype` is.
        """
        if frames.ndim != 5 or frames.shape[-1] != 3 or frames.dtype != torch.uint8:
            raise ValueError(f"frames are (B, T, H, W, 3) uint8, got {tuple(frames.shape)} {frames.dtype}")
        # Scaled in float32, not before: the order of the checkpoint's own processor, for the same last bit.
        mean, std = _of_channels(self.mean, frames.device), _of_channels(self.std, frames.device)
        pixels = frames.permute(0, 1, 4, 2, 3).contiguous().to(torch.float32)
        return pixels.sub_(mean).div_(std).to(dtype)


@lru_cache(maxsize=16)
def _of_channels(values: tuple[float, float, float], device: torch.device) -> torch.Tensor:
    """Values on a scale of 0 to 1 as (3, 1, 1) on one of 0 to 255, made once: a copy to a GPU waits for its work."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device).view(3, 1, 1) * 255.0


def _side(crop_size: object) -> int:
    side = crop_size
    if isinstance(crop_size, dict) and crop_size.get("height") == crop_size.get("width"):
        side = crop_size.get("height")
    if not isinstance(side, int):
        raise ValueError(f"crop_size is a whole number of pixels, or that as both height and width, got {crop_size}")
    return side


def _channels(values: object) -> tuple[float, float, float]:
    if not isinstance(values, list) or len(values) != 3:
        raise ValueError(f"expected three numbers, one an RGB channel, got {values!r}")
    red, green, blue = (float(value) for value in values)
    return red, green, blue

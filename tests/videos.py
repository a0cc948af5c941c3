"""Real video files for tests, written with PyAV. Knows how a picture carries its frame number; reads no file back.

The upper half of every picture is a barcode of eight bars, the frame number's bits from the left, white for one; the
lower half is red, green, blue from the left. So a test reads *which* frame came back, and whether it stands upright.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from features.video import Image

CLOSED_GOP = {"g": "12", "bf": "2", "x264-params": "open-gop=0"}
OPEN_GOP = {"g": "12", "bf": "2", "x264-params": "open-gop=1:scenecut=0"}


def numbered_picture(number: int, width: int, height: int) -> Image:
    """The picture of frame `number` (0 … 255)."""
    bits = np.array([number >> (7 - column * 8 // width) & 1 for column in range(width)], dtype=np.uint8)
    colours = np.eye(3, dtype=np.uint8)[np.arange(width) * 3 // width]
    picture = np.empty((height, width, 3), dtype=np.uint8)
    picture[: height // 2] = 30 + 200 * bits[:, None]
    picture[height // 2 :] = 30 + 200 * colours
    return picture


def number_of(image: Image) -> int:
    """Which frame `image` is. Raises where it does not stand upright."""
    height, width, _ = image.shape
    low = image[height * 5 // 8 : height * 7 // 8]
    thirds = [low[:, width * (2 * k + 1) // 6].mean(axis=0).argmax() for k in range(3)]
    if thirds != [0, 1, 2]:
        raise ValueError(f"the picture is not upright: red, green, blue came as {thirds}")
    bars = [image[height // 8 : height * 3 // 8, width * (2 * k + 1) // 16].mean() > 130 for k in range(8)]
    return sum(int(bar) << (7 - k) for k, bar in enumerate(bars))


def write_video(
    path: Path,
    times_s: Sequence[float],
    *,
    codec: str = "libx264",
    rate: int = 12,
    size: tuple[int, int] = (160, 120),
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] = CLOSED_GOP,
    rotation_deg: int = 0,
    pixel_aspect: Fraction = Fraction(1),
    tick_s: Fraction | None = None,
    recorded_at: datetime | None = None,
    faststart: bool = False,
) -> Path:
    """Write frame k, shown from `times_s[k]`, for each k; the path's suffix chooses the container.

    `tick_s` is the clock that the times are rounded to, 1 / rate where none is given; `size` is (width, height) of the
    stored picture, which is turned by `rotation_deg` counterclockwise and stretched by `pixel_aspect` when shown.
    """
    tick_s = tick_s or Fraction(1, rate)
    width, height = size
    container_options = {"movflags": "+faststart"} if faststart else {}
    with av.open(str(path), "w", options=container_options) as container:
        if recorded_at is not None:
            container.metadata["creation_time"] = recorded_at.isoformat()
        stream = container.add_stream(codec, rate=rate, options=dict(options))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = tick_s
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation_deg:
            stream.set_display_rotation(rotation_deg)
        shown_size = (height, width) if rotation_deg % 180 else (width, height)
        for number, time_s in enumerate(times_s):
            picture = np.rot90(numbered_picture(number, *shown_size), -rotation_deg // 90)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(Fraction(time_s) / tick_s), tick_s
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def evenly(num_frames: int, rate: int, start_s: float = 0.0) -> list[float]:
    """Times of `num_frames` frames at a constant rate."""
    return [start_s + k / rate for k in range(num_frames)]


def write_sound(path: Path, duration_s: float) -> Path:
    """Write a file with sound and no picture."""
    rate_hz = 8000
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate_hz, layout="mono")
        silence = np.zeros((1, round(duration_s * rate_hz)), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path

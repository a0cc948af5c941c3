"""Real video files for tests, written with PyAV, whose pictures carry their frame numbers.

The upper half of every picture is three rows of eight bars, white for one: the frame number's 16 bits and an 8-bit
check; the lower half is red, green, blue from the left. So a test can read which frame came back, and whether it is
upright and undamaged. Bars are grey and wide so that no codec blurs them away.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from features.video import Frame, Image

CLOSED_GOP = {"g": "12", "bf": "2", "x264-params": "open-gop=0:scenecut=0"}
OPEN_GOP = {"g": "12", "bf": "2", "x264-params": "open-gop=1:scenecut=0"}
HEVC: dict[str, Any] = {"codec": "libx265", "options": {"x265-params": "log-level=error:keyint=12"}}
MPEG4: dict[str, Any] = {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}}
VP9: dict[str, Any] = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "12"}}


def numbered_picture(number: int, width: int, height: int) -> Image:
    """The picture of frame `number` (0 … 65,535), shape (height, width, 3)."""
    columns, rows = np.arange(width) * 8 // width, np.arange(height // 2) * 3 // (height // 2)
    bits = np.array(_code(number))[rows[:, None]] >> (7 - columns) & 1
    colours = np.eye(3, dtype=np.uint8)[np.arange(width) * 3 // width]
    picture = np.empty((height, width, 3), dtype=np.uint8)
    picture[: height // 2] = 30 + 200 * bits[:, :, None]
    picture[height // 2 :] = 30 + 200 * colours
    return picture


def number_of(image: Image) -> int:
    """The number of the frame in `image` (H, W, 3). Raises `ValueError` if it is not upright, or damaged."""
    height, width, _ = image.shape
    low = image[height * 5 // 8 : height * 7 // 8]
    thirds = [low[:, width * (2 * k + 1) // 6].mean(axis=0).argmax() for k in range(3)]
    if thirds != [0, 1, 2]:
        raise ValueError(f"the picture is not upright: red, green, blue came as {thirds}")
    is_white = image.mean(axis=2) > 130
    bars = [[is_white[height * (2 * j + 1) // 12, width * (2 * k + 1) // 16] for k in range(8)] for j in range(3)]
    code = [sum(int(bar) << (7 - k) for k, bar in enumerate(row)) for row in bars]
    number = code[0] << 8 | code[1]
    if code != _code(number):
        raise ValueError(f"the picture is damaged: its check reads {code[2]}, {number} has {_code(number)[2]}")
    return number


def numbers(frames: Sequence[Frame]) -> list[int]:
    return [number_of(frame.image) for frame in frames]


def same_pictures(images: Sequence[Image], others: Sequence[Image]) -> bool:
    return all(np.array_equal(image, other) for image, other in zip(images, others, strict=True))


def _code(number: int) -> list[int]:
    """The number's two bytes and their check, by the golden ratio: a mixture of neighbours rarely fits its own."""
    return [number >> 8, number & 255, number * 40503 >> 8 & 255]


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
    mirrored: bool = False,
    pixel_aspect: Fraction = Fraction(1),
    tick_s: Fraction | None = None,
    recorded_at: datetime | None = None,
    faststart: bool = False,
) -> Path:
    """Write frame k, shown from `times_s[k]`, for each k; the path's suffix chooses the container.

    `tick_s` is the clock that the times are rounded to, 1 / rate where none is given; `size` is (width, height) of the
    stored picture, which when shown is mirrored left to right where `mirrored`, then turned by `rotation_deg`
    counterclockwise, and stretched by `pixel_aspect`.
    """
    tick_s = tick_s or Fraction(1, rate)
    width, height = size
    container_options = {"movflags": "+faststart"} if faststart else {}
    if codec == "libx265" and len(times_s) < 3:  # with B-frames, it would take their dts from uninitialised memory
        options = {**options, "bf": "0"}
    with av.open(str(path), "w", options=container_options) as container:
        if recorded_at is not None:
            container.metadata["creation_time"] = recorded_at.isoformat()
        stream = container.add_stream(codec, rate=rate, options=dict(options))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = tick_s
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation_deg or mirrored:  # PyAV mirrors after it turned
            stream.set_display_rotation(-rotation_deg if mirrored else rotation_deg, hflip=mirrored)
        shown_size = (height, width) if rotation_deg % 180 else (width, height)
        for number, time_s in enumerate(times_s):
            picture = np.rot90(numbered_picture(number, *shown_size), -rotation_deg // 90)
            picture = picture[:, ::-1] if mirrored else picture
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(Fraction(time_s) / tick_s), tick_s
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def evenly(num_frames: int, rate: int, start_s: float = 0.0) -> list[float]:
    """Times of `num_frames` frames at a constant rate."""
    return [start_s + k / rate for k in range(num_frames)]


def uneven(num_frames: int) -> list[float]:
    """Times of frames that last 40, 100, 33 and 200 ms in turn."""
    return [0.0, *np.cumsum([(0.04, 0.1, 0.033, 0.2)[k % 4] for k in range(num_frames - 1)]).tolist()]


def trim(path: Path, start_s: Fraction, duration_s: Fraction) -> None:
    """Rewrite the edit list of an MP4 that `write_video` made: only [start_s, start_s + duration_s) is shown."""
    written = bytearray(path.read_bytes())
    movie_hz, media_hz = (_integer(written, written.index(name) + 16) for name in (b"mvhd", b"mdhd"))
    entry_at = written.index(b"elst") + 12
    start = _integer(written, entry_at + 4) + round(start_s * media_hz)
    struct.pack_into(">II", written, entry_at, round(duration_s * movie_hz), start)
    path.write_bytes(written)


def promise(path: Path, duration_s: int, rate: int) -> None:
    """Rewrite the duration that the head of a Matroska or AVI file states."""
    written = bytearray(path.read_bytes())
    if path.suffix == ".avi":
        struct.pack_into("<I", written, written.index(b"avih") + 24, duration_s * rate)
        struct.pack_into("<I", written, written.index(b"strh") + 40, duration_s * rate)
    else:
        struct.pack_into(">d", written, written.index(b"\x44\x89\x88") + 3, duration_s * 1000.0)
    path.write_bytes(written)


def _integer(written: bytearray, at: int) -> int:
    return int.from_bytes(written[at : at + 4], "big")


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

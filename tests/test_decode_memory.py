"""Memory while videos are read: bounded, however long the video, many the events and odd the pixels."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest

from features.decode.grid import frames_shown_at
from features.decode.orientation import Orientation
from tests.videos import evenly, number_of, write_video

MIB = 2**20

READ = """
import sys, pathlib, psutil
from features.decode.grid import frames_on_grid, frames_shown_at
path, count, way = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rss = lambda: psutil.Process().memory_info().rss
before = peak = rss()
if way == "grid":
    for number, frame in enumerate(frames_on_grid(path, sample_fps=30.0, decoder="pyav")):
        peak = max(peak, rss())
        if number + 1 == count:
            break
else:
    images = frames_shown_at(path, [k / 30 for k in range(count)], max_side=320)
    peak = rss()
print(peak - before)
"""
"""Reads `count` frames and prints how much memory that took, in bytes."""


def growth(path: Path, count: int, way: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path), str(count), way], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


def write_flat(path: Path, size: tuple[int, int], num_frames: int, *, pixel_aspect: int = 1) -> Path:
    """A large, turned video that is quick to encode: each frame has one grey."""
    width, height = size
    options = {"preset": "ultrafast", "g": "30", "bf": "0"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(pixel_aspect)
        stream.set_display_rotation(90)
        frame = av.VideoFrame(width, height, "yuv420p")
        for number in range(num_frames):
            for plane in frame.planes:
                plane.update(bytes([60 + number]) * plane.buffer_size)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("way", ["grid", "shown at"])
def test_memory_does_not_grow_with_the_frames(way: str, tmp_path: Path) -> None:
    """Reading 90 frames of 1080p, of 3 MB as decoded and 6 MB as shown, takes little more than reading 10."""
    path = write_flat(tmp_path / "a.mp4", (1920, 1080), 90)
    assert growth(path, 90, way) - growth(path, 10, way) < 50 * MIB


@pytest.mark.slow
def test_huge_and_stretched(tmp_path: Path) -> None:
    """A small file whose picture would be 8192 x 65536 when stretched takes less than a gigabyte."""
    path = write_flat(tmp_path / "a.mp4", (8192, 8192), 3, pixel_aspect=8)
    assert path.stat().st_size < 2 * MIB
    assert growth(path, 3, "grid") < 1000 * MIB


@pytest.mark.parametrize("size", [(8192, 8192), (1080, 1920), (4320, 7680), (8192, 2048)])
@pytest.mark.parametrize("aspect", [1.0, 4 / 3, 8.0, 1 / 8])
def test_shown_size_is_limited(size: tuple[int, int], aspect: float) -> None:
    """No upright picture has more pixels than 8K, one that has fewer keeps its height, and the proportions stay."""
    height, width = Orientation().shown_size(*size, aspect)
    assert height * width <= 2**25 * 1.001
    assert width / height == pytest.approx(size[1] * aspect / size[0], rel=0.002)
    if size[0] * size[1] * aspect <= 2**25:
        assert height == size[0]
    assert Orientation(quarter_turns=1).shown_size(*size, aspect) == (width, height)


def test_shrunk_pictures(tmp_path: Path) -> None:
    """`max_side` limits the longer side, keeps the proportions, and enlarges nothing."""
    wide = write_video(tmp_path / "a.mp4", evenly(12, 12), size=(640, 360))
    for max_side, shape in ((320, (180, 320, 3)), (640, (360, 640, 3)), (2000, (360, 640, 3)), (None, (360, 640, 3))):
        images = frames_shown_at(wide, [0.0, 0.5], max_side=max_side)
        assert [image.shape for image in images] == [shape, shape]
        assert [number_of(image) for image in images] == [0, 6]
    tall = write_video(tmp_path / "b.mp4", evenly(4, 12), size=(640, 360), rotation_deg=90)
    assert frames_shown_at(tall, [0.0], max_side=320)[0].shape == (320, 180, 3)

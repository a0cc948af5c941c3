"""Colours come out as a screen would show them: HDR as SDR, and the right matrix where a file states none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from features.decode.grid import Decoder, frames_on_grid
from features.decode.with_decord import doubts_about_decord
from features.video import Image

SCENE = np.array(
    [
        [(16, 16, 16), (64, 64, 64), (128, 128, 128), (200, 200, 200), (235, 235, 235)],
        [(198, 150, 125), (120, 170, 230), (70, 110, 50), (200, 60, 40), (40, 60, 150)],
        [(191, 191, 30), (30, 191, 191), (30, 191, 30), (191, 30, 191), (30, 45, 60)],
    ],
    np.uint8,
)
"""Colours of an ordinary scene: greys, skin, sky, leaves, bars."""

BT709_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
BT2020_TO_XYZ = np.array([[0.6370, 0.1446, 0.1689], [0.2627, 0.6780, 0.0593], [0.0000, 0.0281, 1.0610]])
SHARES: dict[int, tuple[float, float]] = {
    Colorspace.ITU601: (0.299, 0.114),
    Colorspace.ITU709: (0.2126, 0.0722),
    Colorspace.BT2020: (0.2627, 0.0593),
}
"""Of red and blue in luma."""
TRANSFERS = {"HLG": ColorTrc.ARIB_STD_B67, "PQ": ColorTrc.SMPTE2084}


def picture(colours: Image, height: int = 240) -> Image:
    """Each colour as a flat patch, in a picture 320 wide."""
    return colours.repeat(height // len(colours), axis=0).repeat(320 // colours.shape[1], axis=1)


def patches(image: Image, colours: Image) -> npt.NDArray[np.float64]:
    """The mean colour of each patch, away from its rim."""
    rows, columns = (image.shape[k] // colours.shape[k] for k in (0, 1))
    tiles = image.reshape(len(colours), rows, colours.shape[1], columns, 3)
    return tiles[:, rows // 4 : -rows // 4, :, columns // 4 : -columns // 4].mean(axis=(1, 3))


def light_in_nits(sdr: Image) -> npt.NDArray[np.float64]:
    """What an SDR screen whose white is HDR reference white shows, in the primaries of BT.2020."""
    light = (sdr / 255) ** 2.4 * 203
    return np.clip(light @ (np.linalg.inv(BT2020_TO_XYZ) @ BT709_TO_XYZ).T, 0, None)


def hlg(nits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The signal that makes an HLG display of 1000 nits show this light (BT.2100: inverse OOTF, then OETF)."""
    shown = nits / 1000
    luma = np.maximum(shown @ BT2020_TO_XYZ[1], 1e-9)[..., None]
    scene = shown * luma ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def pq(nits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The PQ signal of this light (SMPTE ST 2084)."""
    power = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def write_hdr(path: Path, kind: str, nits: npt.NDArray[np.float64], *, bits: int = 10, **tags: int) -> Path:
    """Three frames of this light, in 10-bit HEVC or 8-bit H.264, tagged as a phone tags it."""
    signal = np.clip({"HLG": hlg, "PQ": pq}[kind](nits), 0, 1)
    planes = yuv(signal, Colorspace.BT2020, ColorRange.MPEG, bits=bits)
    tags = {
        "colorspace": int(Colorspace.BT2020),
        "color_primaries": int(ColorPrimaries.BT2020),
        "color_trc": int(TRANSFERS[kind]),
        **tags,
    }
    return write(path, planes, "yuv420p10le", tags, "libx265") if bits == 10 else write(path, planes, "yuv420p", tags)


def yuv(pixels: npt.NDArray[np.float64], matrix: int, color_range: int, *, bits: int = 8) -> npt.NDArray[Any]:
    """Signals (H, W, 3), 0 to 1, as 4:2:0 in planes, by the formula that all the standards share."""
    red_share, blue_share = SHARES[matrix]
    luma = pixels @ (red_share, 1 - red_share - blue_share, blue_share)
    blue = (pixels[..., 2] - luma) / (2 * (1 - blue_share))
    red = (pixels[..., 0] - luma) / (2 * (1 - red_share))
    low, luma_steps, chroma_steps = (0, 255, 255) if color_range == ColorRange.JPEG else (16, 219, 224)
    planes = [low + luma_steps * luma, 128 + chroma_steps * blue[::2, ::2], 128 + chroma_steps * red[::2, ::2]]
    steps = np.round(np.concatenate([plane.ravel() for plane in planes]) * 2 ** (bits - 8))
    return steps.astype(np.uint8 if bits == 8 else np.uint16).reshape(-1, pixels.shape[1])


def write(path: Path, planes: npt.NDArray[Any], pix_fmt: str, tags: dict[str, int], codec: str = "libx264") -> Path:
    """Three frames without loss, in a file that states `tags`."""
    options = {"x265-params": "log-level=error:lossless=1"} if codec == "libx265" else {"qp": "0", "bf": "0"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=4, options=options)
        assert isinstance(stream, av.VideoStream)
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(planes), format=pix_fmt)
            if number == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
                for name, value in tags.items():
                    setattr(stream.codec_context, name, value)
            for name, value in tags.items():
                setattr(frame, name, value)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def first_image(path: Path, decoder: Decoder) -> Image:
    return next(frames_on_grid(path, sample_fps=4.0, decoder=decoder)).image


@pytest.mark.parametrize("decoder", ["pyav", "auto"])
@pytest.mark.parametrize("kind", TRANSFERS)
@pytest.mark.parametrize("tags", [{}, {"colorspace": 2}], ids=["tagged", "no matrix"])
def test_hdr_is_shown_as_sdr(kind: str, decoder: Decoder, tags: dict[str, int], tmp_path: Path) -> None:
    """A scene filmed in HDR comes out as the same scene in SDR, colour by colour."""
    path = write_hdr(tmp_path / "a.mp4", kind, light_in_nits(picture(SCENE)), **tags)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).color_trc == TRANSFERS[kind]
    off = patches(first_image(path, decoder), SCENE) - SCENE
    assert np.abs(off).max() < 6
    assert np.abs(off.mean(axis=(0, 1))).max() < 1.5


@pytest.mark.parametrize("kind", TRANSFERS)
def test_highlights(kind: str, tmp_path: Path) -> None:
    """Light brighter than reference white stays at least as bright as white, and keeps its hue."""
    white = np.array([[203.0, 300.0, 600.0, 1000.0]])[..., None].repeat(3, axis=2)
    orange = white * (1.0, 0.3, 0.1)
    nits = np.concatenate([white, orange]).repeat(120, axis=0).repeat(80, axis=1)
    shown = patches(first_image(write_hdr(tmp_path / "a.mp4", kind, nits), "pyav"), np.zeros((2, 4, 3), np.uint8))
    assert shown[0].min() > 245
    assert (np.diff(shown[0], axis=0) > -1.5).all()
    red, green, blue = shown[1].T
    assert (red > 245).all()
    assert (green < 190).all()
    assert (blue < green - 30).all()


@pytest.mark.parametrize("kind", TRANSFERS)
def test_hdr_is_not_for_decord(kind: str, tmp_path: Path) -> None:
    """`auto` gives HDR to PyAV even where it is 8-bit H.264, which decord would show too dark."""
    path = write_hdr(tmp_path / "a.mp4", kind, light_in_nits(picture(SCENE)), bits=8)
    assert any("HDR" in doubt for doubt in doubts_about_decord(path))
    assert np.abs(patches(first_image(path, "auto"), SCENE) - SCENE).max() < 16  # 8 bits are coarse for HDR


@pytest.mark.parametrize("decoder", ["pyav", "auto"])
@pytest.mark.parametrize(
    ("height", "matrix", "tag"),
    [
        (720, Colorspace.ITU709, None),
        (1080, Colorspace.ITU709, None),
        (480, Colorspace.ITU601, None),
        (600, Colorspace.ITU601, None),
        (480, Colorspace.ITU709, 1),
        (720, Colorspace.ITU709, 1),
        (480, Colorspace.ITU601, 6),
        (720, Colorspace.ITU601, 6),
        (720, Colorspace.ITU601, 5),
        (720, Colorspace.BT2020, 9),
    ],
)
@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
def test_matrix(
    height: int, matrix: int, tag: int | None, color_range: ColorRange, decoder: Decoder, tmp_path: Path
) -> None:
    """A stated matrix counts; where none is stated it is BT.709 from 720 lines on, and BT.601 below."""
    tags = {"color_range": int(color_range), **({} if tag is None else {"colorspace": tag})}
    pix_fmt = "yuvj420p" if color_range == ColorRange.JPEG else "yuv420p"
    path = write(tmp_path / "a.mp4", yuv(picture(SCENE, height) / 255, matrix, color_range), pix_fmt, tags)
    assert (
        np.abs(patches(first_image(path, decoder), SCENE) - SCENE).max() <= 3
    )  # FFmpeg's rounding; another matrix is off by 20


def test_small_untagged_video_is_read_as_before(tmp_path: Path) -> None:
    """Where nothing is assumed, the pixels are bit for bit those of FFmpeg's own conversion."""
    planes = yuv(picture(SCENE) / 255, Colorspace.ITU601, ColorRange.MPEG)
    path = write(tmp_path / "a.mp4", planes, "yuv420p", {})
    with av.open(str(path)) as container:
        plain = next(container.decode(video=0)).to_ndarray(format="rgb24", interpolation="BILINEAR")
    assert np.array_equal(first_image(path, "pyav"), plain)


def test_untagged_rgb_has_no_matrix(tmp_path: Path) -> None:
    """RGB that is stored as such stays as it is, in HD too."""
    path = write(tmp_path / "a.mov", picture(SCENE, 720), "rgb24", {}, codec="png")
    assert np.abs(patches(first_image(path, "pyav"), SCENE) - SCENE).max() <= 1

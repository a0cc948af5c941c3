"""From a decoded frame to 8-bit RGB for an SDR screen: the matrix of an untagged video, and HDR (HLG and PQ)."""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Colorspace, ColorTrc, VideoReformatter

from features.video import Image

_HD_LINES = 720  # from here on untagged video is BT.709, below BT.601, as players take it
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_BT2020 = 9  # AVCOL_SPC_BT2020_NCL

_WHITE_NITS = 203.0  # HDR reference white, ITU-R BT.2408; SDR white
_HLG_PEAK_NITS = 1000.0  # nominal HLG display, ITU-R BT.2100, for which its system gamma is 1.2
_HLG_GAMMA = 1.2
_SDR_GAMMA = 2.4  # ITU-R BT.1886
_KNEE = 0.9  # SDR signal above which highlights are rolled off: all below comes out as it would in SDR
_ROWS = 64  # converted at a time: a whole 8K picture in float32 takes gigabytes

_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
_BT2020_TO_BT709 = np.array(  # ITU-R BT.2407
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


def is_converted(frame: av.VideoFrame) -> bool:
    """Whether `rgb` gives other colours than FFmpeg's own conversion, which goes by the tags alone."""
    return frame.color_trc in _CURVES or _assumed_matrix(frame) is not None


def rgb(frame: av.VideoFrame, reformatter: VideoReformatter, size: tuple[int, int] | None = None) -> Image:
    """The stored picture (H, W, 3) in 8-bit RGB, at `size` (H, W) where one is given.

    HDR comes out as SDR, with its reference white as white.
    """
    matrix = _assumed_matrix(frame)
    is_hdr = frame.color_trc in _CURVES
    height, width = size or (frame.height, frame.width)
    pixels = reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="rgb48le" if is_hdr else "rgb24",
        src_colorspace=matrix,
        interpolation="BILINEAR",
        threads=1,
    ).to_ndarray()
    return _tone_mapped(np.asarray(pixels, np.uint16), frame.color_trc) if is_hdr else np.asarray(pixels, np.uint8)


def _assumed_matrix(frame: av.VideoFrame) -> int | None:
    """The matrix of a frame that states none; None where it does, or where FFmpeg's own guess, BT.601, is right."""
    if frame.colorspace != _UNSPECIFIED or frame.format.is_rgb:
        return None
    if frame.color_trc in _CURVES:
        return _BT2020
    return int(Colorspace.ITU709) if frame.height >= _HD_LINES else None


def _tone_mapped(signal: npt.NDArray[np.uint16], transfer: int) -> Image:
    """HDR signal (H, W, 3), 16 bits, BT.2020, to 8-bit SDR in BT.709.

    Light below the knee keeps its level relative to reference white; above it, highlights roll off towards white and
    keep their hue.
    """
    import torch

    curve = _CURVES[transfer]
    to_bt709 = torch.from_numpy(_BT2020_TO_BT709.T.copy())
    luma = torch.from_numpy(_LUMA_2020)
    image = np.empty(signal.shape, np.uint8)
    for top in range(0, len(signal), _ROWS):
        light = torch.from_numpy(curve[signal[top : top + _ROWS] >> 4])
        if transfer == ColorTrc.ARIB_STD_B67:  # scene light to that of a display
            light *= (light @ luma).pow_(_HLG_GAMMA - 1)[..., None] * (_HLG_PEAK_NITS / _WHITE_NITS)
        sdr = (light @ to_bt709).clamp_(min=0).pow_(1 / _SDR_GAMMA)
        brightest = sdr.amax(dim=-1, keepdim=True).clamp_(min=_KNEE)
        sdr *= (_KNEE + (1 - _KNEE) * ((brightest - _KNEE) / (1 - _KNEE)).tanh_()) / brightest
        image[top : top + _ROWS] = sdr.mul_(255).round_().to(torch.uint8).numpy()
    return image


def _pq() -> npt.NDArray[np.float32]:
    """Light of each 12-bit PQ signal, relative to reference white: the EOTF of ITU-R BT.2100, table 4."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = np.linspace(0, 1, 4096) ** (1 / m2)
    nits = 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return (nits / _WHITE_NITS).astype(np.float32)


def _hlg() -> npt.NDArray[np.float32]:
    """Scene light, 0 to 1, of each 12-bit HLG signal: the inverse OETF of ITU-R BT.2100, table 5."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.linspace(0, 1, 4096)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)


_CURVES = {int(ColorTrc.SMPTE2084): _pq(), int(ColorTrc.ARIB_STD_B67): _hlg()}

"""Everything of decord: the files that it is known to be right on, and the frames that it gives."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from features.decode.container import UnreadableVideo, opened, pixel_aspect, read_packets, stated_duration_s
from features.decode.damage import Damage
from features.decode.forward import Shown, on_grid, orientation_of, video_end_s
from features.video import Frame

# What decord is known to be right on is short, and it holds all of it in memory.
_MAX_DURATION_S = 200.0
_MAX_DECODED_BYTES = 2 * 1024**3


def doubts_about_decord(path: Path) -> Iterator[str]:
    """Reasons why decord is not known to be right on this file, the cheapest check first; none where it is."""
    with opened(path) as (container, stream):
        yield from _doubts_from_head(container, stream)
        yield from _doubts_from_packets(container, stream)


def _doubts_from_head(container: Any, stream: Any) -> Iterator[str]:
    codec = stream.codec_context
    duration_s = stated_duration_s(container, stream)
    num_pixels = codec.width * codec.height
    if "mp4" not in container.format.name.split(","):
        yield f"{container.format.name} is not MP4"
    if len(container.streams.video) > 1:
        yield "several video streams"
    if codec.name != "h264" or codec.pix_fmt not in ("yuv420p", "yuvj420p"):
        yield f"{codec.name} {codec.pix_fmt} is not 8-bit 4:2:0 H.264"
    if pixel_aspect(stream) != 1:
        yield "its pixels are not square"
    if duration_s is None or duration_s > _MAX_DURATION_S:
        yield f"not known to be at most {_MAX_DURATION_S:g} s long"
    if 3 * num_pixels * stream.frames > _MAX_DECODED_BYTES:
        yield f"{stream.frames} frames of {num_pixels} pixels may not fit into memory"


def _doubts_from_packets(container: Any, stream: Any) -> Iterator[str]:
    damage = Damage()
    packets = (packet for packet in read_packets(container, stream, damage) if packet is not None and packet.size)
    first = next(packets, None)
    if first is None:
        yield "it holds no packet"
        return
    if first.is_discard:
        yield "an edit list trims it"
    # x264 writes its options into the first packet; what other encoders made is not known.
    opening = bytes(first)
    is_closed = b" open_gop=0" in opening or b" bframes=0" in opening
    if not is_closed or b" interlaced=0" not in opening or b" intra_refresh=0" not in opening:
        yield "not known to be progressive with closed groups of pictures"
    num_whole = 0
    for packet in itertools.chain([first], packets):
        if packet.is_discard:
            yield "an edit list trims it"
        num_whole += not packet.is_corrupt
    if damage.num_damaged or num_whole != stream.frames:
        yield f"damaged: {num_whole} whole packets where {stream.frames} are stated"
    frames: list[Any] = []
    with contextlib.suppress(av.error.FFmpegError):
        frames = [*stream.decode(first), *stream.decode(None)]
    if not frames or orientation_of(frames[0]).mirrored:
        yield "mirrored, or its first packet gives no frame"


def grid_by_decord(path: Path, sample_fps: float) -> list[Frame]:
    import torch  # noqa: F401 - on some platforms decord must be loaded after torch
    from decord import DECORDError, VideoReader

    try:
        # One batch, and the reader is gone when this returns: an open one decodes ahead without bound.
        reader = VideoReader(str(path), num_threads=1)
        spans_s = reader.get_frame_timestamp(np.arange(len(reader))).astype(np.float64)
        starts_s = spans_s[:, 0] - spans_s[0, 0]
        end_s = video_end_s(starts_s[-1], spans_s[-1, 1] - spans_s[-1, 0])
        untils_s = np.append(starts_s[1:], end_s)
        shown = map(Shown, starts_s.tolist(), untils_s.tolist(), range(len(reader)))
        picks = list(on_grid(shown, sample_fps))
        numbers = list(dict.fromkeys(one.picture for _, one in picks))
        batch = reader.get_batch(numbers).asnumpy()
    except (DECORDError, RuntimeError, AssertionError) as error:
        # One sentence out of what C++ reports, with a stack of its own places behind it.
        cause = str(error).rpartition("Check failed: ")[2].strip() or type(error).__name__
        raise UnreadableVideo(path, "decord fails", found=cause.splitlines()[0]) from error
    images = dict(zip(numbers, batch, strict=True))
    return [Frame(time_s, one.pts_s, one.until_s, images[one.picture]) for time_s, one in picks]

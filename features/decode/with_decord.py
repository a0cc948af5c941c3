"""decord: which files it is known to be right on, and the frames that it gives."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from features.decode.colour import is_converted
from features.decode.container import UnreadableVideo, is_mp4, opened, pixel_aspect, read_packets, stated_duration_s
from features.decode.damage import Damage, VideoEnd
from features.decode.orientation import Orientation
from features.decode.timeline import Shown, on_grid, video_end_s
from features.video import Frame

# decord is known to be right on short videos only, and holds all requested frames in memory.
_MAX_DURATION_S = 200.0
_MAX_DECODED_BYTES = 2 * 1024**3


def doubts_about_decord(path: Path) -> Iterator[str]:
    """Reasons why decord is not known to be right on this file, the cheapest check first; none if it is.

    Reads all packets and decodes the first one, unless a reason is found before. Raises `UnreadableVideo`.
    """
    if re.search("[\ud800-\udfff]", str(path)):
        yield "its name is no UTF-8"
    with opened(path) as (container, stream):
        yield from _doubts_from_head(container, stream)
        yield from _doubts_from_packets(container, stream)


def _doubts_from_head(container: InputContainer, stream: av.VideoStream) -> Iterator[str]:
    codec = stream.codec_context
    duration_s = stated_duration_s(container, stream)
    num_pixels = codec.width * codec.height
    if not is_mp4(container):
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


def _doubts_from_packets(container: InputContainer, stream: av.VideoStream) -> Iterator[str]:
    damage = Damage()
    packets = (packet for packet in read_packets(container, stream, damage) if packet is not None and packet.size)
    first = next(packets, None)
    if first is None:
        yield "it holds no packet"
        return
    if first.is_discard:
        yield "an edit list trims it"
    # x264 writes its options into the first packet; other encoders do not say how they encoded.
    x264_options = bytes(first)
    is_closed = b" open_gop=0" in x264_options or b" bframes=0" in x264_options
    if not is_closed or b" interlaced=0" not in x264_options or b" intra_refresh=0" not in x264_options:
        yield "not known to be progressive with closed groups of pictures"
    num_intact = 0
    for packet in itertools.chain([first], packets):
        if packet.is_discard:
            yield "an edit list trims it"
        num_intact += not packet.is_corrupt
    if damage.num_damaged or num_intact != stream.frames:
        yield f"damaged: {num_intact} whole packets where {stream.frames} are stated"
    frames: list[av.VideoFrame] = []
    with contextlib.suppress(FFmpegError):
        frames = [*stream.decode(first), *stream.decode(None)]
    if any(map(is_converted, frames)):
        yield "its colours are HDR, or HD without a matrix"
    if not frames or Orientation.of(frames[0]).mirrored:
        yield "mirrored, or its first packet gives no frame"


def grid_by_decord(path: Path, sample_fps: float, max_still_s: float) -> tuple[list[Frame], VideoEnd]:
    """All frames of the grid, and what is known of the video. Raises `UnreadableVideo` where decord fails."""
    import torch  # noqa: F401 - on some platforms decord must be loaded after torch
    from decord import DECORDError, VideoReader

    try:
        # One batch, and the reader is gone when this returns: an open one decodes ahead without bound.
        # An absolute path, so that no name reads as a protocol.
        reader = VideoReader(str(path.absolute()), num_threads=1)
        spans_s = reader.get_frame_timestamp(np.arange(len(reader))).astype(np.float64)
        starts_s = spans_s[:, 0] - spans_s[0, 0]
        end_s = video_end_s(starts_s[-1], spans_s[-1, 1] - spans_s[-1, 0])
        untils_s = np.append(starts_s[1:], end_s)
        shown_frames = list(map(Shown, starts_s.tolist(), untils_s.tolist(), range(len(reader))))
        picks = list(on_grid(shown_frames, sample_fps, max_still_s=max_still_s))
        indices = list(dict.fromkeys(shown.picture for _, shown in picks))
        batch = reader.get_batch(indices).asnumpy()
    except (DECORDError, RuntimeError, AssertionError, UnicodeEncodeError) as error:
        # decord's C++ messages hold one sentence, between a source location and a stack trace.
        cause = str(error).rpartition("Check failed: ")[2].strip() or type(error).__name__
        raise UnreadableVideo(path, "decord fails", found=cause.splitlines()[0]) from error
    images = dict(zip(indices, batch, strict=True))
    damage = Damage(num_packets=len(shown_frames))
    for shown in shown_frames:
        damage.add_pause(shown.pts_s, shown.until_s)
    frames = [Frame(time_s, shown.pts_s, shown.until_s, images[shown.picture]) for time_s, shown in picks]
    return frames, damage.end(float(end_s), stated_s=None)

"""Pictures to an MP4 file, each shown when it was, with the sound of the recording that they are of."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from features.decode.container import is_mp4, opened, time_base
from features.decode.damage import Damage
from features.decode.forward import decode_all
from features.decode.timeline import Shown
from features.files import atomic_file
from features.video import Image

_TICK_S = Fraction(1, 60_000)
"""Every common frame rate is a whole number of ticks, and MPEG-4's clock allows no more than 65,535 a second."""

_LONGEST_S = 30_000.0
"""How long one frame can be shown: readers of MP4 take 2**31 ticks and more for damage."""

# Without frames that lean on later ones: no edit list is needed, which players treat differently.
_H264 = ("libx264", {"crf": "21", "preset": "veryfast", "bf": "0"})
_MPEG4 = ("mpeg4", {"qmin": "2", "qmax": "6", "bf": "0"})  # where FFmpeg was built without x264

_COPIED_SOUND = ("aac", "mp3", "ac3", "eac3", "alac", "opus")
"""What players of MP4 know."""


def write_mp4(path: Path, pictures: Iterable[Shown[Image]], *, sound_of: Path | None = None) -> str:
    """Write the pictures (H, W, 3), all of one size, each from its `pts_s` on, the last one until its `until_s`.

    Times ascend and are kept to 1 / 60,000 s; a picture that is shown for longer than 30,000 s is repeated. Sizes
    become even by repeating the last row or column. The best sound stream of the video file `sound_of` is copied as it
    is, on the clock of its first shown frame; where it is left out, a sentence that says why is returned, else "".
    `path` is complete or not there; a few pictures are in memory at a time. Raises `ValueError` for no pictures, or of
    several sizes.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(atomic_file(path, "wb"))
        output = stack.enter_context(av.open(file, mode="w", format="mp4"))
        pictures = iter(pictures)
        first = next(pictures, None)
        if first is None:
            raise ValueError(f"{path}: no pictures to write")
        video = _video_stream(output, first.picture)
        sound, why_silent = None, ""
        if sound_of is not None:
            container, base_s = stack.enter_context(_source(sound_of))
            source = container.streams.best("audio")
            if isinstance(source, av.AudioStream):
                why_silent = _why_silent(container, source)
                sound = None if why_silent else _Sound(container, source, output, base_s)
        durations: dict[int, int] = {}
        reformatter = VideoReformatter()
        last_tick = -1
        for shown in _in_pieces(itertools.chain([first], pictures)):
            tick = max(last_tick + 1, round(shown.pts_s / _TICK_S))
            durations[tick] = max(1, round(shown.until_s / _TICK_S) - tick)
            _mux(output, video.encode(_frame(shown.picture, video, reformatter, tick)), durations)
            if sound is not None:
                sound.mux_until(shown.until_s)
            last_tick = tick
        _mux(output, video.encode(None), durations)
    return why_silent


def _in_pieces(pictures: Iterable[Shown[Image]]) -> Iterator[Shown[Image]]:
    for shown in pictures:
        start_s = shown.pts_s
        while shown.until_s - start_s > _LONGEST_S:
            yield Shown(start_s, start_s + _LONGEST_S, shown.picture)
            start_s += _LONGEST_S
        yield Shown(start_s, shown.until_s, shown.picture)


def _mux(output: OutputContainer, packets: Iterable[av.Packet], durations: dict[int, int]) -> None:
    """Write encoded pictures, each with its duration in ticks, by its time in ticks."""
    for packet in packets:
        assert packet.pts is not None
        packet.duration = durations.pop(packet.pts)
        output.mux(packet)


@contextlib.contextmanager
def _source(path: Path) -> Iterator[tuple[InputContainer, float]]:
    """The open file that sound is copied from, and the time of its first shown frame on the file's own clock."""
    with opened(path) as (container, stream):
        ticked = next(decode_all(container, stream, Damage()), (None, None))
        base_s = 0.0 if ticked[0] is None else float(ticked[0] * time_base(stream))
    with opened(path) as (container, _):
        yield container, base_s


def _why_silent(container: InputContainer, stream: av.AudioStream) -> str:
    name = stream.codec_context.codec.canonical_name if stream.codec_context is not None else "unknown"
    kind = container.format.name.split(",")[0]
    if not (is_mp4(container) or kind == "matroska"):
        return f"its sound is left out: times of sound in {kind} are not known to fit those of the pictures"
    if name not in _COPIED_SOUND:
        return f"its sound is left out: {name} in an MP4 is not known to most players"
    return ""


def _video_stream(output: OutputContainer, image: Image) -> av.VideoStream:
    codec, options = _H264 if "libx264" in av.codecs_available else _MPEG4
    stream = output.add_stream(codec, rate=30, options=options)
    assert isinstance(stream, av.VideoStream)
    height, width = image.shape[:2]
    stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    stream.codec_context.time_base = _TICK_S
    stream.codec_context.colorspace = int(Colorspace.ITU709)
    stream.codec_context.color_primaries = int(ColorPrimaries.BT709)
    stream.codec_context.color_trc = int(ColorTrc.BT709)
    stream.codec_context.color_range = int(ColorRange.MPEG)
    return stream


def _frame(image: Image, stream: av.VideoStream, reformatter: VideoReformatter, tick: int) -> av.VideoFrame:
    height, width = image.shape[:2]
    if (width + width % 2, height + height % 2) != (stream.width, stream.height):
        raise ValueError(f"a picture of {width}x{height} does not fit a video of {stream.width}x{stream.height}")
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = reformatter.reformat(
        av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"),
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation="BILINEAR",
        threads=1,
    )
    frame.pts, frame.time_base = tick, _TICK_S
    return frame


class _Sound:
    """Copies the packets of a sound stream, from the first shown frame on; what is damaged is left out."""

    def __init__(
        self, container: InputContainer, source: av.AudioStream, output: OutputContainer, base_s: float
    ) -> None:
        assert source.time_base is not None
        self._output = output
        self._tick_s = source.time_base
        self._packets = self._moved(container.demux(source), round(base_s / source.time_base))
        self._held = next(self._packets, None)
        # A stream without a packet would be a track that players take for damage.
        self._stream = None if self._held is None else output.add_stream_from_template(source)

    def mux_until(self, end_s: float) -> None:
        """Copy what begins before `end_s`."""
        while self._held is not None and (self._held.pts or 0) * self._tick_s < end_s:
            self._held.stream = self._stream
            self._output.mux(self._held)
            self._held = next(self._packets, None)

    def _moved(self, packets: Iterator[av.Packet], base: int) -> Iterator[av.Packet]:
        last_dts = -1
        with contextlib.suppress(FFmpegError):  # a file that was cut off: the sound ends there
            for packet in packets:
                if packet.pts is None or packet.dts is None or packet.is_corrupt:
                    continue
                pts, dts = packet.pts - base, packet.dts - base
                if dts > last_dts and pts >= 0:
                    packet.pts, packet.dts = pts, dts
                    last_dts = dts
                    yield packet

"""From the decoded frames of one video to its upright pictures."""

from __future__ import annotations

from fractions import Fraction

import av
from av.filter import Graph
from av.video.reformatter import VideoReformatter

from features.decode import colour
from features.decode.orientation import MAX_SHOWN_PIXELS, Orientation, resized
from features.video import Image

_ANY_CLOCK = Fraction(1)


class Pictures:
    """Makes upright RGB images with square pixels, all of the size of the one made from `first_frame`."""

    def __init__(self, first_frame: av.VideoFrame, pixel_aspect: float) -> None:
        self._reformatter = VideoReformatter()
        orientation = Orientation.of(first_frame)
        # Frames that are turned alike share one reading: a whole video is turned alike, nearly always.
        self._orientations = {first_frame.rotation: orientation}
        self._size = orientation.shown_size(first_frame.height, first_frame.width, pixel_aspect)

    def image(self, frame: av.VideoFrame) -> Image:
        orientation = self._orientations.get(frame.rotation)
        if orientation is None:
            orientation = self._orientations.setdefault(frame.rotation, Orientation.of(frame))
        if frame.interlaced_frame:
            frame = _deinterlaced(frame)
        height, width = self._size[::-1] if orientation.quarter_turns % 2 else self._size
        is_huge = max(frame.height, height) * max(frame.width, width) > MAX_SHOWN_PIXELS
        # A huge picture is resized while it is converted: its memory is that of the small one.
        pixels = colour.rgb(frame, self._reformatter, (height, width) if is_huge else None)
        return resized(orientation.upright(pixels), self._size)


def _deinterlaced(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame as its top field saw it: that field's lines stay, those between follow from them.

    From this frame alone, since its neighbours may have been skipped.
    """
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_ANY_CLOCK)
    graph.link_nodes(source, graph.add("estdif", "mode=frame:parity=tff"), graph.add("buffersink")).configure()
    graph.push(frame)
    graph.push(None)
    whole = graph.pull()
    assert isinstance(whole, av.VideoFrame)
    for tag in ("colorspace", "color_range", "color_trc", "color_primaries"):  # the graph's own are guesses
        setattr(whole, tag, getattr(frame, tag))
    return whole

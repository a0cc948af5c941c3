"""Where a video ends, and how long its frames last: by the last frame's own duration, through to the windows."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import pytest

from features.clips import ClipReader, Source
from features.decode.clock import Stamped, on_one_clock
from features.decode.damage import Damage
from features.decode.grid import Decoder, frames_on_grid
from features.preprocess import Preprocessing
from features.video import WindowPlan
from tests.videos import HEVC, MPEG4, VP9, evenly, numbers, write_video

DECODERS: tuple[Decoder, ...] = ("pyav", "auto")
PREPROCESSING = Preprocessing(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
MPEG2: dict[str, Any] = {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}}


@pytest.mark.parametrize(
    ("name", "settings"),
    [("a.mp4", {}), ("a.mp4", HEVC), ("a.mov", {}), ("a.mkv", {}), ("a.webm", VP9), ("a.ts", {}), ("a.avi", MPEG4)],
)
@pytest.mark.parametrize("rate", [12, 30])
def test_the_last_window_ends_with_the_video(rate: int, name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """Windows of a video of three seconds cover three seconds, whatever part of a grid step its last frame lasts."""
    path = write_video(tmp_path / name, evenly(3 * rate, rate), rate=rate, **settings)
    for sample_fps, stride_s in ((4.0, 0.75), (8.0, 0.5), (2.0, 0.5), (5.0, 0.8)):
        plan = WindowPlan(num_frames=4, sample_fps=sample_fps, stride_s=stride_s, max_still_s=1.0)
        for decoder in DECODERS:
            clips = list(ClipReader(plan, PREPROCESSING, decoder).clips(Source("v", path)))
            assert clips[-1].segment.end_s == pytest.approx(3.0, abs=0.002)
            assert len(clips) == plan.num_windows(3.0)


def test_an_end_within_a_grid_step(tmp_path: Path) -> None:
    """The end is the last frame's, not the next grid step, nor that of the last frame that the grid picks."""
    path = write_video(tmp_path / "a.mp4", evenly(86, 30), rate=30)
    frames = frames_on_grid(path, sample_fps=4.0, decoder="pyav")
    given = list(frames)
    assert (given[-1].time_s, given[-1].shown_until_s) == pytest.approx((2.75, 86 / 30))
    assert frames.end is not None
    assert frames.end.end_s == pytest.approx(86 / 30)


def with_last_frame_of(duration_s: float, path: Path, target: Path) -> Path:
    """The file again, in which the last frame is stated to last so long."""
    with av.open(str(path)) as source, av.open(str(target), "w") as copy:
        stream = source.streams.video[0]
        stream_copy = copy.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        assert stream.time_base is not None
        packets[-1].duration = round(duration_s / stream.time_base)
        for packet in packets:
            packet.stream = stream_copy
            copy.mux(packet)
    return target


def test_a_last_frame_that_lasts(tmp_path: Path) -> None:
    """A last frame of twenty seconds makes the video so long; the second of it that counts is footage."""
    short = write_video(tmp_path / "short.mp4", evenly(24, 12), options={"bf": "0"})
    frames = frames_on_grid(with_last_frame_of(20.0, short, tmp_path / "a.mp4"), sample_fps=4.0, decoder="pyav")
    given = list(frames)
    assert given[-1].time_s == 2.75
    assert given[-1].shown_until_s == pytest.approx(23 / 12 + 1)
    assert frames.end is not None
    assert frames.end.end_s == pytest.approx(23 / 12 + 20)
    assert [(pause.start_s, pause.end_s) for pause in frames.end.pauses] == [pytest.approx((23 / 12, 23 / 12 + 20))]
    assert frames.end.faults == ()


def test_a_last_frame_that_cannot_last_so_long(tmp_path: Path) -> None:
    """A last frame whose duration leads far past the end that the head states is damaged: it lasts as others do."""
    short = write_video(tmp_path / "short.mp4", evenly(24, 12), options={"bf": "0"})
    path = with_last_frame_of(20.0, short, tmp_path / "a.mp4")
    written = bytearray(path.read_bytes())
    for name, at in ((b"mdhd", 20), (b"mvhd", 20), (b"tkhd", 24), (b"elst", 12)):
        box = written.index(name)
        units_a_second = {b"mdhd": 12288}.get(name, 1000)
        struct.pack_into(">I", written, box + at, 2 * units_a_second)
    path.write_bytes(written)
    frames = frames_on_grid(path, sample_fps=4.0, decoder="pyav")
    assert len(list(frames)) == 8
    assert frames.end is not None
    assert frames.end.end_s == pytest.approx(2.0)


@pytest.mark.parametrize(("name", "settings"), [("a.h264", {}), ("a.h265", HEVC), ("a.m2v", MPEG2)])
@pytest.mark.parametrize("rate", [10, 30])
def test_raw_streams_without_stamps(rate: int, name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """A raw stream, which has no stamps, is as long as its frames last at the rate that it was coded for."""
    path = write_video(tmp_path / name, evenly(6 * rate, rate), rate=rate, **settings)
    frames = frames_on_grid(path, sample_fps=2.0, decoder="pyav")
    given = list(frames)
    assert numbers(given) == [k * rate // 2 for k in range(12)]
    assert [frame.pts_s for frame in given] == pytest.approx([k / 2 for k in range(12)])
    assert frames.end is not None
    assert frames.end.end_s == pytest.approx(6.0)


def test_a_last_frame_without_a_duration() -> None:
    """Where a file states no durations, the last frame lasts as long as most before it, pauses left aside."""
    stamped = [Stamped(pts_s, 0.0, None) for pts_s in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 9.0)]
    assert [timed.duration_s for timed in on_one_clock(stamped, 0.04, Damage())][-1] == pytest.approx(0.2)
    assert [timed.duration_s for timed in on_one_clock(stamped[:1], 0.04, Damage())] == [0.04]

"""Decoding of intact files whose pictures say which frame they are: every frame comes at its time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from features.decode.container import UnreadableVideo
from features.decode.grid import Decoder, decoder_provenance, frames_on_grid, frames_shown_at
from features.decode.orientation import Orientation
from features.decode.with_decord import doubts_about_decord
from features.video import Frame
from tests.videos import (
    CLOSED_GOP,
    HEVC,
    MPEG4,
    OPEN_GOP,
    VP9,
    evenly,
    number_of,
    numbered_picture,
    numbers,
    same_pictures,
    trim,
    uneven,
    write_video,
)

DECODERS: tuple[Decoder, ...] = ("pyav", "auto")
MILLISECOND = Fraction(1, 1000)

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "closed groups": ("a.mp4", {}),
    "full range": ("a.mp4", {"pix_fmt": "yuvj420p"}),
    "QuickTime": ("a.mov", {}),
    "open groups": ("a.mp4", {"options": OPEN_GOP}),
    "10 bit": ("a.mp4", {"pix_fmt": "yuv420p10le"}),
    "4:4:4": ("a.mp4", {"pix_fmt": "yuv444p"}),
    "4:4:4, odd size": ("a.mp4", {"pix_fmt": "yuv444p", "size": (163, 121)}),
    "HEVC": ("a.mp4", HEVC),
    "HEVC, 10 bit": ("a.mp4", {**HEVC, "pix_fmt": "yuv420p10le"}),
    "HEVC in Matroska": ("a.mkv", HEVC),
    "VP9": ("a.webm", VP9),
    "VP9, odd size": ("a.webm", {**VP9, "size": (163, 121)}),
    "Matroska": ("a.mkv", {}),
    "MPEG-4 in AVI": ("a.avi", MPEG4),
    "H.264 in AVI": ("a.avi", {}),
    "Motion JPEG": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}}),
    "MPEG-TS": ("a.ts", {}),
    "HEVC in MPEG-TS": ("a.ts", HEVC),
    "late start": ("a.mp4", {}),
    "late start in Matroska": ("a.mkv", {}),
    "turned left": ("a.mp4", {"rotation_deg": 90}),
    "turned over": ("a.mp4", {"rotation_deg": 180}),
    "turned right": ("a.mp4", {"rotation_deg": 270}),
    "HEVC, turned": ("a.mp4", {**HEVC, "rotation_deg": 90}),
    "mirrored": ("a.mp4", {"mirrored": True}),
    "mirrored, turned left": ("a.mp4", {"mirrored": True, "rotation_deg": 90}),
    "mirrored, turned over": ("a.mp4", {"mirrored": True, "rotation_deg": 180}),
    "mirrored, turned right": ("a.mp4", {"mirrored": True, "rotation_deg": 270}),
    "wide pixels": ("a.mp4", {"pixel_aspect": Fraction(4, 3)}),
    "wide pixels, turned": ("a.mp4", {"pixel_aspect": Fraction(4, 3), "rotation_deg": 90}),
    "wide pixels in Matroska": ("a.mkv", {"pixel_aspect": Fraction(4, 3)}),
}
DECORD_IS_RIGHT = [
    "closed groups",
    "full range",
    "QuickTime",
    "late start",
    "turned left",
    "turned over",
    "turned right",
]
STARTS_LATE = ["late start", "late start in Matroska", "MPEG-TS", "HEVC in MPEG-TS"]


def shown_at(times_s: Sequence[float], time_s: float) -> int:
    """By the definition: the last frame whose time, counted from the first, is at most 2 ms ahead."""
    return max(k for k, pts_s in enumerate(times_s) if pts_s - times_s[0] <= time_s + 0.002)


def by_pyav(path: Path, sample_fps: float) -> list[Frame]:
    return list(frames_on_grid(path, sample_fps=sample_fps, decoder="pyav"))


def one_warning(caplog: pytest.LogCaptureFixture) -> str:
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    return caplog.records[0].getMessage()


@pytest.mark.parametrize("kind", KINDS)
def test_right_frames_of_every_kind(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In any container and codec, the frame at t is the one shown at t, upright; `auto` agrees."""
    name, settings = KINDS[kind]
    times_s = evenly(40, 12, start_s=5.0 if kind in STARTS_LATE else 0.0)
    path = write_video(tmp_path / name, times_s, **settings)

    frames = by_pyav(path, 5.0)

    assert [frame.time_s for frame in frames] == [k / 5.0 for k in range(17)]  # 40 frames at 12 a second: 3.33 s
    assert numbers(frames) == [shown_at(times_s, frame.time_s) for frame in frames]
    assert [frame.pts_s for frame in frames] == pytest.approx([k / 12 for k in numbers(frames)], abs=0.001)
    assert [frame.shown_until_s for frame in frames] == pytest.approx(
        [*((k + 1) / 12 for k in numbers(frames[:-1])), 40 / 12], abs=0.001
    )
    width, height = settings.get("size", (160, 120))
    width = round(width * settings.get("pixel_aspect", 1))
    shape = (width, height, 3) if settings.get("rotation_deg", 0) % 180 else (height, width, 3)
    assert {frame.image.shape for frame in frames} == {shape}
    automatic = list(frames_on_grid(path, sample_fps=5.0, decoder="auto"))
    assert numbers(automatic) == numbers(frames)
    assert {frame.image.shape for frame in automatic} == {shape}
    doubts = list(doubts_about_decord(path))
    assert (not doubts) == (kind in DECORD_IS_RIGHT), doubts
    assert not caplog.records


@pytest.mark.parametrize("kind", ["a.mp4", "a.mkv", "a.webm", "HEVC"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_variable_rate(kind: str, decoder: Decoder, tmp_path: Path) -> None:
    """At a variable rate frames are chosen by their time and never by their index."""
    times_s = uneven(40)
    name, settings = ("a.mp4", HEVC) if kind == "HEVC" else (kind, VP9 if kind == "a.webm" else {})
    path = write_video(tmp_path / name, times_s, tick_s=MILLISECOND, **settings)
    for sample_fps in (4.0, 30.0):
        frames = list(frames_on_grid(path, sample_fps=sample_fps, decoder=decoder))
        assert numbers(frames) == [shown_at(times_s, frame.time_s) for frame in frames]
        assert frames[-1].time_s == pytest.approx(times_s[-1], abs=0.1 + 1 / sample_fps)


@pytest.mark.parametrize("settings", [{}, HEVC], ids=["H.264", "HEVC"])
def test_long_video(settings: dict[str, Any], tmp_path: Path) -> None:
    """Far into a video the frames are still the right ones."""
    path = write_video(tmp_path / "a.mp4", evenly(1500, 30), rate=30, size=(128, 96), **settings)
    for decoder in DECODERS:
        frames = list(frames_on_grid(path, sample_fps=4.0, decoder=decoder))
        assert numbers(frames) == [shown_at(evenly(1500, 30), k / 4) for k in range(200)]


def test_grid_on_the_frames_own_clock(tmp_path: Path) -> None:
    """A grid at the video's own rate gives every frame once, though WebM rounds times to milliseconds."""
    assert numbers(by_pyav(write_video(tmp_path / "a.webm", evenly(40, 12), **VP9), 12.0)) == list(range(40))
    assert numbers(by_pyav(write_video(tmp_path / "a.mp4", evenly(40, 12)), 12.0)) == list(range(40))


PYRAMID = {"g": "30", "bf": "5", "x264-params": "b-pyramid=normal:b-adapt=0:ref=4"}
IN_MP4: dict[str, dict[str, Any]] = {
    **{kind: settings for kind, (name, settings) in KINDS.items() if name in ("a.mp4", "a.mov")},
    "pyramid": {"options": PYRAMID},
    "interlaced": {"options": {**PYRAMID, "x264-params": "tff=1"}},
    "no B-frames": {"options": {"bf": "0"}},
    "intra refresh": {"options": {"g": "12", "x264-params": "intra-refresh=1"}},
    "temporal layers": {**HEVC, "options": {"x265-params": "log-level=error:keyint=24:temporal-layers=3:bframes=4"}},
    "one group": {**HEVC, "options": {"x265-params": "log-level=error:bframes=8:b-adapt=0:rc-lookahead=20"}},
}


@pytest.mark.parametrize("kind", IN_MP4)
def test_skipping_changes_no_picture(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a sparse grid, where many frames are skipped, the pictures are bit for bit those of a full decode."""
    for times_s in (evenly(50, 12), uneven(50)):
        path = write_video(tmp_path / "a.mp4", times_s, tick_s=MILLISECOND, **IN_MP4[kind])
        for sample_fps in (0.4, 2.0, 7.3):
            frames = by_pyav(path, sample_fps)
            grid_s = [frame.time_s for frame in frames]
            assert same_pictures([frame.image for frame in frames], frames_shown_at(path, grid_s))
            shown = [shown_at(times_s, time_s) for time_s in grid_s]
            assert [frame.pts_s for frame in frames] == pytest.approx([times_s[k] for k in shown], abs=0.001)
            until_s = [frame.shown_until_s for frame in frames[:-1]]
            assert until_s == pytest.approx([times_s[k + 1] for k in shown[:-1]], abs=0.001)
            assert frames[-1].shown_until_s > times_s[-1]
            assert len(frames) >= times_s[-1] * sample_fps
    assert not caplog.records


@pytest.mark.parametrize(
    ("times_s", "settings"),
    [
        (evenly(48, 12), {}),
        (evenly(48, 12), {"options": {**CLOSED_GOP, "bf": "0"}}),
        (uneven(48), {"tick_s": MILLISECOND}),
        (evenly(24, 12), {"rotation_deg": 90}),
        (evenly(24, 12), {"rotation_deg": 270}),
        (evenly(24, 12), {"size": (322, 242)}),
        (evenly(1, 12), {}),
    ],
)
def test_decord_and_pyav_agree(times_s: list[float], settings: dict[str, Any], tmp_path: Path) -> None:
    """Where `auto` takes decord, it gives what PyAV gives: the same times, the same pixels."""
    path = write_video(tmp_path / "a.mp4", times_s, **settings)
    assert list(doubts_about_decord(path)) == []
    for sample_fps in (3.0, 30.0):
        decord = list(frames_on_grid(path, sample_fps=sample_fps, decoder="decord"))
        pyav = by_pyav(path, sample_fps)
        assert [frame.time_s for frame in decord] == [frame.time_s for frame in pyav]
        assert [frame.pts_s for frame in decord] == pytest.approx([frame.pts_s for frame in pyav], abs=1e-4)
        assert [frame.shown_until_s for frame in decord] == pytest.approx(
            [frame.shown_until_s for frame in pyav], abs=1e-4
        )
        for ours, theirs in zip(decord, pyav, strict=True):
            assert ours.image.shape == theirs.image.shape
            assert np.abs(ours.image.astype(int) - theirs.image).mean() < 1


def test_forced_decord_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """decord is used where it is forced, with a warning that says why it may be wrong."""
    path = write_video(tmp_path / "a.mp4", evenly(24, 12), options=OPEN_GOP)
    assert list(frames_on_grid(path, sample_fps=2.0, decoder="decord"))
    assert "closed groups" in one_warning(caplog)


def test_auto_falls_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where decord fails on a file that it should be right on, as it does at a width of 96, `auto` takes PyAV."""
    path = write_video(tmp_path / "a.mp4", evenly(12, 12), size=(96, 64))
    frames = list(frames_on_grid(path, sample_fps=4.0, decoder="auto"))
    assert numbers(frames) == [0, 3, 6, 9]
    with pytest.raises(UnreadableVideo, match="decord fails"):
        list(frames_on_grid(path, sample_fps=4.0, decoder="decord"))
    assert "reading it with PyAV" in one_warning(caplog)


@pytest.mark.parametrize("decoder", DECODERS)
def test_trimmed_at_both_ends(decoder: Decoder, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An edit list that starts inside a group and ends before the file does shows what lies between."""
    path = write_video(tmp_path / "a.mp4", evenly(60, 12))
    trim(path, Fraction(17, 12), Fraction(24, 12))
    frames = list(frames_on_grid(path, sample_fps=12.0, decoder=decoder))
    assert numbers(frames) == list(range(17, 41))
    assert frames[-1].shown_until_s == pytest.approx(2.0)
    assert not caplog.records


def test_trimmed_by_an_edit_list(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What an edit list cuts off the front is not shown, and time starts after the cut."""
    whole, path = write_video(tmp_path / "whole.mp4", evenly(48, 12)), tmp_path / "a.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        assert stream.time_base is not None
        cut = round(17 / 12 / stream.time_base)
        for packet in source.demux(stream):
            if packet.pts is not None and packet.dts is not None:
                packet.pts -= cut  # before zero, the writer makes an edit list of it
                packet.dts -= cut
                packet.stream = copy
                target.mux(packet)

    frames = by_pyav(path, 4.0)
    assert numbers(frames) == list(range(17, 48, 3))
    assert frames[-1].shown_until_s == pytest.approx(31 / 12)
    assert not caplog.records
    assert next(doubts_about_decord(path)) == "an edit list trims it"


def test_gap(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In a gap the frame before it stays for a second, at its true time also in AVI; a warning names the gap."""
    times_s = evenly(10, 12) + evenly(10, 12, start_s=2.5)
    kinds: dict[str, dict[str, Any]] = {"a.mp4": {}, "a.avi": {"codec": "mpeg4", "options": {}}}
    for name, settings in kinds.items():
        caplog.clear()
        frames = by_pyav(write_video(tmp_path / name, times_s, **settings), 2.0)
        assert numbers(frames) == [0, 6, 9, 9, 10, 16]
        assert [frame.time_s for frame in frames] == [0.0, 0.5, 1.0, 1.5, 2.5, 3.0]
        assert (frames[3].pts_s, frames[3].shown_until_s) == pytest.approx((0.75, 1.75))
        assert "in 1 place, the longest from 0.75 s to 2.50 s" in one_warning(caplog)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("a.mp4", {}), ("a.mp4", HEVC), ("a.webm", VP9), ("a.mkv", {}), ("a.avi", MPEG4), ("a.ts", {})],
)
@pytest.mark.parametrize("decoder", DECODERS)
def test_one_frame(decoder: Decoder, name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """A video of one frame is shown for that frame's duration; its grid has at least t = 0."""
    path = write_video(tmp_path / name, [0.0], rate=4, **settings)
    frames = list(frames_on_grid(path, sample_fps=2.0, decoder=decoder))
    assert numbers(frames) == [0]
    if name == "a.mp4":  # others may keep no duration
        assert frames[0].shown_until_s == pytest.approx(0.25)
        assert numbers(list(frames_on_grid(path, sample_fps=8.0, decoder=decoder))) == [0, 0]


def test_images_own_their_pixels(tmp_path: Path) -> None:
    """Images are contiguous (H, W, 3) uint8, and a source frame that is picked twice is converted once."""
    frames = by_pyav(write_video(tmp_path / "a.mp4", evenly(4, 2), rate=2, rotation_deg=90), 4.0)
    assert all(frame.image.flags.c_contiguous and frame.image.dtype == np.uint8 for frame in frames)
    assert frames[0].image is frames[1].image
    assert frames[1].image is not frames[2].image
    assert np.abs(frames[4].image.astype(int) - numbered_picture(2, 120, 160)).mean() < 8


def test_streams(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Frames come while the file is still being read: the first comes before the early end of the file is reached."""
    whole = write_video(tmp_path / "whole.mp4", evenly(60, 12), faststart=True)
    path = tmp_path / "a.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 8 // 10])
    grid = frames_on_grid(path, sample_fps=1.0, decoder="pyav")
    assert number_of(next(grid).image) == 0
    assert not caplog.records
    assert list(grid)
    assert caplog.records


def test_frames_shown_at(tmp_path: Path) -> None:
    """Each time has its picture: repeated, between frames, before the start and after the end."""
    path = write_video(tmp_path / "a.mp4", evenly(40, 12), rotation_deg=90)
    images = frames_shown_at(path, [-1.0, 0.0, 1.0, 1.01, 1.09, 3.32, 60.0, 61.0])
    assert [number_of(image) for image in images] == [0, 0, 12, 12, 13, 39, 39, 39]
    assert frames_shown_at(path, []) == []
    with pytest.raises(ValueError, match="ascend"):
        frames_shown_at(path, [1.0, 0.5])


def test_values_are_checked(tmp_path: Path) -> None:
    """A rate of zero and a turn that is not in quarters are refused."""
    with pytest.raises(ValueError, match="sample_fps"):
        frames_on_grid(tmp_path / "a.mp4", sample_fps=0, decoder="auto")
    with pytest.raises(ValueError, match="quarter_turns"):
        Orientation(quarter_turns=4)


def test_orientation_from_a_matrix() -> None:
    """Any matrix gives an orientation: zeros turn nothing, and angles are rounded to the nearest quarter turn."""
    assert Orientation.from_matrix([0] * 9) == Orientation()
    one, nearly = 65536, 65000
    assert Orientation.from_matrix([300, nearly, 0, -nearly, 300, 0, 0, 0, 1 << 30]) == Orientation(quarter_turns=3)
    assert Orientation.from_matrix([-one, 0, 0, 0, one, 0, 0, 0, 1 << 30]) == Orientation(mirrored=True)


def test_the_decoders_provenance() -> None:
    """Only the libraries that a decoder uses are named, so that an upgrade of another one changes no cache key."""
    pyav, decord, auto = (decoder_provenance(decoder) for decoder in ("pyav", "decord", "auto"))
    assert set(pyav) == {"name", "version", "av", "libavcodec", "libavformat", "libswscale"}
    assert set(decord) == {"name", "version", "decord"}
    assert auto == pyav | decord | {"name": "auto"}
    assert pyav["av"] == av.__version__

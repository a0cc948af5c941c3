"""Decoding, on real files whose pictures say which frame they are."""

from __future__ import annotations

import contextlib
import copy
import logging
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from features.decode.container import UnreadableVideo, read_recorded_at
from features.decode.grid import Decoder, decoder_provenance, frames_on_grid, frames_shown_at
from features.decode.orientation import Orientation
from features.decode.with_decord import doubts_about_decord
from features.video import Frame, Image
from tests.videos import (
    CLOSED_GOP,
    OPEN_GOP,
    evenly,
    number_of,
    numbered_picture,
    promise,
    trim,
    write_sound,
    write_video,
)

HEVC: dict[str, Any] = {"codec": "libx265", "options": {"x265-params": "log-level=error:keyint=12"}}
MPEG4: dict[str, Any] = {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}}
VP9: dict[str, Any] = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "12"}}
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


def uneven(num_frames: int) -> list[float]:
    """Times of frames that last 40, 100, 33 and 200 ms in turn."""
    return [0.0, *np.cumsum([(0.04, 0.1, 0.033, 0.2)[k % 4] for k in range(num_frames - 1)]).tolist()]


def by_pyav(path: Path, sample_fps: float) -> list[Frame]:
    return list(frames_on_grid(path, sample_fps=sample_fps, decoder="pyav"))


def numbers(frames: Sequence[Frame]) -> list[int]:
    return [number_of(frame.image) for frame in frames]


def number_or_none(frame: Frame) -> int | None:
    """None where the picture is damaged."""
    try:
        return number_of(frame.image)
    except ValueError:
        return None


def same_pictures(images: Sequence[Image], others: Sequence[Image]) -> bool:
    return all(np.array_equal(image, other) for image, other in zip(images, others, strict=True))


def one_warning(caplog: pytest.LogCaptureFixture) -> str:
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    return caplog.records[0].getMessage()


@pytest.mark.parametrize("kind", KINDS)
def test_right_frames_of_every_kind(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the container and the codec, the frame at t is the one shown at t, upright; `auto` agrees."""
    name, settings = KINDS[kind]
    times_s = evenly(40, 12, start_s=5.0 if kind in STARTS_LATE else 0.0)
    path = write_video(tmp_path / name, times_s, **settings)

    frames = by_pyav(path, 5.0)

    assert [frame.time_s for frame in frames] == [k / 5.0 for k in range(17)]  # 40 frames at 12 a second: 3.33 s
    assert numbers(frames) == [shown_at(times_s, frame.time_s) for frame in frames]
    assert [frame.pts_s for frame in frames] == pytest.approx([k / 12 for k in numbers(frames)], abs=0.001)
    assert [frame.shown_until_s for frame in frames] == pytest.approx(
        [(k + 1) / 12 for k in numbers(frames)], abs=0.001
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
def test_what_is_passed_over_is_not_missed(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a sparse grid, where many frames are passed over, the pictures are bit for bit those of a full decode."""
    for times_s in (evenly(50, 12), uneven(50)):
        path = write_video(tmp_path / "a.mp4", times_s, tick_s=MILLISECOND, **IN_MP4[kind])
        for sample_fps in (0.4, 2.0, 7.3):
            frames = by_pyav(path, sample_fps)
            grid_s = [frame.time_s for frame in frames]
            assert same_pictures([frame.image for frame in frames], frames_shown_at(path, grid_s))
            shown = [shown_at(times_s, time_s) for time_s in grid_s]
            assert [frame.pts_s for frame in frames] == pytest.approx([times_s[k] for k in shown], abs=0.001)
            until_s = [frame.shown_until_s for frame in frames if frame.pts_s < times_s[-1] - 0.01]
            assert until_s == pytest.approx([times_s[k + 1] for k in shown if k < 49], abs=0.001)
            assert len(frames) >= times_s[-1] * sample_fps
    assert not caplog.records


@pytest.mark.parametrize("picks_it", [False, True])
def test_damage_in_what_is_passed_over(picks_it: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged picture that nobody asks for and none leans on goes unseen; where it is asked for, a warning comes."""
    options = {"g": "12", "bf": "2", "x264-params": "scenecut=0:b-adapt=0:b-pyramid=none"}
    path = write_video(tmp_path / "a.mp4", evenly(60, 12), options=options)
    intact = by_pyav(path, 12.0 if picks_it else 1.0)
    with av.open(str(path)) as container:  # frame 31 stands between two anchors, and not on a full second
        packets = {packet.pts * packet.time_base: bytes(packet) for packet in container.demux(video=0) if packet.size}
        packet = packets[Fraction(31, 12)]
    path.write_bytes(path.read_bytes().replace(packet, packet[:8] + b"\xa5" * 12 + packet[20:]))

    frames = by_pyav(path, 12.0 if picks_it else 1.0)

    assert bool(caplog.records) == picks_it
    assert [frame.time_s for frame in frames] == [frame.time_s for frame in intact]
    for ours, theirs in zip(frames, intact, strict=True):
        assert np.array_equal(ours.image, theirs.image) or round(ours.time_s * 12) == 31


def test_damage_stops_passing_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where a damaged anchor is met, all is decoded: a sparse grid gives the pictures and the warning of a full one."""
    path = write_video(tmp_path / "a.mp4", evenly(60, 12))
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.is_keyframe and packet.size]
    path.write_bytes(path.read_bytes().replace(packets[3], packets[3][:5] + b"\xa5" * (len(packets[3]) - 5)))

    everything = by_pyav(path, 12.0)
    warning = one_warning(caplog)
    caplog.clear()
    frames = by_pyav(path, 2.0)

    assert len(frames) == 10
    assert same_pictures([frame.image for frame in frames], [frame.image for frame in everything[::6]])
    assert one_warning(caplog) == warning


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
    """decord forced on a file that it is not known to be right on is used, with a warning that says why."""
    path = write_video(tmp_path / "a.mp4", evenly(24, 12), options=OPEN_GOP)
    assert list(frames_on_grid(path, sample_fps=2.0, decoder="decord"))
    assert "closed groups" in one_warning(caplog)


def test_auto_falls_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where decord fails on a file that it should be right on (it does at a width of 96), `auto` reads it with PyAV."""
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
    """What an edit list cuts off the front is not shown, and time starts behind the cut."""
    whole, path = write_video(tmp_path / "whole.mp4", evenly(48, 12)), tmp_path / "a.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                packet.pts -= round(17 / 12 / stream.time_base)  # before zero, the writer makes an edit list of it
                packet.dts -= round(17 / 12 / stream.time_base)
                packet.stream = copy
                target.mux(packet)

    frames = by_pyav(path, 4.0)
    assert numbers(frames) == list(range(17, 48, 3))
    assert frames[-1].shown_until_s == pytest.approx(31 / 12)
    assert not caplog.records
    assert next(doubts_about_decord(path)) == "an edit list trims it"


def test_gap(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Over a gap the frame before it stays, at its true time also in AVI, and a warning says where the gap is."""
    times_s = evenly(10, 12) + evenly(10, 12, start_s=2.5)
    kinds: dict[str, dict[str, Any]] = {"a.mp4": {}, "a.avi": {"codec": "mpeg4", "options": {}}}
    for name, settings in kinds.items():
        caplog.clear()
        frames = by_pyav(write_video(tmp_path / name, times_s, **settings), 2.0)
        assert numbers(frames) == [0, 6, 9, 9, 9, 10, 16]
        assert (frames[3].pts_s, frames[3].shown_until_s) == pytest.approx((0.75, 2.5))
        assert "in 1 places, the longest from 0.75 s to 2.50 s" in one_warning(caplog)


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


@pytest.mark.parametrize(("name", "settings"), [("a.mkv", {}), ("a.webm", VP9), ("a.avi", MPEG4)])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_container_that_promises_more(
    decoder: Decoder, name: str, settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the head states more than the file holds, the true length comes out, and a warning names both."""
    path = write_video(tmp_path / name, evenly(36, 12), **settings)
    promise(path, duration_s=60, rate=12)
    frames = list(frames_on_grid(path, sample_fps=12.0, decoder=decoder))
    assert numbers(frames) == list(range(36))
    assert frames[-1].shown_until_s == pytest.approx(3.0, abs=0.002)
    assert one_warning(caplog) == f"{path}: shorter than stated; it ends at 3.00 s, the file states 60.00 s"


def test_images_own_their_pixels(tmp_path: Path) -> None:
    """Images are contiguous (H, W, 3) uint8, and a source frame that is picked twice is converted once."""
    frames = by_pyav(write_video(tmp_path / "a.mp4", evenly(4, 2), rate=2, rotation_deg=90), 4.0)
    assert all(frame.image.flags.c_contiguous and frame.image.dtype == np.uint8 for frame in frames)
    assert frames[0].image is frames[1].image
    assert frames[1].image is not frames[2].image
    assert np.abs(frames[4].image.astype(int) - numbered_picture(2, 120, 160)).mean() < 8


def test_streams(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Frames come while the file is still being read: the first one is there before the file's early end is met."""
    whole = write_video(tmp_path / "whole.mp4", evenly(60, 12), faststart=True)
    path = tmp_path / "a.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 8 // 10])
    grid = frames_on_grid(path, sample_fps=1.0, decoder="pyav")
    assert number_of(next(grid).image) == 0
    assert not caplog.records
    assert list(grid)
    assert caplog.records


def test_frames_shown_at(tmp_path: Path) -> None:
    """The picture of each time comes: repeated, between frames, before the start and behind the end."""
    path = write_video(tmp_path / "a.mp4", evenly(40, 12), rotation_deg=90)
    images = frames_shown_at(path, [-1.0, 0.0, 1.0, 1.01, 1.09, 3.32, 60.0, 61.0])
    assert [number_of(image) for image in images] == [0, 0, 12, 12, 13, 39, 39, 39]
    assert frames_shown_at(path, []) == []
    with pytest.raises(ValueError, match="ascend"):
        frames_shown_at(path, [1.0, 0.5])


def test_cut_off_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that breaks off gives every frame before the break, and a warning with the true and the stated end."""
    whole = write_video(tmp_path / "whole.mp4", evenly(60, 12), faststart=True)
    path = tmp_path / "kitchen.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with av.open(str(path)) as container:
        num_whole = sum(packet.size > 0 and not packet.is_corrupt for packet in container.demux(video=0))
    assert 10 < num_whole < 50

    assert list(doubts_about_decord(path)) != []
    frames = list(frames_on_grid(path, sample_fps=12.0, decoder="auto"))

    assert sorted(set(numbers(frames))) == sorted(numbers(frames))
    assert len(frames) == pytest.approx(num_whole, abs=2)  # a B-frame or two short, where their anchor came first
    assert f"{path}: 1 of {num_whole + 1} packets are damaged" in one_warning(caplog)
    assert f"it ends at {frames[-1].shown_until_s:.2f} s, the file states 5.00 s" in one_warning(caplog)


TRUNCATED: dict[str, tuple[str, dict[str, Any]]] = {
    "index in front": ("a.mp4", {"faststart": True}),
    "index at the end": ("a.mp4", {}),
    "HEVC": ("a.mp4", {**HEVC, "faststart": True}),
    "Matroska": ("a.mkv", {}),
    "VP9": ("a.webm", VP9),
    "AVI": ("a.avi", MPEG4),
    "MPEG-TS": ("a.ts", {}),
}


@pytest.mark.parametrize("kind", TRUNCATED)
def test_truncated_anywhere(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file cut off at any place gives its frames up to there, the last few perhaps damaged, or is unreadable."""
    name, settings = TRUNCATED[kind]
    whole = write_video(tmp_path / f"whole-{name}", evenly(60, 12), **settings).read_bytes()
    path = tmp_path / name
    nums_read = []
    for share in (0.001, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        for decoder in DECODERS:
            caplog.clear()
            try:
                frames = list(frames_on_grid(path, sample_fps=12.0, decoder=decoder))
            except UnreadableVideo:
                nums_read.append(0)
                continue
            read = [number_or_none(frame) for frame in frames]
            shown = [round(frame.pts_s * 12) for frame in frames]
            assert all(number in (None, k) for number, k in zip(read, shown, strict=True))
            # The last may lack their anchor: x265 makes up to four B-frames in a row, and puts them in a pyramid.
            assert read[:-8] == list(range(len(read) - 8)) or len(read) < 8
            nums_read.append(len(read))
            if kind != "MPEG-TS" and share < 0.9:
                assert "it ends at" in one_warning(caplog)
    assert nums_read == sorted(nums_read)
    assert nums_read[-1] >= 57  # an index is still there when its last bytes, a note on the encoder, are not
    assert any(nums_read[:-2]) == (kind != "index at the end")


FLIPPED: dict[str, tuple[str, dict[str, Any]]] = {
    "index in front": ("a.mp4", {"faststart": True}),
    "index at the end": ("a.mp4", {}),
    "open groups": ("a.mp4", {"options": OPEN_GOP}),
    "HEVC": ("a.mp4", {**HEVC, "options": {"x265-params": "log-level=error:keyint=12:scenecut=0"}}),
    "Matroska": ("a.mkv", {}),
    "VP9": ("a.webm", VP9),
    "MPEG-4 in AVI": ("a.avi", MPEG4),
    "H.264 in AVI": ("a.avi", {}),
}


def flipped(whole: Path, path: Path, generator: np.random.Generator) -> set[int]:
    """Write `path`: `whole` with a flipped bit in each of two packets. Which groups of twelve frames these are in."""
    written = bytearray(whole.read_bytes())
    with av.open(str(whole)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    hit = generator.choice(np.arange(1, len(packets)), size=2, replace=False)
    for number in hit:
        at = written.index(packets[number]) + generator.integers(4, len(packets[number]))
        written[at] ^= 1 << generator.integers(8)
    path.write_bytes(written)
    return {int(number) // 12 for number in hit}


@pytest.mark.parametrize("kind", FLIPPED)
def test_flipped_bits(kind: str, tmp_path: Path) -> None:
    """Flipped bits damage pictures around them, and no other: all others come at their times, bit for bit."""
    name, settings = FLIPPED[kind]
    whole = write_video(tmp_path / f"whole-{name}", evenly(120, 12), **settings)
    path = tmp_path / name
    intact = {decoder: list(frames_on_grid(whole, sample_fps=12.0, decoder=decoder)) for decoder in DECODERS}
    for seed in range(8):
        hit = flipped(whole, path, np.random.default_rng(seed))
        # A group's last pictures may lean on the next group's first, and its first on the one before.
        far = [k for k in range(120) if not {k // 12 - 1, k // 12, k // 12 + 1} & hit]
        assert len(far) >= 36
        for decoder in DECODERS:
            frames = list(frames_on_grid(path, sample_fps=12.0, decoder=decoder))
            assert [number_or_none(frames[k]) for k in far] == far, (seed, decoder, hit)
            assert [frames[k].pts_s for k in far] == pytest.approx([k / 12 for k in far], abs=0.001)
            assert all(np.array_equal(frames[k].image, intact[decoder][k].image) for k in far), (seed, decoder, hit)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.webm"])
def test_flipped_bits_anywhere(name: str, tmp_path: Path) -> None:
    """Bits flipped in heads and indices too end in frames or in `UnreadableVideo`: no crash, no hang, nothing else."""
    settings = {"a.avi": MPEG4, "a.webm": VP9}.get(name, {})
    whole = write_video(tmp_path / f"whole-{name}", evenly(24, 12), **settings).read_bytes()
    path = tmp_path / name
    for seed in range(30):
        generator = np.random.default_rng(seed)
        written = bytearray(whole)
        for at in generator.integers(min(len(written), 2000) if seed % 2 else len(written), size=5):
            written[at] ^= 1 << generator.integers(8)
        path.write_bytes(written)
        for decoder in DECODERS:
            with contextlib.suppress(UnreadableVideo):
                assert 1 <= len(list(frames_on_grid(path, sample_fps=2.0, decoder=decoder))) < 10_000


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_overwritten_bytes(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Overwritten bytes cost the frames around them; those before and far behind keep their times; a warning counts."""
    path = write_video(tmp_path / name, evenly(60, 12), faststart=name == "a.mp4")
    written = bytearray(path.read_bytes())
    middle = len(written) // 2
    written[middle : middle + 400] = b"\xa5" * 400
    path.write_bytes(written)

    frames = list(frames_on_grid(path, sample_fps=12.0, decoder="auto"))

    assert numbers(frames[:12]) == list(range(12))
    if name != "a.mkv":  # Matroska cannot find back within its one cluster
        assert numbers(frames[-10:]) == list(range(50, 60))
    assert caplog.records
    assert all(record.getMessage().startswith(f"{path}: ") for record in caplog.records)


def test_one_wrong_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A frame stamped far ahead by damage is left out, and takes none of the frames behind it along."""
    path = write_video(tmp_path / "a.mkv", evenly(60, 12), options={**CLOSED_GOP, "bf": "0"})
    written = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = bytes(next(packet for packet in container.demux(video=0) if packet.pts == 1667))
    at = written.index(packet) - 3  # a block's time, and its flags, go before its bytes
    struct.pack_into(">h", written, at, struct.unpack_from(">h", written, at)[0] + 9000)
    path.write_bytes(written)

    frames = by_pyav(path, 12.0)
    assert numbers(frames) == [k - (k == 20) for k in range(60)]
    assert "1 frames whose times do not fit were left out" in one_warning(caplog)


def test_no_pause_lasts_hours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Behind a gap of hours it is the clock that is wrong: the video ends before it, and a warning says so."""
    path = write_video(tmp_path / "a.mp4", evenly(10, 12) + evenly(10, 12, start_s=7200.0))
    assert numbers(by_pyav(path, 12.0)) == list(range(10))
    assert "10 frames whose times do not fit were left out, shorter than stated" in one_warning(caplog)


def unreadable(path: Path) -> str:
    with pytest.raises(UnreadableVideo) as caught:
        list(frames_on_grid(path, sample_fps=1.0, decoder="pyav"))
    for decoder in ("auto", "pyav", "decord"):
        with pytest.raises(UnreadableVideo):
            list(frames_on_grid(path, sample_fps=2.0, decoder=decoder))
    with pytest.raises(UnreadableVideo):
        frames_shown_at(path, [0.0])
    assert str(copy.copy(caught.value)) == str(caught.value)  # made again from its parts, as behind a process pool
    return str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    """A missing file and a folder are told apart."""
    path = tmp_path / "kitchen.mp4"
    assert unreadable(path) == f"{path}: cannot be read: not a file (found: nothing)"
    path.mkdir()
    assert unreadable(path) == f"{path}: cannot be read: not a file (found: a folder)"


def test_not_a_video(tmp_path: Path) -> None:
    """Empty files, texts, pictures and noise are refused by what they are, whatever they are called."""
    for name in ("a.mp4", "a.txt"):
        path = tmp_path / name
        path.write_bytes(b"")
        assert "the file is empty (found: 0 bytes)" in unreadable(path)
        path.write_text("Dear diary,\n" * 100, encoding="utf-8")
        assert "not a video file" in unreadable(path)
        assert "(found: text)" in unreadable(path)
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(range(256)) * 20)
    assert "(found: 5120 bytes of no known format)" in unreadable(path)
    playlist = tmp_path / "a.m3u8"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", encoding="utf-8")
    unreadable(playlist)


def test_no_index(tmp_path: Path) -> None:
    """An MP4 that broke off before its index was written cannot be read, and the sentence says so."""
    path = write_video(tmp_path / "a.mp4", evenly(24, 12))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "an MP4 whose index is missing or damaged" in unreadable(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.avi"])
def test_no_packet(name: str, tmp_path: Path) -> None:
    """A container that announces a video and holds not one packet of it is unreadable."""
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9" if name == "a.webm" else "mpeg4", rate=12)
        stream.width, stream.height = 64, 48
        container.start_encoding()
    assert path.stat().st_size > 100
    unreadable(path)


def test_no_decoder(tmp_path: Path) -> None:
    """A video in a code that nobody knows is unreadable, and said to be so."""
    path = write_video(tmp_path / "a.mp4", evenly(12, 12))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"free"))
    assert "no decoder for its video" in unreadable(path)


def test_cover_only(tmp_path: Path) -> None:
    """A cover picture alone is no video."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        add_cover(container)
    assert unreadable(path) == f"{path}: cannot be read: no video stream (found: cover art)"


def add_cover(container: Any) -> None:
    cover = container.add_stream("mjpeg", rate=1)
    cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
    cover.disposition = av.stream.Disposition.attached_pic
    container.mux(cover.encode(av.VideoFrame.from_ndarray(numbered_picture(7, 64, 48), format="rgb24")))


def test_sound_only(tmp_path: Path) -> None:
    """Sound without a picture is no video, and neither is sound with a cover picture."""
    path = write_sound(tmp_path / "a.mp4", 1.0)
    assert unreadable(path) == f"{path}: cannot be read: no video stream (found: audio)"

    covered = tmp_path / "b.mp4"
    with av.open(str(path)) as source, av.open(str(covered), "w") as target:
        sound = target.add_stream_from_template(source.streams.audio[0])
        add_cover(target)
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = sound
                target.mux(packet)
    assert "no video stream (found: audio, cover art)" in unreadable(covered)


def test_not_one_frame_decodes(tmp_path: Path) -> None:
    """A file that opens but whose every packet is damaged is unreadable."""
    path = write_video(tmp_path / "a.mp4", evenly(12, 12), faststart=True)
    written = path.read_bytes()
    pictures_at = written.index(b"mdat") + 4
    path.write_bytes(written[:pictures_at] + bytes(len(written) - pictures_at))
    assert "not one frame can be decoded" in unreadable(path)


def test_the_head_says_when_it_was_recorded(tmp_path: Path) -> None:
    """`creation_time` is in UTC, and None stands for a file that does not say; nothing is decoded for it."""
    recorded_at = datetime(2024, 5, 1, 9, 30, tzinfo=UTC)
    path = write_video(
        tmp_path / "a.mp4", evenly(24, 12), rotation_deg=90, pixel_aspect=Fraction(3, 2), recorded_at=recorded_at
    )
    assert read_recorded_at(path) == recorded_at
    assert by_pyav(path, 1.0)[0].image.shape == (240, 120, 3)
    assert read_recorded_at(write_video(tmp_path / "b.webm", evenly(4, 12), **VP9)) is None
    with pytest.raises(UnreadableVideo):
        read_recorded_at(tmp_path / "gone.mp4")


def test_apple_keeps_the_offset(tmp_path: Path) -> None:
    """Apple's own creation date, which has the offset of the place, goes before the one in UTC."""
    path = tmp_path / "a.mov"
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata["com.apple.quicktime.creationdate"] = "2024-05-01T11:30:00+0200"
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height = 64, 48
        container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_picture(0, 64, 48), format="rgb24")))
        container.mux(stream.encode())
    recorded_at = read_recorded_at(path)
    assert recorded_at is not None
    assert recorded_at.isoformat() == datetime(2024, 5, 1, 11, 30, tzinfo=timezone(timedelta(hours=2))).isoformat()


def test_values_are_checked(tmp_path: Path) -> None:
    """A rate that is no rate, and a turn that is no quarter, are refused where they are made."""
    with pytest.raises(ValueError, match="sample_fps"):
        frames_on_grid(tmp_path / "a.mp4", sample_fps=0, decoder="auto")
    with pytest.raises(ValueError, match="quarter_turns"):
        Orientation(quarter_turns=4)


def test_orientation_from_a_matrix() -> None:
    """Any matrix gives an orientation, one of zeros none; turns between quarters go to the nearest."""
    assert Orientation.from_matrix([0] * 9) == Orientation()
    one, nearly = 65536, 65000
    assert Orientation.from_matrix([300, nearly, 0, -nearly, 300, 0, 0, 0, 1 << 30]) == Orientation(quarter_turns=3)
    assert Orientation.from_matrix([-one, 0, 0, 0, one, 0, 0, 0, 1 << 30]) == Orientation(mirrored=True)


def test_the_decoders_provenance() -> None:
    """Only the libraries that a decoder uses are named: an upgrade of another one changes no key."""
    pyav, decord, auto = (decoder_provenance(decoder) for decoder in ("pyav", "decord", "auto"))
    assert set(pyav) == {"name", "version", "av", "libavcodec", "libavformat", "libswscale"}
    assert set(decord) == {"name", "version", "decord"}
    assert auto == pyav | decord | {"name": "auto"}
    assert pyav["av"] == av.__version__

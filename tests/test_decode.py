"""Decoding, on real files whose pictures say which frame they are."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from features.decode import UnreadableVideo, VideoInfo, frame_at, frames_on_grid, probe
from features.video import Frame
from tests.videos import CLOSED_GOP, OPEN_GOP, evenly, number_of, numbered_picture, write_sound, write_video

HEVC: dict[str, Any] = {"codec": "libx265", "options": {"x265-params": "log-level=error:keyint=12"}}
MPEG4: dict[str, Any] = {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}}
VP9: dict[str, Any] = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}
MILLISECOND = Fraction(1, 1000)

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "closed groups": ("a.mp4", {}),
    "full range": ("a.mp4", {"pix_fmt": "yuvj420p"}),
    "open groups": ("a.mp4", {"options": OPEN_GOP}),
    "10 bit": ("a.mp4", {"pix_fmt": "yuv420p10le"}),
    "HEVC": ("a.mp4", HEVC),
    "VP9": ("a.webm", VP9),
    "VP9, odd size": ("a.webm", {**VP9, "size": (163, 121)}),
    "Matroska": ("a.mkv", {}),
    "MPEG-4 in AVI": ("a.avi", MPEG4),
    "H.264 in AVI": ("a.avi", {}),
    "Motion JPEG": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}}),
    "MPEG-TS": ("a.ts", {}),
    "turned left": ("a.mp4", {"rotation_deg": 90}),
    "turned over": ("a.mp4", {"rotation_deg": 180}),
    "turned right": ("a.mp4", {"rotation_deg": 270}),
    "HEVC, turned": ("a.mp4", {**HEVC, "rotation_deg": 90}),
    "wide pixels": ("a.mp4", {"pixel_aspect": Fraction(4, 3)}),
    "wide pixels, turned": ("a.mp4", {"pixel_aspect": Fraction(4, 3), "rotation_deg": 90}),
}
DECORD_IS_RIGHT = ["closed groups", "full range", "turned left", "turned over", "turned right"]
DECORD_IS_RIGHT += ["wide pixels", "wide pixels, turned"]


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


def one_warning(caplog: pytest.LogCaptureFixture) -> str:
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    return caplog.records[0].getMessage()


@pytest.mark.parametrize("kind", KINDS)
def test_right_frames_of_every_kind(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the container and the codec, the frame at t is the one shown at t, upright; `auto` agrees."""
    name, settings = KINDS[kind]
    times_s = evenly(40, 12, start_s=5.0 if kind == "MPEG-TS" else 0.0)
    path = write_video(tmp_path / name, times_s, **settings)

    frames = by_pyav(path, 5.0)

    assert [frame.time_s for frame in frames] == [k / 5.0 for k in range(17)]  # 40 frames at 12 a second: 3.33 s
    assert numbers(frames) == [shown_at(times_s, frame.time_s) for frame in frames]
    assert [frame.pts_s for frame in frames] == pytest.approx([k / 12 for k in numbers(frames)], abs=0.001)
    assert [frame.shown_until_s for frame in frames] == pytest.approx(
        [(k + 1) / 12 for k in numbers(frames)], abs=0.001
    )
    assert numbers(list(frames_on_grid(path, sample_fps=5.0, decoder="auto"))) == numbers(frames)
    assert probe(path).decoder == ("decord" if kind in DECORD_IS_RIGHT else "pyav"), probe(path).decoder_reason
    assert not caplog.records


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_rate(suffix: str, tmp_path: Path) -> None:
    """At a variable rate frames are chosen by their time and never by their index."""
    times_s = uneven(40)
    path = write_video(tmp_path / f"a{suffix}", times_s, tick_s=MILLISECOND)
    for sample_fps in (4.0, 30.0):
        frames = by_pyav(path, sample_fps)
        assert numbers(frames) == [shown_at(times_s, frame.time_s) for frame in frames]
        assert frames[-1].time_s == pytest.approx(times_s[-1], abs=0.1 + 1 / sample_fps)


def test_grid_on_the_frames_own_clock(tmp_path: Path) -> None:
    """A grid at the video's own rate gives every frame once, though WebM rounds times to milliseconds."""
    assert numbers(by_pyav(write_video(tmp_path / "a.webm", evenly(40, 12), **VP9), 12.0)) == list(range(40))
    assert numbers(by_pyav(write_video(tmp_path / "a.mp4", evenly(40, 12)), 12.0)) == list(range(40))


@pytest.mark.parametrize(
    ("times_s", "settings"),
    [
        (evenly(48, 12), {}),
        (evenly(48, 12), {"options": {**CLOSED_GOP, "bf": "0"}}),
        (uneven(48), {"tick_s": MILLISECOND}),
        (evenly(24, 12), {"rotation_deg": 90}),
        (evenly(24, 12), {"pixel_aspect": Fraction(3, 4), "rotation_deg": 270}),
        (evenly(24, 12), {"size": (322, 242)}),
        (evenly(1, 12), {}),
    ],
)
def test_decord_and_pyav_agree(times_s: list[float], settings: dict[str, Any], tmp_path: Path) -> None:
    """Where `auto` takes decord, it gives what PyAV gives: the same times, the same pixels."""
    path = write_video(tmp_path / "a.mp4", times_s, **settings)
    assert probe(path).decoder == "decord", probe(path).decoder_reason
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
    assert (probe(path).decoder, probe(path).decoder_reason) == ("pyav", "an edit list trims it")


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


def test_one_frame(tmp_path: Path) -> None:
    """A video of one frame is shown for that frame's duration; its grid has at least t = 0."""
    path = write_video(tmp_path / "a.mp4", [0.0], rate=4)
    assert numbers(by_pyav(path, 2.0)) == [0]
    assert numbers(by_pyav(path, 8.0)) == [0, 0]
    assert by_pyav(path, 2.0)[0].shown_until_s == pytest.approx(0.25)


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


def test_frame_at(tmp_path: Path) -> None:
    """`frame_at` gives the picture of each time: repeated, between frames, before the start and behind the end."""
    path = write_video(tmp_path / "a.mp4", evenly(40, 12), rotation_deg=90)
    images = frame_at(path, [-1.0, 0.0, 1.0, 1.01, 1.09, 3.32, 60.0, 61.0])
    assert [number_of(image) for image in images] == [0, 0, 12, 12, 13, 39, 39, 39]
    assert frame_at(path, []) == []
    with pytest.raises(ValueError, match="ascend"):
        frame_at(path, [1.0, 0.5])


def test_cut_off_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that breaks off gives every frame before the break, and a warning with the true and the stated end."""
    whole = write_video(tmp_path / "whole.mp4", evenly(60, 12), faststart=True)
    path = tmp_path / "kitchen.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with av.open(str(path)) as container:
        num_whole = sum(packet.size > 0 and not packet.is_corrupt for packet in container.demux(video=0))
    assert 10 < num_whole < 50

    assert probe(path).decoder == "pyav"
    frames = list(frames_on_grid(path, sample_fps=12.0, decoder="auto"))

    assert sorted(set(numbers(frames))) == sorted(numbers(frames))
    assert len(frames) == pytest.approx(num_whole, abs=2)  # a B-frame or two short, where their anchor came first
    assert f"{path}: 1 of {num_whole + 1} packets failed" in one_warning(caplog)
    assert f"it ends at {frames[-1].shown_until_s:.2f} s, the file states 5.00 s" in one_warning(caplog)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_damage_in_the_middle(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Damaged bytes cost the frames around them; those before and far behind keep their times; a warning counts."""
    path = write_video(tmp_path / name, evenly(60, 12), faststart=name == "a.mp4")
    written = bytearray(path.read_bytes())
    middle = len(written) // 2
    written[middle : middle + 400] = b"\xa5" * 400
    path.write_bytes(written)

    frames = list(frames_on_grid(path, sample_fps=12.0, decoder="auto"))

    assert numbers(frames)[:12] == list(range(12))
    if name != "a.mkv":  # Matroska cannot find back within its one cluster
        assert numbers(frames)[-10:] == list(range(50, 60))
    assert caplog.records
    assert all(record.getMessage().startswith(f"{path}: ") for record in caplog.records)


def unreadable(path: Path) -> str:
    with pytest.raises(UnreadableVideo) as caught:
        probe(path)
    for decoder in ("auto", "pyav", "decord"):
        with pytest.raises(UnreadableVideo):
            list(frames_on_grid(path, sample_fps=2.0, decoder=decoder))
    with pytest.raises(UnreadableVideo):
        frame_at(path, [0.0])
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


def test_sound_only(tmp_path: Path) -> None:
    """Sound without a picture is no video, and neither is sound with a cover picture."""
    path = write_sound(tmp_path / "a.mp4", 1.0)
    assert unreadable(path) == f"{path}: cannot be read: no video stream (found: audio)"

    covered = tmp_path / "b.mp4"
    with av.open(str(path)) as source, av.open(str(covered), "w") as target:
        sound = target.add_stream_from_template(source.streams.audio[0])
        cover = target.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(numbered_picture(7, 64, 48), format="rgb24")
        target.mux(cover.encode(picture))
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


def test_probe(tmp_path: Path) -> None:
    """`probe` tells what will come out: the size upright with square pixels, and when it was recorded."""
    recorded_at = datetime(2024, 5, 1, 9, 30, tzinfo=UTC)
    path = write_video(
        tmp_path / "a.mp4", evenly(24, 12), rotation_deg=90, pixel_aspect=Fraction(3, 2), recorded_at=recorded_at
    )
    info = probe(path)
    assert (info.codec, info.width, info.height) == ("h264", 120, 240)
    assert (info.rotation_deg, info.pixel_aspect, info.stated_duration_s) == (90, 1.5, pytest.approx(2.0))
    assert info.recorded_at == recorded_at
    assert by_pyav(path, 1.0)[0].image.shape == (240, 120, 3)
    assert probe(write_video(tmp_path / "b.webm", evenly(4, 12), **VP9)).recorded_at is None


def test_apple_keeps_the_offset(tmp_path: Path) -> None:
    """Apple's own creation date, which has the offset of the place, goes before the one in UTC."""
    path = tmp_path / "a.mov"
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata["com.apple.quicktime.creationdate"] = "2024-05-01T11:30:00+0200"
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height = 64, 48
        container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_picture(0, 64, 48), format="rgb24")))
        container.mux(stream.encode())
    recorded_at = probe(path).recorded_at
    assert recorded_at is not None
    assert recorded_at.isoformat() == datetime(2024, 5, 1, 11, 30, tzinfo=timezone(timedelta(hours=2))).isoformat()


def test_values_are_checked(tmp_path: Path) -> None:
    """A rate that is no rate, and a recording time without its offset, are refused where they are made."""
    with pytest.raises(ValueError, match="sample_fps"):
        frames_on_grid(tmp_path / "a.mp4", sample_fps=0, decoder="auto")
    with pytest.raises(ValueError, match="offset"):
        VideoInfo("mp4", "h264", 4, 4, 0, 1.0, None, datetime(2024, 5, 1), "pyav", "")

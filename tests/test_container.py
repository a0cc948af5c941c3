"""Opening video files: those that cannot be read are refused for the right reason, and heads are read."""

from __future__ import annotations

import copy
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from features.decode.container import (
    UnreadableVideo,
    opened,
    pixel_aspect,
    stated_duration_s,
)
from features.decode.grid import frames_on_grid, frames_shown_at
from features.decode.orientation import Orientation
from tests.videos import evenly, numbered_picture, write_sound, write_video


def unreadable(path: Path) -> str:
    with pytest.raises(UnreadableVideo) as caught:
        list(frames_on_grid(path, sample_fps=1.0, decoder="pyav"))
    for decoder in ("auto", "pyav", "decord"):
        with pytest.raises(UnreadableVideo):
            list(frames_on_grid(path, sample_fps=2.0, decoder=decoder))
    with pytest.raises(UnreadableVideo):
        frames_shown_at(path, [0.0])
    assert str(copy.copy(caught.value)) == str(caught.value)  # copied from its parts, as across processes
    return str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    """A missing file and a folder are told apart."""
    path = tmp_path / "kitchen.mp4"
    assert unreadable(path) == f"{path}: cannot be read: not a file (found: nothing)"
    path.mkdir()
    assert unreadable(path) == f"{path}: cannot be read: not a file (found: a folder)"


def test_not_a_video(tmp_path: Path) -> None:
    """Empty files, text, pictures and noise are refused for what they hold, whatever they are called."""
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
    """An MP4 that was cut off before its index was written cannot be read, and the error says so."""
    path = write_video(tmp_path / "a.mp4", evenly(24, 12))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "an MP4 whose index is missing or damaged" in unreadable(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.avi"])
def test_no_packet(name: str, tmp_path: Path) -> None:
    """A container that declares a video stream but holds no packet of it is unreadable."""
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9" if name == "a.webm" else "mpeg4", rate=12)
        stream.width, stream.height = 64, 48
        container.start_encoding()
    assert path.stat().st_size > 100
    unreadable(path)


def test_no_decoder(tmp_path: Path) -> None:
    """A video in an unknown codec is unreadable, and the error says so."""
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


def test_what_the_head_states(tmp_path: Path) -> None:
    """The length, the shape of its pixels and which side is up."""
    path = write_video(tmp_path / "a.mp4", evenly(24, 12), rotation_deg=90, pixel_aspect=Fraction(3, 2))
    with opened(path) as (container, stream):
        assert (pixel_aspect(stream), stated_duration_s(container, stream)) == (1.5, pytest.approx(2.0))
        assert stream.codec_context.name == "h264"
        assert Orientation.of(next(container.decode(stream))) == Orientation(quarter_turns=1)
    assert next(frames_on_grid(path, sample_fps=1.0, decoder="pyav")).image.shape == (240, 120, 3)

"""Videos that are written: the same frames at the same times, in the same colours, with the sound."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from features.decode.container import UnreadableVideo
from features.decode.forward import decode_all, shown_frames
from features.decode.timeline import Shown
from features.encode import write_mp4
from features.video import Image
from tests.test_odd_files import write_with_sound
from tests.videos import evenly, number_of, uneven, write_video

MILLISECOND = Fraction(1, 1000)


def shown(path: Path) -> Iterator[Shown[Image]]:
    for frame in shown_frames(path, decode_all):
        yield Shown(frame.pts_s, frame.until_s, frame.picture())


def sound_times_s(path: Path) -> list[float]:
    """When each packet of the sound begins, from the first shown frame."""
    with av.open(str(path)) as container:
        start_s = min(
            float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.pts is not None
        )
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        return [
            float(packet.pts * packet.time_base) - start_s
            for packet in container.demux(audio=0)
            if packet.pts is not None and packet.size
        ]


@pytest.mark.parametrize(
    ("name", "times_s", "more"),
    [
        ("even.mp4", evenly(30, 30), {"rate": 30}),
        ("uneven.mp4", uneven(30), {"tick_s": MILLISECOND}),
        ("pause.mkv", [0.0, 0.5, 9.0, 9.5], {"tick_s": MILLISECOND}),
        ("late.mp4", evenly(12, 12, start_s=7.25), {"tick_s": MILLISECOND}),
        ("turned.mov", evenly(12, 12), {"rotation_deg": 90}),
        ("wide.mp4", evenly(12, 12), {"pixel_aspect": Fraction(4, 3)}),
        ("odd.avi", evenly(12, 12), {"codec": "mjpeg", "size": (161, 121), "pix_fmt": "yuvj420p", "options": {}}),
    ],
)
def test_frames_keep_their_times_and_colours(
    name: str, times_s: list[float], more: dict[str, Any], tmp_path: Path
) -> None:
    """As many as there were, each to a millisecond, upright, by their numbers; an odd size grows by a pixel."""
    source = list(shown(write_video(tmp_path / name, times_s, **more)))
    assert write_mp4(tmp_path / "out.mp4", source) == ""
    written = list(shown(tmp_path / "out.mp4"))
    assert [number_of(frame.picture) for frame in written] == list(range(len(times_s)))
    for frame, before in zip(written, source, strict=True):
        assert frame.pts_s == pytest.approx(before.pts_s, abs=1e-3)
        assert frame.until_s == pytest.approx(before.until_s, abs=1e-3)
        height, width = before.picture.shape[:2]
        assert frame.picture.shape[:2] == (height + height % 2, width + width % 2)
        assert np.abs(frame.picture[:height, :width].astype(int) - before.picture).mean() < 4
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".partial"] == []


def test_without_x264_the_times_and_colours_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MPEG-4, which every build of FFmpeg has."""
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    source = list(shown(write_video(tmp_path / "a.mp4", uneven(30), tick_s=MILLISECOND)))
    write_mp4(tmp_path / "out.mp4", source)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    written = list(shown(tmp_path / "out.mp4"))
    assert [frame.pts_s for frame in written] == pytest.approx([frame.pts_s for frame in source], abs=1e-3)
    assert [number_of(frame.picture) for frame in written] == list(range(30))
    for frame, before in zip(written, source, strict=True):
        assert np.abs(frame.picture.astype(int) - before.picture).mean() < 5


def test_the_same_pictures_give_the_same_bytes(tmp_path: Path) -> None:
    """Nothing in the file says when it was written."""
    video = write_with_sound(tmp_path / "a.mp4", (0.0, 2.0), (0.0, 2.0))
    for name in ("one.mp4", "two.mp4"):
        write_mp4(tmp_path / name, shown(video), sound_of=video)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
@pytest.mark.parametrize(
    ("sound_s", "expected_s"),
    [((0.0, 8.0), (0.0, 5.0)), ((3.0, 12.0), (0.0, 5.0)), ((5.0, 6.0), (2.0, 3.0)), ((0.0, 2.0), None)],
)
def test_sound_stays_with_its_picture(
    name: str, sound_s: tuple[float, float], expected_s: tuple[float, float] | None, tmp_path: Path
) -> None:
    """A picture that lasts from second 3 to 8: sound before it and after it is cut off, none is moved."""
    video = write_with_sound(tmp_path / name, (3.0, 8.0), sound_s)
    assert write_mp4(tmp_path / "out.mp4", shown(video), sound_of=video) == ""
    assert [number_of(frame.picture) for frame in shown(tmp_path / "out.mp4")] == list(range(60))
    times_s = sound_times_s(tmp_path / "out.mp4")
    before_s = [time_s for time_s in sound_times_s(video) if 0 <= time_s < 5]
    assert times_s == pytest.approx(before_s, abs=2e-3)
    if expected_s is None:
        assert times_s == []
    else:
        assert (times_s[0], times_s[-1]) == pytest.approx(expected_s, abs=0.26)


def test_sound_that_cannot_be_copied_is_told(tmp_path: Path) -> None:
    """By its codec, or by the container whose clock may start anew; without sound there is nothing to tell."""
    stream = write_with_sound(tmp_path / "a.ts", (0.0, 2.0), (0.0, 2.0))
    assert write_mp4(tmp_path / "of_ts.mp4", shown(stream), sound_of=stream) == (
        "its sound is left out: times of sound in mpegts are not known to fit those of the pictures"
    )
    film = tmp_path / "a.mkv"
    with av.open(str(film), "w") as container:
        picture = container.add_stream("libx264", rate=12)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        voice = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        for packet in [*picture.encode(frame), *picture.encode(), *voice.encode(sound), *voice.encode()]:
            container.mux(packet)
    assert write_mp4(tmp_path / "of_pcm.mp4", shown(film), sound_of=film) == (
        "its sound is left out: pcm_s16le in an MP4 is not known to most players"
    )
    for name in ("of_ts.mp4", "of_pcm.mp4"):
        with av.open(str(tmp_path / name)) as container:
            assert [stream.type for stream in container.streams] == ["video"]
    silent = write_video(tmp_path / "silent.mp4", evenly(4, 4))
    assert write_mp4(tmp_path / "of_silent.mp4", shown(silent), sound_of=silent) == ""


@pytest.mark.parametrize(
    "times_s",
    [[0.0], [0.0, 1e-7, 2e-7], evenly(50, 240), [0.0, 86_400.0, 86_401.0]],
    ids=["one", "at once", "slow motion", "a day's pause"],
)
def test_any_times_can_be_written(times_s: list[float], tmp_path: Path) -> None:
    """Frames that share a time come one tick after the other; a long pause is kept, its picture repeated within."""
    picture = np.full((48, 64, 3), 200, np.uint8)
    ends_s = [*times_s[1:], times_s[-1] + 0.5]
    write_mp4(tmp_path / "out.mp4", [Shown(*span, picture) for span in zip(times_s, ends_s, strict=True)])
    written = list(shown(tmp_path / "out.mp4"))
    found_s = [frame.pts_s for frame in written if not 1 < frame.pts_s < 86_399]
    assert found_s == pytest.approx(times_s, abs=1e-3)
    assert len(set(found_s)) == len(times_s)
    assert written[-1].until_s == pytest.approx(ends_s[-1], abs=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (17, 3), (16, 4096)])
def test_any_size_can_be_written(size: tuple[int, int], tmp_path: Path) -> None:
    """The smallest and the flattest."""
    write_mp4(tmp_path / "out.mp4", [Shown(0.0, 1.0, np.full((*size, 3), 200, np.uint8))])
    (frame,) = shown(tmp_path / "out.mp4")
    assert frame.picture.shape[:2] == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert np.abs(frame.picture.astype(int) - 200).max() <= 2


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    """While pictures come, for no picture, or for one of another size: no part is left."""
    (tmp_path / "out.mp4").write_bytes(b"old")
    video = write_video(tmp_path / "a.mp4", evenly(24, 12))

    def breaks() -> Iterator[Shown[Image]]:
        yield from list(shown(video))[:20]
        raise UnreadableVideo(video, "decoding it failed", "nothing")

    black = np.zeros((48, 64, 3), np.uint8)
    with pytest.raises(UnreadableVideo, match="decoding it failed"):
        write_mp4(tmp_path / "out.mp4", breaks(), sound_of=video)
    with pytest.raises(ValueError, match="no pictures"):
        write_mp4(tmp_path / "out.mp4", [])
    with pytest.raises(ValueError, match="64x50 does not fit a video of 64x48"):
        write_mp4(tmp_path / "out.mp4", [Shown(0, 1, black), Shown(1, 2, np.zeros((50, 64, 3), np.uint8))])
    assert {path.name for path in tmp_path.iterdir()} == {"out.mp4", "a.mp4"}
    assert (tmp_path / "out.mp4").read_bytes() == b"old"


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    """The error is the system's, with the partial file's name; that file is deleted."""
    video = write_video(tmp_path / "a.mp4", evenly(48, 12))
    pictures = list(shown(video))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            write_mp4(tmp_path / "out.mp4", pictures)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4"}

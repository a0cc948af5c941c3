"""Files that are no plain video: photos, playlists, sound that starts first, interlaced pictures, odd side data."""

from __future__ import annotations

import io
import logging
import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as Pictures

from features.clips import ClipReader, Source
from features.decode.container import UnreadableVideo, opened, stated_duration_s
from features.decode.grid import Decoder, frames_on_grid, frames_shown_at
from features.preprocess import Preprocessing
from features.video import Image, Views, WindowPlan
from tests.videos import CLOSED_GOP, evenly, number_of, numbered_picture, numbers, write_video

DECODERS: tuple[Decoder, ...] = ("auto", "pyav", "decord")


def refusal(path: Path) -> str:
    """The one sentence with which every way of reading refuses the file."""
    with pytest.raises(UnreadableVideo) as caught:
        frames_shown_at(path, [0.0])
    for decoder in DECODERS:
        with pytest.raises(UnreadableVideo) as again:
            list(frames_on_grid(path, sample_fps=2.0, decoder=decoder))
        assert str(again.value) == str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "avif", "tiff", "bmp", "ico", "gif", "jp2", "ppm", "mpo"])
def test_photo(kind: str, tmp_path: Path) -> None:
    """A photo is no video, whatever it is called."""
    picture = Pictures.fromarray(numbered_picture(0, 160, 120))
    for name in (f"a.{kind}", "a.mp4", f"a%d.{kind}"):
        path = tmp_path / name
        file = io.BytesIO()
        picture.save(file, {"jpg": "jpeg", "jp2": "jpeg2000"}.get(kind, kind))
        path.write_bytes(file.getvalue())
        assert f"{path}: cannot be read: a photo, not a video (found: " in refusal(path)


def test_heic_photo(tmp_path: Path) -> None:
    """An HEIC photo, whose tiles are streams of one picture, is not a video of its top left tile."""
    tiles = write_video(
        tmp_path / "tiles.mp4",
        evenly(2, 1),
        rate=1,
        size=(128, 128),
        codec="libx265",
        options={"x265-params": "log-level=error:keyint=1"},
    )
    with av.open(str(tiles)) as container:
        head = container.streams.video[0].codec_context.extradata
        pictures = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    path = tmp_path / "IMG_0001.heic"
    path.write_bytes(heic(head or b"", pictures, side=128))
    with av.open(str(path)) as container:  # the file is whole: FFmpeg gives a tile
        assert next(container.decode(video=0)).width == 128
    assert refusal(path) == f"{path}: cannot be read: a photo, not a video (found: heic)"


def test_animation_is_a_video(tmp_path: Path) -> None:
    """An animated AVIF shows all its pictures."""
    pictures = [Pictures.fromarray(numbered_picture(k, 160, 120)) for k in range(6)]
    path = tmp_path / "a.avif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, quality=90)
    assert numbers(list(frames_on_grid(path, sample_fps=10.0, decoder="auto"))) == list(range(6))


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile other.ts\n",
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-VERSION:3\n#EXTINF:4,\nother.ts\n#EXT-X-ENDLIST\n",
    "DASH": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT4S" profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period><AdaptationSet '
    'mimeType="video/mp2t"><Representation id="1" bandwidth="1"><BaseURL>other.ts</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("name", ["x.mp4", "x.ffconcat", "x.m3u8", "x.mpd"])
def test_playlist(kind: str, name: str, tmp_path: Path) -> None:
    """Text that names a neighbour plays nothing, whatever it is called."""
    write_video(tmp_path / "other.ts", evenly(48, 12))
    path = tmp_path / name
    path.write_text(PLAYLISTS[kind], encoding="utf-8")
    assert "not a video file" in refusal(path)
    assert "(found: a playlist" in refusal(path)


def test_numbered_pictures(tmp_path: Path) -> None:
    """A name with a pattern in it is a name: the files that fit the pattern are not played."""
    for number in range(3):
        Pictures.fromarray(numbered_picture(number, 160, 120)).save(tmp_path / f"img{number}.png")
    (tmp_path / "img%d.png").write_text("text", encoding="utf-8")
    assert "not a video file (found: text)" in refusal(tmp_path / "img%d.png")


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no colon in a name")
@pytest.mark.parametrize("decoder", DECODERS)
def test_name_that_reads_as_a_protocol(decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative name with a colon is the name of a file, for decord as well."""
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "other.mp4", evenly(12, 12))
    name = Path("concat:other.mp4")
    write_video(tmp_path / "new.mp4", [0.0] + [2.0 + k for k in range(3)], rate=1).rename(name)
    frames = list(frames_on_grid(name, sample_fps=1.0, decoder=decoder))
    assert [frame.pts_s for frame in frames] == [0, 2, 3, 4]  # what lies within the pause of 2 s is no footage


def test_no_permission(tmp_path: Path) -> None:
    """A file that may not be read is refused for that."""
    path = write_video(tmp_path / "a.mp4", evenly(12, 12))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    assert refusal(path) == f"{path}: cannot be read: cannot be opened (found: Permission denied)"


def write_with_sound(
    path: Path, picture_s: tuple[float, float], sound_s: tuple[float, float], options: dict[str, str] | None = None
) -> Path:
    """A file whose picture and sound each last from one time to the other."""
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream("libx264", rate=12, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        audio = container.add_stream("aac", rate=8000, layout="mono")
        packets = []
        for number in range(round((picture_s[1] - picture_s[0]) * 12)):
            frame = av.VideoFrame.from_ndarray(numbered_picture(number, 160, 120), format="rgb24")
            frame.pts, frame.time_base = number + round(picture_s[0] * 12), Fraction(1, 12)
            packets += video.encode(frame)
        silence = np.zeros((1, 1024), dtype=np.float32)
        for k in range(round((sound_s[1] - sound_s[0]) * 8000 / 1024)):
            sound = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            sound.sample_rate, sound.time_base = 8000, Fraction(1, 8000)
            sound.pts = k * 1024 + round(sound_s[0] * 8000)
            packets += audio.encode(sound)
        for packet in sorted([*packets, *video.encode(), *audio.encode()], key=lambda p: (p.dts or 0) * p.time_base):
            container.mux(packet)
    return path


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov", "a.ts", "a.webm.mkv"])
@pytest.mark.parametrize("sound_s", [(0.0, 8.0), (3.0, 12.0), (0.0, 12.0), (5.0, 6.0)])
def test_sound_beside_the_picture(
    name: str, sound_s: tuple[float, float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Sound that starts before the picture or outlasts it makes no picture shorter than stated."""
    path = write_with_sound(tmp_path / name, (3.0, 8.0), sound_s)
    frames = list(frames_on_grid(path, sample_fps=4.0, decoder="pyav"))
    assert numbers(frames) == list(range(0, 60, 3))
    with opened(path) as (container, stream):
        assert stated_duration_s(container, stream) == pytest.approx(5.0, abs=0.3)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def interlaced(path: Path, num_frames: int, *, top_first: bool, codec: str = "libx264") -> Path:
    """A bright block that moves 8 pixels a field over a dark ground, each frame woven of two fields."""
    with av.open(str(path), "w") as container:
        field_order = "tff=1" if top_first else "bff=1"
        stream = container.add_stream(codec, rate=25, options={"x264-params": field_order, "crf": "1"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(woven(number, top_first=top_first), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def at_field(field: int) -> Image:
    picture = np.full((240, 320, 3), 40, np.uint8)
    picture[60:180, 20 + 8 * field : 100 + 8 * field] = 210
    return picture


def woven(number: int, *, top_first: bool) -> Image:
    picture = at_field(2 * number)
    second = slice(1, None, 2) if top_first else slice(0, None, 2)
    picture[second] = at_field(2 * number + 1)[second]
    return picture


@pytest.mark.parametrize("top_first", [True, False])
@pytest.mark.parametrize("decoder", ["pyav", "auto"])
def test_interlaced(top_first: bool, decoder: Decoder, tmp_path: Path) -> None:
    """An interlaced frame comes out as its top field saw the scene, without the comb of the other."""
    path = interlaced(tmp_path / "a.mp4", 8, top_first=top_first)
    for number, frame in enumerate(frames_on_grid(path, sample_fps=25.0, decoder=decoder)):
        scene = at_field(2 * number + (not top_first)).astype(int)
        num_combed = (np.abs(woven(number, top_first=top_first) - scene) > 20).sum()
        assert (np.abs(frame.image - scene) > 20).sum() < num_combed / 3, number


def test_progressive_is_left_alone(tmp_path: Path) -> None:
    """A frame that is not interlaced keeps every line, fine ones too."""
    lines = np.repeat(np.where(np.arange(240) % 2, 200, 60).astype(np.uint8)[:, None, None], 320, axis=1)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.repeat(lines, 3, axis=2)), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode()])
    image = frames_shown_at(path, [0.0])[0]
    assert np.abs(image.astype(int) - lines).mean() < 6


EXIF_TURNS = {1: 0, 3: 2, 6: 3, 8: 1}
"""Counterclockwise quarter turns of EXIF's orientations that do not mirror."""


@pytest.mark.parametrize("orientations", [[1] * 6, [3] * 6, [6] * 6, [8] * 6, [1, 3, 6, 8, 6, 1]])
def test_side_data_that_pyav_does_not_know(orientations: list[int], tmp_path: Path) -> None:
    """Motion JPEG with EXIF, whose side data is of a type unknown to PyAV, is read, each picture upright."""
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=12)
        stream.width, stream.height, stream.pix_fmt = 160, 160, "yuvj420p"
        container.start_encoding()
        for number, orientation in enumerate(orientations):
            exif, file = Pictures.Exif(), io.BytesIO()
            exif[0x0112] = orientation
            stored = np.ascontiguousarray(np.rot90(numbered_picture(number, 160, 160), -EXIF_TURNS[orientation]))
            Pictures.fromarray(stored).save(file, "jpeg", quality=95, exif=exif)
            packet = av.Packet(file.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 12)
            packet.is_keyframe = True
            container.mux(packet)
    assert numbers(list(frames_on_grid(path, sample_fps=12.0, decoder="auto"))) == list(range(6))


class Broken(Preprocessing):
    """A step that meets something that nobody foresaw."""

    def resize_crop(self, image: Image, views: Views = "center") -> Image:
        if number_of(image) == 12:
            raise ArithmeticError("an odd\nnumber")
        return super().resize_crop(image, views)


def test_any_error_is_that_files_failure(tmp_path: Path) -> None:
    """An error of any type while a file is read names the file, and what had come before is kept."""
    path = write_video(tmp_path / "a.mp4", evenly(24, 12), options=CLOSED_GOP)
    preprocessing = Broken(crop_size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    reader = ClipReader(WindowPlan(2, 4.0, 0.25, 1.0), preprocessing, "pyav")
    clips = reader.clips(Source("a", path))
    assert next(clips).window == 0
    with pytest.raises(UnreadableVideo, match=r"a\.mp4: .*\(found: ArithmeticError: an odd number\)$"):
        list(clips)


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, *parts: bytes, version: int = 0) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]), *parts)


def heic(head: bytes, tiles: list[bytes], side: int) -> bytes:
    """An HEIC photo: a row of square HEVC tiles (items 1 …), and the grid that joins them (the last item)."""
    grid = len(tiles) + 1
    kinds = [(number, b"hvc1") for number in range(1, grid)] + [(grid, b"grid")]
    infos = [full(b"infe", struct.pack(">HH", number, 0), kind, b"\0", version=2) for number, kind in kinds]
    grid_data = struct.pack(">BBBBHH", 0, 0, 0, len(tiles) - 1, side * len(tiles), side)
    datas = [*tiles, grid_data]
    uses = [struct.pack(">HBBB", number, 2, 0x81, 2) for number in range(1, grid)] + [struct.pack(">HBB", grid, 1, 3)]
    properties = box(
        b"iprp",
        box(
            b"ipco",
            box(b"hvcC", head),
            full(b"ispe", struct.pack(">II", side, side)),
            full(b"ispe", struct.pack(">II", side * len(tiles), side)),
        ),
        full(b"ipma", struct.pack(">I", grid), *uses),
    )

    def meta(first_at: int) -> bytes:
        offsets = [first_at + sum(map(len, datas[:k])) for k in range(grid)]
        places = [
            struct.pack(">HHHII", k + 1, 0, 1, at, len(data))
            for k, (at, data) in enumerate(zip(offsets, datas, strict=True))
        ]
        return full(
            b"meta",
            full(b"hdlr", bytes(4), b"pict", bytes(13)),
            full(b"pitm", struct.pack(">H", grid)),
            full(b"iloc", bytes([0x44, 0]), struct.pack(">H", grid), *places),
            full(b"iinf", struct.pack(">H", grid), *infos),
            full(b"iref", box(b"dimg", struct.pack(f">HH{len(tiles)}H", grid, len(tiles), *range(1, grid)))),
            properties,
        )

    kind = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    return kind + meta(len(kind) + len(meta(0)) + 8) + box(b"mdat", *datas)

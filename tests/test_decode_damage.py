"""Decoding of damaged files: what is intact comes at its time, and a warning counts what is not."""

from __future__ import annotations

import contextlib
import logging
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from features.decode.container import UnreadableVideo
from features.decode.grid import Decoder, frames_on_grid
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
    numbers,
    promise,
    same_pictures,
    write_video,
)

DECODERS: tuple[Decoder, ...] = ("pyav", "auto")


def by_pyav(path: Path, sample_fps: float) -> list[Frame]:
    return list(frames_on_grid(path, sample_fps=sample_fps, decoder="pyav"))


def number_or_none(frame: Frame) -> int | None:
    """The frame's number, or None for a damaged picture."""
    try:
        return number_of(frame.image)
    except ValueError:
        return None


def one_warning(caplog: pytest.LogCaptureFixture) -> str:
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    return caplog.records[0].getMessage()


@pytest.mark.parametrize(("name", "settings"), [("a.mkv", {}), ("a.webm", VP9), ("a.avi", MPEG4)])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_container_that_promises_more(
    decoder: Decoder, name: str, settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the head states more than the file holds, the last frame has the true end; a warning names both."""
    path = write_video(tmp_path / name, evenly(36, 12), **settings)
    promise(path, duration_s=60, rate=12)
    frames = list(frames_on_grid(path, sample_fps=12.0, decoder=decoder))
    assert numbers(frames) == list(range(36))
    assert frames[-1].shown_until_s == pytest.approx(3.0, abs=0.002)
    assert one_warning(caplog) == f"{path}: shorter than stated; it ends at 3.00 s, the file states 60.00 s"


@pytest.mark.parametrize("picks_it", [False, True])
def test_damage_in_skipped_frames(picks_it: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged frame goes unseen if it is skipped; if the grid picks it, a warning is logged."""
    options = {"g": "12", "bf": "2", "x264-params": "scenecut=0:b-adapt=0:b-pyramid=none"}
    path = write_video(tmp_path / "a.mp4", evenly(60, 12), options=options)
    intact = by_pyav(path, 12.0 if picks_it else 1.0)
    with av.open(str(path)) as container:  # frame 31 is a non-reference frame, and not on a full second
        packets = container.demux(video=0)
        (packet,) = (bytes(p) for p in packets if p.pts is not None and p.pts * p.time_base == Fraction(31, 12))
    path.write_bytes(path.read_bytes().replace(packet, packet[:8] + b"\xa5" * 12 + packet[20:]))

    frames = by_pyav(path, 12.0 if picks_it else 1.0)

    assert bool(caplog.records) == picks_it
    assert [frame.time_s for frame in frames] == [frame.time_s for frame in intact]
    for ours, theirs in zip(frames, intact, strict=True):
        assert np.array_equal(ours.image, theirs.image) or round(ours.time_s * 12) == 31


def test_damage_stops_skipping(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After a damaged key frame all is decoded: a sparse grid gives the pictures and the warning of a full one."""
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


def test_cut_off_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that was cut off gives every frame before the cut, and a warning with the true and the stated end."""
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
    """A file cut off anywhere gives its frames up to there, the last few perhaps damaged, or is unreadable."""
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
            # The last may lack a reference frame: x265 makes up to four B-frames in a row, in a pyramid.
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
    """Write `whole` to `path` with one bit flipped in each of two packets; returns their groups of twelve frames."""
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
    """Flipped bits damage the pictures around them only: all others come at their times, bit for bit."""
    name, settings = FLIPPED[kind]
    whole = write_video(tmp_path / f"whole-{name}", evenly(120, 12), **settings)
    path = tmp_path / name
    intact = {decoder: list(frames_on_grid(whole, sample_fps=12.0, decoder=decoder)) for decoder in DECODERS}
    for seed in range(8):
        hit = flipped(whole, path, np.random.default_rng(seed))
        # A group's last pictures may refer to the next group's first, and its first to the group before.
        far = [k for k in range(120) if not {k // 12 - 1, k // 12, k // 12 + 1} & hit]
        assert len(far) >= 36
        for decoder in DECODERS:
            frames = list(frames_on_grid(path, sample_fps=12.0, decoder=decoder))
            assert [number_or_none(frames[k]) for k in far] == far, (seed, decoder, hit)
            assert [frames[k].pts_s for k in far] == pytest.approx([k / 12 for k in far], abs=0.001)
            assert all(np.array_equal(frames[k].image, intact[decoder][k].image) for k in far), (seed, decoder, hit)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.webm"])
def test_flipped_bits_anywhere(name: str, tmp_path: Path) -> None:
    """Bits flipped anywhere, heads and indices included, give frames or `UnreadableVideo`: no crash and no hang."""
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
    """Overwritten bytes cost the frames around them; those before and long after keep their times; warnings come."""
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
    """A frame stamped far ahead by damage is left out; the frames after it are kept."""
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

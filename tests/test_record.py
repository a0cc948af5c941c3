"""`diary record`: files of a few minutes, complete and joined, from made cameras and from a stream on loopback."""

from __future__ import annotations

import http.server
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from features.decode.recorded_at import read_clock_tags
from pipeline.capture.cameras import NoCamera, find_camera, v4l2_cameras
from pipeline.cli.__main__ import main
from reports.diary.file_names import time_in_name
from tests.model_folders import make_model_folder
from tests.videos import CLOSED_GOP, HEVC, MPEG4, OPEN_GOP, evenly, number_of, numbered_picture, uneven, write_video

REALTIME = "lavfi:testsrc2=size=160x120:rate=20,realtime"


def record(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["record", *map(str, arguments)])


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.mp4"))


def started(path: Path) -> datetime:
    """When a file begins by its metadata, to the millisecond."""
    return datetime.fromisoformat(read_clock_tags(path).times["com.apple.quicktime.creationdate"])


def frames_of(path: Path) -> list[tuple[float, Any]]:
    """The pictures of a file, with their stamps in seconds from the first one."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert all(frame.time is not None for frame in frames)
    return [((frame.time or 0) - (frames[0].time or 0), frame.to_ndarray(format="rgb24")) for frame in frames]


def wait_for(condition: Any, seconds: float = 20) -> None:
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s, "it did not come"
        time.sleep(0.02)


def test_files_join_without_a_frame_lost_or_doubled(tmp_path: Path) -> None:
    """Pictures carry their numbers; a varying rate stays as it is, in each file and over all of them."""
    times_s = uneven(60)
    film = write_video(tmp_path / "film.mkv", times_s, size=(64, 48), tick_s=Fraction(1, 1000))
    out = tmp_path / "out"
    done = record("--camera", f"lavfi:movie={film}", "-o", out, "--minutes", 1.5 / 60, "--retry-s", 0)
    assert done.exit_code == 1
    assert "the stream ended; it did not come back within 0 s" in done.output
    paths = files_in(out)
    assert len(paths) == 4
    first = started(paths[0])
    numbers, stamps_s = [], []
    for path in paths:
        frames = frames_of(path)
        numbers += [number_of(image) for _, image in frames]
        stamps_s += [(started(path) - first).total_seconds() + stamp_s for stamp_s, _ in frames]
    assert all(1.5 <= (started(b) - started(a)).total_seconds() < 1.7 for a, b in pairwise(paths))
    assert numbers == list(range(60))
    np.testing.assert_allclose(stamps_s, times_s, atol=0.002)
    assert [path.name for path in (out / ".recording").glob("*.mp4")] == []


def test_a_file_says_when_it_begins_and_is_private(tmp_path: Path) -> None:
    """In its name, with the offset of the place, and in its metadata; both are the same instant."""
    before = datetime.now(UTC).replace(microsecond=0)
    record("--camera", "lavfi:testsrc2=size=64x48:rate=10:duration=1", "-o", tmp_path / "out", "--retry-s", 0)
    (path,) = files_in(tmp_path / "out")
    named = time_in_name(path.name)
    assert named is not None
    assert named.tzinfo is not None
    assert before <= named <= datetime.now(UTC)
    assert timedelta(0) <= started(path) - named < timedelta(seconds=1)
    assert datetime.fromisoformat(read_clock_tags(path).times["creation_time"]) - named < timedelta(seconds=1)
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("2026-03-14T08-02-11+0100.mp4", "2026-03-14T08:02:11+01:00"),
        ("2026-03-14T08-02-11-0330.mp4", "2026-03-14T08:02:11-03:30"),
        ("2026-03-14T08-02-11+0000-2.mp4", "2026-03-14T08:02:11+00:00"),
    ],
)
def test_names_are_read_back_as_the_same_instant(name: str, moment: str) -> None:
    """Offsets of quarters and below zero, and a file that shares its second with another."""
    assert time_in_name(name) == datetime.fromisoformat(moment)


def test_a_disk_without_room_ends_it_in_a_sentence(tmp_path: Path) -> None:
    """Before a file is begun."""
    done = record("--camera", REALTIME, "-o", tmp_path, "--min-free-gb", 10**6)
    assert done.exit_code == 1
    assert "are to stay free: the recording ends here" in done.output
    assert files_in(tmp_path) == []


def test_cameras_are_known_by_name_number_device_and_address(tmp_path: Path) -> None:
    """Nodes of metadata are left out, ten comes after two, and a password is not shown."""
    for node, name, index in (("video10", "Desk", 0), ("video2", "Hall: USB", 0), ("video3", "Hall: USB", 1)):
        (tmp_path / node).mkdir()
        (tmp_path / node / "name").write_text(f"{name}\n")
        (tmp_path / node / "index").write_text(f"{index}\n")
    cameras = v4l2_cameras(tmp_path)
    assert [(camera.name, camera.url) for camera in cameras] == [("Hall: USB", "/dev/video2"), ("Desk", "/dev/video10")]
    hall = find_camera("rtsp://me:secret@10.0.0.7/stream?x=a@b")
    assert hall.name == "rtsp://…@10.0.0.7/stream?x=a@b"
    assert "secret" not in repr(hall)
    assert hall.options["rtsp_transport"] == "tcp"
    assert "file" not in hall.options["protocol_whitelist"]
    with pytest.raises(NoCamera, match=r"file:// is no address of a camera: wanted one of rtsp"):
        find_camera("file:///etc/passwd")
    with pytest.raises(NoCamera, match=r"no camera 'Attic' is connected \(found: "):
        find_camera("Attic")


class Stream(http.server.BaseHTTPRequestHandler):
    """Answers each request with the next of the server's `answers`, and then with 503."""

    def do_GET(self) -> None:
        answers: list[bytes | Iterator[bytes]] = self.server.answers  # type: ignore[attr-defined]
        if not answers:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", self.server.content_type)  # type: ignore[attr-defined]
        self.end_headers()
        answer = answers.pop(0)
        for part in [answer] if isinstance(answer, bytes) else answer:
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@contextmanager
def serving(*answers: bytes | Iterator[bytes], content_type: str = "video/mp2t") -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stream)
    server.answers, server.content_type = list(answers), content_type  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/camera.ts"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_a_stream_that_breaks_off_is_tried_again_and_copied(tmp_path: Path) -> None:
    """Its packets are kept as they came: pictures are the same bits, cut at key frames, none lost or doubled."""
    film = write_video(tmp_path / "film.ts", evenly(60, 12), size=(64, 48), options=CLOSED_GOP)
    sent = film.read_bytes()
    originals = [image for _, image in frames_of(film)]
    out = tmp_path / "out"
    with serving(sent[: len(sent) // 2], sent) as address:
        done = record("--camera", address, "-o", out, "--minutes", 1.5 / 60, "--retry-s", 1.5)
    assert done.exit_code == 1
    assert "trying again in 1 s" in done.output
    assert "it did not come back within 1.5 s" in done.output
    # In the order in which they were closed: a film comes faster than a camera's pictures, so that starts overlap.
    paths = [Path(path) for path in re.findall(r"INFO (\S+\.mp4): ", done.output)]
    images = [[image for _, image in frames_of(path)] for path in paths]
    numbers = [[number_of(image) for image in part] for part in images]
    assert numbers[-3:] == [[*range(24)], [*range(24, 48)], [*range(48, 60)]]
    broken_off = [number for part in numbers[:-3] for number in part]
    assert broken_off == [*range(len(broken_off))]
    assert 20 < len(broken_off) < 40
    for part in images[-3:]:
        assert all(np.array_equal(image, originals[number_of(image)]) for image in part)


@pytest.mark.slow
def test_files_of_a_stream_end_where_no_picture_is_lost(tmp_path: Path) -> None:
    """Pictures that lean on both sides of a key frame keep the file going; a clock that jumps back ends it."""
    open_gop = {**OPEN_GOP, "x264-params": OPEN_GOP["x264-params"] + ":b-adapt=0"}
    films = {
        name: write_video(tmp_path / f"{name}.ts", evenly(60, 12), size=(64, 48), options=options)
        for name, options in (("open", open_gop), ("closed", CLOSED_GOP))
    }
    for name, sent, expected in (
        ("open", films["open"].read_bytes(), [[*range(60)]]),
        ("closed", 2 * films["closed"].read_bytes(), 2 * [[*range(36)], [*range(36, 60)]]),
    ):
        with serving(sent) as address:
            done = record("--camera", address, "-o", tmp_path / name, "--minutes", 2.6 / 60, "--retry-s", 0)
        paths = [Path(path) for path in re.findall(r"INFO (\S+\.mp4): ", done.output)]
        assert [[number_of(image) for _, image in frames_of(path)] for path in paths] == expected, done.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rate", "encoding", "kept"),
    [
        ("mkv", 12, {"options": CLOSED_GOP}, "h264"),  # states when pictures are shown, and not their order
        ("flv", 12, {"options": CLOSED_GOP}, "h264"),
        ("hevc.ts", 12, HEVC, "hevc"),
        ("mpeg4.ts", 12, MPEG4, "h264"),  # no browser plays it
        ("mpeg2.ts", 25, {"codec": "mpeg2video", "options": {"g": "12"}}, "h264"),  # its last picture comes late
    ],
)
def test_no_picture_of_any_stream_is_lost(
    name: str, rate: int, encoding: dict[str, Any], kept: str, tmp_path: Path
) -> None:
    """Whatever its container leaves out, and whether it is copied or encoded."""
    film = write_video(tmp_path / f"film.{name}", evenly(60, rate), rate=rate, size=(64, 48), **encoding)
    with serving(film.read_bytes()) as address:
        done = record("--camera", address, "-o", tmp_path / "out", "--minutes", 20 / rate / 60, "--retry-s", 0)
    paths = [Path(path) for path in re.findall(r"INFO (\S+\.mp4): ", done.output)]
    assert len(paths) > 1
    assert [number_of(image) for path in paths for _, image in frames_of(path)] == list(range(60))
    for path in paths:
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == kept


@pytest.mark.slow
def test_pictures_without_a_clock_are_stamped_when_they_arrive(tmp_path: Path) -> None:
    """Motion JPEG over HTTP states no rate; its pictures are encoded, since they would take ten times the room."""
    pauses_s = [0.03, 0.15] * 10

    def parts() -> Iterator[bytes]:
        for number, pause_s in enumerate(pauses_s):
            picture = io.BytesIO()
            Image.fromarray(numbered_picture(number, 160, 120)).save(picture, "JPEG", quality=95)
            length = len(picture.getvalue())
            yield b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % length
            yield picture.getvalue() + b"\r\n"
            time.sleep(pause_s)

    with serving(parts(), content_type="multipart/x-mixed-replace;boundary=frame") as address:
        record("--camera", address, "-o", tmp_path / "out", "--retry-s", 0)
    (path,) = files_in(tmp_path / "out")
    frames = frames_of(path)
    assert [number_of(image) for _, image in frames] == list(range(20))
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name != "mjpeg"
    assert frames[-1][0] >= 0.9 * sum(pauses_s[:-1])  # 25 pictures a second, as FFmpeg assumes, would take half


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limits")
@pytest.mark.slow
def test_a_full_disk_keeps_what_was_written(tmp_path: Path) -> None:
    """It is told in a line, and the file is there as far as it fitted."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
        "from pipeline.cli.__main__ import main; main(sys.argv[1:])"
    )
    camera = "lavfi:testsrc2=size=320x240:rate=10:duration=30"
    done = subprocess.run(
        [sys.executable, "-c", code, "record", "--camera", camera, "-o", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 1
    assert "Error: no room to write" in done.stderr
    assert "Traceback" not in done.stderr
    (path,) = files_in(tmp_path / "out")
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) > 20


@contextmanager
def recording(out: Path, *arguments: str, stdin: Any = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "pipeline.cli", "record", "-o", str(out), "--camera", REALTIME, *arguments]
    process = subprocess.Popen(command, stdin=stdin, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def has_bytes(out: Path) -> bool:
    return any(path.stat().st_size > 5000 for path in (out / ".recording").glob("*.mp4"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_signal_closes_the_file_and_a_kill_leaves_it_playable(tmp_path: Path) -> None:
    """SIGTERM ends with status 0; what SIGKILL leaves is put in place by the next recording."""
    out = tmp_path / "out"
    with recording(out) as process:
        wait_for(lambda: has_bytes(out))
        process.kill()
        process.wait()
    assert files_in(out) == []
    (left,) = (out / ".recording").glob("*.mp4")
    with recording(out) as process:
        wait_for(lambda: len(list((out / ".recording").glob("*.mp4"))) == 1 and has_bytes(out) and files_in(out))
        other = record("--camera", REALTIME, "-o", out)
        assert (other.exit_code, "another process records into it" in other.output) == (1, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    killed, stopped = files_in(out)
    assert killed.name == left.name
    assert len(frames_of(killed)) > 10
    assert len(frames_of(stopped)) > 10
    assert started(killed) < started(stopped)
    assert list((out / ".recording").glob("*.mp4")) == []


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such terminals")
def test_space_pauses_and_q_stops(tmp_path: Path) -> None:
    """The pause closes the file, nothing is written in it, and the next file has a start of its own."""
    out = tmp_path / "out"
    keyboard, terminal = os.openpty()
    # In a session whose terminal it is, as in a shell.
    code = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        f"os.execv(sys.executable, [sys.executable, '-m', 'pipeline.cli', 'record', '-o', {str(out)!r}, "
        f"'--camera', {REALTIME!r}])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=terminal,
        stderr=terminal,
        cwd=Path(__file__).parents[1],
        start_new_session=True,
    )
    try:
        wait_for(lambda: has_bytes(out))
        os.write(keyboard, b" ")
        wait_for(lambda: len(files_in(out)) == 1)
        time.sleep(1.0)
        assert list((out / ".recording").glob("*.mp4")) == []
        os.write(keyboard, b" ")
        wait_for(lambda: has_bytes(out))
        os.write(keyboard, b"q")
        assert process.wait(timeout=10) == 0
        shown = os.read(keyboard, 65536).decode()
    finally:
        process.kill()
        process.communicate()
        os.close(keyboard)
        os.close(terminal)
    first, second = files_in(out)
    end = started(first) + timedelta(seconds=frames_of(first)[-1][0])
    assert started(second) - end > timedelta(seconds=0.9)
    assert "space pauses, q stops" in shown
    assert "paused, and the camera is off" in shown
    assert re.search(rf"{started(first):%H:%M:%S}  0\.\d min  0\.\d MB", shown)


@pytest.mark.slow
def test_live_diaries_are_written_while_it_records(tmp_path: Path) -> None:
    """In processes of their own; a file that has no diary is told, and does not end the recording."""
    model = make_model_folder(tmp_path)
    out, diaries = tmp_path / "out", tmp_path / "diaries"
    camera = "lavfi:testsrc2=size=64x48:rate=10:duration=1"
    arguments = ["--camera", camera, "-o", out, "--retry-s", 0, "--live", "--diaries", diaries]
    done = record(*arguments, "--model", model)
    assert "no diary of" not in done.output
    (path,) = files_in(out)
    first_line = (diaries / path.stem / "events.jsonl").read_text().splitlines()[0]
    assert datetime.fromisoformat(json.loads(first_line)["start_clock"]) == started(path)
    failed = record(*arguments, "--minutes", 0.5 / 60, "--project", tmp_path / "nowhere")
    assert failed.exit_code == 1
    told = failed.output.partition(f"to write them: diary write -o {diaries} ")[2].splitlines()[0].split()
    assert len(told) == 2
    assert set(told) == {str(other) for other in files_in(out)} - {str(path)}

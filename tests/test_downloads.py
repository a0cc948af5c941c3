"""Downloads over a loopback server that breaks off, lies, ignores ranges and serves other files."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest

from features.files import PARTIAL
from pipeline.download import resumable
from pipeline.download.archives import unpack
from pipeline.download.dataset import download_dataset
from pipeline.download.resumable import DownloadError, download
from pipeline.fetch_params import Archive

CONTENT = bytes(range(256)) * 1200
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ROOT = str(Path(__file__).parents[1])
RECORD = Path(".unpacked.json")


class Handler(BaseHTTPRequestHandler):
    """Serves `server.content`; `server.behaviours` says how each request is answered, the last one all that follow."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range")))
        behaviours = self.server.behaviours
        (behaviours.pop(0) if len(behaviours) > 1 else behaviours[0])(self)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self, *, until: int | None = None, ranges: bool = True, states: int | None = None) -> None:
        """The file, or from the asked byte on; the connection ends before byte `until`; `states` is a false length."""
        content, tag = self.server.files[self.path], self.server.tag
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and ranges and self.headers.get("If-Range") == tag else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        total = len(content) if states is None else states
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(total - start))
        self.send_header("ETag", tag)
        self.end_headers()
        self.wfile.write(content[start:until])


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/film.zip": CONTENT}
        self.tag = '"first"'
        self.behaviours: list[Callable[[Handler], None]] = [Handler.answer]
        self.asked: list[tuple[str, str | None]] = []

    def url(self, name: str = "film.zip") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield running
        running.shutdown()


def stops_at(byte: int) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(until=byte)


def status(code: int) -> Callable[[Handler], None]:
    return lambda handler: handler.send_error(code)


def get(server: Server, path: Path, *, num_bytes: int | None = len(CONTENT), sha256: str | None = SHA256) -> None:
    download(server.url(), path, num_bytes=num_bytes, sha256=sha256, pause_s=0)


def left(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_a_file_arrives_whole(server: Server, tmp_path: Path) -> None:
    """Byte for byte, with nothing beside it; a second call checks it and asks for nothing."""
    get(server, tmp_path / "film.zip", sha256=SHA256[:8])
    assert (tmp_path / "film.zip").read_bytes() == CONTENT
    get(server, tmp_path / "film.zip")
    assert left(tmp_path) == {"film.zip"}
    assert server.asked == [("/film.zip", None)]


def test_a_break_costs_nothing_that_arrived(server: Server, tmp_path: Path) -> None:
    """Each connection goes on where the one before ended."""
    server.behaviours = [stops_at(98_304), status(503), stops_at(196_608), Handler.answer]
    get(server, tmp_path / "film.zip")
    assert (tmp_path / "film.zip").read_bytes() == CONTENT
    ranges = [asked for _, asked in server.asked]
    assert ranges == [None, "bytes=98304-", "bytes=98304-", "bytes=196608-"]


def test_the_next_run_goes_on(server: Server, tmp_path: Path) -> None:
    """After the last attempt the part stays, is never taken for the file, and the next call asks for the rest alone."""
    server.behaviours = [stops_at(147_456)]
    with pytest.raises(DownloadError, match=r"film\.zip: broke off after 147,456 bytes: .* run again, and it goes on"):
        get(server, tmp_path / "film.zip")
    assert len(server.asked) == resumable.ATTEMPTS
    assert not (tmp_path / "film.zip").exists()
    server.behaviours = [Handler.answer]
    get(server, tmp_path / "film.zip")
    assert (tmp_path / "film.zip").read_bytes() == CONTENT
    assert server.asked[-1] == ("/film.zip", "bytes=147456-")


def test_a_file_that_changed_meanwhile_is_got_anew(server: Server, tmp_path: Path) -> None:
    """No half of one file is ever joined with half of another."""
    server.behaviours = [stops_at(147_456)]
    with pytest.raises(DownloadError):
        get(server, tmp_path / "film.zip")
    server.files["/film.zip"], server.tag = CONTENT[::-1], '"second"'
    server.behaviours = [Handler.answer]
    get(server, tmp_path / "film.zip", sha256=None)
    assert (tmp_path / "film.zip").read_bytes() == CONTENT[::-1]


def test_a_server_that_knows_no_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    """The whole file in answer to a range replaces what was there."""
    server.behaviours = [stops_at(147_456), lambda handler: handler.answer(ranges=False)]
    get(server, tmp_path / "film.zip")
    assert (tmp_path / "film.zip").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_dropped(server: Server, tmp_path: Path) -> None:
    """Where the server has no such byte, it begins anew."""
    server.behaviours = [stops_at(147_456)]
    with pytest.raises(DownloadError):
        get(server, tmp_path / "film.zip")
    with (tmp_path / f"film.zip{PARTIAL}").open("ab") as part:
        part.write(b"x" * len(CONTENT))
    server.behaviours = [Handler.answer]
    get(server, tmp_path / "film.zip")
    assert (tmp_path / "film.zip").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (len(CONTENT) - 5000, r"wanted 307,200 bytes, and the server has 302,200: another file"),
        (len(CONTENT) + 5000, r"wanted 307,200 bytes, and the server has 312,200: another file"),
    ],
)
def test_another_length_than_the_params_is_refused_at_once(
    server: Server, tmp_path: Path, states: int, told: str
) -> None:
    """Nothing of another file is downloaded."""
    server.behaviours = [lambda handler: handler.answer(states=states)]
    with pytest.raises(DownloadError, match=told):
        get(server, tmp_path / "film.zip")
    assert left(tmp_path) == set()


def test_a_server_that_lies_about_the_length(server: Server, tmp_path: Path) -> None:
    """More stated than ever comes ends in a sentence; less stated than there is, in another hash."""
    server.behaviours = [lambda handler: handler.answer(states=len(CONTENT) + 5000)]
    with pytest.raises(DownloadError, match="broke off after 294,912 bytes"):
        get(server, tmp_path / "film.zip", num_bytes=None)
    server.behaviours = [lambda handler: handler.answer(states=5000, ranges=False)]
    with pytest.raises(DownloadError, match=f"wanted sha256 {SHA256}, got .*; what came is deleted"):
        get(server, tmp_path / "film.zip", num_bytes=None)
    assert not (tmp_path / "film.zip").exists()


def without_length(content: bytes) -> Callable[[Handler], None]:
    """What a portal answers in place of a file."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with suppress(ConnectionError):  # of a client that has seen enough
            handler.wfile.write(content)

    return answer


def test_a_page_in_place_of_a_file_is_refused(server: Server, tmp_path: Path) -> None:
    """Without a stated length: less than wanted, and more."""
    server.behaviours = [without_length(b"<html>Log in</html>")]
    with pytest.raises(DownloadError, match="broke off after 19 bytes: the server sent 19 of 307,200 bytes"):
        get(server, tmp_path / "film.zip")
    server.behaviours = [without_length(CONTENT * 2)]
    with pytest.raises(DownloadError, match="wanted 307,200 bytes, and the server sends more: another file"):
        get(server, tmp_path / "film.zip")
    assert not (tmp_path / "film.zip").exists()


def test_a_kill_costs_nothing_that_arrived(server: Server, tmp_path: Path) -> None:
    """A killed process leaves a part, which the next one goes on from."""
    more = threading.Event()

    def slow(handler: Handler) -> None:
        handler.answer(until=10 * 16384)
        more.wait(timeout=60)

    server.behaviours = [slow]
    code = "import sys; from pipeline.download import resumable as r; r.download(sys.argv[1], r.Path('f'))"
    command = [sys.executable, "-c", code, server.url()]
    with subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ROOT}) as process:
        part = tmp_path / f"f{PARTIAL}"
        while process.poll() is None and (not part.exists() or part.stat().st_size < 8 * 16384):
            time.sleep(0.02)
        process.kill()
    more.set()
    assert left(tmp_path) == {part.name, "f.validator.json"}
    arrived = part.stat().st_size
    server.behaviours = [Handler.answer]
    download(server.url(), tmp_path / "f", sha256=SHA256)
    assert server.asked[-1] == ("/film.zip", f"bytes={arrived}-")
    assert left(tmp_path) == {"f"}


def test_a_wrong_file_is_no_file(server: Server, tmp_path: Path) -> None:
    """Of the right length and with other bytes: refused and deleted, so that the next run does not keep it."""
    server.files["/film.zip"] = CONTENT[::-1]
    with pytest.raises(DownloadError, match=r"wanted sha256 .*; what came is deleted: check the address"):
        get(server, tmp_path / "film.zip")
    assert not list(tmp_path.glob(f"film.zip{PARTIAL}")) + list(tmp_path.glob("film.zip"))
    with pytest.raises(DownloadError, match=f"wanted sha256 {SHA256[:8]}…"):
        get(server, tmp_path / "film.zip", sha256=SHA256[:8])


def test_an_address_without_a_file_is_told_at_once(server: Server, tmp_path: Path) -> None:
    """No attempt is repeated where the server says that there is none."""
    server.behaviours = [status(404)]
    with pytest.raises(DownloadError, match=r"the server answers 404 Not Found; is the address right\?"):
        get(server, tmp_path / "film.zip")
    assert len(server.asked) == 1


def test_no_server_is_told_in_a_sentence(server: Server, tmp_path: Path) -> None:
    """Nobody listens: some attempts, then an error that names the address."""
    server.server_close()
    with pytest.raises(DownloadError, match=r"film\.zip: broke off after 0 bytes: .* run again"):
        get(server, tmp_path / "film.zip")


def zipped(files: dict[str, bytes], *, kind: int = stat.S_IFREG) -> bytes:
    """A ZIP file; the last member is of a `kind`."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, content) in enumerate(files.items(), start=1):
            member = zipfile.ZipInfo(name)
            member.external_attr = ((kind if number == len(files) else stat.S_IFREG) | 0o777) << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
    return buffer.getvalue()


@pytest.mark.parametrize("top", ["", "Charades_v1_480/"])
def test_both_layouts_of_an_archive_give_one_folder(tmp_path: Path, top: str) -> None:
    """Files below the archive's own name, or at its top."""
    archive = tmp_path / "Charades_v1_480.zip"
    archive.write_bytes(zipped({f"{top}AB12C.mp4": b"a", f"{top}more/XY12Z.mp4": b"b"}))
    unpack(archive, tmp_path / "out" / "Charades_v1_480", RECORD)
    files = {file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.mp4")}
    assert files == {"Charades_v1_480/AB12C.mp4", "Charades_v1_480/more/XY12Z.mp4"}


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("../out.mp4", stat.S_IFREG, "would lie outside"),
        ("a/../../out.mp4", stat.S_IFREG, "would lie outside"),
        ("/etc/out.mp4", stat.S_IFREG, "would lie outside"),
        ("C:/out.mp4", stat.S_IFREG, "would lie outside"),
        ("..\\out.mp4", stat.S_IFREG, "would lie outside"),
        ("link", stat.S_IFLNK, "is a link"),
        ("disk", stat.S_IFBLK, "is no plain file"),
        ("console", stat.S_IFCHR, "is no plain file"),
        ("pipe", stat.S_IFIFO, "is no plain file"),
        ("A.MP4", stat.S_IFREG, "two files of one name"),
    ],
)
def test_an_archive_that_reaches_out_is_not_unpacked(tmp_path: Path, name: str, kind: int, told: str) -> None:
    """A path outside, a link, a device: refused as a whole, before anything is written."""
    archive = tmp_path / "in" / "films.zip"
    archive.parent.mkdir()
    archive.write_bytes(zipped({"a.mp4": b"a", name: b"/etc/passwd"}, kind=kind))
    with pytest.raises(DownloadError, match=f"{told}.*; nothing is unpacked"):
        unpack(archive, tmp_path / "out" / "films", RECORD)
    assert not list(tmp_path.rglob("out/*"))
    assert left(tmp_path) <= {"in", "out"}


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """Far more bytes than an archive of its size holds."""
    (tmp_path / "films.zip").write_bytes(zipped({"a.mp4": bytes(10_000_000)}))
    with pytest.raises(DownloadError, match="10,000,000 bytes, far more than an archive of its size holds"):
        unpack(tmp_path / "films.zip", tmp_path / "films", RECORD)
    assert left(tmp_path) == {"films.zip"}


@pytest.mark.parametrize("place", [60, -57, -10])
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, place: int) -> None:
    """A changed byte in a file's content or in the directory of the archive."""
    content = bytearray(zipped({"a.mp4": CONTENT[:3000]}))
    content[place] ^= 0xFF
    (tmp_path / "films.zip").write_bytes(content)
    with pytest.raises(DownloadError, match=r"films\.zip"):
        unpack(tmp_path / "films.zip", tmp_path / "films", RECORD)
    assert left(tmp_path) == {"films.zip"}


@pytest.fixture
def archives(server: Server) -> list[Archive]:
    """Two archives at the server, with size and the first digits of the hash."""
    server.files = {
        "/Charades.zip": zipped({"Charades/Charades_v1_train.csv": b"id\n"}),
        "/Charades_v1_480.zip": zipped({"AB12C.mp4": b"film", "XY12Z.mp4": b"another"}),
    }
    return [
        Archive(server.url(name[1:]), len(content), hashlib.sha256(content).hexdigest()[:8])
        for name, content in server.files.items()
    ]


def test_a_data_set_is_there_as_a_whole(server: Server, tmp_path: Path, archives: list[Archive]) -> None:
    """Annotations and videos in their folders; the next call asks for nothing; a lost file is told."""
    folder = tmp_path / "mine" / "Charades"
    download_dataset(archives, folder, pause_s=0)
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("[!.]*.*") if file.is_file()}
    assert files == {"Charades/Charades_v1_train.csv", "Charades_v1_480/AB12C.mp4", "Charades_v1_480/XY12Z.mp4"}
    assert not list(folder.rglob("*.zip*"))
    num_asked = len(server.asked)
    download_dataset(archives, folder, pause_s=0)
    assert len(server.asked) == num_asked
    (folder / "Charades_v1_480" / "AB12C.mp4").unlink()
    with pytest.raises(DownloadError, match=r"1 of 2 files are gone or changed .* such as AB12C\.mp4: delete"):
        download_dataset(archives, folder, pause_s=0)


def test_a_folder_of_the_users_is_never_replaced(tmp_path: Path, archives: list[Archive]) -> None:
    """What this program did not unpack is the user's."""
    mine = tmp_path / "Charades_v1_480"
    mine.mkdir()
    (mine / "AB12C.mp4").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"was not downloaded by this program: set fetch\.dataset to path"):
        download_dataset(archives, tmp_path, pause_s=0)
    assert (mine / "AB12C.mp4").read_bytes() == b"mine"


def test_a_full_disk_is_told_before_a_byte_is_asked_for(server: Server, tmp_path: Path) -> None:
    """Size of the archive and of what comes out of it, against what is free."""
    with pytest.raises(DownloadError, match=r"getting film\.zip needs .* GB in .*, and .* GB are free: make room"):
        download_dataset([Archive(server.url(), 2**49)], tmp_path, pause_s=0)
    assert server.asked == []

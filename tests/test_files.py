"""Files and folders are written completely or not at all."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from features.files import (
    atomic_file,
    atomic_folder,
    is_no_room,
    sha256_of,
    write_csv,
    write_into,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    """The old content stays at the path while the new one is written; no partial file is left afterwards."""
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "old")
    with atomic_file(path) as file:
        file.write("grün\r\nund\n")
        assert path.read_text() == "old"
        assert names(path.parent) == ["a.txt", "a.txt.partial"]
    assert path.read_bytes() == "grün\r\nund\n".encode()
    with atomic_file(path, "wb") as file:
        file.write(b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), OSError(errno.EIO, "disk", "other.bin")])
def test_an_error_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    """The error itself is raised, the file is as it was, and the partial file is gone."""
    write_text(tmp_path / "a", "old")

    def fails() -> None:
        with atomic_file(tmp_path / "a") as file:
            file.write("new")
            raise error

    with pytest.raises(type(error)) as caught:
        fails()
    assert caught.value is error
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    """If the system's error names no file, the partial one is named; it is deleted."""
    write_text(tmp_path / "a", "old")
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_text(tmp_path / "a", "x" * 5000)
        except OSError as error:
            os._exit(error.errno or 1 if error.filename == str(tmp_path / "a.partial") else 99)
        os._exit(98)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == errno.EFBIG
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_many_files_into_a_new_folder(tmp_path: Path) -> None:
    """By their names; where the disk is full, the file is named."""
    write_into(tmp_path / "a", {"1": b"one", "2": b""})
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == {"1": b"one", "2": b""}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            write_into(tmp_path / "a", {"3": b"one", "4": bytes(20)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "a" / "4")
    assert is_no_room(caught.value)


def test_json_and_csv(tmp_path: Path) -> None:
    """JSON is indented and keeps the order of keys unless told to sort; CSV has plain line ends; nan is refused."""
    write_json(tmp_path / "a.json", {"b": 1, "a": ["é"]})
    assert (tmp_path / "a.json").read_text() == '{\n  "b": 1,\n  "a": [\n    "\\u00e9"\n  ]\n}\n'
    write_json(tmp_path / "a.json", {"b": 1, "a": 2}, sort_keys=True)
    assert (tmp_path / "a.json").read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": math.nan})
    write_csv(tmp_path / "a.csv", ["video_id", "reason"], ([name, 'a "b", c'] for name in "xy"))
    assert (tmp_path / "a.csv").read_bytes() == b'video_id,reason\nx,"a ""b"", c"\ny,"a ""b"", c"\n'
    assert names(tmp_path) == ["a.csv", "a.json"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """The new folder replaces the old one and a killed process's partial one; an error leaves the old one."""
    path = tmp_path / "new" / "store"
    for name in ("old", "new"):
        write_text(path.with_name("store.partial") / "leftover", "x")
        with atomic_folder(path) as partial:
            assert names(partial) == []
            write_text(partial / name, name)
        assert names(path) == [name]

    def fails() -> None:
        with atomic_folder(path) as partial:
            write_text(partial / "bad", "bad")
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert names(path) == ["new"]
    assert names(path.parent) == ["store"]


def test_the_hash_is_of_the_contents_in_order(tmp_path: Path) -> None:
    """The hash of one file is that of its bytes; of several files, that of their bytes concatenated."""
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_bytes(b"a" * 300_000)
    second.write_bytes(b"b")
    assert sha256_of(first) == hashlib.sha256(b"a" * 300_000).hexdigest()
    assert sha256_of(second, first) == hashlib.sha256(b"b" + b"a" * 300_000).hexdigest()
    with pytest.raises(FileNotFoundError):
        sha256_of(first, tmp_path / "3")


def test_files_and_provenance_need_no_torch() -> None:
    """Code that writes a file or compares provenance starts at once."""
    code = "import sys, features.files, features.provenance; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Files and folders that are complete or not there, and hashes of files. The only place that renames a partial file."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

PARTIAL = ".partial"
"""Suffix of a file or folder that is being written; a killed process leaves it behind."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_no_room(error: BaseException) -> bool:
    """Whether an error says that the disk, a quota or a limit has no room."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


@contextmanager
def private_files() -> Iterator[None]:
    """Files and folders that this process makes inside are for their owner alone: 0600 and 0700.

    Everything else follows the umask. Windows has no such rights: there, what a user's folder grants holds.
    """
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def atomic_file(path: Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file beside `path` for writing, and put it in place of `path` on success.

    Text is UTF-8, its line ends are written as they are given. Missing parent folders are made. Once this returns, the
    file outlasts a power cut. On an error `path` is as it was and the partial file is removed; an `OSError` that names
    no file, as of a full disk, names the partial file.
    """
    partial = path.with_name(path.name + PARTIAL)
    text: dict[str, Any] = {"encoding": "utf-8", "newline": ""} if mode == "w" else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with _passing(partial):
        with partial.open(mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)


@contextmanager
def _passing(partial: Path) -> Iterator[None]:
    """A partial file that is gone in the end; an `OSError` that names no file, as of a full disk, names it."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(partial)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)  # on a full disk it takes room that others need


def put_in_place(partial: Path, path: Path) -> None:
    """Move a complete file that another library wrote to `path`; once this returns, it outlasts a power cut."""
    with partial.open("rb+") as file:  # Windows syncs what may be written only
        os.fsync(file.fileno())
    partial.replace(path)
    _sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` as it is."""
    with atomic_file(path, "wb") as file:
        file.write(content)


def create_file(path: Path, content: bytes) -> bool:
    """Write a file where there is none; False where there is one, which stays, whoever wrote it and when.

    Processes that create the same file at once do not disturb each other: one of them does, and the others are told.
    """
    if path.exists():
        return False
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _passing(partial):
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(partial)
        except FileExistsError:
            return False
        except OSError:  # exFAT and some network disks have no links
            if path.exists():
                return False
            partial.replace(path)
        _sync_folder(path.parent)
    return True


def write_into(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files by name into a folder of `atomic_folder`: thousands in a second, since they reach the disk together.

    The folder is made if it is not there. Where a system cannot wait for the disk (Windows), they reach it later.
    """
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        try:
            (folder / name).write_bytes(content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder / name)) from error
    if hasattr(os, "sync"):
        os.sync()


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8."""
    with atomic_file(path) as file:
        file.write(text)


def write_json(path: Path, value: Any, *, sort_keys: bool = False) -> None:
    """Write `value` as indented JSON; nan and infinity raise `ValueError`."""
    write_text(path, json.dumps(value, indent=2, sort_keys=sort_keys, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a header line and one line for each row."""
    with atomic_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def append_line(path: Path, line: str) -> None:
    """Add `line` to the end of a file, made if it is not there; once this returns, it outlasts a power cut.

    Processes that append at once wait for each other. A line that a kill left unfinished becomes a line of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _line_lock(path), path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def remove_lines(path: Path, is_to_go: Callable[[bytes], bool]) -> int:
    """Remove lines from a file that others may `append_line` to, and say how many; 0 where there is no file."""
    if not path.exists():
        return 0
    with _line_lock(path):
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not is_to_go(line)]
        if len(kept) < len(lines):
            write_bytes(path, b"".join(kept))
    return len(lines) - len(kept)


def _line_lock(path: Path) -> FileLock:
    return FileLock(path.with_name(f".{path.name}.lock"))


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Make an empty folder beside `path` to write into, and put it in place of the whole of `path` on success.

    A kill leaves the old folder, the new one or none, never a part. On an error `path` is as it was and the partial
    folder is removed. A file or a link at `path` is not replaced: `FileExistsError`.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise FileExistsError(errno.EEXIST, "a file or a link is where a folder is to be written", str(path))
    partial, replaced = (path.with_name(path.name + suffix) for suffix in (PARTIAL, f".old{PARTIAL}"))
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            path.rename(replaced)
        partial.rename(path)
        _sync_folder(path.parent)
    except BaseException:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power cut. It is done already, so a system that cannot do this (Windows) is no error."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder`, made if it is not there; waits for another process that holds it, and logs which.

    A killed process holds nothing. `.lock` and `.holder` in the folder are hidden files of this lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / ".lock"), folder / ".holder"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        other = holder.read_text(encoding="utf-8") if holder.is_file() else "another process"
        log.warning("%s is in use by %s; waiting for it to end", folder, other)
        lock.acquire()
    try:
        write_text(holder, f"process {os.getpid()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def sha256_of(*paths: Path) -> str:
    """Hash of the files' contents, one after the other; of a single file, what `sha256sum` prints."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()

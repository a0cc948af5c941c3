"""Hashes of files by path, size and time of change, so that an unchanged video is not read again to be known.

A file that changed so lately that its time may be that of two contents is always read.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from features.decode.container import UnreadableVideo
from features.files import append_line, private_files, remove_lines, sha256_of

HASHES = ".hashes.jsonl"
_SETTLED_NS = 2 * 10**9  # the coarsest clock of a file system, FAT's
_SPARE_LINES = 1000

_State = tuple[int, int]  # size in bytes, time of change in ns


def hashed(paths: Iterable[Path], folder: Path) -> tuple[dict[Path, str], dict[Path, UnreadableVideo]]:
    """Each file's sha256, and why a file has none. What was hashed is noted in a private file in `folder`."""
    known, num_lines = _known(folder / HASHES)
    files = list(dict.fromkeys(paths))
    now_ns = time.time_ns()

    def hash_or_failure(path: Path) -> tuple[str, _State | None] | UnreadableVideo:
        try:
            stat = path.stat()
            state = (stat.st_size, stat.st_mtime_ns)
            kept = known.get(str(path.absolute()))
            if kept is not None and kept[0] == state and path.is_file():
                return kept[1], None
            digest = sha256_of(path)
        except IsADirectoryError:
            return UnreadableVideo(path, "not a file", found="a folder")
        except FileNotFoundError:
            return UnreadableVideo(path, "not a file", found="nothing")
        except OSError as error:
            return UnreadableVideo(path, "cannot be opened", found=error.strerror or str(error))
        return digest, state if stat.st_mtime_ns < now_ns - _SETTLED_NS else None

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = dict(zip(files, pool.map(hash_or_failure, files), strict=True))
    hashes = {path: result for path, result in results.items() if not isinstance(result, UnreadableVideo)}
    new = [
        json.dumps([str(path.absolute()), *state, digest])
        for path, (digest, state) in hashes.items()
        if state is not None
    ]
    if new:
        with private_files():
            append_line(folder / HASHES, "\n".join(new))
            if num_lines + len(new) > 2 * (len(known) + len(new)) + _SPARE_LINES:
                _drop_outdated(folder / HASHES)
    sha256s = {path: digest for path, (digest, _) in hashes.items()}
    return sha256s, {path: result for path, result in results.items() if isinstance(result, UnreadableVideo)}


def forget_hash(folder: Path, sha256: str) -> None:
    """Remove all lines of files with these bytes."""
    with private_files():
        remove_lines(folder / HASHES, lambda line: sha256.encode() in line)


def _known(path: Path) -> tuple[dict[str, tuple[_State, str]], int]:
    """What is noted, by absolute path, of which the last line counts; and of how many lines."""
    known: dict[str, tuple[_State, str]] = {}
    if not path.is_file():
        return known, 0
    lines = path.read_bytes().splitlines()
    for line in lines:
        try:
            name, size, mtime_ns, digest = json.loads(line)
            known[name] = (int(size), int(mtime_ns)), str(digest)
        except (ValueError, TypeError):  # a line that a power cut left half written
            continue
    return known, len(lines)


def _drop_outdated(path: Path) -> None:
    last = {name: (*state, digest) for name, (state, digest) in _known(path)[0].items()}

    def is_outdated(line: bytes) -> bool:
        try:
            name, *rest = json.loads(line)
            return last.get(name) != tuple(rest)
        except (ValueError, TypeError):
            return True

    remove_lines(path, is_outdated)

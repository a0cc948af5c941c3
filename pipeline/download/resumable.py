"""One file over HTTP: gone on with after a break, checked, and complete or not there."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

import requests
from tqdm import tqdm

from features.files import PARTIAL, put_in_place, sha256_of, write_json

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""Times in a row that a connection may bring nothing before the download is given up."""
_CHUNK = 1 << 14  # what a break loses at most
_TIMEOUT_S = (30, 60)  # to connect, and between two pieces
_RETRIED = (408, 429, 500, 502, 503, 504)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class DownloadError(Exception):
    """A file cannot be had from its address, or is not the one that is meant."""


class _BrokenOff(Exception):
    """The connection ended early, or the server is busy: worth another attempt."""


def download(
    url: str, path: Path, *, num_bytes: int | None = None, sha256: str | None = None, pause_s: float = 1.0
) -> None:
    """Get the file at `url` as `path`; its size and hash (or the hash's first digits) are checked where they are given.

    What has arrived stays beside `path` over a break or a kill, and the next call goes on from there, unless the
    server has another file by then. After each of `ATTEMPTS` connections in a row without a byte it waits, twice as
    long as before, beginning with `pause_s`. Raises `DownloadError`.
    """
    partial, validator = (path.with_name(path.name + suffix) for suffix in (PARTIAL, ".validator.json"))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() and (num_bytes is None or _size(partial) != num_bytes):
        _receive_all(url, partial, validator, num_bytes, pause_s)
    arrived = path if path.is_file() else partial
    _check(url, arrived, num_bytes, sha256)
    if arrived == partial:
        put_in_place(partial, path)
    validator.unlink(missing_ok=True)


def require_room(folder: Path, num_bytes: int, what: str) -> None:
    """Raise `DownloadError` where the disk of `folder` has less room than `num_bytes`."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise DownloadError(
            f"{what} needs {num_bytes / 1e9:.2f} GB in {folder}, and {free / 1e9:.2f} GB are free: make room, or "
            "name a folder on another disk"
        )


def _receive_all(url: str, partial: Path, validator: Path, num_bytes: int | None, pause_s: float) -> None:
    failures = 0
    while True:
        before = _size(partial)
        try:
            _receive(url, partial, validator, num_bytes)
            return
        except (requests.RequestException, _BrokenOff) as error:
            arrived = _size(partial)
            failures = 1 if arrived > before else failures + 1
            if failures >= ATTEMPTS:
                raise DownloadError(
                    f"{url}: broke off after {arrived:,} bytes: {_reason(error)}; run again, and it goes on from there"
                ) from error
            log.warning("%s: broke off after %s bytes: %s; trying again", url, f"{arrived:,}", _reason(error))
            time.sleep(pause_s * 2 ** (failures - 1))


def _receive(url: str, partial: Path, validator: Path, num_bytes: int | None) -> None:
    """One connection. Raises `_BrokenOff` and `requests.RequestException` where another one may help."""
    tag = _read_validator(url, validator)
    have = _size(partial) if tag else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
        if have and response.status_code == 416:
            partial.unlink()
            raise _BrokenOff("what was there is not a part of the file")
        start, total = _extent(url, response, have)
        if num_bytes is not None and total is not None and total != num_bytes:
            raise DownloadError(f"{url}: wanted {num_bytes:,} bytes, and the server has {total:,}: another file")
        if total is not None:
            require_room(partial.parent, total - start, f"the rest of {url}")
        if not start:
            partial.unlink(missing_ok=True)  # before the validator, which is of what comes now
        _write_validator(url, validator, response)
        _append(url, response, partial, start, total or num_bytes)


def _extent(url: str, response: requests.Response, have: int) -> tuple[int, int | None]:
    """Where the response begins in the file, and how long the file is, if the server says so."""
    status = response.status_code
    if status in _RETRIED:
        raise _BrokenOff(f"the server answers {status} {response.reason}")
    if status not in (200, 206) or (status == 206 and not have):
        raise DownloadError(f"{url}: the server answers {status} {response.reason}; is the address right?")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadError(f"{url}: the server sends it as {response.headers['Content-Encoding']}, not as it is")
    if status == 200:  # the whole file: it has changed, or the server knows no ranges
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    extent = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if extent is None or int(extent[1]) != have:
        raise DownloadError(
            f"{url}: wanted bytes from {have:,} on, and the server sends {response.headers.get('Content-Range')}"
        )
    return have, None if extent[3] == "*" else int(extent[3])


def _append(url: str, response: requests.Response, partial: Path, start: int, total: int | None) -> None:
    name = partial.name.removesuffix(PARTIAL)
    with (
        partial.open("ab" if start else "wb") as file,
        tqdm(total=total, initial=start, desc=name, unit="B", unit_scale=True, file=sys.stderr, mininterval=0.5) as bar,
    ):
        arrived = start
        for chunk in response.iter_content(_CHUNK):
            arrived += len(chunk)
            if total is not None and arrived > total:
                raise DownloadError(f"{url}: wanted {total:,} bytes, and the server sends more: another file")
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and arrived < total:
        raise _BrokenOff(f"the server sent {arrived:,} of {total:,} bytes")


def _check(url: str, path: Path, num_bytes: int | None, sha256: str | None) -> None:
    """Raise `DownloadError`, and remove the file, where it is not the one that is meant."""
    size = path.stat().st_size
    wrong = f"wanted {num_bytes:,} bytes, got {size:,}" if num_bytes not in (None, size) else ""
    if not wrong and sha256 and not (found := sha256_of(path)).startswith(sha256):
        wrong = f"wanted sha256 {sha256}{'' if len(sha256) == 64 else '…'}, got {found}"
    if wrong:
        path.unlink()
        raise DownloadError(
            f"{url}: {wrong}; what came is deleted: check the address, or correct size and hash in the params"
        )


def _write_validator(url: str, path: Path, response: requests.Response) -> None:
    """Keep what tells this file from a later one at the same address; a weak tag does not."""
    tag = response.headers.get("ETag", "")
    tag = response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    write_json(path, {"url": url, "validator": tag})


def _read_validator(url: str, path: Path) -> str:
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        return str(kept["validator"]) if kept["url"] == url else ""
    return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

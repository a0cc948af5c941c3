"""Why a recording has no diary, as one line that can be printed anywhere."""

from __future__ import annotations

import re
from pathlib import Path

from features.decode.container import UnreadableVideo
from features.workers import WorkerError


def failure_line(path: Path, error: Exception) -> str:
    """What went wrong with the file at `path`, an error of any type, in one printable line that names the file."""
    match error:
        case UnreadableVideo():
            reason = str(error)
        case OSError(strerror=str(reason), filename=place) if place is not None and str(place) != str(path):
            reason = f"{path}: {reason}: {place}"
        case OSError(strerror=str(reason)):
            reason = f"{path}: {reason}"
        case WorkerError():  # holds the traceback of another process, which ends with the error
            reason = f"{path}: {str(error).strip().splitlines()[-1]}"
        case _:
            reason = f"{path}: {type(error).__name__}: {error}".rstrip(": ")
    return printable(reason.strip())


def printable(text: str) -> str:
    """The text with escapes, such as \\x1b or \\udce9, for what is no printable character (line ends, stray bytes)."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def decodable(text: str) -> str:
    """The text as UTF-8 can hold it: each byte of a file's name that is no UTF-8 becomes "\ufffd"."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)

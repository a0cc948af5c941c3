"""Ids of recordings, which are names of folders: safe on every file system, and different from each other."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count

from features.files import PARTIAL

_MAX_BYTES = 120  # of 255, or 143 on encrypted file systems: `<id>-12345678.partial` must fit
_HASH_DIGITS = 8
_UNSAFE = re.compile(r'[<>:"/\\|?*]')
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories: controls, formatting, stray bytes, line ends
_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)


@dataclass(frozen=True)
class VideoIdentity:
    """What tells one video from another: its file's name and the hash of its bytes."""

    name: str
    sha256: str


def recording_ids(
    files: Sequence[VideoIdentity], *, known: Iterable[tuple[VideoIdentity, str]], occupied: Iterable[str]
) -> list[str]:
    """An id for each file: the one that it has in `known`, else the safe stem of its name.

    Where files of one run would share a stem, or it is among the names that are `occupied`, the first eight digits of
    the file's hash follow, `clip-1a2b3c4d`, so that ids do not depend on the order of files. Ids and occupied names
    that differ in case alone are the same.
    """
    unused: dict[VideoIdentity, list[str]] = {}  # the same bytes twice under one name have two
    for file, name in known:
        unused.setdefault(file, []).append(name)
    taken = {_folded(name) for name in [*occupied, *chain.from_iterable(unused.values())]}
    ids = [unused[file].pop(0) if unused.get(file) else "" for file in files]
    stems = [safe_stem(file.name) for file in files]
    num_of_stem = Counter(_folded(stem) for stem, known_id in zip(stems, ids, strict=True) if not known_id)
    for place, (file, stem) in enumerate(zip(files, stems, strict=True)):
        if not ids[place]:
            ids[place] = next(
                name for name in _candidates(file, stem, num_of_stem[_folded(stem)] > 1) if _folded(name) not in taken
            )
            taken.add(_folded(ids[place]))
    return ids


def _candidates(file: VideoIdentity, stem: str, is_shared: bool) -> Iterator[str]:
    if not is_shared:
        yield stem
    hashed = f"{stem}-{file.sha256[:_HASH_DIGITS]}"
    yield hashed
    for number in count(2):  # the same bytes under names with one stem
        yield f"{hashed}-{number}"


def safe_stem(file_name: str) -> str:
    """The file's name without its suffix, as the name of a folder on any file system.

    What is unsafe or not to be seen becomes "_"; dots and spaces at either end are dropped.

    >>> safe_stem("a: b?.mp4"), safe_stem("...mp4"), safe_stem("nul.mov")
    ('a_ b_', 'mp4', '_nul')
    """
    name = unicodedata.normalize("NFC", file_name)
    head = name.rpartition(".")[0]
    stem = head if head.strip(" .") else name
    stem = "".join("_" if unicodedata.category(c) in _UNSEEN else c for c in _UNSAFE.sub("_", stem))
    stem = stem.encode()[:_MAX_BYTES].decode(errors="ignore")
    stem = re.sub(r"^[\s.]+|[\s.]+$", "", stem)
    if _folded(stem).endswith(PARTIAL):
        stem = f"{stem[: -len(PARTIAL)]}_{PARTIAL[1:]}"
    return f"_{stem}" if _OF_WINDOWS.match(stem) else stem or "video"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()

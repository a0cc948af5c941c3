"""A data set's archives, downloaded and unpacked into a folder of the user's."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from features.files import locked
from pipeline.download.archives import unpack
from pipeline.download.resumable import DownloadError, download, require_room
from pipeline.fetch_params import Archive

log = logging.getLogger(__name__)

_WORK = ".download"  # hidden, and so no part of the data set
_RECORD = Path(".unpacked.json")


def download_dataset(archives: Sequence[Archive], folder: Path, *, pause_s: float = 1.0) -> None:
    """Fill `folder` with a folder for each archive; what is there, and whole, is kept.

    Archives are deleted once they are unpacked. A second process waits. Raises `DownloadError`.
    """
    work = folder / _WORK
    folder.mkdir(parents=True, exist_ok=True)
    with locked(work):
        missing = [archive for archive in archives if not _is_whole(folder / archive.folder)]
        arrived = sum(file.stat().st_size for file in work.iterdir())
        # Video does not shrink in a ZIP file: twice its size, since the archive lies beside what comes out of it.
        room = sum(2 * (archive.bytes or 0) for archive in missing) - arrived
        require_room(folder, room, f"getting {', '.join(archive.name for archive in missing)}")
        for archive in missing:
            path = work / archive.name
            download(archive.url, path, num_bytes=archive.bytes, sha256=archive.sha256, pause_s=pause_s)
            unpack(path, folder / archive.folder, _RECORD)
            path.unlink()
            log.info("%s: unpacked from %s", folder / archive.folder, archive.url)


def _is_whole(folder: Path) -> bool:
    """Whether an unpacked folder is there as it was made. Raises `DownloadError` where it is another one."""
    if not folder.exists():
        return False
    try:
        sizes: dict[str, int] = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DownloadError(
            f"{folder} is there, and was not downloaded by this program: set fetch.dataset to path to use it as it is, "
            "or move it away"
        ) from None
    lost = [name for name, size in sizes.items() if not (folder / name).is_file() or _size(folder / name) != size]
    if lost:
        raise DownloadError(
            f"{folder}: {len(lost)} of {len(sizes)} files are gone or changed since they were downloaded, such as "
            f"{lost[0]}: delete the folder to get all again, or set fetch.dataset to path to go on without them"
        )
    return True


def _size(path: Path) -> int:
    return path.stat().st_size

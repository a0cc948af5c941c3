"""ZIP files, unpacked as plain files and nothing else, into a folder that is complete or not there."""

from __future__ import annotations

import stat
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from features.files import atomic_folder, is_no_room, write_json
from pipeline.download.resumable import DownloadError, require_room

_MOST_TIMES_LARGER = 50
"""What unpacking may give for each byte of an archive: text gives ten, a bomb a thousand."""
_MOST_FILES = 1_000_000
_ENCRYPTED = 0x1
_ENTRY = b"PK\x01\x02"
"""What each file's entry in the directory of an archive begins with."""
_PIECE = 1 << 20


def unpack(archive: Path, folder: Path, record: Path) -> None:
    """Unpack a ZIP file into `folder`, which replaces it as a whole.

    A folder in the archive that has the name of `folder` and holds everything is left out. `record`, relative to the
    folder, lists each file's size. Raises `DownloadError` before a byte is written where a member would lie outside,
    is a link, a device or encrypted, or where there is no room; and leaves nothing where the archive is damaged.
    """
    try:
        with zipfile.ZipFile(archive) as opened, atomic_folder(folder) as partial:
            members = _members(archive, opened, folder.name)
            require_room(folder.parent, sum(member.file_size for member, _ in members), f"unpacking {archive.name}")
            _extract(archive, opened, members, partial)
            write_json(partial / record, {place.as_posix(): member.file_size for member, place in members})
    except DownloadError:
        raise
    except Exception as error:  # `zipfile` and decompressors raise anything, such as an `OSError` of no file
        if is_no_room(error) or getattr(error, "filename", None):
            raise
        raise DownloadError(f"{archive}: a damaged ZIP file: {error}; delete it, and it is got again") from error


def _members(archive: Path, opened: zipfile.ZipFile, folder: str) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The files of an archive, each with its place below the folder. Raises `DownloadError`."""
    files = [member for member in opened.infolist() if not member.is_dir()]
    for member in opened.infolist():
        if reason := _refusal(member):
            raise DownloadError(f"{archive}: {member.filename!r} {reason}; nothing is unpacked")
    size, most = sum(member.file_size for member in files), _MOST_TIMES_LARGER * archive.stat().st_size
    if size > most or len(files) > _MOST_FILES:
        raise DownloadError(
            f"{archive}: {len(files):,} files of {size:,} bytes, far more than an archive of its size holds; "
            "nothing is unpacked"
        )
    places = [PurePosixPath(member.filename) for member in files]
    if all(place.parts[0] == folder and len(place.parts) > 1 for place in places):
        places = [place.relative_to(folder) for place in places]
    if not places or len({place.as_posix().casefold() for place in places}) < len(places):
        raise DownloadError(f"{archive}: {'two files of one name' if places else 'no file in it'}; nothing is unpacked")
    return list(zip(files, places, strict=True))


def _refusal(member: zipfile.ZipInfo) -> str | None:
    """Why a member is not unpacked."""
    name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
    if name.startswith("/") or "\\" in name or ":" in name or "\0" in name or ".." in name.split("/"):
        return "would lie outside of the folder"
    if not PurePosixPath(name).parts:
        return "has no name"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link" if kind == stat.S_IFLNK else "is no plain file"
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if _ENTRY in member.extra + member.comment:  # of a wrong length: `zipfile` reads on behind them
        return "has the archive's next files for a comment: the archive is damaged"
    return None


def _extract(
    archive: Path,
    opened: zipfile.ZipFile,
    members: Sequence[tuple[zipfile.ZipInfo, PurePosixPath]],
    folder: Path,
) -> None:
    total = sum(member.file_size for member, _ in members)
    with tqdm(total=total, desc=f"unpack {archive.name}", unit="B", unit_scale=True, file=sys.stderr) as bar:
        for member, place in members:
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(member) as source, path.open("xb") as file:
                written = 0
                while piece := source.read(_PIECE):  # never more than the stated size, and its checksum is checked
                    file.write(piece)
                    written += len(piece)
                    bar.update(len(piece))
            if written != member.file_size:
                raise DownloadError(f"{archive}: {member.filename!r} has {written} of {member.file_size} bytes")

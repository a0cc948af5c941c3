"""Where pieces of the cache lie: files by name that never change, in a folder or an object store.

A name is `<folder>/<file>`. Nothing here is locked: a piece is created complete or not at all, and of two who create
the same one the second loses, which is harmless, since both made the same of the same video.
"""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from features.files import create_file

SCHEMES = ("file", "s3", "gs", "az")
"""How the address of a shared place for pieces may begin."""


class PiecesError(Exception):
    """A place of pieces cannot be reached or used. The message has its address, what is wrong and what to do."""


class Pieces(Protocol):
    """What the cache asks of a place. All but `delete`, which is for damaged pieces, are harmless to repeat."""

    def has(self, name: str) -> bool: ...

    def list(self, folder: str) -> AbstractSet[str]:
        """The files of a folder, without its name."""

    def get(self, name: str) -> bytes | None:
        """The piece's bytes, None where there is none."""

    def create(self, name: str, content: bytes) -> bool:
        """Put a piece where there is none; False where there was one, which stays as it is."""

    def delete(self, name: str) -> None:
        """Remove a piece, if it is there."""


@dataclass(frozen=True)
class FolderPieces:
    """Pieces as files below `root`, which may be on a disk that several machines share."""

    root: Path

    def has(self, name: str) -> bool:
        return (self.root / name).is_file()

    def list(self, folder: str) -> AbstractSet[str]:
        try:
            with os.scandir(self.root / folder) as entries:
                return {entry.name for entry in entries if not entry.name.startswith(".")}
        except FileNotFoundError:
            return frozenset()

    def get(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def create(self, name: str, content: bytes) -> bool:
        return create_file(self.root / name, content)

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)


def pieces_at(address: str) -> Pieces:
    """The place at `file:///folder`, `s3://bucket/prefix`, `gs://…` or `az://…`. Raises `PiecesError`.

    Credentials and endpoints of object stores come from the environment, as their own tools take them.
    """
    parts = urlsplit(address)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return FolderPieces(Path(url2pathname(parts.path)))
    if parts.scheme not in SCHEMES[1:] or not parts.netloc:
        wanted = "file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
        raise PiecesError(f"a shared cache is at {wanted}, got {address!r}: correct extract.cache")
    from features.pieces.objects import ObjectPieces

    return ObjectPieces.at(address)

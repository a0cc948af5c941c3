"""Pieces of one provenance where they lie: in the cache's own folder, and in a shared place where there is one."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from features.files import PARTIAL
from features.pieces.places import FolderPieces, Pieces
from features.pieces.shared_lock import held_alone, held_together
from features.sealed import DamagedFile, read_sealed_tensors

log = logging.getLogger(__name__)

SUFFIX = ".safetensors"
PART = ".part-"
_ABANDONED_S = 30 * 86_400
_READERS = 16
_FEW = 300


@dataclass(frozen=True)
class KeptPieces:
    """The files of the folder `key` below `root`, and of the one in the place `shared`, if there is one.

    What is created goes to both, to `shared` first; what is read from `shared` is kept below `root`.
    """

    root: Path
    key: str
    shared: Pieces | None
    _sound: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def here(self) -> FolderPieces:
        return FolderPieces(self.root)

    def path(self, file: str) -> Path:
        """Where the file lies, if it is here."""
        return self.root / self.key / file

    def named(self, files: Collection[str]) -> frozenset[str]:
        """Those of the `files` that lie in the shared place, or here where there is none."""
        return self._named(self.shared or self.here, files)

    def named_anywhere(self, files: Collection[str]) -> frozenset[str]:
        """Those of the `files` that lie here or in the shared place."""
        return self.named(files) | (self._named(self.here, files) if self.shared else frozenset())

    def sound(self, files: Collection[str]) -> frozenset[str]:
        """Those of the `files` that are there and whole."""
        candidates = sorted(self.named_anywhere(files))
        with ThreadPoolExecutor(_READERS) as readers:
            verdicts = list(readers.map(self.is_sound, candidates))
        return frozenset(file for file, is_sound in zip(candidates, verdicts, strict=True) if is_sound)

    def share(self, files: Collection[str]) -> None:
        """Put those of the `files`, which lie here, into the shared place that it lacks."""
        if self.shared is not None:
            for file in set(files) - self.named(files):
                self.shared.create(f"{self.key}/{file}", self.path(file).read_bytes())

    def create(self, file: str, content: bytes) -> None:
        """Keep the file, unless it is there; once this returns, it outlasts a kill and a power cut."""
        for place in self._places:
            place.create(f"{self.key}/{file}", content)

    def create_here(self, file: str, content: bytes) -> bool:
        """Keep the file below `root` alone; False where there is one."""
        return self.here.create(f"{self.key}/{file}", content)

    def delete(self, file: str) -> None:
        for place in self._places:
            place.delete(f"{self.key}/{file}")

    def is_here(self, file: str) -> bool:
        """Whether the file lies below `root`, also where it had to be brought from the shared place first."""
        if self.path(file).is_file():
            return True
        content = self.shared.get(f"{self.key}/{file}") if self.shared and PART not in file else None
        if content is not None:
            self.create_here(file, content)
        return content is not None

    def is_sound(self, file: str) -> bool:
        """Whether the tensors of the file are there and whole; read once, since a piece never changes.

        A damaged file is deleted where it lies: first here, and if what is then brought is damaged, there as well.
        """
        for place in reversed(self._places):
            if not self.is_here(file):
                break
            if file in self._sound:
                return True
            try:
                read_sealed_tensors(self.path(file), remedy="it is computed again")
                self._sound.add(file)
                return True
            except FileNotFoundError:  # another process has found it damaged
                continue
            except DamagedFile as error:
                log.warning("%s", error)
                place.delete(f"{self.key}/{file}")
                self.here.delete(f"{self.key}/{file}")
        self._sound.discard(file)
        return False

    def _named(self, place: Pieces, files: Collection[str]) -> frozenset[str]:
        """One listing for many files; few are asked for one by one."""
        if len(files) > _FEW:
            return frozenset(place.list(self.key) & set(files))
        with ThreadPoolExecutor(_READERS) as readers:
            verdicts = list(readers.map(lambda file: place.has(f"{self.key}/{file}"), files))
        return frozenset(file for file, has in zip(files, verdicts, strict=True) if has)

    @property
    def _places(self) -> list[Pieces]:
        return [*([self.shared] if self.shared else []), self.here]


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Hold the pieces below `root` against being evicted; others read and create beside it.

    Whoever comes while nobody else is there removes what killed runs left half written, and parts of videos that
    nobody finished in thirty days.
    """
    with held_alone(root) as is_alone:
        if is_alone:
            _clear_up(root)
    with held_together(root):
        yield


def _clear_up(root: Path) -> None:
    for leftover in root.glob(f"*/*{PARTIAL}"):
        leftover.unlink()
    for part in root.glob(f"*/*{PART}*{SUFFIX}"):
        whole = part.with_name(part.name.partition(".")[0] + SUFFIX)
        if whole.is_file() or time.time() - part.stat().st_mtime > _ABANDONED_S:
            part.unlink()


def shrink(root: Path, max_bytes: float) -> int:
    """Delete pieces below `root`, the least recently used first, until the rest fits; returns how many.

    While others hold them nothing is deleted: the last one of them does it.
    """
    with held_alone(root) as is_alone:
        if not is_alone:
            return 0
        pieces = [(path.stat(), path) for path in root.glob(f"*/*{SUFFIX}")]
        pieces.sort(key=lambda piece: (piece[0].st_mtime_ns, piece[1]))
        total = sum(stat.st_size for stat, _ in pieces)
        num_deleted = 0
        for stat, path in pieces:
            if total <= max_bytes:
                break
            path.unlink()
            total -= stat.st_size
            num_deleted += 1
    return num_deleted

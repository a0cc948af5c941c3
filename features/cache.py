"""A cache of finished videos, by content. Knows hashes of bytes and of recipes; knows no video id, label or split.

A recipe is all that embeddings are a function of besides the video's bytes. Each recipe has a folder with recipe.json,
and in it each video has one file, complete or not there: `<sha256 of the video>.safetensors`. Nothing here is an
output of a stage; whatever is deleted is computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from features.store.embeddings import VideoEmbeddings

log = logging.getLogger(__name__)

_FORMAT = 1
_VECTORS = "vectors/"


@dataclass(frozen=True)
class EmbeddingCache:
    """The pieces of one recipe, below `root`, which all recipes share.

    `recipe` is plain JSON. Use it inside `locked`; a piece, once written, never changes.
    """

    root: Path
    recipe: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where this recipe's pieces lie."""
        text = json.dumps({"format": _FORMAT, **self.recipe}, sort_keys=True, allow_nan=False)
        return self.root / hashlib.sha256(text.encode()).hexdigest()[:16]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the whole cache; waits for another process that does, and says which. A killed one holds nothing.

        Clears away what a killed run left half written.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock, holder = FileLock(self.root / "lock"), self.root / "holder"
        try:
            lock.acquire(timeout=0)
        except Timeout:
            told = holder.read_text(encoding="utf-8") if holder.is_file() else "another process"
            log.warning("%s is in use by %s; waiting for it to end", self.root, told)
            lock.acquire()
        try:
            holder.write_text(f"process {os.getpid()}", encoding="utf-8")
            for leftover in self.root.glob("*/*.partial"):
                leftover.unlink()
            self.folder.mkdir(exist_ok=True)
            recipe = json.dumps({"format": _FORMAT, **self.recipe}, indent=2, sort_keys=True) + "\n"
            (self.folder / "recipe.json").write_text(recipe, encoding="utf-8")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def has(self, video_sha256: str) -> bool:
        return self._path(video_sha256).is_file()

    def put(self, video_sha256: str, video: VideoEmbeddings) -> None:
        """Keep a video's embeddings; when this returns, they outlast a kill and a power cut."""
        columns = {"start_s": video.start_s, "end_s": video.end_s, "num_padded": video.num_padded}
        columns |= {_VECTORS + pooling: vectors for pooling, vectors in video.vectors.items()}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in columns.items()}
        _write(self._path(video_sha256), save(tensors))

    def num_windows(self, video_sha256: str) -> int:
        with _opened(self._path(video_sha256)) as piece:
            return int(piece.get_slice("start_s").get_shape()[0])

    def load(self, video_sha256: str) -> VideoEmbeddings:
        with _opened(self._path(video_sha256)) as piece:
            values = {name: piece.get_tensor(name).numpy() for name in piece.keys()}  # noqa: SIM118, not a mapping
        vectors = {name.removeprefix(_VECTORS): each for name, each in values.items() if name.startswith(_VECTORS)}
        return VideoEmbeddings(values["start_s"], values["end_s"], values["num_padded"], vectors)

    def token_windows(self, video_sha256: str, precision: str, *, wanted: frozenset[int]) -> tuple[int, ...] | None:
        """Which of the `wanted` windows' tokens there are: all that the video has, or None where one was never made."""
        path = self._path(video_sha256, f".tokens-{precision}")
        if not path.is_file():
            return None
        with _opened(path) as piece:
            asked = set(json.loads(piece.metadata()["asked"]))
            stored = piece.get_tensor("windows").tolist()
        return tuple(number for number in stored if number in wanted) if wanted <= asked else None

    def put_tokens(
        self, video_sha256: str, precision: str, windows: Sequence[int], tokens: torch.Tensor, *, asked: frozenset[int]
    ) -> None:
        """Keep tokens (len(windows), N, D) of the `windows` with these numbers: those `asked` for that there are."""
        tensors = {"windows": torch.tensor(windows, dtype=torch.int32), "tokens": tokens.contiguous()}
        path = self._path(video_sha256, f".tokens-{precision}")
        _write(path, save(tensors, metadata={"asked": json.dumps(sorted(asked))}))

    def load_tokens(self, video_sha256: str, precision: str, windows: Sequence[int]) -> torch.Tensor:
        """Tokens (len(windows), N, D) of these windows; one that is not there raises `KeyError`."""
        with _opened(self._path(video_sha256, f".tokens-{precision}")) as piece:
            row_of = {number: row for row, number in enumerate(piece.get_tensor("windows").tolist())}
            return piece.get_tensor("tokens")[[row_of[number] for number in windows]]

    def mark_used(self, video_sha256s: Iterable[str], *, now_ns: int) -> None:
        """Of all that is old, these go last; their tokens, which are large, just before them."""
        used = set(video_sha256s)
        for path in self.folder.glob("*.safetensors"):
            if path.name.partition(".")[0] in used:
                used_ns = now_ns - int(".tokens-" in path.name)
                os.utime(path, ns=(used_ns, used_ns))

    def shrink(self, max_bytes: float) -> int:
        """Delete pieces of any recipe, the ones longest unused first, until the rest fits; gives how many went."""
        pieces = [(path.stat(), path) for path in self.root.glob("*/*.safetensors")]
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

    def _path(self, video_sha256: str, kind: str = "") -> Path:
        return self.folder / f"{video_sha256}{kind}.safetensors"


def sha256_of(path: Path) -> str:
    """The key of a video: the hash of its file's bytes, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as piece:
            yield piece
    except SafetensorError as error:
        raise OSError(0, f"is damaged ({error}); delete it, and it will be computed again", str(path)) from error


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        partial.unlink(missing_ok=True)  # where the disk is full, it holds room that others need
        raise
    partial.replace(path)

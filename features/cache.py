"""A cache of finished videos, by content: hashes of bytes and of provenance, and no video id, label or split.

Provenance is all that embeddings are a function of besides the video's bytes. Each provenance has a folder with
provenance.json, and in it each video has one file, complete or not there: `<sha256 of the video>.safetensors`. It
states the hash of its content. Beside it lie block inputs and thumbnails, where they were asked for, why a video
failed, and until a long video is finished its parts. Nothing here is an output of a stage; what is deleted, or damaged,
is computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from features.decode.damage import VideoEnd
from features.hashes import forget_hash
from features.pieces.kept import PART, SUFFIX, KeptPieces, held, shrink
from features.pieces.places import Pieces
from features.pieces.tensors import (
    embedding_tensors,
    embeddings_from,
    thumbnail_tensors,
    thumbnails_from,
)
from features.sealed import (
    DamagedFile,
    damage_told,
    read_sealed_json,
    read_sealed_tensors,
    sealed,
    sealed_tensors,
)
from features.store.embeddings import VideoEmbeddings
from features.thumbnails import MAX_SIDE, Thumbnails

log = logging.getLogger(__name__)

_FORMAT = 6
_REMEDY = "delete it, and it will be computed again"
_THUMBNAILS = f".thumbnails-{MAX_SIDE}"
_BLOCK_INPUTS = ".block-inputs-"
_FAILED = ".failed.json"
_OF_PART = "thumbnails/"


@dataclass(frozen=True)
class Unfinished:
    """A video that was begun: so many parts are kept, with all windows before `next_window`, up to `end_s`."""

    num_parts: int = 0
    next_window: int = 0
    end_s: float = 0.0


@dataclass(frozen=True)
class EmbeddingCache:
    """The pieces of one provenance, below the folder `root` of all provenances, and perhaps in a shared place.

    `provenance` is plain JSON. Use the cache inside `locked`. A piece, once created, never changes: many processes read
    and create at once, and who creates second what another did loses nothing. One that is damaged is as good as absent:
    it is deleted with a warning when it is first asked for. What is created goes to `shared` and `root`, what is read
    from `shared` is kept in `root`; parts of unfinished videos stay in `root`.
    """

    root: Path
    provenance: Mapping[str, Any]
    shared: Pieces | None = None

    @property
    def key(self) -> str:
        """The name of the folder of this provenance's pieces."""
        text = json.dumps({"format": _FORMAT, **self.provenance}, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        """The folder of this provenance's pieces."""
        return self.root / self.key

    @cached_property
    def pieces(self) -> KeptPieces:
        return KeptPieces(self.root, self.key, self.shared)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the pieces against being evicted; others read and create beside it. A killed process holds nothing."""
        with held(self.root):
            provenance = {"format": _FORMAT, **self.provenance}
            text = json.dumps(provenance, indent=2, sort_keys=True, allow_nan=False) + "\n"
            self.pieces.create("provenance.json", text.encode())
            yield

    def sound(self, video_sha256s: Iterable[str]) -> frozenset[str]:
        """Those of the videos whose embeddings are there, as they were put; of many, found by one listing."""
        files = {digest + SUFFIX for digest in video_sha256s}
        return frozenset(file.removesuffix(SUFFIX) for file in self.pieces.sound(files))

    def share(self, video_sha256s: Collection[str]) -> None:
        """Put what lies here of these videos into the shared place, if there is one: no parts and no thumbnails."""
        if self.shared is None:
            return
        files = [file for file in self.pieces.here.list(self.key) if file.partition(".")[0] in video_sha256s]
        plain = [file for file in files if PART not in file and _THUMBNAILS not in file]
        self.pieces.share([file for file in plain if file.endswith(_FAILED) or self.pieces.is_sound(file)])

    def lacking(self, wanted: Mapping[str, frozenset[int]], precision: str) -> list[str]:
        """Those of the videos that nobody has embedded, or failed to, so far, by names alone.

        `wanted` are the windows whose block inputs are to be there, too.
        """

        def files(digest: str) -> set[str]:
            block_inputs = {digest + _block_inputs(precision, wanted[digest])} if wanted[digest] else set()
            return {digest + SUFFIX} | block_inputs

        named = self.pieces.named([file for digest in wanted for file in (*files(digest), digest + _FAILED)])
        return [digest for digest in wanted if not files(digest) <= named and digest + _FAILED not in named]

    def has(self, video_sha256: str) -> bool:
        """Whether the video's embeddings are there, as they were put."""
        return self.pieces.is_sound(video_sha256 + SUFFIX)

    def put(self, video_sha256: str, video: VideoEmbeddings, end: VideoEnd) -> None:
        """Keep a video's embeddings and what decoding found; once this returns, they outlast a kill and a power cut."""
        self.pieces.create(video_sha256 + SUFFIX, sealed_tensors(embedding_tensors(video), {"end": end.to_json()}))

    def num_windows(self, video_sha256: str) -> int:
        with _opened(self._path(video_sha256)) as piece:
            return int(piece.get_slice("start_s").get_shape()[0])

    def load(self, video_sha256: str) -> VideoEmbeddings:
        """The video's embeddings, as they were put; raises `DamagedFile`."""
        path = self._path(video_sha256)
        tensors, _ = read_sealed_tensors(path, remedy=_REMEDY)
        with damage_told(path, remedy=_REMEDY):
            return embeddings_from(tensors)

    def video_end(self, video_sha256: str) -> VideoEnd:
        """What decoding found out about the video; raises `DamagedFile`."""
        path = self._path(video_sha256)
        _, header = read_sealed_tensors(path, remedy=_REMEDY)
        with damage_told(path, remedy=_REMEDY):
            return VideoEnd.from_json(header["end"])

    def failures(self, video_sha256s: Collection[str]) -> dict[str, tuple[str, str]]:
        """Why videos failed and what was found instead, by hash, of those that are kept as failed."""
        named = self.pieces.named_anywhere([digest + _FAILED for digest in video_sha256s])
        kept = {}
        for digest in video_sha256s:
            if digest + _FAILED in named and self.pieces.is_here(digest + _FAILED):
                try:
                    content = read_sealed_json(self.folder / (digest + _FAILED), remedy="the video is tried again")
                    kept[digest] = content["reason"], content["found"]
                except (DamagedFile, KeyError) as error:
                    log.warning("%s", error)
                    self.forget_failures([digest])
        return kept

    def put_failure(self, video_sha256: str, reason: str, found: str) -> None:
        """Keep why a video failed, so that nobody tries it again unless asked to."""
        content = json.dumps(sealed({"reason": reason, "found": found}), indent=2) + "\n"
        self.pieces.create(video_sha256 + _FAILED, content.encode())

    def forget_failures(self, video_sha256s: Iterable[str]) -> None:
        for digest in video_sha256s:
            self.pieces.delete(digest + _FAILED)

    def has_thumbnails(self, video_sha256: str) -> bool:
        return self.pieces.is_sound(video_sha256 + _THUMBNAILS + SUFFIX)

    def put_thumbnails(self, video_sha256: str, thumbnails: Thumbnails) -> None:
        """Keep a video's thumbnails, in a file of their own: most videos have none."""
        self.pieces.create(video_sha256 + _THUMBNAILS + SUFFIX, sealed_tensors(thumbnail_tensors(thumbnails), {}))

    def load_thumbnails(self, video_sha256: str) -> Thumbnails:
        """The video's thumbnails, as they were put, each read when it is asked for; raises `DamagedFile`."""
        path = self._path(video_sha256, _THUMBNAILS)
        tensors, _ = read_sealed_tensors(path, remedy=_REMEDY)
        with damage_told(path, remedy=_REMEDY):
            return thumbnails_from(tensors)

    def unfinished(self, video_sha256: str, *, thumbnails: bool) -> Unfinished:
        """What is kept of a video that was begun; of parts without the `thumbnails` that are wanted, nothing."""
        number, next_window, end_s = 0, 0, 0.0
        while self.pieces.is_sound(video_sha256 + _part(number) + SUFFIX):
            tensors, header = read_sealed_tensors(self._path(video_sha256, _part(number)), remedy=_REMEDY)
            if thumbnails and not header["thumbnails"]:
                self.drop_parts(video_sha256)
                return Unfinished()
            number, next_window, end_s = number + 1, int(tensors["window"][-1]) + 1, float(tensors["end_s"][-1])
        return Unfinished(number, next_window, end_s)

    def put_part(
        self, video_sha256: str, number: int, video: VideoEmbeddings, *, thumbnails: Thumbnails | None
    ) -> bool:
        """Keep part `number` of a video, from 0, until it is finished; False where another process has kept its own."""
        tensors = embedding_tensors(video)
        if thumbnails is not None:
            tensors |= {_OF_PART + name: tensor for name, tensor in thumbnail_tensors(thumbnails).items()}
        content = sealed_tensors(tensors, {"thumbnails": thumbnails is not None})
        return self.pieces.create_here(video_sha256 + _part(number) + SUFFIX, content)

    def load_part(self, video_sha256: str, number: int) -> tuple[VideoEmbeddings, Thumbnails]:
        """What was put, with no thumbnails where there were none; raises `DamagedFile`."""
        path = self._path(video_sha256, _part(number))
        tensors, header = read_sealed_tensors(path, remedy=_REMEDY)
        with damage_told(path, remedy=_REMEDY):
            of_part = {name.removeprefix(_OF_PART): each for name, each in tensors.items() if name.startswith(_OF_PART)}
            return embeddings_from(tensors), thumbnails_from(of_part) if header["thumbnails"] else Thumbnails.none()

    def drop_parts(self, video_sha256: str) -> None:
        """Delete the parts of a video, which is finished or cannot be."""
        for path in self.folder.glob(f"{video_sha256}{PART}*{SUFFIX}"):
            path.unlink(missing_ok=True)

    def block_input_windows(
        self, video_sha256: str, precision: str, *, wanted: frozenset[int]
    ) -> tuple[int, ...] | None:
        """The `wanted` windows that the video has, where all their block inputs were computed; else None."""
        for name in self._block_inputs(video_sha256, precision, wanted):
            with _opened(self.folder / name) as piece:
                asked = set(piece.get_tensor("asked").tolist())
                stored = piece.get_tensor("windows").tolist()
            if wanted <= asked:
                return tuple(number for number in stored if number in wanted)
        return None

    def put_block_inputs(
        self,
        video_sha256: str,
        precision: str,
        windows: Sequence[int],
        block_inputs: torch.Tensor,
        *,
        asked: frozenset[int],
    ) -> None:
        """Keep block inputs (len(windows), N, D) of these windows: those of the `asked` that the video has."""
        numbers = {"windows": windows, "asked": sorted(asked)}
        tensors = {name: torch.tensor(each, dtype=torch.int32) for name, each in numbers.items()}
        content = sealed_tensors(tensors | {"block_inputs": block_inputs}, {})
        name = video_sha256 + _block_inputs(precision, asked)
        self.pieces.create(name, content)
        self._block_inputs_here.setdefault((video_sha256, precision), []).append(name)

    def load_block_inputs(self, video_sha256: str, precision: str, windows: Sequence[int]) -> torch.Tensor:
        """Block inputs (len(windows), N, D) of these windows; some that are not there raise `KeyError`.

        Raises `DamagedFile`.
        """
        for name in self._block_inputs(video_sha256, precision, frozenset(windows)):
            piece, _ = read_sealed_tensors(self.folder / name, remedy=_REMEDY)
            row_of = {number: row for row, number in enumerate(piece["windows"].tolist())}
            if row_of.keys() >= set(windows):
                return piece["block_inputs"][[row_of[number] for number in windows]]
        raise KeyError(f"no block inputs of the windows {list(windows)} of {video_sha256} in {precision}")

    def mark_used(self, video_sha256s: Iterable[str], *, now_ns: int) -> None:
        """Mark files as recently used; block inputs, which are large, are evicted just before their embeddings."""
        used = set(video_sha256s)
        for path in self.folder.glob(f"*{SUFFIX}"):
            if path.name.partition(".")[0] in used:
                used_ns = now_ns - int(_BLOCK_INPUTS in path.name)
                with suppress(FileNotFoundError):  # a part that another process has finished with
                    os.utime(path, ns=(used_ns, used_ns))

    def shrink(self, max_bytes: float) -> int:
        """Delete pieces of any provenance below `root`, the least recently used first, until the rest fits.

        Returns how many: none while others hold the cache, of whom the last one does it. Call it outside of `locked`.
        """
        return shrink(self.root, max_bytes)

    def _block_inputs(self, video_sha256: str, precision: str, wanted: frozenset[int]) -> Iterator[str]:
        """Files that may hold them: any that lie here, and the one of just these windows wherever it lies."""
        exact = video_sha256 + _block_inputs(precision, wanted)
        names = self._block_inputs_here.setdefault((video_sha256, precision), [])
        if exact not in names and self.pieces.is_sound(exact):
            names.append(exact)
        yield from (name for name in list(names) if self.pieces.is_sound(name))

    @cached_property
    def _block_inputs_here(self) -> dict[tuple[str, str], list[str]]:
        """Files of block inputs, by hash and precision."""
        names: dict[tuple[str, str], list[str]] = {}
        for name in sorted(self.pieces.here.list(self.key)):
            digest, kind, rest = name.partition(_BLOCK_INPUTS)
            if kind:
                names.setdefault((digest, rest.removesuffix(SUFFIX).partition("-")[0]), []).append(name)
        return names

    def _path(self, video_sha256: str, kind: str = "") -> Path:
        return self.folder / f"{video_sha256}{kind}{SUFFIX}"


def remove_pieces(root: Path, video_sha256: str) -> tuple[int, int]:
    """Delete all that any provenance below `root` keeps of a video; returns how many files and bytes.

    Use it while `root` is `locked`. Raises `ValueError` for what is no hash.
    """
    if not re.fullmatch("[0-9a-f]{64}", video_sha256):
        raise ValueError(f"{video_sha256!r} is no sha256")
    pieces = list(root.glob(f"*/{video_sha256}*"))
    num_bytes = sum(path.stat().st_size for path in pieces)
    for path in pieces:
        path.unlink()
    forget_hash(root, video_sha256)
    return len(pieces), num_bytes


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with damage_told(path, remedy=_REMEDY), safe_open(path, framework="pt") as piece:
        yield piece


def _part(number: int) -> str:
    """What a file of a part has in its name behind the hash."""
    return f"{PART}{number:05}"


def _block_inputs(precision: str, asked: frozenset[int]) -> str:
    """How the name of a file of block inputs ends, behind the hash: other windows are another piece."""
    windows = hashlib.sha256(json.dumps(sorted(asked)).encode()).hexdigest()[:8]
    return f"{_BLOCK_INPUTS}{precision}-{windows}{SUFFIX}"

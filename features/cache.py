"""A cache of finished videos, by content: hashes of bytes and of provenance, and no video id, label or split.

Provenance is all that embeddings are a function of besides the video's bytes. Each provenance has a folder with
provenance.json, and in it each video has one file, complete or not there: `<sha256 of the video>.safetensors`. It
states the hash of its content. Beside it lie block inputs and thumbnails, where they were asked for, and until a long
video is finished its parts. Nothing here is an output of a stage; what is deleted, or damaged, is computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from features.decode.damage import VideoEnd
from features.files import PARTIAL, locked, write_json
from features.pictures import WindowPictures
from features.sealed import DamagedFile, damage_told, read_sealed_tensors, write_sealed_tensors
from features.store.embeddings import VideoEmbeddings
from features.thumbnails import MAX_SIDE, PackedJpegs, Thumbnails

log = logging.getLogger(__name__)

_FORMAT = 6
_REMEDY = "delete it, and it will be computed again"
_COLUMNS = ("window", "start_s", "end_s", "num_padded")
_VECTORS = "vectors/"
_PICTURES = ("brightness", "contrast", "motion")
_THUMBNAILS = f".thumbnails-{MAX_SIDE}"
_OF_PART = "thumbnails/"
_PART = ".part-"
_ABANDONED_S = 30 * 86_400


@dataclass(frozen=True)
class Unfinished:
    """A video that was begun: so many parts are kept, with all windows before `next_window`, up to `end_s`."""

    num_parts: int = 0
    next_window: int = 0
    end_s: float = 0.0


@dataclass(frozen=True)
class EmbeddingCache:
    """The pieces of one provenance, below `root`, which all provenances share.

    `provenance` is plain JSON. Use the cache inside `locked`; a piece, once written, never changes. One that is damaged
    is as good as absent: it is deleted with a warning when it is first asked for.
    """

    root: Path
    provenance: Mapping[str, Any]
    _sound: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """The folder of this provenance's pieces."""
        text = json.dumps({"format": _FORMAT, **self.provenance}, sort_keys=True, allow_nan=False)
        return self.root / hashlib.sha256(text.encode()).hexdigest()[:16]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the whole cache; waits for another process that holds it and logs which. A killed one holds nothing.

        Removes what a killed run left half written, and parts of videos that nobody finished in thirty days.
        """
        with locked(self.root):
            for leftover in self.root.glob(f"*/*{PARTIAL}"):
                leftover.unlink()
            for part in self.root.glob(f"*/*{_PART}*.safetensors"):
                whole = part.with_name(part.name.partition(".")[0] + ".safetensors")
                if whole.is_file() or time.time() - part.stat().st_mtime > _ABANDONED_S:
                    part.unlink()
            self.folder.mkdir(exist_ok=True)
            provenance = {"format": _FORMAT, **self.provenance}
            write_json(self.folder / "provenance.json", provenance, sort_keys=True)
            yield

    def has(self, video_sha256: str) -> bool:
        """Whether the video's embeddings are there, as they were put."""
        return self._is_sound(self._path(video_sha256))

    def put(self, video_sha256: str, video: VideoEmbeddings, end: VideoEnd) -> None:
        """Keep a video's embeddings and what decoding found; once this returns, they outlast a kill and a power cut."""
        write_sealed_tensors(self._path(video_sha256), _embedding_tensors(video), {"end": end.to_json()})

    def num_windows(self, video_sha256: str) -> int:
        with _opened(self._path(video_sha256)) as piece:
            return int(piece.get_slice("start_s").get_shape()[0])

    def load(self, video_sha256: str) -> VideoEmbeddings:
        """The video's embeddings, as they were put; raises `DamagedFile`."""
        path = self._path(video_sha256)
        tensors, _ = read_sealed_tensors(path, remedy=_REMEDY)
        with damage_told(path, remedy=_REMEDY):
            return _embeddings(tensors)

    def video_end(self, video_sha256: str) -> VideoEnd:
        """What decoding found out about the video; raises `DamagedFile`."""
        path = self._path(video_sha256)
        _, header = read_sealed_tensors(path, remedy=_REMEDY)
        with damage_told(path, remedy=_REMEDY):
            return VideoEnd.from_json(header["end"])

    def has_thumbnails(self, video_sha256: str) -> bool:
        return self._is_sound(self._path(video_sha256, _THUMBNAILS))

    def put_thumbnails(self, video_sha256: str, thumbnails: Thumbnails) -> None:
        """Keep a video's thumbnails, in a file of their own: most videos have none."""
        write_sealed_tensors(self._path(video_sha256, _THUMBNAILS), _thumbnail_tensors(thumbnails), {})

    def load_thumbnails(self, video_sha256: str) -> Thumbnails:
        """The video's thumbnails, as they were put, each read when it is asked for; raises `DamagedFile`."""
        path = self._path(video_sha256, _THUMBNAILS)
        tensors, _ = read_sealed_tensors(path, remedy=_REMEDY)
        with damage_told(path, remedy=_REMEDY):
            return _thumbnails(tensors)

    def unfinished(self, video_sha256: str, *, thumbnails: bool) -> Unfinished:
        """What is kept of a video that was begun; of parts without the `thumbnails` that are wanted, nothing."""
        number, next_window, end_s = 0, 0, 0.0
        while self._is_sound(path := self._path(video_sha256, _part(number))):
            tensors, header = read_sealed_tensors(path, remedy=_REMEDY)
            if thumbnails and not header["thumbnails"]:
                self.drop_parts(video_sha256)
                return Unfinished()
            number, next_window, end_s = number + 1, int(tensors["window"][-1]) + 1, float(tensors["end_s"][-1])
        return Unfinished(number, next_window, end_s)

    def put_part(
        self, video_sha256: str, number: int, video: VideoEmbeddings, *, thumbnails: Thumbnails | None
    ) -> None:
        """Keep part `number` of a video, from 0, until it is finished."""
        tensors = _embedding_tensors(video)
        if thumbnails is not None:
            tensors |= {_OF_PART + name: tensor for name, tensor in _thumbnail_tensors(thumbnails).items()}
        header = {"thumbnails": thumbnails is not None}
        write_sealed_tensors(self._path(video_sha256, _part(number)), tensors, header)

    def load_part(self, video_sha256: str, number: int) -> tuple[VideoEmbeddings, Thumbnails]:
        """What was put, with no thumbnails where there were none; raises `DamagedFile`."""
        path = self._path(video_sha256, _part(number))
        tensors, header = read_sealed_tensors(path, remedy=_REMEDY)
        with damage_told(path, remedy=_REMEDY):
            of_part = {name.removeprefix(_OF_PART): each for name, each in tensors.items() if name.startswith(_OF_PART)}
            return _embeddings(tensors), _thumbnails(of_part) if header["thumbnails"] else Thumbnails.none()

    def drop_parts(self, video_sha256: str) -> None:
        """Delete the parts of a video, which is finished or cannot be."""
        for path in self.folder.glob(f"{video_sha256}{_PART}*.safetensors"):
            path.unlink()
            self._sound.discard(path)

    def block_input_windows(
        self, video_sha256: str, precision: str, *, wanted: frozenset[int]
    ) -> tuple[int, ...] | None:
        """The `wanted` windows that the video has, where all their block inputs were computed; else None."""
        path = self._path(video_sha256, _block_inputs(precision))
        if not self._is_sound(path):
            return None
        with _opened(path) as piece:
            asked = set(piece.get_tensor("asked").tolist())
            stored = piece.get_tensor("windows").tolist()
        return tuple(number for number in stored if number in wanted) if wanted <= asked else None

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
        path = self._path(video_sha256, _block_inputs(precision))
        write_sealed_tensors(path, tensors | {"block_inputs": block_inputs}, {})

    def load_block_inputs(self, video_sha256: str, precision: str, windows: Sequence[int]) -> torch.Tensor:
        """Block inputs (len(windows), N, D) of these windows; one that is not there raises `KeyError`.

        Raises `DamagedFile`.
        """
        piece, _ = read_sealed_tensors(self._path(video_sha256, _block_inputs(precision)), remedy=_REMEDY)
        row_of = {number: row for row, number in enumerate(piece["windows"].tolist())}
        return piece["block_inputs"][[row_of[number] for number in windows]]

    def mark_used(self, video_sha256s: Iterable[str], *, now_ns: int) -> None:
        """Mark files as recently used; block inputs, which are large, are evicted just before their embeddings."""
        used = set(video_sha256s)
        for path in self.folder.glob("*.safetensors"):
            if path.name.partition(".")[0] in used:
                used_ns = now_ns - int(_block_inputs("") in path.name)
                os.utime(path, ns=(used_ns, used_ns))

    def shrink(self, max_bytes: float) -> int:
        """Delete pieces of any provenance, the least recently used first, until the rest fits; returns how many."""
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

    def _is_sound(self, path: Path) -> bool:
        """Whether the piece is there and whole; read once, since nobody else writes while the cache is locked."""
        if not path.is_file():
            self._sound.discard(path)
        elif path not in self._sound:
            try:
                read_sealed_tensors(path, remedy="it is computed again")
                self._sound.add(path)
            except DamagedFile as error:
                log.warning("%s", error)
                path.unlink()
        return path in self._sound

    def _path(self, video_sha256: str, kind: str = "") -> Path:
        return self.folder / f"{video_sha256}{kind}.safetensors"


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
    return len(pieces), num_bytes


def _embedding_tensors(video: VideoEmbeddings) -> dict[str, torch.Tensor]:
    columns = {name: getattr(video, name) for name in _COLUMNS}
    columns |= {name: getattr(video.pictures, name) for name in _PICTURES}
    columns |= {_VECTORS + pooling: vectors for pooling, vectors in video.vectors.items()}
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in columns.items()}


def _embeddings(tensors: Mapping[str, torch.Tensor]) -> VideoEmbeddings:
    values = {name: tensor.numpy() for name, tensor in tensors.items()}
    vectors = {name.removeprefix(_VECTORS): each for name, each in values.items() if name.startswith(_VECTORS)}
    pictures = WindowPictures(**{name: values[name] for name in _PICTURES})
    return VideoEmbeddings(**{name: values[name] for name in _COLUMNS}, vectors=vectors, pictures=pictures)


def _thumbnail_tensors(thumbnails: Thumbnails) -> dict[str, torch.Tensor]:
    return {
        "times_s": torch.tensor(thumbnails.times_s),
        "sizes": torch.tensor([len(jpeg) for jpeg in thumbnails.jpegs], dtype=torch.int64),
        "jpegs": torch.tensor(np.frombuffer(b"".join(thumbnails.jpegs), dtype=np.uint8)),
    }


def _thumbnails(tensors: Mapping[str, torch.Tensor]) -> Thumbnails:
    jpegs = PackedJpegs(tensors["jpegs"].numpy(), tensors["sizes"].tolist())
    return Thumbnails(tensors["times_s"].numpy(), jpegs)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with damage_told(path, remedy=_REMEDY), safe_open(path, framework="pt") as piece:
        yield piece


def _part(number: int) -> str:
    """What a file of a part has in its name behind the hash."""
    return f"{_PART}{number:05}"


def _block_inputs(precision: str) -> str:
    """What a file of block inputs has in its name behind the hash."""
    return f".block-inputs-{precision}"

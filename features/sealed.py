"""Sealed files: JSON and safetensors that state the hash of their own content, which reading them checks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.files import write_bytes, write_json

if TYPE_CHECKING:
    from torch import Tensor

SEAL = "sha256"
"""The key of a file's hash, in a JSON object and in the header of safetensors."""


class DamagedFile(Exception):
    """A file does not hold what it was written with. The message has its path, what is wrong and what to do."""


@contextmanager
def damage_told(path: Path, *, remedy: str) -> Iterator[None]:
    """Whatever reading the file at `path` raises becomes `DamagedFile`; a missing file stays `FileNotFoundError`."""
    try:
        yield
    except (DamagedFile, FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # a damaged file may raise anything in the library that parses it
        missing = "it has no " if isinstance(error, KeyError) else ""
        cause = missing + " ".join(str(error).split())[:200] or type(error).__name__
        raise DamagedFile(f"{path} cannot be used: {cause}; {remedy}") from error


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object `value` with its hash, whatever the order of its keys; nan and infinity raise `ValueError`."""
    return {**value, SEAL: hashlib.sha256(_canonical(value)).hexdigest()}


def unsealed(value: Any) -> dict[str, Any]:
    """What `sealed` was given; raises `ValueError` for anything else."""
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is wanted, found {type(value).__name__}")
    content = {key: each for key, each in value.items() if key != SEAL}
    if SEAL not in value:
        raise ValueError(f"it states no {SEAL}: an earlier version wrote it, or somebody else")
    if value != sealed(content):
        raise ValueError(f"its content is not what its {SEAL} was made of; files like this are not edited by hand")
    return content


def write_sealed_json(path: Path, value: Mapping[str, Any], *, sort_keys: bool = False) -> None:
    """Write the object `value` and its hash as JSON."""
    write_json(path, sealed(value), sort_keys=sort_keys)


def read_sealed_json(path: Path, *, remedy: str) -> dict[str, Any]:
    """What `write_sealed_json` got. Raises `DamagedFile`, or `FileNotFoundError`."""
    with damage_told(path, remedy=remedy):
        return unsealed(json.loads(path.read_text(encoding="utf-8")))


def write_sealed_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write `tensors` and `header` (JSON) as safetensors with their hash; the same values give the same bytes."""
    write_bytes(path, sealed_tensors(tensors, header))


def sealed_tensors(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """The bytes that `write_sealed_tensors` writes."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = sealed({"header": header, "tensors": _digest(plain)})
    # One entry: safetensors does not keep the order of several.
    return save(plain, {"json": json.dumps(content, sort_keys=True)})


def read_sealed_tensors(path: Path, *, remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_sealed_tensors` got, on the CPU. Raises `DamagedFile`, or `FileNotFoundError`."""
    from safetensors import safe_open

    with damage_told(path, remedy=remedy):
        with safe_open(path, framework="pt") as opened:
            content = unsealed(json.loads((opened.metadata() or {})["json"]))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118, it has no iterator
        if _digest(tensors) != content["tensors"]:
            raise ValueError(f"its tensors are not what its {SEAL} was made of")
        header: dict[str, Any] = content["header"]
        return tensors, header


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, allow_nan=False).encode()


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names, types, shapes and values."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(_canonical([name, str(tensor.dtype), list(tensor.shape)]))
        flat = tensor.contiguous().as_strided((tensor.numel(),), (1,))  # of one value, any stride is contiguous
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()

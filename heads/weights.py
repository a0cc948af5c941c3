"""Trained tensors on disk: a folder of model.safetensors and config.json. Knows names and shapes; builds no model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_TENSORS = "model.safetensors"
_DESCRIPTION = "config.json"


class WeightsMismatch(ValueError):  # noqa: N818, a fact about two things, as the message says
    """Weights and what they are to be used with do not belong together; every difference is named."""


def save(folder: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write `tensors` and what they belong to (`description`, JSON); the same values give the same bytes.

    config.json goes first and comes back last: a folder that has it is complete. Other files there stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _DESCRIPTION).unlink(missing_ok=True)
    partial = folder / f"{_TENSORS}.partial"
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(folder / _TENSORS)
    partial = folder / f"{_DESCRIPTION}.partial"
    partial.write_text(json.dumps(description, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(folder / _DESCRIPTION)


def load(folder: Path, *, expect: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors (on CPU) and description; each part named in `expect` must be in the description, and be equal.

    Parts that `expect` does not name are not compared. Raises `WeightsMismatch` with key, wanted and found.
    """
    _require_complete(folder)
    description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
    wanted_parts = json.loads(json.dumps(expect))  # tuples become what JSON made of them when it was written
    differences = [
        difference
        for key, wanted in wanted_parts.items()
        for difference in _differences(key, wanted, description.get(key, _ABSENT))
    ]
    if differences:
        raise WeightsMismatch(f"the weights in {folder} were made for something else: " + "; ".join(differences))
    return load_file(folder / _TENSORS), description


def load_into(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy `tensors` into `module` by name; unless all of them fit, raises `WeightsMismatch` and copies none."""
    own = module.state_dict()
    faults = {
        "missing": sorted(own.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - own.keys()),
        "mismatched": [
            f"{name}: wanted {tuple(own[name].shape)}, found {tuple(tensors[name].shape)}"
            for name in sorted(own.keys() & tensors.keys())
            if own[name].shape != tensors[name].shape
        ],
    }
    if any(faults.values()):
        named = "; ".join(f"{kind} {names}" for kind, names in faults.items() if names)
        raise WeightsMismatch(f"tensors do not fit {type(module).__name__}: {named}")
    module.load_state_dict(dict(tensors))


def sha256(folder: Path) -> str:
    """Hash of a saved model, tensors and description both, by which events can cite it."""
    _require_complete(folder)
    whole = hashlib.sha256()
    for name in (_TENSORS, _DESCRIPTION):
        with (folder / name).open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


_ABSENT = object()


def _differences(key: str, wanted: Any, found: Any) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name in sorted(wanted.keys() | found.keys()):
            yield from _differences(f"{key}.{name}", wanted.get(name, _ABSENT), found.get(name, _ABSENT))
    elif wanted != found:
        wanted_text, found_text = ("nothing" if value is _ABSENT else repr(value) for value in (wanted, found))
        yield f"{key}: wanted {wanted_text}, found {found_text}"


def _require_complete(folder: Path) -> None:
    if not (folder / _DESCRIPTION).is_file() or not (folder / _TENSORS).is_file():
        raise FileNotFoundError(
            f"no complete weights in {folder}: {_TENSORS} and {_DESCRIPTION} are wanted; run the stage that trains them"
        )

"""Trained tensors on disk: a folder of model.safetensors and config.json. Knows names and shapes, builds no model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.files import sha256_of, write_bytes, write_json
from features.provenance import require_provenance

if TYPE_CHECKING:
    from torch import Tensor, nn

FILES = ("model.safetensors", "config.json")
_TENSORS, _CONFIG = FILES


class WeightsMismatch(ValueError):
    """Tensors do not fit the module that they are to be loaded into; the message names every difference."""


def save(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write `tensors` and `config`, JSON with the key "provenance"; the same values give the same bytes.

    config.json is removed first and written last: a folder that has it is complete. Other files there stay.
    """
    from safetensors.torch import save as to_bytes

    (folder / _CONFIG).unlink(missing_ok=True)
    content = to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_bytes(folder / _TENSORS, content)
    write_json(folder / _CONFIG, config, sort_keys=True)


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a complete folder, as `save` got it. Raises `FileNotFoundError`."""
    for name in FILES:
        if not (folder / name).is_file():
            raise FileNotFoundError(2, "no such file; run the stage that trains it", str(folder / name))
    config: dict[str, Any] = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    return config


def load(folder: Path, *, expected: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors (on the CPU) and config; raises `ProvenanceMismatch` unless its provenance is as `expected`."""
    from safetensors.torch import load_file

    config = read_config(folder)
    require_provenance(config["provenance"], expected=expected, path=folder)
    return load_file(folder / _TENSORS), config


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
        listed = "; ".join(f"{kind} {names}" for kind, names in faults.items() if names)
        raise WeightsMismatch(f"tensors do not fit {type(module).__name__}: {listed}")
    module.load_state_dict(dict(tensors))


def sha256(folder: Path) -> str:
    """Hash of a saved model, of tensors and config, by which events cite it."""
    read_config(folder)
    digests = (bytes.fromhex(sha256_of(folder / name)) for name in FILES)
    return hashlib.sha256(b"".join(digests)).hexdigest()

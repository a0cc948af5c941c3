"""Trained tensors on disk: a folder of model.safetensors and config.json. Knows names and shapes, builds no model.

config.json states its own hash and that of the tensors' file: a folder is as it was written, or is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.files import sha256_of, write_bytes
from features.provenance import require_provenance
from features.sealed import DamagedFile, damage_told, read_sealed_json, write_sealed_json

if TYPE_CHECKING:
    from torch import Tensor, nn

FILES = ("model.safetensors", "config.json")
_TENSORS, _CONFIG = FILES
LAST_BLOCK = "last_block."
"""What the names of a last encoder block's tensors begin with, in a folder that holds one."""
_TENSORS_SHA256 = "tensors_sha256"
REMEDY = "run the stage that writes it again"


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
    digest = hashlib.sha256(content).hexdigest()
    write_sealed_json(folder / _CONFIG, {**config, _TENSORS_SHA256: digest}, sort_keys=True)


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a complete folder, as `save` got it. Raises `FileNotFoundError` or `DamagedFile`."""
    config = _read_config(folder)
    del config[_TENSORS_SHA256]
    return config


def _read_config(folder: Path) -> dict[str, Any]:
    for name in FILES:
        if not (folder / name).is_file():
            raise FileNotFoundError(2, "no such file; run the stage that trains it", str(folder / name))
    config = read_sealed_json(folder / _CONFIG, remedy=REMEDY)
    if _TENSORS_SHA256 not in config:
        raise DamagedFile(f"{folder / _CONFIG} states no {_TENSORS_SHA256}: {REMEDY}")
    return config


def load(folder: Path, *, expected: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors (on the CPU) and config, as they were saved.

    Raises as `read_config` does, and `ProvenanceMismatch` unless its provenance is as `expected`; other tensors than
    those that were saved, and such that are not finite, are a `DamagedFile`.
    """
    from safetensors.torch import load as from_bytes

    config = _read_config(folder)
    require_provenance(config.get("provenance", {}), expected=expected, path=folder)
    with damage_told(folder / _TENSORS, remedy=REMEDY):
        content = (folder / _TENSORS).read_bytes()
        if hashlib.sha256(content).hexdigest() != config.pop(_TENSORS_SHA256):
            raise ValueError(f"its hash is not the {_TENSORS_SHA256} in {_CONFIG}")
        tensors = from_bytes(content)
        bad = sorted(name for name, tensor in tensors.items() if not tensor.isfinite().all())
        if bad:
            raise ValueError(f"nan or infinity in {', '.join(bad)}")
    return tensors, config


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


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

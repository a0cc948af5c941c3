"""A backbone's folder in the Hugging Face format, before any model is built of it: whole, or refused in a sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_CONFIG = "config.json"
_REMEDY = "get the folder again"
_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_pooler_layers",
    "mlp_ratio",
    "crop_size",
    "patch_size",
    "tubelet_size",
    "frames_per_clip",
    "in_chans",
)
"""Keys of config.json that hold a number above zero, where they are there."""
_LARGEST, _MOST_LAYERS = 1_000_000, 1_000


class BackboneError(Exception):
    """A folder does not hold a whole checkpoint of a known kind, or one that fits what it is to be used with."""


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of the folder, with sizes that can be. Raises `BackboneError`."""
    path = folder / _CONFIG
    if not folder.is_dir():
        raise BackboneError(f"there is no backbone folder {folder}")
    if not path.is_file():
        raise BackboneError(f"{folder} is no backbone: it has no config.json")
    config = _json_object(path)
    for key in _SIZES:
        size = config.get(key, 1)
        if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < 2**31:
            raise BackboneError(f"{path}: {key} must be a number above 0, found {size!r}; {_REMEDY}")
    for key, number in config.items():
        most = _MOST_LAYERS if key.endswith("_layers") else _LARGEST
        if isinstance(number, int | float) and not abs(number) <= most:  # nan, too; a slip builds layers without end
            raise BackboneError(f"{path}: {key} must be a number up to {most}, found {number}; {_REMEDY}")
    if config.get("quantization_config") is not None:
        raise BackboneError(f"{path}: the weights are quantised, which this program does not read; get plain ones")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the folder's weights: one, or the parts that an index names. Raises `BackboneError`."""
    files = [folder / WEIGHTS]
    if not files[0].is_file() and (folder / _INDEX).is_file():
        parts = _json_object(folder / _INDEX).get("weight_map")
        names = list(parts.values()) if isinstance(parts, dict) else []
        if not names or not all(isinstance(name, str) and re.fullmatch(r"[\w-][\w.-]*", name) for name in names):
            raise BackboneError(f"{folder / _INDEX}: weight_map must name a file of this folder for each weight")
        files = [folder / name for name in sorted(set(names))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise BackboneError(f"{folder} lacks {', '.join(missing)}")
    return files


def weight_names(files: Sequence[Path]) -> set[str]:
    """The names of all weights in these files, whose heads alone are read."""
    from safetensors import safe_open

    names: set[str] = set()
    for file in files:
        with safe_open(file, framework="pt") as weights:
            names.update(weights.keys())
    return names


def read_weights(files: Sequence[Path]) -> dict[str, Tensor]:
    """All weights of these files, by name, as they are stored."""
    from safetensors.torch import load_file

    return {name: value for file in files for name, value in load_file(file).items()}


def require_complete(folder: Path, loading: dict[str, Any], *, dropped: tuple[str, ...] = ()) -> None:
    """Raise `BackboneError` with all weights that are too many, too few or misshapen, as transformers lists them.

    Those whose names begin with one of `dropped` are of parts that are not kept, and may be missing.
    """
    problems = {
        "missing": sorted(name for name in loading["missing_keys"] if not name.startswith(dropped)),
        "unexpected": sorted(loading["unexpected_keys"]),
        "mismatched": [
            f"{key} (found {tuple(found)}, wanted {tuple(wanted)})"
            for key, found, wanted in sorted(loading["mismatched_keys"])
        ],
        "errors": sorted(loading["error_msgs"]),
    }
    lines = [f"  {kind}: {', '.join(names)}" for kind, names in problems.items() if names]
    if lines:
        raise BackboneError("\n".join([f"the weights in {folder} do not fit its config.json", *lines]))


def require_finite(folder: Path, model: nn.Module) -> None:
    """Raise `BackboneError` where a weight is nan or infinite."""
    bad = sorted(name for name, value in model.state_dict().items() if not value.isfinite().all())
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise BackboneError(f"weights in {folder} are nan or infinite: {', '.join(bad[:3])}{more}; {_REMEDY}")


def identity(folder: Path, content: dict[str, Any]) -> str:
    """The name in config.json where it is one and no path, else the hub's cache folder's, else the folder's own."""
    name = content.get("_name_or_path")
    if isinstance(name, str) and re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        return name
    folder = folder.resolve()
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return folder.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
    return folder.name


def _json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BackboneError(f"{path} is not JSON: {error}; {_REMEDY}") from error
    if not isinstance(content, dict):
        raise BackboneError(f"{path} holds one JSON object, got {type(content).__name__}; {_REMEDY}")
    return content

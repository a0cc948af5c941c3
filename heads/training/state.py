"""A training's state on disk, complete or not there. Knows tensors, JSON and which training; knows no loop."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

log = logging.getLogger(__name__)

_FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A place for the state of one training: the folder `path`, which is its own.

    `identity` (JSON) is all that determines the training, so that another one never goes on from its state. Written
    every `every_steps` micro-steps, at the end of an update.
    """

    path: Path
    identity: Mapping[str, Any]
    every_steps: int

    def __post_init__(self) -> None:
        if self.every_steps < 1:
            raise ValueError(f"every_steps must be 1 or more, got {self.every_steps}")

    def write(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put `tensors` and `state` (JSON) in place of what was there; a kill at any moment leaves one or the other."""
        self.path.mkdir(parents=True, exist_ok=True)
        # One file for both, since only a file can be replaced in one go.
        header = json.dumps({"identity": self.identity, "state": state}, allow_nan=False, sort_keys=True)
        file = self.path / _FILE
        partial = file.with_name(f"{_FILE}.partial")
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, {"json": header})
        try:
            with partial.open("wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            partial.replace(file)
        except OSError as error:  # a full disk names no file of itself
            raise OSError(error.errno, error.strerror, str(partial)) from error

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors (on CPU) and state; None, with a line in the log, where they are incomplete or another training's."""
        file = self.path / _FILE
        if not file.is_file():
            return None
        try:
            with safe_open(file, framework="pt") as opened:
                header = json.loads(opened.metadata()["json"])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118, it has no iterator
        except (SafetensorError, TypeError, KeyError, json.JSONDecodeError) as error:
            log.warning("%s is no complete checkpoint (%s): the training begins anew", file, error)
            return None
        wanted = json.loads(json.dumps(self.identity))  # tuples become what JSON made of them when it was written
        if header["identity"] != wanted:
            keys = wanted.keys() | header["identity"].keys()
            differing = sorted(key for key in keys if wanted.get(key) != header["identity"].get(key))
            log.info("%s is another training's (%s): this one begins anew", file, ", ".join(differing))
            return None
        return tensors, header["state"]

    def remove(self) -> None:
        """Leave nothing of it."""
        shutil.rmtree(self.path, ignore_errors=True)

"""The state of a training on disk, complete or not there, to resume from."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from features.provenance import differences
from features.sealed import DamagedFile, read_sealed_tensors, write_sealed_tensors

log = logging.getLogger(__name__)

_FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """The state of one training in a folder of its own, `path`.

    `provenance` (JSON) is all that determines the training, so that no other training resumes from its state. Written
    every `every_steps` micro-steps, at the end of an update.
    """

    path: Path
    provenance: Mapping[str, Any]
    every_steps: int

    def __post_init__(self) -> None:
        if self.every_steps < 1:
            raise ValueError(f"every_steps must be 1 or more, got {self.every_steps}")

    def write(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write `tensors` and `state` (JSON); a kill at any moment leaves the earlier state or this one."""
        write_sealed_tensors(self.path / _FILE, tensors, {"provenance": self.provenance, "state": state})

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors (on the CPU) and state; None, and a log line, for an incomplete file or another training's."""
        file = self.path / _FILE
        if not file.is_file():
            return None
        try:
            tensors, header = read_sealed_tensors(file, remedy="the training starts over")
        except DamagedFile as error:
            log.warning("%s", error)
            return None
        different = differences({"training": header["provenance"]}, expected={"training": self.provenance})
        if different:
            log.info("%s is another training's (%s): this one starts over", file, "; ".join(different))
            return None
        return tensors, header["state"]

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

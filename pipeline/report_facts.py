"""What a report says of where it was made, and pictures of its examples. Knows no score."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from features.files import atomic_folder, private_files, write_bytes
from reports.evaluation.examples import Example

_LIBRARIES = ("torch", "transformers", "numpy", "scikit-learn", "av")
_PACKAGES = ("features", "heads", "reports", "pipeline")
_PLACES = (
    *("fetch.dataset_dir", "fetch.backbone_dir", "fetch.recordings_dir", "fetch.corrections", "clip"),
    *("extract.cache", "extract.ray_address"),
)
"""The params that name files, folders and machines of somebody's."""

log = logging.getLogger(__name__)


def code_version() -> str:
    """The version of this package, and a hash of all its modules."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return f"{importlib.metadata.version('video-diary-logger')}, sha256 of its modules {digest.hexdigest()[:16]}…"


def machine() -> dict[str, str]:
    """The kind of machine and the libraries; nothing that identifies this one."""
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES)
    return {
        "code": code_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "libraries": f"Python {platform.python_version()}, {libraries}",
    }


def shown_params(params: Any) -> dict[str, str]:
    """Every value by its dotted name, but places of somebody's."""
    values: dict[str, str] = {}

    def add(value: Any, name: str) -> None:
        if is_dataclass(value) and not isinstance(value, type):
            for field in fields(value):
                add(getattr(value, field.name), f"{name}.{field.name}" if name else field.name)
        elif name not in _PLACES:
            values[name] = f"{list(value)}" if isinstance(value, tuple) else f"{value}"

    add(params, "")
    return values


def write_pictures(
    folder: Path, examples: Sequence[Example], videos: Mapping[str, Path], *, page: Path
) -> tuple[list[list[str]], list[str]]:
    """Write three pictures of each example to `folder`; return their addresses and the videos', seen from `page`.

    They are kept apart from the page, which may be passed on where they may not, and are readable for their owner
    alone. An example whose video cannot be read has none.
    """
    from features.decode.container import UnreadableVideo
    from features.decode.grid import frames_shown_at
    from features.thumbnails import MAX_SIDE, Thumbnail

    def address(path: Path) -> str:
        return quote(Path(os.path.relpath(path, page.parent)).as_posix())

    pictures: list[list[str]] = []
    with private_files(), atomic_folder(folder) as partial:
        for number, example in enumerate(examples, start=1):
            addresses_of_example: list[str] = []
            try:
                images = frames_shown_at(videos[example.video_id], list(example.times_s), max_side=MAX_SIDE)
            except UnreadableVideo as error:
                log.warning("no pictures: %s", error)
                images = []
            for time_s, image in zip(example.times_s, images, strict=False):
                name = f"{number:02d}_{round(1000 * time_s):08d}.jpg"
                write_bytes(partial / name, Thumbnail.of(image, time_s).jpeg)
                addresses_of_example.append(address(folder / name))
            pictures.append(addresses_of_example)
    addresses = [
        f"{address(videos[each.video_id])}#t={each.segment.start_s:g},{each.segment.end_s:g}" for each in examples
    ]
    return pictures, addresses

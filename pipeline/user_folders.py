"""The user's own folders, which `fetch` links and no stage writes to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.params import FolderFetch, Params, RenderedFetch, profile_file

KEYS = ("dataset_dir", "backbone_dir", "recordings_dir")
"""The params that name a folder each, in the order of `fetch`'s outs."""


class UnusableFolder(Exception):
    """A folder that the params name does not hold what it must."""


def user_folders(params: Params, profile: str) -> dict[str, Path]:
    """The folders that the params name, by key; none where the data set is rendered. Raises `UnusableFolder`."""
    fetch = params.fetch
    if isinstance(fetch, RenderedFetch):
        return {}
    return {key: _existing(fetch, key, profile) for key in KEYS if getattr(fetch, key) is not None}


def _existing(fetch: FolderFetch, key: str, profile: str) -> Path:
    folder = Path(getattr(fetch, key)).expanduser()
    where = f"fetch.{key} in {profile_file(profile)}"
    if not folder.is_dir():
        raise UnusableFolder(f"there is no folder {folder}: set {where} to the one that you have")
    if key == "backbone_dir" and not (folder / "config.json").is_file():
        raise UnusableFolder(f"{folder} has no config.json: set {where} to the folder that has")
    return folder


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below `folder` in order, hidden ones left out. Links to folders are followed, each folder once."""
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))
        seen.add(real)

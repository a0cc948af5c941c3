"""The user's own folders, which `fetch` links and no stage writes to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.fetch_params import FOLDER_KEYS, RenderedFetch
from pipeline.params import Params, profile_file


class UnusableFolder(Exception):
    """A folder that the params name does not hold what it must."""


def user_folders(params: Params, profile: str) -> dict[str, Path]:
    """The folders that the params name, by key; none where the data set is rendered. Raises `UnusableFolder`.

    A folder that `fetch` is to fill may be missing.
    """
    fetch = params.fetch
    if isinstance(fetch, RenderedFetch):
        return {}
    folders = {key: Path(name).expanduser() for key in FOLDER_KEYS if (name := fetch.folder(key)) is not None}
    if fetch.dataset == "download" and not folders["dataset_dir"].exists():
        del folders["dataset_dir"]
    for key, folder in folders.items():
        other = {"backbone_dir": ", or to hf://owner/name@revision for a model of the hub"}
        if fetch.download:
            other["dataset_dir"] = ", or fetch.dataset to download"
        _check(folder, key, f"fetch.{key} in {profile_file(profile)}", other.get(key, ""))
    return folders


def corrections_files(params: Params, profile: str) -> list[Path]:
    """The files of corrections that the params name. Raises `UnusableFolder`."""
    files = [Path(name).expanduser() for name in params.fetch.corrections]
    for file in files:
        if not file.is_file():
            raise UnusableFolder(
                f"there is no file {file}: set fetch.corrections in {profile_file(profile)} to the corrections.jsonl "
                "of a folder of diaries, to a list of such files, or to null"
            )
    return files


def _check(folder: Path, key: str, where: str, other: str) -> None:
    if not folder.is_dir():
        raise UnusableFolder(f"there is no folder {folder}: set {where} to the one that you have{other}")
    if key == "backbone_dir" and not (folder / "config.json").is_file():
        raise UnusableFolder(f"{folder} has no config.json: set {where} to the folder that has")


def files_below(
    folder: Path, *, leave_out: Path | None = None, on_error: Callable[[OSError], None] | None = None
) -> list[Path]:
    """Every file below `folder`, sorted; hidden files and folders and the folder `leave_out` are left out.

    Links to folders are followed, and a folder is entered once, however many links lead to it. `on_error` gets the
    error of a folder that cannot be read; without it such a folder raises.
    """

    def walk() -> Iterator[Path]:
        entered = set() if leave_out is None else {leave_out.resolve()} - {folder.resolve()}
        for root, folders, names in os.walk(folder, followlinks=True, onerror=on_error or _raise):
            place = Path(root)
            if (target := place.resolve()) in entered:
                folders.clear()
                continue
            entered.add(target)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (place / name for name in names if not name.startswith("."))

    return sorted(walk())


def _raise(error: OSError) -> None:
    raise error

"""Stage `fetch`: the data set, the backbone and the recordings: rendered, linked from the user's folders, downloaded.

It is the only stage that uses the network, and only where the params say so.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from features.files import atomic_folder, private_files, write_bytes, write_json
from pipeline.fetch_params import FOLDER_KEYS, FolderFetch, RenderedFetch, hub_model
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.stage import stage
from pipeline.user_folders import corrections_files, files_below, user_folders

_LISTING = ".fetched"
"""In each out: the files that `fetch` put there, with the size of each that is no link."""


class ForeignFiles(Exception):
    """A folder that `fetch` is about to replace holds files that it did not put there."""


@stage
def main(params: Params, paths: Layout) -> None:
    """Make or link everything that the other stages start from."""
    outs = (paths.dataset, paths.backbone, paths.recordings)
    for out in (*outs, paths.corrections):
        refuse_foreign_files(out)
    gather_corrections(corrections_files(params, paths.profile), paths.corrections_file)
    folders = user_folders(params, paths.profile)
    if isinstance(params.fetch, RenderedFetch):
        render(params.fetch, *outs)
        return
    downloaded = download_missing(params.fetch)
    with paths.sources.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for key, out in zip(FOLDER_KEYS, outs, strict=True):
        names = [Path(row["file"]) for row in rows if row["folder"] == key]
        if folder := downloaded.get(key):
            names = [file.relative_to(folder) for file in files_below(folder)]
        link_files(folder or folders.get(key, Path()), names, out)


def download_missing(fetch: FolderFetch) -> dict[str, Path]:
    """Get what the params want from the network, and say by key in which folder it lies; nothing without that."""
    folders = {}
    if fetch.dataset == "download":
        from pipeline.download.dataset import download_dataset

        folders["dataset_dir"] = Path(fetch.dataset_dir).expanduser()
        download_dataset(fetch.download, folders["dataset_dir"])
    if model := hub_model(fetch.backbone_dir):
        from pipeline.download.checkpoint import download_checkpoint

        folders["backbone_dir"] = download_checkpoint(model)
    return folders


def render(fetch: RenderedFetch, dataset: Path, backbone: Path, recordings: Path) -> None:
    """Render the demo's files into these three folders."""
    from pipeline.demo import dataset as demo
    from pipeline.demo.recordings import make_recordings

    num_workers = os.cpu_count() or 1
    with atomic_folder(dataset) as folder:
        demo.make_dataset(
            folder,
            seed=fetch.seed,
            num_videos={"train": fetch.num_train_videos, "test": fetch.num_test_videos},
            num_subjects={"train": fetch.num_train_subjects, "test": fetch.num_test_subjects},
            mean_length_s=fetch.mean_length_s,
            num_workers=num_workers,
        )
        _write_listing(folder)
    with atomic_folder(recordings) as folder:
        make_recordings(folder, seed=fetch.seed, length_s=fetch.recording_s, num_workers=num_workers)
        _write_listing(folder)
    with atomic_folder(backbone) as folder:
        shutil.copytree(Path(demo.__file__).with_name("backbone"), folder, dirs_exist_ok=True)
        _write_listing(folder)


def link_files(folder: Path, names: Sequence[Path], out: Path) -> None:
    """Make `out` a tree of links to these files of `folder`: no byte is copied, and a deleted file is gone here too.

    A system without symbolic links gets hard ones.
    """
    with atomic_folder(out) as partial:
        for name in names:
            link = partial / name
            link.parent.mkdir(parents=True, exist_ok=True)
            target = (folder / name).resolve()  # a hub's snapshot folder holds links itself
            try:
                link.symlink_to(target)
            except OSError:
                link.hardlink_to(target)
        _write_listing(partial)


def gather_corrections(files: Sequence[Path], out: Path) -> None:
    """Write all lines of these files, in their order, to the file `out`, in a folder of its own."""
    contents = [file.read_bytes() for file in files]
    with private_files(), atomic_folder(out.parent) as partial:  # what a person said of their day is theirs alone
        write_bytes(partial / out.name, b"".join(each.removesuffix(b"\n") + b"\n" for each in contents if each))
        _write_listing(partial)


def refuse_foreign_files(out: Path) -> None:
    """Raise `ForeignFiles` where `out` holds a file that `fetch` did not put there, or not with this size."""
    if not out.is_dir():
        return
    listing = out / _LISTING
    listed = json.loads(listing.read_text(encoding="utf-8")) if listing.is_file() else {}
    foreign = [name for name, size in _listed(out).items() if name not in listed or listed[name] != size]
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise ForeignFiles(
            f"{out} is replaced as a whole, and these files in it are not of this project's making: "
            f"{', '.join(foreign[:3])}{more}. Move them to a folder of your own; params name it "
            "(fetch.recordings_dir, fetch.dataset_dir, fetch.corrections), or name the files to `diary write`"
        )


def _write_listing(folder: Path) -> None:
    write_json(folder / _LISTING, _listed(folder), sort_keys=True)


def _listed(folder: Path) -> dict[str, int | None]:
    return {
        path.relative_to(folder).as_posix(): None if path.is_symlink() else path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() or path.is_file()) and path.name != _LISTING
    }


if __name__ == "__main__":
    main()

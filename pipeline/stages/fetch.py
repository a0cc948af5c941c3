"""Stage `fetch`: the data set in the official Charades layout, a backbone in the Hugging Face format, recordings.

Rendered here for the demo; linked from folders that the user has for anything else. Nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipeline import params
from pipeline.stage import params_option, path_option, stage


class FetchError(Exception):
    """A folder that params.yaml names is not what it must be."""


@stage(params.ParamsError, FetchError)
@path_option("--dataset", "Folder of the data set, to be made.")
@path_option("--backbone", "Folder of the backbone, to be made.")
@path_option("--recordings", "Folder of recordings, to be made.")
@params_option
def main(dataset: Path, backbone: Path, recordings: Path, params_file: Path) -> None:
    """Make or link everything that the other stages start from."""
    chosen = params.load(params_file)
    wanted = chosen.active.fetch
    outs = (dataset, backbone, recordings)
    if isinstance(wanted, params.RenderedFetch):
        from pipeline.demo import dataset as demo

        for out in outs:
            shutil.rmtree(out, ignore_errors=True)
        num_workers = os.cpu_count() or 1
        demo.make_dataset(
            dataset,
            seed=wanted.seed,
            num_videos={"train": wanted.num_train_videos, "test": wanted.num_test_videos},
            num_subjects={"train": wanted.num_train_subjects, "test": wanted.num_test_subjects},
            mean_length_s=wanted.mean_length_s,
            num_workers=num_workers,
        )
        demo.make_recordings(recordings, seed=wanted.seed, length_s=wanted.recording_s, num_workers=num_workers)
        shutil.copytree(Path(demo.__file__).with_name("backbone"), backbone)
        return
    sources: dict[str, Path | None] = {}
    for key, (given, marks) in {
        "dataset_dir": (wanted.dataset_dir, ("Charades_v1_train.csv", "Charades/Charades_v1_train.csv")),
        "backbone_dir": (wanted.backbone_dir, ("config.json",)),
        "recordings_dir": (wanted.recordings_dir, (".",)),
    }.items():
        where = f"{chosen.profile}.fetch.{key} in {params_file}"
        if given is None:
            sources[key] = None
            continue
        folder = Path(given).expanduser()
        if not folder.is_dir():
            raise FetchError(f"there is no folder {folder}: set {where} to the one that you have")
        if not any((folder / mark).exists() for mark in marks):
            raise FetchError(f"{folder} has no {' or '.join(marks)}: set {where} to the folder that has")
        sources[key] = folder
    for out, source in zip(outs, sources.values(), strict=True):
        shutil.rmtree(out, ignore_errors=True)
        link_tree(source, out)


def link_tree(source: Path | None, out: Path) -> None:
    """Make `out` a tree of hard links to the files below `source`, or of symbolic ones on another file system.

    No byte is copied: Charades is 16 GB. None gives an empty folder. Hidden files are left out.
    """
    out.mkdir(parents=True)
    if source is None:
        return
    for file in sorted(source.rglob("*")):
        inside = file.relative_to(source)
        if not file.is_file() or any(part.startswith(".") for part in inside.parts):
            continue
        link = out / inside
        link.parent.mkdir(parents=True, exist_ok=True)
        target = file.resolve()  # a hub's snapshot folder holds links itself
        try:
            link.hardlink_to(target)
        except OSError:
            link.symlink_to(target)


if __name__ == "__main__":
    main()

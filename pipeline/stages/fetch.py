"""Stage `fetch`: the data set, the backbone and the recordings, rendered here or linked from the user's folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipeline.layout import Layout
from pipeline.params import FolderFetch, Params, RenderedFetch, profile_file
from pipeline.stage import stage


class FetchError(Exception):
    """A folder that the params name does not hold what it must."""


@stage
def main(params: Params, paths: Layout) -> None:
    """Make or link everything that the other stages start from."""
    outs = (paths.dataset, paths.backbone, paths.recordings)
    if isinstance(params.fetch, FolderFetch):
        sources = _sources(params.fetch, str(profile_file(paths.profile)))
        for source, out in zip(sources, outs, strict=True):
            shutil.rmtree(out, ignore_errors=True)
            link_tree(source, out)
    else:
        for out in outs:
            shutil.rmtree(out, ignore_errors=True)
        _render(params.fetch, *outs)


def _render(fetch: RenderedFetch, dataset: Path, backbone: Path, recordings: Path) -> None:
    from pipeline.demo import dataset as demo

    num_workers = os.cpu_count() or 1
    demo.make_dataset(
        dataset,
        seed=fetch.seed,
        num_videos={"train": fetch.num_train_videos, "test": fetch.num_test_videos},
        num_subjects={"train": fetch.num_train_subjects, "test": fetch.num_test_subjects},
        mean_length_s=fetch.mean_length_s,
        num_workers=num_workers,
    )
    demo.make_recordings(recordings, seed=fetch.seed, length_s=fetch.recording_s, num_workers=num_workers)
    shutil.copytree(Path(demo.__file__).with_name("backbone"), backbone)


def _sources(fetch: FolderFetch, params_file: str) -> list[Path | None]:
    """The user's folders, in the order of the outs; None is an empty one. Raises `FetchError`."""
    sources: list[Path | None] = []
    for key in ("dataset_dir", "backbone_dir", "recordings_dir"):
        name = getattr(fetch, key)
        if name is None:
            sources.append(None)
            continue
        folder = Path(name).expanduser()
        where = f"fetch.{key} in {params_file}"
        if not folder.is_dir():
            raise FetchError(f"there is no folder {folder}: set {where} to the one that you have")
        if key == "backbone_dir" and not (folder / "config.json").is_file():
            raise FetchError(f"{folder} has no config.json: set {where} to the folder that has")
        sources.append(folder)
    return sources


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

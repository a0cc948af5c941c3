"""Stage `sources`: what the user's folders hold. It runs every time, so that `dvc repro` sees every change in them."""

from __future__ import annotations

from pathlib import Path

from features.files import private_files, write_csv
from pipeline.layout import Layout
from pipeline.params import Params, require_labels
from pipeline.stage import stage
from pipeline.user_folders import corrections_files, files_below, user_folders


class LinkedOutputs(Exception):
    """A folder of outputs is a link to a place where DVC takes none."""


@stage
def main(params: Params, paths: Layout) -> None:
    """List each file with size and time of change; before that, check what would fail only after hours."""
    require_outputs_inside(paths.root)
    require_labels(paths.root, paths.profile)
    close_dvc_cache(paths.root)
    rows = []
    for key, folder in user_folders(params, paths.profile).items():
        for file in files_below(folder):
            if file.is_file():  # a link may lead nowhere
                stat = file.stat()
                rows.append((key, file.relative_to(folder), stat.st_size, stat.st_mtime_ns))
    for file in corrections_files(params, paths.profile):
        stat = file.stat()
        rows.append(("corrections", file, stat.st_size, stat.st_mtime_ns))
    paths.sources.parent.mkdir(parents=True, exist_ok=True)
    with private_files():
        write_csv(paths.sources, ("folder", "file", "bytes", "mtime_ns"), rows)


def close_dvc_cache(root: Path) -> None:
    """Let nobody else into the project's own cache of DVC, where embeddings of recordings are readable for all.

    One that `cache.dir` of DVC's config names instead, perhaps for several people, stays as it is.
    """
    if (root / ".dvc").is_dir():
        cache = root / ".dvc" / "cache"
        cache.mkdir(exist_ok=True)
        cache.chmod(0o700)


def require_outputs_inside(root: Path) -> None:
    """Raise `LinkedOutputs` where data/ or results/ lies outside the project: DVC would refuse its outs at the end."""
    for name in ("data", "results"):
        target = (root / name).resolve()
        if not target.is_relative_to(root.resolve()):
            raise LinkedOutputs(
                f"{root / name} is a link to {target}, and DVC takes no outputs outside the project; to keep the large "
                f"files on another disk, mount it there (mount --bind {target} {name}), or leave {name} a folder and "
                "move DVC's cache (dvc cache dir --local <folder>) and the cache of videos (VIDEO_DIARY_CACHE)"
            )


if __name__ == "__main__":
    main()

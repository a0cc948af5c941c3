"""The project: data set, checkpoint, what DVC would run; and what all of it will need."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from features.checkpoint import read_config, weight_files
from pipeline.checkup.findings import Finding, gib
from pipeline.dataset import kinds, manifest
from pipeline.dataset.manifest import Manifest
from pipeline.fetch_params import RenderedFetch, hub_model
from pipeline.layout import Layout
from pipeline.params import Params, profile_file

_POOLINGS = 3
_FREE_BYTES = 2 * 2**30  # Python, torch, and what a batch takes
_DVC_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Sizes:
    """Windows of the data set by split; bytes of a window's embeddings and block input, and of all weights."""

    num_windows: dict[str, int]
    window_bytes: int
    block_input_bytes: int
    weights_bytes: int

    @property
    def disk_bytes(self) -> int:
        """Of the embeddings, once in the cache and once in the project."""
        return sum(self.num_windows.values()) * self.window_bytes

    def block_inputs_bytes(self, max_bytes: float) -> float:
        """Of the block inputs that stage 2 trains on, where the params have room for `max_bytes`."""
        num_windows = sum(self.num_windows.get(split, 0) for split in ("train", "val"))
        return min(max_bytes, float(num_windows * self.block_input_bytes))

    @property
    def memory_bytes(self) -> int:
        """Of the larger of the backbone, loaded in float32 at most, and the embeddings that heads train on."""
        trained_on = sum(self.num_windows.get(split, 0) for split in ("train", "val")) * self.window_bytes
        return _FREE_BYTES + max(2 * self.weights_bytes, 3 * trained_on // 2)


def dataset_folder(params: Params, paths: Layout) -> Path | None:
    """Where the data set lies: what `fetch` made or linked, else the user's folder; None where `fetch` will make it."""
    if paths.dataset.is_dir():
        return paths.dataset
    fetch = params.fetch
    if isinstance(fetch, RenderedFetch):
        return None
    folder = Path(fetch.dataset_dir).expanduser()
    return None if fetch.dataset == "download" and not folder.exists() else folder


def backbone_folder(params: Params, paths: Layout) -> Path | None:
    """Where the checkpoint lies, as `dataset_folder`; that of the demo comes with the program."""
    if (paths.backbone / "config.json").exists():
        return paths.backbone
    if isinstance(params.fetch, RenderedFetch):
        from pipeline.demo import dataset as demo

        return Path(demo.__file__).with_name("backbone")
    name = params.fetch.folder("backbone_dir")
    return None if name is None else Path(name).expanduser()


def read_videos_of(params: Params, paths: Layout) -> Manifest | None:
    """The data set's videos: those of the manifest, else what the annotations say; None where none is there yet."""
    if paths.manifest.is_dir():
        return manifest.read(paths.manifest)
    folder = dataset_folder(params, paths)
    if folder is None:
        return None
    return kinds.read(folder, val_share=params.prepare.val_share, seed=params.prepare.seed).videos


def videos_here(params: Params, paths: Layout) -> Iterator[Path]:
    """The files of annotated videos that are there and not empty."""
    folder, videos = dataset_folder(params, paths), read_videos_of(params, paths)
    for video in videos.videos if videos is not None else ():
        path = (folder or paths.dataset) / video.path
        if path.is_file() and path.stat().st_size:
            yield path


def data_set(params: Params, paths: Layout) -> Iterator[Finding]:
    """Whether each annotated video has a file that is not empty."""
    folder = dataset_folder(params, paths)
    if folder is not None and not folder.is_dir():
        remedy = f"set fetch.dataset_dir in {profile_file(paths.profile)} to the folder that you have"
        yield Finding("data set", "failed", f"there is no folder {folder}", remedy)
        return
    videos = None if folder is None else read_videos_of(params, paths)
    if folder is None or videos is None:
        rendered = isinstance(params.fetch, RenderedFetch)
        how = "is rendered" if rendered else "is downloaded"
        yield Finding("data set", "warning", "it is not here yet", f"`dvc repro fetch`: it {how}")
        return
    files = [folder / video.path for video in videos.videos]
    bad = [file for file in files if not file.is_file() or file.stat().st_size == 0]
    hours = sum(video.length_s for video in videos.videos) / 3600
    found = f"{len(files) - len(bad)} of {len(files)} annotated videos ({hours:.1f} h) have a file in {folder}"
    if not bad:
        yield Finding("data set", "ok", found)
        return
    remedy = (
        f"get the missing files, such as {bad[0].name}; or raise extract.max_failed_share in "
        f"{profile_file(paths.profile)}, and the others are used"
    )
    share = len(bad) / len(files)
    yield Finding("data set", "failed" if share > params.extract.max_failed_share else "warning", found, remedy)


def checkpoint(params: Params, paths: Layout) -> Iterator[Finding]:
    """Whether the backbone's folder has a config that is known and all files of weights; they are not loaded here."""
    folder = backbone_folder(params, paths)
    if folder is None:
        name = getattr(params.fetch, "backbone_dir", "")
        model = hub_model(name)
        where = f"{model.repository} of the Hugging Face hub" if model else "the backbone"
        yield Finding("checkpoint", "warning", f"{where} is not here yet", "`dvc repro fetch` downloads it")
        return
    if not (folder / "config.json").is_file():
        remedy = f"set fetch.backbone_dir in {profile_file(paths.profile)} to the folder that you have, or to the hub's"
        yield Finding("checkpoint", "failed", f"{folder} is no folder with a config.json", remedy)
        return
    config = read_config(folder)
    size = sum(file.stat().st_size for file in weight_files(folder))
    yield Finding("checkpoint", "ok", f"{config.get('model_type')}, {gib(size)} of weights, in {folder}")


def sizes(params: Params, paths: Layout) -> Sizes | None:
    """What the data set and the checkpoint come to; None where either is not here yet."""
    folder, videos = backbone_folder(params, paths), read_videos_of(params, paths)
    if folder is None or videos is None:
        return None
    num_windows = {
        split: sum(params.windows.num_windows(video.length_s) for video in videos.split(split))
        for split in manifest.SPLITS
    }
    config = read_config(folder)
    width, side, patch, tubelet = (
        int(config.get(key, usual))
        for key, usual in (("hidden_size", 1024), ("crop_size", 256), ("patch_size", 16), ("tubelet_size", 2))
    )
    num_tokens = params.windows.num_frames // tubelet * (side // patch) ** 2
    value_bytes = 4 if params.finetune.block_inputs_precision == "fp32" else 2
    return Sizes(
        num_windows,
        window_bytes=_POOLINGS * 2 * width,
        block_input_bytes=num_tokens * width * value_bytes,
        weights_bytes=sum(file.stat().st_size for file in weight_files(folder)),
    )


def dvc_state(paths: Layout) -> Iterator[Finding]:
    """Which stages `dvc repro` would run."""
    if not (paths.root / ".dvc").is_dir():
        remedy = f"in {paths.root.resolve()}: `git init`, then `dvc init`"
        yield Finding("DVC", "failed", "the project is no DVC repository", remedy)
        return
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    try:
        done = subprocess.run(
            command, cwd=paths.root, capture_output=True, text=True, check=False, timeout=_DVC_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        yield Finding("DVC", "warning", f"`dvc status` takes longer than {_DVC_TIMEOUT_S:g} s", "run it yourself")
        return
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        yield Finding("DVC", "failed", f"`dvc status` says: {last}", "run `dvc status`, and do what it says")
        return
    stages = [name for name, changes in json.loads(done.stdout).items() if changes != ["always changed"]]
    if stages:
        more = f" and {len(stages) - 4} more" if len(stages) > 4 else ""
        found = f"{len(stages)} stages are not up to date: {', '.join(stages[:4])}{more}"
        yield Finding("DVC", "warning", found, "`dvc repro` runs them")
    else:
        yield Finding("DVC", "ok", "all stages are up to date")

"""The cache of finished videos: what is computed when, that the same bytes come of it, and what a kill costs.

The worlds are short videos of numbered frames and a tiny backbone with random weights.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import resource
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from features import cache as cache_module
from features import embed
from features.backbone import load_backbone
from features.cache import EmbeddingCache
from features.clips import ClipReader, Source
from features.decode.container import UnreadableVideo
from features.extraction import BlockInputSelection, Extraction, extract, provenance
from features.pieces import places
from features.store import block_inputs
from features.store import embeddings as store
from features.video import WindowPlan
from tests.forks import ForkServer
from tests.tiny_backbone import PREPROCESSING, write_backbone
from tests.videos import OPEN_GOP, evenly, write_video

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

PLAN = WindowPlan(num_frames=4, sample_fps=4, stride_s=0.5, max_still_s=1.0)
LENGTHS = {"v0": 30, "v1": 12, "v2": 47, "v3": 5, "v4": 60}  # frames, at 12 a second
SELECTED = {"v0": frozenset({0, 2}), "v2": frozenset({1}), "v4": frozenset({0, 3, 500})}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos and two backbones."""
    folder = tmp_path_factory.mktemp("world")
    for name, num_frames in LENGTHS.items():
        write_video(folder / f"{name}.mp4", evenly(num_frames, 12), options=OPEN_GOP if name == "v2" else {"g": "12"})
    for seed in (0, 1):
        write_backbone(folder / f"backbone{seed}", seed=seed)
    return folder


def run(
    world: Path,
    root: Path,
    names: Sequence[str] = tuple(LENGTHS),
    *,
    ids: dict[str, str] | None = None,
    plan: WindowPlan = PLAN,
    seed: int = 0,
    batch_size: int = 3,
    num_workers: int = 0,
    block_input_windows: dict[str, frozenset[int]] | None = None,
) -> Extraction:
    """Extract into `root / cache`, and write the outputs `root / embeddings` and `root / block_inputs` from there."""
    backbone = load_backbone(world / f"backbone{seed}", dtype=torch.float32)
    reader = ClipReader(plan, PREPROCESSING, "auto")
    made_by = provenance(backbone, reader)
    cache = EmbeddingCache(root / "cache", made_by)
    sources = [Source((ids or {}).get(name, name), world / f"{name}.mp4") for name in names]
    with cache.locked():
        extraction = extract(
            backbone,
            sources,
            reader,
            cache=cache,
            selection=BlockInputSelection(SELECTED if block_input_windows is None else block_input_windows, "fp16"),
            batch_size=batch_size,
            num_workers=num_workers,
            device=torch.device("cpu"),
        )
        store.write_embeddings(
            root / "embeddings",
            extraction.num_windows,
            lambda video_id: cache.load(extraction.sha256s[video_id]),
            provenance=made_by,
        )
        block_inputs.write_block_inputs(
            root / "block_inputs",
            extraction.block_input_windows,
            lambda video_id: cache.load_block_inputs(
                extraction.sha256s[video_id], "fp16", extraction.block_input_windows[video_id]
            ),
            precision="fp16",
            provenance=made_by,
        )
    return extraction


def tree(*folders: Path) -> dict[str, str]:
    """The hash of every file that is not hidden, by its path."""
    return {
        f"{folder.name}/{path.relative_to(folder)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def outputs(root: Path) -> dict[str, str]:
    return tree(root / "embeddings", root / "block_inputs")


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An extraction of all videos into an empty cache."""
    root = tmp_path_factory.mktemp("whole")
    extraction = run(world, root)
    assert (extraction.num_embedded, extraction.num_reused, dict(extraction.failures)) == (5, 0, {})
    assert extraction.num_windows == {name: PLAN.num_windows(frames / 12) for name, frames in LENGTHS.items()}
    assert extraction.block_input_windows == {"v0": (0, 2), "v2": (1,), "v4": (0, 3)}  # no video has 500 windows
    return root


def test_the_rows_are_the_windows_own(world: Path, whole: Path) -> None:
    """Each stored vector is the backbone's for that window's frames; block inputs are what enters its last block."""
    backbone = load_backbone(world / "backbone0", dtype=torch.float32)
    embeddings, _ = store.read_embeddings(whole / "embeddings")
    kept, _ = block_inputs.open_block_inputs(whole / "block_inputs")
    for name in LENGTHS:
        rows = np.flatnonzero(embeddings.video_ids == name)
        clips = list(ClipReader(PLAN, PREPROCESSING, "auto").clips(Source(name, world / f"{name}.mp4")))
        assert [clip.segment.start_s for clip in clips] == embeddings.start_s[rows].tolist()
        assert [clip.num_padded for clip in clips] == embeddings.num_padded[rows].tolist()
        for number, (row, clip) in enumerate(zip(rows, clips, strict=True)):
            with torch.no_grad():
                pixels = PREPROCESSING.normalise(torch.from_numpy(clip.frames)[None], torch.float32)
                prefix = backbone.block_input(pixels)
                wanted = backbone.pool(backbone.last_block(prefix), ["pooler", "mean", "max"])
            for pooling, vector in wanted.items():
                assert np.array_equal(embeddings.vectors[pooling][row], vector[0].half().numpy()), (name, number)
            if number in kept.windows.get(name, ()):
                assert torch.equal(kept.read([kept.row(name, number)]), prefix.half())


@pytest.mark.parametrize(
    "settings", [{"num_workers": 1}, {"num_workers": 2, "num_cores": 3}, {"batch_size": 16}, {"batch_size": 1}]
)
def test_the_same_bytes_however_it_came_about(
    settings: dict[str, int], world: Path, whole: Path, tmp_path: Path
) -> None:
    """One or two workers, any batch size, other cores, another order: byte for byte the same outputs and pieces."""
    others = {name: value for name, value in settings.items() if name != "num_cores"}
    torch.set_num_threads(settings.get("num_cores", 1))
    run(world, tmp_path, tuple(reversed(LENGTHS)), **others)  # type: ignore[arg-type]
    assert outputs(tmp_path) == outputs(whole)
    assert tree(tmp_path / "cache") == tree(whole / "cache")


def test_in_pieces_it_is_the_same_bytes(world: Path, whole: Path, tmp_path: Path) -> None:
    """Each added video costs one video's work; the final outputs are those of one run on all videos."""
    names = list(LENGTHS)
    for count in range(1, 6):
        extraction = run(world, tmp_path, names[:count])
        assert (extraction.num_embedded, extraction.num_reused) == (1, count - 1)
    assert outputs(tmp_path) == outputs(whole)


def test_what_is_not_in_the_key_costs_nothing(world: Path, whole: Path, tmp_path: Path) -> None:
    """Removed, renamed, reordered, touched, copied: no video is computed, and rows follow their videos' ids."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    videos = tmp_path / "videos"
    shutil.copytree(world, videos)
    assert run(videos, tmp_path, ["v4", "v0"]).num_embedded == 0
    assert set(store.read_embeddings(tmp_path / "embeddings")[0].video_ids) == {"v0", "v4"}
    (videos / "v1.mp4").touch()
    shutil.copy(videos / "v1.mp4", videos / "copy.mp4")
    extraction = run(videos, tmp_path, [*LENGTHS, "copy"], ids={"v3": "other"})
    assert (extraction.num_embedded, extraction.num_reused) == (0, 6)
    embeddings, before = (
        store.read_embeddings(tmp_path / "embeddings")[0],
        store.read_embeddings(whole / "embeddings")[0],
    )
    for name, was in (("other", "v3"), ("copy", "v1"), ("v1", "v1")):
        now, then = embeddings.select([name]), before.select([was])
        assert np.array_equal(now.start_s, then.start_s)
        assert np.array_equal(now.vectors["pooler"], then.vectors["pooler"])


def test_what_is_in_the_key_costs_all_and_coming_back_nothing(world: Path, whole: Path, tmp_path: Path) -> None:
    """Other windows or another backbone compute every video, changing back none, other bytes only that video."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    assert run(world, tmp_path, plan=WindowPlan(4, 4, 1.0, 1.0)).num_embedded == 5
    assert run(world, tmp_path, seed=1).num_embedded == 5
    assert outputs(tmp_path) != outputs(whole)
    assert run(world, tmp_path).num_embedded == 0
    assert outputs(tmp_path) == outputs(whole)
    videos = tmp_path / "videos"
    shutil.copytree(world, videos)
    shutil.copy(videos / "v1.mp4", videos / "v3.mp4")
    write_video(videos / "v1.mp4", evenly(13, 12))
    extraction = run(videos, tmp_path)
    assert (extraction.num_embedded, extraction.num_reused) == (1, 4)  # v3 now has bytes that are known


def test_tokens_asked_for_later_are_made_alone(world: Path, whole: Path, tmp_path: Path) -> None:
    """With embeddings cached, only the windows whose block inputs are wanted are computed, to the same bytes."""
    assert run(world, tmp_path, block_input_windows={}).num_embedded == 5
    assert block_inputs.open_block_inputs(tmp_path / "block_inputs")[0].shape == (0, 0, 0)
    assert run(world, tmp_path).num_embedded == 3
    assert outputs(tmp_path) == outputs(whole)
    assert tree(tmp_path / "cache") == tree(whole / "cache")
    assert (
        run(world, tmp_path, block_input_windows={"v0": frozenset({2})}).num_embedded == 0
    )  # fewer windows cost nothing
    assert block_inputs.open_block_inputs(tmp_path / "block_inputs")[0].windows == {"v0": (2,)}


def test_windows_past_the_end_are_none(world: Path, tmp_path: Path) -> None:
    """A manifest may state too long a duration: selected windows past the end cost nothing and are no failure."""
    run(world, tmp_path, block_input_windows={})
    extraction = run(world, tmp_path, block_input_windows={"v0": frozenset({500}), "v2": frozenset({1, 500})})
    assert extraction.failures == {}
    assert extraction.block_input_windows == {"v0": (), "v2": (1,)}
    assert block_inputs.open_block_inputs(tmp_path / "block_inputs")[0].windows == {"v2": (1,)}
    assert run(world, tmp_path, block_input_windows={"v0": frozenset({500})}).num_embedded == 0


def test_the_quota_lets_the_longest_unused_go_first(world: Path, tmp_path: Path) -> None:
    """Beyond the quota, files of another provenance are evicted first, then block inputs, then embeddings."""
    run(world, tmp_path, seed=1)
    extraction = run(world, tmp_path)
    cache = EmbeddingCache(
        tmp_path / "cache",
        provenance(load_backbone(world / "backbone0", dtype=torch.float32), ClipReader(PLAN, PREPROCESSING, "auto")),
    )
    pieces = list((tmp_path / "cache").glob("*/*.safetensors"))
    mine = [path for path in pieces if path.parent == cache.folder]
    assert (len(pieces), len(mine)) == (16, 8)
    assert cache.shrink(sum(path.stat().st_size for path in pieces)) == 0
    assert cache.shrink(sum(path.stat().st_size for path in mine)) == 8
    assert all(path.exists() for path in mine)
    without = sum(path.stat().st_size for path in mine if ".block-inputs-" not in path.name)
    assert cache.shrink(without) == 3
    assert all(cache.has(digest) for digest in extraction.sha256s.values())
    assert cache.shrink(0) == 5


def test_bad_input_costs_a_row_each(world: Path, whole: Path, tmp_path: Path) -> None:
    """Each unreadable video is a failure with its reason; the other videos' bytes stay the same."""
    videos = tmp_path / "videos"
    shutil.copytree(world, videos)
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "text.mp4").write_text("Dear diary")
    (videos / "folder.mp4").mkdir()
    cut = (videos / "v4.mp4").read_bytes()
    (videos / "cut.mp4").write_bytes(cut[: len(cut) // 2])
    for num_workers in (0, 2):
        extraction = run(
            videos, tmp_path, [*LENGTHS, "empty", "text", "folder", "gone", "cut"], num_workers=num_workers
        )
        failures = {name: (failure.reason, failure.found) for name, failure in extraction.failures.items()}
        assert failures["empty"] == ("the file is empty", "0 bytes")
        assert failures["text"][1] == "text"
        assert (failures["folder"], failures["gone"]) == (("not a file", "a folder"), ("not a file", "nothing"))
        assert "cut off" in failures["cut"][1]
        assert len(failures) == 5
        assert outputs(tmp_path) == outputs(whole)


def test_a_damaged_piece_is_computed_again_to_the_same_bytes(
    world: Path, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One bit of one video's embeddings, and one of another's block inputs: these two are done again, nothing else."""
    sha256s = run(world, tmp_path).sha256s
    for video_id, kind in (("v1", ""), ("v2", ".block-inputs-fp16-*")):
        (piece,) = (tmp_path / "cache").glob(f"*/{sha256s[video_id]}{kind}.safetensors")
        content = bytearray(piece.read_bytes())
        content[-3] ^= 16
        piece.write_bytes(content)
    found = run(world, tmp_path)
    assert (found.num_embedded, found.num_reused) == (2, 3)
    assert all(f"{sha256s[video_id]}" in caplog.text for video_id in ("v1", "v2"))
    assert outputs(tmp_path) == outputs(whole)
    assert run(world, tmp_path).num_embedded == 0


def test_an_embedding_that_is_not_finite_costs_its_video(world: Path) -> None:
    """A value beyond float16 is a failure of that video, with the window; an infinity is never stored."""
    backbone = load_backbone(world / "backbone0", dtype=torch.float32)
    with torch.no_grad():
        next(backbone.after_last.parameters()).fill_(1e6)
    ((_, video),) = embed.embed_videos(
        backbone,
        [Source("v1", world / "v1.mp4")],
        ClipReader(PLAN, PREPROCESSING, "auto"),
        block_input_windows={},
        batch_size=4,
        num_workers=0,
        device=torch.device("cpu"),
    )
    with pytest.raises(UnreadableVideo) as caught:
        video.result()
    assert caught.value.reason == "its embedding is not finite"
    assert "window at 0 s" in caught.value.found


def test_inference_mode_does_not_leak(world: Path) -> None:
    """After a video's embeddings, inference mode is off again, so that the caller can train."""
    backbone = load_backbone(world / "backbone0", dtype=torch.float32)
    done = embed.embed_videos(
        backbone,
        [Source("v1", world / "v1.mp4")],
        ClipReader(PLAN, PREPROCESSING, "auto"),
        block_input_windows={},
        batch_size=1,
        num_workers=0,
        device=torch.device("cpu"),
    )
    next(done)
    assert not torch.is_inference_mode_enabled()


PHASES: dict[str, list[tuple[Any, str]]] = {
    "decode": [(ClipReader, "clips")],
    "forward": [(embed, "submit_batch")],
    "write": [(cache_module, "sealed_tensors"), (places, "create_file"), (os, "fsync")],
    "commit": [
        (store, "write_embeddings"),
        (Path, "rename"),
        (block_inputs, "write_block_inputs"),
        (shutil, "rmtree"),
        (EmbeddingCache, "load"),
    ],
}


def killed(world: Path, root: Path, phase: str, seed: int) -> None:
    """Run until a random call of the phase begins; then die a random moment later."""
    rng = random.Random(seed)
    place, name = rng.choice(PHASES[phase])
    calls_left = rng.randint(0, {"write_embeddings": 0, "write_block_inputs": 0, "rename": 1, "rmtree": 1}.get(name, 4))
    delay_s = rng.choice([0.0, rng.uniform(0, 0.02)])
    original = getattr(place, name)

    def armed(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls_left
        calls_left -= 1
        if calls_left < 0:
            if delay_s == 0.0:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return original(*args, **kwargs)

    setattr(place, name, armed)
    run(world, root)
    time.sleep(1)  # a kill that comes after the last line is one more moment


def limited(world: Path, root: Path) -> None:
    """Run with files limited to 2.2 kB, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2200, 2200))
    try:
        run(world, root)
    except OSError as error:
        os._exit(error.errno or 1)


def slow(world: Path, root: Path) -> None:
    """Run, and wait within the lock while the file `entered` exists."""
    original = embed.submit_batch

    def waits(*args: Any, **kwargs: Any) -> Any:
        while (root / "entered").exists():
            time.sleep(0.01)
        return original(*args, **kwargs)

    (root / "entered").touch()
    embed.submit_batch = waits
    run(world, root)


def with_workers(world: Path, root: Path) -> None:
    run(world, root, num_workers=2)


@pytest.mark.parametrize("phase", PHASES)
def test_a_kill_at_any_moment_loses_nothing(
    phase: str, world: Path, whole: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    """After SIGKILL while it decodes, computes, writes or commits, what was finished is not computed again.

    Six random moments a phase, and one more in the next test: 25. The outputs and the cache are then byte for byte
    those of an unbroken run, without partial files.
    """
    for seed in range(6):
        root = tmp_path / str(seed)
        assert fork_server.wait(fork_server.start(killed, world, root, phase, seed)) == -signal.SIGKILL
        finished = len([path for path in root.glob("cache/*/*.safetensors") if ".block-inputs-" not in path.name])
        block_inputs_finished = {path.name[:64] for path in root.glob("cache/*/*.block-inputs-*.safetensors")}
        extraction = run(world, root)
        redone = {extraction.sha256s[name] for name in SELECTED} - block_inputs_finished
        assert extraction.num_embedded <= 5 - finished + len(redone)
        assert outputs(root) == outputs(whole), seed
        assert tree(root / "cache") == tree(whole / "cache"), seed
        assert {path.name for path in root.iterdir()} == {"cache", "embeddings", "block_inputs"}


def test_a_killed_run_leaves_no_worker_behind(
    world: Path, whole: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    """When a run with workers dies, the workers end too, and nothing delays the next run."""
    process = psutil.Process(fork_server.start(with_workers, world, tmp_path))
    while len(offspring := process.children(recursive=True)) < 3:
        time.sleep(0.02)
    process.kill()
    assert fork_server.wait(process.pid) == -signal.SIGKILL
    _, alive = psutil.wait_procs(offspring, timeout=30)
    assert alive == []
    run(world, tmp_path)
    assert outputs(tmp_path) == outputs(whole)


def test_a_full_disk_loses_nothing(world: Path, whole: Path, fork_server: ForkServer, tmp_path: Path) -> None:
    """The run ends with the system's error and keeps finished videos; with room again, it goes on from there."""
    assert fork_server.wait(fork_server.start(limited, world, tmp_path)) == errno.EFBIG
    kept = [path for path in tmp_path.glob("cache/*/*") if path.suffix == ".safetensors"]
    assert 0 < len(kept) < 8
    assert not list(tmp_path.glob("cache/*/*.partial"))
    extraction = run(world, tmp_path)
    assert 0 < extraction.num_embedded < 5
    assert outputs(tmp_path) == outputs(whole)


def test_two_runs_at_once_do_not_wait_for_each_other(
    world: Path, whole: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    """One comes and goes while the other is at work; nothing is evicted meanwhile, and all bytes are the same."""
    other = fork_server.start(slow, world, tmp_path)
    while not (tmp_path / "entered").exists() or not list(tmp_path.glob("cache/*/provenance.json")):
        time.sleep(0.01)
    assert run(world, tmp_path).num_embedded == 5
    assert EmbeddingCache(tmp_path / "cache", {}).shrink(0) == 0
    (tmp_path / "entered").unlink()
    assert fork_server.wait(other) == 0
    assert outputs(tmp_path) == outputs(whole)
    assert tree(tmp_path / "cache") == tree(whole / "cache")
    assert EmbeddingCache(tmp_path / "cache", {}).shrink(0) == 8

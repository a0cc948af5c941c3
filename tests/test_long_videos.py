"""Videos of any length: parts that outlast a kill, the same bytes however often it happened, bounded memory."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from features import embed
from features.backbone import load_backbone
from features.cache import EmbeddingCache
from features.clips import ClipReader, Source
from features.extraction import BlockInputSelection, Extraction, extract, provenance
from features.pictures import WindowPictures
from features.preprocess import Preprocessing
from features.progress import VideoSeconds
from features.store.embeddings import VideoEmbeddings
from features.thumbnails import Thumbnails
from heads.temporal import predict_sequence, video_probabilities, window_steps
from pipeline.model_folder import load_recogniser
from pipeline.recognition import SequenceModel
from tests.forks import ForkServer
from tests.model_folders import PLAN, make_model_folder
from tests.videos import evenly, write_video

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTH_S = 100
NUM_WINDOWS = PLAN.num_windows(LENGTH_S)
PARTS = NUM_WINDOWS // 64


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone, and a video of about 200 windows."""
    folder = tmp_path_factory.mktemp("world")
    make_model_folder(folder, temporal=True)
    write_video(folder / "long.mp4", evenly(4 * LENGTH_S, 4), rate=4, size=(64, 48))
    return folder


def run(world: Path, root: Path, *, thumbnails: bool = True, names: Sequence[str] = ("long.mp4",)) -> Extraction:
    """Bring the videos into the cache at `root`."""
    backbone = load_backbone(world / "backbone", dtype=torch.float32)
    reader = ClipReader(PLAN, Preprocessing.from_checkpoint(world / "backbone"), "pyav")
    cache = EmbeddingCache(root, provenance(backbone, reader))
    with cache.locked():
        return extract(
            backbone,
            [Source(name, world / name) for name in names],
            reader,
            cache=cache,
            selection=BlockInputSelection({}, "fp32"),
            batch_size=16,
            num_workers=0,
            device=torch.device("cpu"),
            thumbnails=thumbnails,
        )


def run_and_die(world: Path, root: Path, after_parts: int) -> None:
    """The same in a process that kills itself once it has kept so many parts."""
    put, left = EmbeddingCache.put_part, after_parts

    def put_and_die(*args: Any, **kwargs: Any) -> None:
        nonlocal left
        put(*args, **kwargs)
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    pytest.MonkeyPatch().setattr(EmbeddingCache, "put_part", put_and_die)
    run(world, root)


def pieces(root: Path) -> dict[str, str]:
    return {path.name[64:]: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.glob("*/*.safetensors")}


@pytest.fixture(scope="module")
def whole(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that was filled without a kill."""
    root = tmp_path_factory.mktemp("whole")
    assert run(world, root).num_windows == {"long.mp4": NUM_WINDOWS}
    assert set(pieces(root)) == {".safetensors", ".thumbnails-240.safetensors"}
    return root


@pytest.mark.slow
def test_a_kill_costs_what_was_at_work_and_no_byte(
    world: Path, whole: Path, fork_server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two kills in one video: finished parts are not computed again, and the same pieces come of it."""
    assert PARTS == 3
    assert fork_server.wait(fork_server.start(run_and_die, world, tmp_path, 1)) == -signal.SIGKILL
    assert set(pieces(tmp_path)) == {".part-00000.safetensors"}
    assert fork_server.wait(fork_server.start(run_and_die, world, tmp_path, 1)) == -signal.SIGKILL
    assert set(pieces(tmp_path)) == {".part-00000.safetensors", ".part-00001.safetensors"}
    submitted, submit = [], embed.submit_batch

    def counted(*args: Any) -> Any:
        submitted.append(len(args[2]))
        return submit(*args)

    monkeypatch.setattr(embed, "submit_batch", counted)
    assert run(world, tmp_path).num_embedded == 1
    assert sum(submitted) == NUM_WINDOWS - 2 * 64
    assert pieces(tmp_path) == pieces(whole)


def begun(whole: Path, root: Path, *, thumbnails: bool) -> list[Path]:
    """A cache with the first two parts of the video, and their paths."""
    (piece,) = whole.glob("*/" + "?" * 64 + ".safetensors")
    provenance_file = json.loads((piece.parent / "provenance.json").read_text())
    made_by = {key: value for key, value in provenance_file.items() if key != "format"}
    finished, cache = EmbeddingCache(whole, made_by), EmbeddingCache(root, made_by)
    video, pictures = finished.load(piece.stem), finished.load_thumbnails(piece.stem)
    with cache.locked():
        for number, rows in enumerate((slice(0, 64), slice(64, 128))):
            part = VideoEmbeddings(
                video.window[rows],
                video.start_s[rows],
                video.end_s[rows],
                video.num_padded[rows],
                {name: vectors[rows] for name, vectors in video.vectors.items()},
                WindowPictures(*(getattr(video.pictures, name)[rows] for name in ("brightness", "contrast", "motion"))),
            )
            small = Thumbnails(pictures.times_s[rows], pictures.jpegs[rows])
            cache.put_part(piece.stem, number, part, thumbnails=small if thumbnails else None)
    return sorted(cache.folder.glob("*.safetensors"))


@pytest.mark.parametrize("have", [False, True])
@pytest.mark.parametrize("want", [False, True])
def test_parts_serve_where_they_have_what_is_wanted(
    have: bool, want: bool, world: Path, whole: Path, tmp_path: Path
) -> None:
    """Parts without thumbnails are computed again where thumbnails are wanted."""
    begun(whole, tmp_path, thumbnails=have)
    run(world, tmp_path, thumbnails=want)
    wanted = pieces(whole) if want else {".safetensors": pieces(whole)[".safetensors"]}
    assert pieces(tmp_path) == wanted


def test_parts_of_an_abandoned_video_count_and_go(whole: Path, tmp_path: Path) -> None:
    """They count in the quota, and go after thirty days or when the whole video is there."""
    parts = begun(whole, tmp_path, thumbnails=True)
    other = EmbeddingCache(tmp_path, {"made": "otherwise"})
    month_ago_s = time.time() - 31 * 86_400
    with other.locked():
        assert all(part.exists() for part in parts)
    assert other.shrink(sum(part.stat().st_size for part in parts)) == 0
    assert other.shrink(parts[1].stat().st_size) == 1
    assert [part.exists() for part in parts] == [False, True]
    os.utime(parts[1], (month_ago_s, month_ago_s))
    with other.locked():
        assert not parts[1].exists()
    (part, _) = begun(whole, tmp_path, thumbnails=True)
    part.with_name(part.name[:64] + ".safetensors").touch()
    with other.locked():
        assert not part.exists()


def test_a_damaged_part_is_computed_again(world: Path, whole: Path, tmp_path: Path) -> None:
    """And so is what follows it."""
    part, _ = begun(whole, tmp_path, thumbnails=True)
    content = bytearray(part.read_bytes())
    content[-3] ^= 16
    part.write_bytes(content)
    run(world, tmp_path)
    assert pieces(tmp_path) == pieces(whole)


def test_a_long_video_comes_in_parts_of_bounded_size(world: Path) -> None:
    """Whole batches each; together they are the video, and the last one knows how it ended."""
    reader = ClipReader(PLAN, Preprocessing.from_checkpoint(world / "backbone"), "pyav")
    backbone = load_backbone(world / "backbone", dtype=torch.float32)

    def embedded(part_windows: int) -> list[tuple[bool, embed.EmbeddedVideo]]:
        videos = embed.embed_videos(
            backbone,
            [Source("one", world / "long.mp4"), Source("two", world / "long.mp4")],
            reader,
            block_input_windows={},
            batch_size=8,
            num_workers=0,
            device=torch.device("cpu"),
            part_windows=part_windows,
        )
        return [(part.is_last, part.result()) for source, part in videos if source.video_id == "two"]

    parts, ((_, whole),) = embedded(20), embedded(1000)
    assert [len(part.embeddings) for _, part in parts] == [24] * 8 + [NUM_WINDOWS - 8 * 24]
    assert [is_last for is_last, _ in parts] == [False] * 8 + [True]
    assert [part.end for _, part in parts] == [None] * 8 + [whole.end]
    joined = embed.EmbeddedVideo.joined([part for _, part in parts])
    assert joined.end == whole.end
    assert np.array_equal(joined.embeddings.window, whole.embeddings.window)
    for name, vectors in whole.embeddings.vectors.items():
        assert np.array_equal(joined.embeddings.vectors[name], vectors)


def test_long_recordings_are_recognised_in_chunks(world: Path, whole: Path) -> None:
    """A part's vectors at once, with those in reach, give what all at once give."""
    model = load_recogniser(world / "model").model
    assert isinstance(model, SequenceModel)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    (piece,) = whole.glob("*/" + "?" * 64 + ".safetensors")
    video = EmbeddingCache(
        whole, provenance(model.backbone, ClipReader(PLAN, model.reader.preprocessing, "pyav"))
    ).load(piece.stem)
    start_s = video.start_s.copy()
    start_s[50:] += 3 * PLAN.stride_s  # a pause
    steps = window_steps(start_s, stride_s=PLAN.stride_s)
    at_once = predict_sequence(model.head, torch.from_numpy(video.vectors["mean"]), torch.from_numpy(steps)).sigmoid()
    told = partial(video_probabilities, model.head, stride_s=PLAN.stride_s)
    for part_windows in (1, 7, 50, 1000):
        in_chunks = told([video.vectors["mean"]], start_s, part_windows=part_windows)
        assert np.abs(in_chunks - at_once.numpy()).max() < 1e-5
    assert told([video.vectors["mean"][:0]], start_s[:0]).shape == (0, 2)


def test_progress_is_told_in_seconds_of_video() -> None:
    """With speed and time left; a video that states no length has no end; what was done before is no speed."""
    out = io.StringIO()
    bar = VideoSeconds.of({"a": 100.0, "b": 300.0}, done_s={"b": 200.0}, desc="extract", file=out)
    bar.reach("a", 50.0)
    bar.reach("a", 50.0)
    bar.reach("b", 230.0)
    values = bar.format_dict
    assert (values["n"], values["total"]) == (280.0, 400.0)
    speed = (280.0 - 200.0) / values["elapsed"]
    assert values["speed"] == f"{speed:.1f}x real time"
    assert "280 of 400 s of video" in str(bar)
    assert str(bar).endswith(" left")
    bar.reach("a", 107.0)  # longer than stated
    assert bar.n == 330.0
    bar.close()
    endless = VideoSeconds.of({"a": None, "b": 3.0}, done_s={}, desc="extract", file=out)
    assert str(endless) == "extract: 0 s of video, starting"
    endless.close()

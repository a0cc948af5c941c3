"""Every kind of file that this program keeps, damaged: it reads as it was written, or an error of ours names it."""

from __future__ import annotations

import dataclasses
import json
import logging
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from safetensors.torch import load_file, save_file

from features.cache import EmbeddingCache
from features.decode.damage import VideoEnd
from features.pictures import WindowPictures
from features.sealed import DamagedFile, read_sealed_json, write_sealed_json
from features.store.block_inputs import open_block_inputs, write_block_inputs
from features.store.embeddings import VideoEmbeddings, read_embeddings, write_embeddings
from features.store.rows import StoreError
from features.thumbnails import Thumbnails
from features.video import Segment
from heads import weights
from heads.linear import LinearHead, load_linear_head
from heads.predictions import Predictions
from heads.training.state import Checkpoint
from pipeline import params
from pipeline.dataset import manifest
from pipeline.dataset.manifest import Interval, Manifest, VideoEntry
from reports.thresholds import NoThresholds, Sweep, ThresholdGrid, sweep

REPOSITORY = Path(__file__).parents[1]
NUM_BITS = 25  # that are turned in each file, one at a time
OWN_PACKAGES = ("features", "heads", "reports", "pipeline")
PROVENANCE = {"backbone": {"id": "tiny", "sha256": "abc"}, "precision": "fp32", "attention": "sdpa"}
RNG = np.random.default_rng(3)
VECTORS = {name: RNG.standard_normal((5, 6)).astype(np.float16) for name in ("mean", "max")}
BLOCK_INPUTS = torch.from_numpy(RNG.standard_normal((5, 4, 6)).astype(np.float32)).half()
PICTURES = WindowPictures(*RNG.random((3, 5)).astype(np.float32))
THUMBNAILS = Thumbnails(np.arange(2.0), [b"one", b"another"])
LABELS = ("c015", "c059")
END = VideoEnd(1.0, faults=("cut off",), pauses=(Segment(0.0, 2.5),))


def video() -> VideoEmbeddings:
    starts = np.arange(5.0) / 3
    return VideoEmbeddings(
        np.arange(5, dtype=np.int32), starts, starts + 2, np.array([0, 0, 0, 0, 3], dtype=np.int32), VECTORS, PICTURES
    )


def predictions() -> Predictions:
    targets = RNG.random((6, 2)) < 0.5
    targets[0] = True
    return Predictions(
        labels=LABELS,
        video_ids=np.array(["A1", "A1", "A1", "B2", "B2", "B2"]),
        window=np.array([0, 1, 2, 0, 1, 2], dtype=np.int32),
        start_s=np.arange(6.0),
        end_s=np.arange(6.0) + 1.5,
        probabilities=RNG.random((6, 2)).astype(np.float32),
        targets=targets,
        videos=np.array(["A1", "B2"]),
        video_targets=np.ones((2, 2), dtype=np.bool_),
        model_sha256="0123456789abcdef" * 4,
    )


def swept() -> Sweep:
    found = predictions()
    grid = ThresholdGrid(0.1, 0.9, 0.1, 1).values()
    made = sweep(found.probabilities, found.targets, labels=LABELS, grid=grid, half_way_positives=1)
    return dataclasses.replace(made, model_sha256=found.model_sha256)


def entries() -> Manifest:
    return Manifest(
        tuple(
            VideoEntry(f"V{k}", f"V{k}.mp4", split, "Kitchen", split, 12.5 + k, (Interval("c015", 0.5, 3.25 + k),))
            for k, split in enumerate(manifest.SPLITS)
        )
    )


def head() -> LinearHead:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LinearHead(12, 2)


def write_store(folder: Path) -> None:
    write_embeddings(folder / "e.zarr", {"A1": 5, "B2": 5}, lambda _: video(), provenance=PROVENANCE)


def read_store(folder: Path) -> Any:
    embeddings, provenance = read_embeddings(folder / "e.zarr")
    return provenance, [getattr(embeddings, field.name) for field in dataclasses.fields(embeddings)]


def write_blocks(folder: Path) -> None:
    write_block_inputs(
        folder / "b.zarr",
        {"A1": range(5), "B2": (1, 3, 4, 5, 8)},
        lambda _: BLOCK_INPUTS,
        precision="fp16",
        provenance=PROVENANCE,
    )


def read_blocks(folder: Path) -> Any:
    stored, provenance = open_block_inputs(folder / "b.zarr")
    return provenance, stored.windows, stored.read(range(10))


def write_head(folder: Path) -> None:
    config = {"provenance": PROVENANCE, "labels": [{"id": each, "name": each} for each in LABELS], "features": ["mean"]}
    weights.save(folder / "head", head().state_dict(), config)


def read_head(folder: Path) -> Any:
    found, config = load_linear_head(folder / "head", expected=PROVENANCE)
    return config, dict(found.state_dict()), weights.read_config(folder / "head")


def checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint(folder / "state", {"seed": 11}, every_steps=7)


def write_state(folder: Path) -> None:
    checkpoint(folder).write({"x": torch.arange(30.0), "y": torch.ones(2, 3)}, {"step": 14, "losses": [0.1, 0.25]})


def cache(folder: Path) -> EmbeddingCache:
    return EmbeddingCache(folder / "cache", PROVENANCE)


def write_cache(folder: Path) -> None:
    with cache(folder).locked():
        cache(folder).put("a" * 64, video(), END)
        cache(folder).put_block_inputs("a" * 64, "fp16", range(5), BLOCK_INPUTS, asked=frozenset({0, 1, 2, 3, 4, 9}))
        cache(folder).put_thumbnails("a" * 64, THUMBNAILS)
    for name in (".lock", "provenance.json"):
        for path in (folder / "cache").rglob(name):
            path.unlink()


def read_cache(folder: Path) -> Any:
    kept, wanted = cache(folder), frozenset({1, 4, 9})
    if not kept.has("a" * 64) or kept.block_input_windows("a" * 64, "fp16", wanted=wanted) is None:
        return None
    if not kept.has_thumbnails("a" * 64):
        return None
    loaded = kept.load("a" * 64)
    return (
        [getattr(loaded, field.name) for field in dataclasses.fields(loaded) if field.name != "pictures"],
        dataclasses.asdict(loaded)["pictures"],
        list(kept.load_thumbnails("a" * 64).jpegs),
        kept.load_thumbnails("a" * 64).times_s,
        kept.num_windows("a" * 64),
        kept.block_input_windows("a" * 64, "fp16", wanted=wanted),
        kept.load_block_inputs("a" * 64, "fp16", (1, 4)),
    )


def read_predictions(folder: Path) -> Any:
    return dataclasses.asdict(Predictions.load(folder / "val.npz"))


WRITERS: dict[str, Callable[[Path], None]] = {
    "embeddings": write_store,
    "block inputs": write_blocks,
    "sweep": lambda folder: swept().save(folder / "sweep.json"),
    "predictions": lambda folder: predictions().save(folder / "val.npz"),
    "manifest": lambda folder: manifest.write(folder / "manifest", entries()),
    "head": write_head,
    "checkpoint": write_state,
    "cache": write_cache,
}
READERS: dict[str, Callable[[Path], Any]] = {
    "embeddings": read_store,
    "block inputs": read_blocks,
    "sweep": lambda folder: Sweep.load(folder / "sweep.json"),
    "predictions": read_predictions,
    "manifest": lambda folder: manifest.read(folder / "manifest"),
    "head": read_head,
    "checkpoint": lambda folder: checkpoint(folder).read(),
    "cache": read_cache,
}
STARTS_OVER = ("checkpoint", "cache")
"""Kinds that are made again by themselves: a damaged one is None, with a warning."""


def mutations(content: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """A file's content in many wrong ways, and why each is wrong."""
    yield "empty", b""
    yield "text", b"version https://git-lfs.github.com/spec/v1\n"
    yield "null", b"null"
    yield "a list", b"[]"
    yield "an object", b"{}"
    yield "no UTF-8", b"\xff\xfe" + content
    yield "doubled", content + content
    yield "deep", b"[" * 100_000
    for length in sorted({1, 7, 8, 9, len(content) // 2, len(content) - 5, len(content) - 1}):
        if 0 < length < len(content):
            yield f"cut to {length}", content[:length]
    for _ in range(NUM_BITS):
        at, bit = rng.randrange(len(content)), rng.randrange(8)
        yield f"bit {bit} of byte {at}", content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
    for _ in range(5):
        at = rng.randrange(len(content))
        yield f"zeros from {at}", content[:at] + bytes(min(64, len(content) - at)) + content[at + 64 :]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray | torch.Tensor):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)


def verdict(kind: str, folder: Path, wanted: Any, told: list[str]) -> str | None:
    """None where a reader did right; else what it did."""
    told.clear()
    try:
        found = READERS[kind](folder)
    except FileNotFoundError as error:
        return None if str(folder) in str(error.filename) else f"no path: {error!r}"
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in OWN_PACKAGES:
            return f"a traceback: {error!r}"
        return None if str(folder) in str(error) and len(str(error).splitlines()) == 1 else f"no sentence: {error!r}"
    if found is None and kind in STARTS_OVER:
        return None if any(str(folder) in line for line in told) else "started over in silence"
    return None if same(wanted, found) else f"other values: {found!r}"


@pytest.fixture
def told() -> Iterator[list[str]]:
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("features", "heads")]
    for logger in loggers:
        logger.addHandler(handler)
    yield lines
    for logger in loggers:
        logger.removeHandler(handler)


SLOW = ("embeddings", "block inputs", "manifest")


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in WRITERS])
def test_a_damaged_file_is_as_it_was_or_is_refused(kind: str, tmp_path: Path, told: list[str]) -> None:
    """Cut, emptied, with bits turned or something else in its place: never other values, never a traceback."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    WRITERS[kind](good)
    wanted = READERS[kind](good)
    assert wanted is not None
    assert verdict(kind, good, wanted, told) is None
    rng = random.Random(f"8 {kind}")
    files = sorted(path.relative_to(good) for path in good.rglob("*") if path.is_file())
    faults = []
    shutil.copytree(good, bad)
    for file in files:
        content = (good / file).read_bytes()
        for how, mutated in mutations(content, rng):
            (bad / file).write_bytes(mutated)
            fault = verdict(kind, bad, wanted, told)
            if fault:
                faults.append(f"{file}, {how}: {fault}")
            (bad / file).write_bytes(content)
        (bad / file).unlink()
        if kind not in STARTS_OVER:
            fault = verdict(kind, bad, wanted, told)
            faults += [f"{file}, gone: {fault}"] if fault else []
            (bad / file).mkdir()
            fault = verdict(kind, bad, wanted, told)
            faults += [f"{file}, a folder: {fault}"] if fault else []
            (bad / file).rmdir()
        (bad / file).write_bytes(content)
    assert faults == []
    assert verdict(kind, bad, wanted, told) is None


def test_a_damaged_piece_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A turned bit makes the video absent, with a warning that names the piece; the other pieces stay."""
    write_cache(tmp_path)
    (piece,) = (tmp_path / "cache").rglob(f"{'a' * 64}.safetensors")
    content = bytearray(piece.read_bytes())
    content[-1] ^= 1
    piece.write_bytes(content)
    with pytest.raises(DamagedFile, match="delete it, and it will be computed again"):
        cache(tmp_path).load("a" * 64)
    kept = cache(tmp_path)
    assert not kept.has("a" * 64)
    assert str(piece) in caplog.text
    assert "computed again" in caplog.text
    assert not piece.exists()
    assert kept.block_input_windows("a" * 64, "fp16", wanted=frozenset({1})) == (1,)
    kept.put("a" * 64, video(), END)
    assert same(kept.load("a" * 64).vectors["mean"], VECTORS["mean"])
    assert kept.video_end("a" * 64) == END


def test_a_piece_of_an_older_format_is_absent(tmp_path: Path) -> None:
    """One that states no hash is not believed."""
    write_cache(tmp_path)
    (piece,) = (tmp_path / "cache").rglob(f"{'a' * 64}.safetensors")
    save_file(load_file(piece), piece)
    assert not cache(tmp_path).has("a" * 64)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("array", ["vectors/mean", "start_s", "end_s"])
def test_nan_that_another_program_wrote_is_refused(tmp_path: Path, bad: float, array: str) -> None:
    """Zarr itself writes a right checksum of a wrong number."""
    write_store(tmp_path)
    zarr.open(tmp_path / "e.zarr", mode="r+")[array][2] = bad
    with pytest.raises(StoreError, match=r"e\.zarr .*(nan or infinity|unique and sorted)"):
        read_embeddings(tmp_path / "e.zarr")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_block_inputs_that_are_not_finite_are_refused(tmp_path: Path, precision: str) -> None:
    """Neither written, which says what stores larger numbers, nor read where somebody else wrote them."""
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]

    def write(block_inputs: torch.Tensor) -> None:
        write_block_inputs(
            tmp_path / "b", {"A1": range(5)}, lambda _: block_inputs, precision=precision, provenance=PROVENANCE
        )

    write(BLOCK_INPUTS.to(dtype))
    assert torch.equal(open_block_inputs(tmp_path / "b")[0].read([3, 1]), BLOCK_INPUTS[[3, 1]].to(dtype))
    array = zarr.open(tmp_path / "b" / "block_input", mode="r+")
    array[3, 0, 0] = 0x7FC0 if precision == "bf16" else np.nan
    with pytest.raises(StoreError, match="nan or infinity in chunk 0"):
        open_block_inputs(tmp_path / "b")[0].read([1])
    bad = BLOCK_INPUTS.to(dtype, copy=True)
    bad[2, 1, 1] = torch.inf
    with pytest.raises(StoreError, match=r"video A1: a block input is nan or infinite .*block_inputs_precision"):
        write(bad)


def test_a_sweep_that_was_edited_is_refused(tmp_path: Path) -> None:
    """A threshold that somebody typed in is not one that was swept; the message says what writes the file."""
    swept().save(tmp_path / "sweep.json")
    content = json.loads((tmp_path / "sweep.json").read_text())
    content["threshold"] = 0.9
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match=r"sweep\.json .*not edited by hand; run `dvc repro sweep`"):
        Sweep.load(tmp_path / "sweep.json")


def test_thresholds_belong_to_their_model(tmp_path: Path) -> None:
    """A sweep over another model's probabilities is named with both hashes."""
    found = swept()
    found.require_model(found.model_sha256, tmp_path / "sweep.json")
    with pytest.raises(NoThresholds, match=r"sweep\.json has the thresholds of another model: wanted ffff.*found 0123"):
        found.require_model("f" * 64, tmp_path / "sweep.json")


def test_a_seal_is_of_values_and_not_of_their_text(tmp_path: Path) -> None:
    """Other spaces, line ends and an other order of keys change nothing; nan is never written."""
    value = {"b": [1, 2.5, None, "ü"], "a": {"y": True, "x": 1e-9}}
    write_sealed_json(tmp_path / "x.json", value)
    text = json.dumps(dict(reversed(json.loads((tmp_path / "x.json").read_text()).items())))
    (tmp_path / "x.json").write_bytes(text.replace(", ", ",\r\n").encode())
    assert read_sealed_json(tmp_path / "x.json", remedy="write it again") == value
    with pytest.raises(ValueError, match="JSON"):
        write_sealed_json(tmp_path / "y.json", {"a": float("nan")})
    assert not (tmp_path / "y.json").exists()


def test_damaged_params_are_params_or_a_line(tmp_path: Path) -> None:
    """People edit these, so that other values are theirs; but nothing other than `ParamsError` comes out."""
    shutil.copytree(REPOSITORY / "params", tmp_path / "params")
    file = tmp_path / "params" / "demo.yaml"
    content = file.read_bytes()
    rng = random.Random(8)
    for how, mutated in mutations(content, rng):
        file.write_bytes(mutated)
        try:
            params.load(tmp_path, "demo")
        except params.ParamsError as error:
            assert str(file) in str(error), how  # noqa: PT017


@pytest.mark.parametrize("length_s", [1e7, 1e300, float("inf"), float("nan"), 0.0, -1.0])
def test_a_length_that_cannot_be_is_refused(length_s: float) -> None:
    """A slip of the annotations would take the room of every other video, or overflow: it is named."""
    with pytest.raises(ValueError, match="V0: length must be above 0 and at most 86400 s, a day"):
        dataclasses.replace(entries().videos[0], length_s=length_s)

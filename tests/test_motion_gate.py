"""The motion gate: which windows repeat the last embedded one, and that nothing else changes."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from features.backbone import load_backbone
from features.cache import EmbeddingCache
from features.clips import ClipReader, Source
from features.extraction import BlockInputSelection, extract, provenance
from features.gate import MotionGate, batches, embedded_row
from features.preprocess import Preprocessing
from features.sealed import read_sealed_json, write_sealed_json
from features.store.embeddings import VideoEmbeddings
from features.video import Clip, Segment
from pipeline import params
from pipeline.model_folder import load_recogniser
from pipeline.params import RecordingParams
from pipeline.recognition import WindowModel
from tests.model_folders import PLAN, make_model_folder

pytestmark = pytest.mark.usefixtures("one_thread")

GATE = MotionGate(max_change=0.02, max_s=4.0)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, and a camera that stands still: in seconds 10 to 12 of 20 a small square moves."""
    folder = tmp_path_factory.mktemp("world")
    make_model_folder(folder)
    generator = np.random.default_rng(0)
    room = generator.integers(60, 200, (6, 8, 3), dtype=np.uint8).repeat(20, axis=0).repeat(20, axis=1)
    with av.open(str(folder / "still.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "18"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 8)
        for number in range(160):
            noise = generator.normal(0, 2, room.shape)
            picture = np.clip(room + noise, 0, 255).astype(np.uint8)
            if 80 <= number < 96:
                left = 60 + 2 * (number - 80)
                picture[50:66, left : left + 16] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return folder


def reader(world: Path, gate: MotionGate | None) -> ClipReader:
    return ClipReader(PLAN, Preprocessing.from_checkpoint(world / "backbone"), "pyav", gate)


def embeddings(
    world: Path, root: Path, gate: MotionGate | None, *, batch_size: int = 4, num_workers: int = 0
) -> tuple[VideoEmbeddings, EmbeddingCache]:
    backbone = load_backbone(world / "backbone", dtype=torch.float32)
    cache = EmbeddingCache(root, provenance(backbone, reader(world, gate)))
    with cache.locked():
        done = extract(
            backbone,
            [Source("still", world / "still.mp4")],
            reader(world, gate),
            cache=cache,
            selection=BlockInputSelection({}, "fp32"),
            batch_size=batch_size,
            num_workers=num_workers,
            device=torch.device("cpu"),
            thumbnails=True,
        )
        return cache.load(done.sha256s["still"]), cache


def test_windows_in_which_nothing_moves_repeat_the_last_one(world: Path) -> None:
    """Noise is no motion, a small square is; after `max_s` a still window is embedded again."""
    clips = list(reader(world, GATE).clips(Source("still", world / "still.mp4", thumbnails=True)))
    starts_s = [clip.segment.start_s for clip in clips if not clip.repeats]
    moving_s = [clip.segment.start_s for clip in clips if 9.0 < clip.segment.start_s < 12.0]
    assert [start_s for start_s in starts_s if start_s <= 9.0] == [0.0, 4.5, 9.0]
    assert set(moving_s) <= set(starts_s)
    assert len(starts_s) < len(clips) / 2
    plain = list(reader(world, None).clips(Source("still", world / "still.mp4", thumbnails=True)))
    for gated, clip in zip(clips, plain, strict=True):
        assert (gated.window, gated.segment, gated.numbers) == (clip.window, clip.segment, clip.numbers)
        assert gated.frames.shape == ((4, 0, 0, 3) if gated.repeats else clip.frames.shape)
        assert gated.thumbnail == (None if gated.repeats else clip.thumbnail)


def test_a_repeated_window_has_the_embedding_of_the_one_that_it_repeats(world: Path, tmp_path: Path) -> None:
    """The others have the embeddings that they have without the gate; times and pictures are all the same."""
    clips = list(reader(world, GATE).clips(Source("still", world / "still.mp4")))
    gated, _ = embeddings(world, tmp_path, GATE)
    plain, _ = embeddings(world, tmp_path, None)
    row_of = np.maximum.accumulate([0 if clip.repeats else row for row, clip in enumerate(clips)])
    for name, vectors in gated.vectors.items():
        assert np.array_equal(vectors, plain.vectors[name][row_of])
        assert not np.array_equal(vectors, plain.vectors[name])
    assert np.array_equal(gated.end_s, plain.end_s)
    assert gated.pictures is not None
    assert plain.pictures is not None
    assert np.array_equal(gated.pictures.motion, plain.pictures.motion)


def test_the_gate_is_part_of_what_embeddings_are_of(world: Path, tmp_path: Path) -> None:
    """Another gate, another place in the cache; batch size and workers change no byte of what is in it."""
    _, first = embeddings(world, tmp_path / "one", GATE)
    _, other = embeddings(world, tmp_path / "one", replace(GATE, max_s=5.0))
    _, none = embeddings(world, tmp_path / "one", None)
    assert len({first.folder, other.folder, none.folder}) == 3
    assert "motion_gate" not in none.provenance
    _, again = embeddings(world, tmp_path / "two", GATE, batch_size=1, num_workers=1)
    for piece in first.folder.glob("*.safetensors"):
        assert (again.folder / piece.name).read_bytes() == piece.read_bytes()


def test_selected_windows_are_not_gated(world: Path) -> None:
    """Block inputs are of the very windows that were asked for."""
    clips = list(reader(world, GATE).clips(Source("still", world / "still.mp4", windows=frozenset({1, 2, 3}))))
    assert [clip.window for clip in clips] == [1, 2, 3]
    assert not any(clip.repeats for clip in clips)


def test_a_model_that_looks_at_windows_alone_repeats_its_answer(world: Path) -> None:
    """The finetuned block runs for embedded windows alone."""
    model = load_recogniser(world / "model").model
    assert isinstance(model, WindowModel)
    with torch.no_grad():
        model.model.tail.head.linear.weight.normal_(generator=torch.Generator().manual_seed(0))
    plain = model.recognise(world / "still.mp4", batch_size=3, num_workers=0)
    gated = replace(model, reader=replace(model.reader, gate=GATE)).recognise(
        world / "still.mp4", batch_size=3, num_workers=0
    )
    clips = list(replace(model.reader, gate=GATE).clips(Source("still", world / "still.mp4")))
    row_of = np.maximum.accumulate([0 if clip.repeats else row for row, clip in enumerate(clips)])
    assert np.allclose(gated.probabilities, plain.probabilities[row_of], atol=1e-6)
    assert list(gated.windows) == list(plain.windows)


def test_a_model_folder_brings_its_gate(world: Path, tmp_path: Path) -> None:
    """What recordings were tuned with is what diaries are written with; a folder that names none has none."""
    assert load_recogniser(world / "model").model.reader.gate is None  # type: ignore[attr-defined]
    folder = tmp_path / "model"
    shutil.copytree(world / "model", folder)
    content = read_sealed_json(folder / "diary.json", remedy="")
    write_sealed_json(folder / "diary.json", {**content, "motion_gate": asdict(GATE)})
    assert load_recogniser(folder).model.reader.gate == GATE  # type: ignore[attr-defined]


def test_the_params_name_a_gate_or_none() -> None:
    """In the demo, where it saves next to nothing, there is none; no change and no time are no gate."""
    assert RecordingParams(motion_gate=None, gate_max_s=10.0).gate is None
    assert RecordingParams(motion_gate=0.02, gate_max_s=4.0).gate == GATE
    root = Path(__file__).parents[1]
    assert params.load(root, "demo").recordings.gate is None
    assert params.load(root, "charades").recordings.gate == MotionGate(0.02, 10.0)


def test_batches_begin_with_a_window_that_is_embedded() -> None:
    """Up to so many embedded windows, each with those that repeat it."""
    frames, pts_s = np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1)
    flags = [False, True, True, False, False, True, False, True]
    clips = [Clip(k, Segment(k, k + 1), frames, pts_s, 0, repeats=flag) for k, flag in enumerate(flags)]
    made = list(batches(clips, 2))
    assert [[clip.window for clip in batch] for batch in made] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [embedded_row(batch).tolist() for batch in made] == [[0, 0, 0, 1], [0, 0, 1, 1]]
    assert list(batches([], 2)) == []

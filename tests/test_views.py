"""What a model sees of pictures that are no squares: the middle, or three views; and that the diary says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch
from ruamel.yaml import YAML

from features.backbone import load_backbone
from features.clips import ClipReader, Source
from features.embed import embed_videos
from features.extraction import provenance
from features.gate import MotionGate
from features.preprocess import Preprocessing
from features.store.embeddings import VideoEmbeddings
from features.video import Image, Segment, Views
from heads.action_model import ActionModel, predict_clips
from heads.training.batches import frame_batches, plan_batches
from heads.training.validation import on_frames, scores
from pipeline import params
from pipeline.model_folder import load_recogniser
from pipeline.params import ParamsError
from pipeline.recognition import WindowModel
from reports.diary.formats.jsonl import write_jsonl
from reports.diary.formats.markdown import write_markdown
from reports.diary.model import DiaryModel
from reports.diary.readings import METADATA
from reports.diary.recording import Recording
from reports.diary.stored import read_stored, write_stored
from reports.events import EventRule, EventsFound
from tests.diaries import Page, day_html, stored
from tests.model_folders import PLAN, make_model_folder

pytestmark = pytest.mark.usefixtures("one_thread")

WIDE, HIGH, SQUARE = (120, 216), (216, 120), (120, 120)  # (H, W)


def write(path: Path, shape: tuple[int, int], *, objects: Callable[[Image, int], None] = lambda *_: None) -> Path:
    """Three seconds of a patterned wall at 8 frames a second; `objects` paints into each picture."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    wall = np.stack([90 + rows // 3, 60 + columns // 4, 120 + (rows + columns) // 8], axis=2).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "10"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 8)
        for number in range(24):
            picture = wall.copy()
            objects(picture, number)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def at_the_left(picture: Image, number: int) -> None:
    """A white cup, well outside of the middle square, that moves in the second half."""
    top = 40 + 4 * max(0, number - 12)
    picture[top : top + 20, 4:20] = 255


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_model_folder(folder)
    write(folder / "wide.mp4", WIDE)
    write(folder / "wide_cup.mp4", WIDE, objects=at_the_left)
    write(folder / "high.mp4", HIGH)
    write(
        folder / "high_cup.mp4", HIGH, objects=lambda picture, number: at_the_left(picture.transpose(1, 0, 2), number)
    )
    write(folder / "square.mp4", SQUARE)
    return folder


def reader(world: Path, views: Views = "three", gate: MotionGate | None = None) -> ClipReader:
    return ClipReader(PLAN, Preprocessing.from_checkpoint(world / "backbone"), "pyav", gate, views)


def embeddings(world: Path, name: str, views: Views, batch_size: int = 2) -> VideoEmbeddings:
    ((_, part),) = embed_videos(
        load_backbone(world / "backbone", dtype=torch.float32),
        [Source(name, world / f"{name}.mp4")],
        reader(world, views),
        block_input_windows={},
        batch_size=batch_size,
        num_workers=0,
        device=torch.device("cpu"),
    )
    return part.result().embeddings


def test_what_is_far_from_the_middle_counts_with_three_views(world: Path) -> None:
    """A cup at the far left of a wide picture, or at the top of a high one, changes embeddings under `three` alone."""
    for shape in ("wide", "high"):
        for views in ("center", "three"):
            without, with_cup = (embeddings(world, name, views).vectors for name in (shape, f"{shape}_cup"))
            for name in ("pooler", "mean", "max"):
                difference = np.abs(without[name].astype(np.float32) - with_cup[name]).max()
                # The codec may move a pixel elsewhere by a level.
                assert difference < 0.005 if views == "center" else difference > 0.02, (shape, views, name)


def test_three_views_are_both_ends_and_the_middle_pooled(world: Path) -> None:
    """The mean over views for mean and pooler, the maximum for max; any batch size gives the same bytes."""
    found = embeddings(world, "wide_cup", "three").vectors
    backbone = load_backbone(world / "backbone", dtype=torch.float32)
    preprocessing = reader(world).preprocessing
    (clip, *_) = reader(world).clips(Source("wide_cup", world / "wide_cup.mp4"))
    assert clip.frames.shape == (
        PLAN.num_frames,
        32,
        64,
        3,
    )  # resized to 36 x 64
    squares = [clip.frames[:, :, left : left + 32] for left in (0, 16, 32)]
    pixels = preprocessing.normalise(torch.from_numpy(np.stack(squares)), torch.float32)
    with torch.inference_mode():
        pooled = backbone.pool(backbone.tokens(pixels), backbone.poolings)
    np.testing.assert_allclose(found["mean"][0], pooled["mean"].numpy().mean(axis=0), atol=2e-3)
    np.testing.assert_allclose(found["pooler"][0], pooled["pooler"].numpy().mean(axis=0), atol=2e-3)
    np.testing.assert_allclose(found["max"][0], pooled["max"].numpy().max(axis=0), atol=4e-3)
    again = embeddings(world, "wide_cup", "three", batch_size=5).vectors
    assert all(np.array_equal(again[name], vectors) for name, vectors in found.items())


def test_a_strip_is_the_resized_picture(world: Path) -> None:
    """Its middle square is the centre crop pixel for pixel; a portrait's strip is that of the picture lying down."""
    preprocessing = reader(world).preprocessing
    picture = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    strip = preprocessing.resize_crop(picture, "three")
    assert strip.shape == (32, 64, 3)
    middle, left, right = (view.numpy()[0, 0] for view in preprocessing.views_of(torch.from_numpy(strip)[None, None]))
    assert np.array_equal(middle, preprocessing.resize_crop(picture))
    assert np.array_equal(left, strip[:, :32])
    assert np.array_equal(right, strip[:, -32:])
    portrait = preprocessing.resize_crop(picture.transpose(1, 0, 2), "three")
    assert np.abs(portrait.transpose(1, 0, 2).astype(int) - strip).max() <= 1
    assert [view.shape[2:4] for view in preprocessing.views_of(torch.from_numpy(portrait)[None, None])] == [
        (32, 32)
    ] * 3
    with pytest.raises(ValueError, match="a strip's shorter side is 32 pixels, got 30 x 64"):
        preprocessing.views_of(torch.zeros(1, 4, 30, 64, 3, dtype=torch.uint8))


def test_a_square_picture_costs_one_view(world: Path) -> None:
    """And has the embeddings that it has under `center`."""
    for clip in reader(world).clips(Source("square", world / "square.mp4")):
        assert clip.frames.shape[1:3] == (32, 32)
    one, three = (embeddings(world, "square", views).vectors for views in ("center", "three"))
    assert all(np.array_equal(one[name], three[name]) for name in one)


def test_views_are_part_of_the_key_where_they_are_not_the_centre(world: Path) -> None:
    """What was embedded before there were views is found again."""
    backbone = load_backbone(world / "backbone", dtype=torch.float32)
    centre, three = (provenance(backbone, reader(world, views)) for views in ("center", "three"))
    assert "views" not in centre
    assert three == {**centre, "views": "three"}


def test_the_gate_looks_at_the_whole_strip(world: Path) -> None:
    """A cup that moves at the far left ends a still stretch under `three`, and is not seen under `center`."""
    gate = MotionGate(max_change=0.02, max_s=60.0)
    repeats = {
        views: [clip.repeats for clip in reader(world, views, gate).clips(Source("w", world / "wide_cup.mp4"))]
        for views in ("center", "three")
    }
    assert repeats["center"] == [False, True, True, True, True]
    assert repeats["three"][:2] == [False, True]
    assert not any(repeats["three"][3:])


@pytest.mark.parametrize("temporal", [False, True])
def test_a_diary_sees_what_its_model_was_trained_on(tmp_path: Path, world: Path, temporal: bool) -> None:
    """The views are those of the model's provenance; one of before there were views sees the centre."""
    shares: dict[Views, tuple[float, float]] = {"center": (32 / 64, 32 / 36), "three": (1.0, 32 / 36)}
    for views, share in shares.items():
        folder = tmp_path / views
        folder.mkdir()
        model = load_recogniser(make_model_folder(folder, temporal=temporal, views=views)).model
        seen = model.recognise(world / "wide_cup.mp4", batch_size=2, num_workers=0)
        vectors = embeddings(world, "wide_cup", views).vectors["mean"]
        np.testing.assert_allclose(seen.vectors["mean"], vectors, atol=2e-3)
        assert seen.seen_share == pytest.approx(share, abs=0.01)


def random_model(folder: Path) -> ActionModel:
    """A linear head that tells windows apart, on the tiny backbone."""
    recogniser = load_recogniser(make_model_folder(folder)).model
    assert isinstance(recogniser, WindowModel)
    with torch.no_grad():
        recogniser.model.tail.head.linear.weight.normal_(generator=torch.Generator().manual_seed(0))
    return recogniser.model.cpu()


def test_a_linear_head_answers_for_the_joined_views(tmp_path: Path, world: Path) -> None:
    """Clips of pictures of any shapes, one after the other: each has the answer to its own joined vector."""
    model = random_model(tmp_path)
    clips = [
        (name, clip)
        for name in ("wide", "square", "high_cup")
        for clip in reader(world).clips(Source(name, world / f"{name}.mp4"))
    ]
    predicted = list(predict_clips(model, clips, batch_size=3, device=torch.device("cpu")))
    assert [(name, clip.window) for name, clip, _ in predicted] == [(name, clip.window) for name, clip in clips]
    for name in ("wide", "square", "high_cup"):
        vectors = torch.from_numpy(embeddings(world, name, "three").vectors["mean"].astype(np.float32))
        wanted = model.tail.head(vectors).sigmoid().detach()
        found = np.stack([row for own, _, row in predicted if own == name])
        np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_stage_2_trains_on_all_views(tmp_path: Path, world: Path) -> None:
    """Batches of pictures of any shapes, mirrored ones too, reach the last block; val is scored on joined views."""
    model = random_model(tmp_path)
    names, windows = ("wide_cup", "square", "high"), frozenset(range(5))
    sources = [Source(name, world / f"{name}.mp4", windows) for name in names]

    def target_of(name: str, segment: Segment) -> npt.NDArray[np.bool_]:
        return np.array([name == "square", segment.start_s > 0.6])

    evaluate = on_frames(sources, reader(world), target_of, batch_size=4, num_workers=0)
    joined = [embeddings(world, source.video_id, "three") for source in sources]
    vectors = np.concatenate([video.vectors["mean"].astype(np.float32) for video in joined])
    targets = [
        target_of(source.video_id, Segment(start_s, start_s + 1))
        for source, video in zip(sources, joined, strict=True)
        for start_s in video.start_s
    ]
    with torch.no_grad():
        wanted = scores(model.tail.head(torch.from_numpy(vectors)), torch.from_numpy(np.stack(targets)).float())
        assert evaluate(model) == pytest.approx(wanted, abs=2e-3)
        assert evaluate(model) == pytest.approx(wanted, abs=2e-3)

    plan = plan_batches(
        sources,
        {source.video_id: [0, 1, 2] for source in sources},
        steps=3,
        batch_size=3,
        windows_per_pass=3,
        buffer_size=9,
        start_frames=1,
        mirrored_share=0.5,
        generator=torch.Generator().manual_seed(0),
    )
    model.backbone.last.requires_grad_(True)
    model.train()
    for frames, _ in frame_batches(plan, reader(world), target_of, num_workers=0)(0):
        assert frames.shape[2:4] in ((32, 96), (32, 64), (64, 32), (32, 32))
        model(frames).sum().backward()
    assert all(parameter.grad is not None for parameter in model.backbone.last.parameters())


def test_params_name_the_views(tmp_path: Path) -> None:
    """Both committed profiles see the centre; other views are refused, and three beside stored block inputs."""
    root = Path(__file__).parents[1]
    shutil.copytree(root / "params", tmp_path / "params")
    path = tmp_path / "params" / "demo.yaml"
    committed = path.read_text()
    for profile in ("demo", "charades"):
        assert params.load(root, profile).extract.views == "center"
    path.write_text(committed.replace("views: center", "views: five"))
    with pytest.raises(ParamsError, match=r"extract\.views: should be 'center' or 'three', got 'five'"):
        params.load(tmp_path, "demo")
    values = YAML(typ="safe").load(committed)
    values["extract"]["views"] = "three"
    values["finetune"] |= {"source": "block_inputs", "random_starts": False, "flip": False}
    YAML(typ="safe").dump(values, path)
    with pytest.raises(ParamsError) as caught:
        params.load(tmp_path, "demo")
    assert str(caught.value) == (
        f"{path}: extract.views three needs finetune.source video, since block inputs are stored of one view of each "
        "window; got finetune.source block_inputs"
    )
    values["finetune"]["source"] = "video"
    YAML(typ="safe").dump(values, path)
    assert params.load(tmp_path, "demo").extract.views == "three"


NAMES = {"c015": "Holding a phone"}
MODEL = DiaryModel("demo", "diary", "head", "a" * 64, "b" * 64, {"c015": EventRule(0.5, 0.4, 2.0, 1.0)})
NOTE = "The model sees the middle of the picture: 49% of its width and 88% of its height."


def recording(**facts: Any) -> Recording:
    start = datetime(2026, 3, 14, 8, tzinfo=UTC)
    return Recording("a", "a.mp4", 20.0, start, METADATA, (Segment(0, 20),), **facts)


def told(folder: Path, *parts: Recording) -> tuple[str, str, dict[str, Any]]:
    """The day page's text, the Markdown, and the first line of the first one's events.jsonl."""
    nothing = EventsFound((), {})
    write_markdown(folder / "diary.md", [(part, nothing) for part in parts], NAMES, MODEL, min_quiet_s=10.0)
    write_jsonl(folder / "events.jsonl", parts[0], nothing, NAMES, MODEL)
    page = Page(day_html(folder, *(stored(part, nothing, NAMES, MODEL) for part in parts))).text
    first = json.loads((folder / "events.jsonl").read_text().splitlines()[0])
    return page, (folder / "diary.md").read_text(encoding="utf-8"), first


def test_what_the_crop_did_not_see_is_said(tmp_path: Path) -> None:
    """On the page's first screen, beside the recording in Markdown, as numbers in JSON, and kept for later pages."""
    preprocessing = Preprocessing(256, (0.5,) * 3, (0.5,) * 3)
    share = preprocessing.seen_share(1080, 1920, "center")
    assert share == (256 / 519, 256 / 292)
    page, text, row = told(tmp_path, recording(seen_share=share))
    assert page.index(NOTE) < page.index("The story")
    assert f"0 events. {NOTE}\n" in text
    assert row["seen_share"] == {"width": 0.493, "height": 0.877}
    kept = stored(recording(seen_share=share), EventsFound((), {}), NAMES, MODEL)
    write_stored(tmp_path / "recording.json", kept)
    assert read_stored(tmp_path / "recording.json").recording.seen_share == share


def test_three_views_leave_less_to_say(tmp_path: Path) -> None:
    """All of the width; of a panorama, what three squares cover; of a picture seen nearly whole, nothing is said."""
    preprocessing = Preprocessing(256, (0.5,) * 3, (0.5,) * 3)
    share = preprocessing.seen_share(1080, 1920, "three")
    assert share == (1.0, 256 / 292)
    assert (
        "The model sees the middle of the picture: 88% of its height." in told(tmp_path, recording(seen_share=share))[0]
    )
    assert preprocessing.seen_share(1920, 1080, "three") == (256 / 292, 1.0)
    assert preprocessing.seen_share(500, 2500, "three") == (768 / 1460, 256 / 292)
    for seen in ((1.0, 1.0), (0.96, 0.95)):
        page, text, _ = told(tmp_path, recording(seen_share=seen))
        assert "The model sees" not in page + text


def test_unlike_recordings_are_told_one_by_one(tmp_path: Path) -> None:
    """The first screen says where, and each recording of the day has its own sentence."""
    first = recording(seen_share=(256 / 519, 256 / 292))
    second = replace(recording(), id="b", file_name="b.mp4")
    page, text, _ = told(tmp_path, first, second)
    assert page.index("Of some recordings the model sees the middle alone: see below.") < page.index("The story")
    assert page.count(NOTE) == text.count(NOTE) == 1

"""A diary tells no event of what its model cannot know: with the demo's backbone, and heads trained on its world."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from features.clips import Source
from features.extraction import BlockInputSelection, extract
from features.store.embeddings import VideoEmbeddings
from features.video import Segment, WindowPlan
from heads import weights
from heads.shape import TemporalShape
from heads.targets import window_targets
from heads.temporal import window_steps
from heads.training.grid import best_of, settings_of, train_heads, train_temporal_heads
from heads.training.schedule import TrainingSchedule
from heads.training.sequences import Sequences
from heads.typicality import Typicality
from pipeline.demo import dataset
from pipeline.demo.film import encode
from pipeline.demo.render import Renderer
from pipeline.demo.script import make_story
from pipeline.demo.world import CLASSES, make_person
from pipeline.diaries.output import OutputFolder
from pipeline.diaries.selection import select_videos
from pipeline.frozen import load_frozen_encoder
from pipeline.model_folder import Recogniser, load_recogniser, write_model_folder
from pipeline.recordings import write_diaries
from reports.events import EventRule
from reports.recognisable import ONE_COLOUR, STILL, TOO_DARK, UNLIKE, Limits
from tests.model_folders import write_decoding

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

BACKBONE = Path(dataset.__file__).with_name("backbone")
PLAN = WindowPlan(num_frames=8, sample_fps=4, stride_s=0.75, max_still_s=1.0)
SIZE = (320, 240)
LABELS = sorted(CLASSES.values())
FEATURES = ("mean", "max")
NO_LIMITS = Limits(max_distance=1e9, dark=0.0, flat=0.0, still=0.0)
SCHEDULE = TrainingSchedule(
    steps=300,
    accumulation=1,
    evaluate_every_steps=50,
    patience=4,
    warmup_share=0.05,
    decay="cosine",
    max_grad_norm=1.0,
    precision="fp32",
)

Pictures = Iterable[np.ndarray]


def lavfi(source: str, num_frames: int = 60) -> Iterator[np.ndarray]:
    """Pictures of one of FFmpeg's own sources."""
    with av.open(f"{source}=size=320x240:rate=10", format="lavfi") as container:
        for _, frame in zip(range(num_frames), container.decode(video=0), strict=False):
            yield frame.to_ndarray(format="rgb24")


def noise() -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    return (rng.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(60))


def gradient() -> Iterator[np.ndarray]:
    """Three waves of colour that move over the picture."""
    y, x = np.mgrid[:240, :320]
    for k in range(60):
        waves = np.sin(x / 60 + k / 8), np.sin(y / 50 + k / 10), np.sin((x + y) / 70 - k / 9)
        yield (127.5 + 127 * np.stack(waves, axis=2)).astype(np.uint8)


def street() -> Iterator[np.ndarray]:
    """Houses, a road, cars and walkers: people and things that move, but no room."""
    rng = np.random.default_rng(1)
    cars = [(*rng.uniform((-200, 4, 150), (320, 9, 210)), tuple(rng.integers(40, 255, 3).tolist())) for _ in range(7)]
    houses = [(x, int(rng.integers(20, 100)), tuple(rng.integers(60, 200, 3).tolist())) for x in range(0, 320, 40)]
    for k in range(60):
        picture = Image.new("RGB", SIZE, (150, 190, 230))
        draw = ImageDraw.Draw(picture)
        for x, top, colour in houses:
            draw.rectangle([x, top, x + 38, 140], fill=colour)
            for window in range(top + 6, 130, 16):
                draw.rectangle([x + 6, window, x + 14, window + 8], fill=(230, 230, 160))
        draw.rectangle([0, 140, 320, 240], fill=(80, 80, 85))
        for x in range(5):
            left = (60 * x + 3 * k) % 320
            draw.ellipse([left - 3, 108, left + 3, 115], fill=(220, 180, 150))
            draw.rectangle([left - 4, 115, left + 4, 136], fill=(80, 40, 120))
        for x, speed, y, colour in cars:
            left = (x + speed * k) % 440 - 60
            draw.rectangle([left - 28, y - 10, left + 28, y + 6], fill=colour)
            draw.rectangle([left - 15, y - 20, left + 15, y - 8], fill=colour)
        yield np.asarray(picture)


def black() -> Iterator[np.ndarray]:
    return (np.zeros((240, 320, 3), dtype=np.uint8) for _ in range(60))


UNKNOWN: dict[str, tuple[Callable[[], Pictures], str]] = {
    "black": (black, TOO_DARK),
    "covered": (lambda: (picture + np.uint8(90) for picture in black()), ONE_COLOUR),
    "noise": (noise, UNLIKE),
    "bars": (lambda: lavfi("smptebars"), UNLIKE),
    "card": (lambda: lavfi("testsrc2"), UNLIKE),
    "fractal": (lambda: lavfi("mandelbrot"), UNLIKE),
    "gradient": (gradient, UNLIKE),
    "street": (street, UNLIKE),
}


@dataclass(frozen=True)
class World:
    """Recognisers of two trained heads, and folders of diaries by the temporal one: with its limits, and without."""

    temporal: Recogniser
    linear: Recogniser
    videos: Path
    told: Path
    invented: Path


def film(path: Path, number: int, *, nobody: bool = False, length_s: float = 6.0) -> list[tuple[str, float, float]]:
    """Render one, of as many pictures a second as windows take; returns what happens in it."""
    rng = np.random.default_rng([7, number])
    story = make_story(rng, make_person(rng), length_s, nobody=nobody)
    renderer = Renderer(story, with_kinds=False)
    pictures = (renderer.render(k / 4)[0] for k in range(round(4 * length_s)))
    encode(path, pictures, fps=4, recorded_at=None)
    return story.actions


def hung() -> Iterator[np.ndarray]:
    """A minute and more of one picture, two a second, of somebody in a room."""
    rng = np.random.default_rng([7, 1000])
    picture, _ = Renderer(make_story(rng, make_person(rng), 6.0), with_kinds=False).render(3.0)
    return (picture for _ in range(130))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Heads trained on 48 short films, the limit chosen on twelve others, and diaries of what is in neither."""
    folder = tmp_path_factory.mktemp("world")
    videos = folder / "videos"
    videos.mkdir()
    paths = [folder / f"{number}.mp4" for number in range(60)]
    actions = [film(path, number, nobody=number % 4 == 3) for number, path in enumerate(paths)]
    film(videos / "person.mp4", 1000, length_s=12.0)
    for number in (1001, 1002):
        film(videos / f"empty-{number}.mp4", number, nobody=True)
    for name, (pictures, _) in UNKNOWN.items():
        encode(videos / f"{name}.mp4", iter(pictures()), fps=10, recorded_at=None)
    encode(videos / "hung.mp4", hung(), fps=2, recorded_at=None)

    encoder = load_frozen_encoder(BACKBONE, folder / "cache", PLAN, decoder="pyav", precision="fp32", attention="sdpa")
    with encoder.cache.locked():
        done = extract(
            encoder.backbone,
            [Source(path.stem, path) for path in paths],
            encoder.reader,
            cache=encoder.cache,
            selection=BlockInputSelection({}, "fp32"),
            batch_size=16,
            num_workers=0,
            device=encoder.device,
        )
        embedded = [encoder.cache.load(done.sha256s[path.stem]) for path in paths]
    train, val = slice(48), slice(48, 60)
    sequences = [sequences_of(embedded[part], actions[part]) for part in (train, val)]
    means = [np.concatenate([video.vectors["mean"] for video in embedded[part]]) for part in (train, val)]
    typicality = Typicality.fit(means[0])
    typicality.save(folder / "typicality.safetensors", backbone_sha256=encoder.backbone.weights_sha256)
    Limits.chosen(typicality.distances(means[1])).save(folder / "limits.json")
    config = {
        "provenance": encoder.store_provenance,
        "labels": [{"id": label, "name": dataset.NAMES[label]} for label in LABELS],
        "features": list(FEATURES),
    }
    settings = settings_of(["bce"], [0.003], [0.0])
    linear = train_heads(
        *((part.features.float(), part.targets) for part in sequences),
        settings=settings,
        schedule=SCHEDULE,
        batch_size=64,
        generator=torch.Generator().manual_seed(0),
        cpu=True,
    )
    shape = TemporalShape(width=64, blocks=2, dropout=0.3)
    temporal = train_temporal_heads(
        *sequences,
        shape=shape,
        num_members=1,
        settings=settings,
        schedule=SCHEDULE,
        batch_size=8,
        sequence_windows=24,
        generator=torch.Generator().manual_seed(0),
        cpu=True,
    )
    weights.save(folder / "linear", best_of(linear).head.state_dict(), config)
    weights.save(
        folder / "temporal", best_of(temporal).head.state_dict(), config | {"temporal": asdict(shape), "members": 1}
    )
    recogniser = recogniser_of(folder, "temporal")
    write(recogniser, videos, folder / "told")
    write(replace(recogniser, limits=NO_LIMITS), videos, folder / "invented")
    return World(recogniser, recogniser_of(folder, "linear"), videos, folder / "told", folder / "invented")


def sequences_of(videos: Sequence[VideoEmbeddings], actions: Sequence[Sequence[tuple[str, float, float]]]) -> Sequences:
    """The videos' windows, with what happens in each."""
    targets = [
        window_targets(
            [Segment(*times) for times in zip(video.start_s, video.end_s, strict=True)],
            [(label, Segment(start_s, end_s)) for label, start_s, end_s in own],
            LABELS,
            min_overlap_s=0.5,
        )
        for video, own in zip(videos, actions, strict=True)
    ]
    features = [np.concatenate([video.vectors[name] for name in FEATURES], axis=1) for video in videos]
    steps = [window_steps(video.start_s, stride_s=PLAN.stride_s) for video in videos]
    arrays = [torch.from_numpy(np.concatenate(parts)) for parts in (features, targets, steps)]
    return Sequences(arrays[0], arrays[1], arrays[2], tuple(len(video) for video in videos))


def recogniser_of(folder: Path, head: str) -> Recogniser:
    write_model_folder(
        folder / f"{head}-model",
        model=folder / head,
        backbone=BACKBONE,
        decoding=write_decoding(folder / "decoding.json", LABELS, EventRule(0.4, 0.3, 0.0, 0.0)),
        typicality=folder / "typicality.safetensors",
        limits=folder / "limits.json",
        diary_model={
            "profile": "test",
            "label_set": "test",
            "model": head,
            "test_precision": None,
            "trained_on": "This model knows 48 drawn films.",
            "decoder": "pyav",
            "precision": "fp32",
            "min_quiet_s": 1.0,
        },
    )
    return load_recogniser(folder / f"{head}-model")


def write(recogniser: Recogniser, videos: Path, out: Path) -> None:
    output = OutputFolder(out)
    run = write_diaries(
        output.plan(select_videos([videos])), output, recogniser, recorded_at=None, batch_size=16, num_workers=0
    )
    assert not run.failures


def rows(out: Path, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What events.jsonl says of a recording, and its events."""
    text = (out / name / "events.jsonl").read_text(encoding="utf-8")
    recording, *events = (json.loads(line) for line in text.splitlines())
    return recording, events


@pytest.mark.parametrize(("name", "reason"), [(name, reason) for name, (_, reason) in UNKNOWN.items()])
def test_of_what_the_model_cannot_know_nothing_is_told_but_that(world: World, name: str, reason: str) -> None:
    """No event, and the whole recording is one stretch with its reason, in events.jsonl and on the day's page."""
    recording, events = rows(world.told, name)
    assert events == []
    assert recording["unrecognisable"] == [{"start_s": 0.0, "end_s": recording["observed_s"][0][1], "reason": reason}]
    assert recording["trained_on"] == "This model knows 48 drawn films."
    pages = "".join(path.read_text(encoding="utf-8") for path in world.told.glob("*.md"))
    assert re.search(rf"Not recognisable for \d+ s: {reason}\.", pages)


def test_without_limits_the_same_model_invents(world: World) -> None:
    """So what the other tests see is not a model that sees nothing anywhere."""
    num_invented = {name: len(rows(world.invented, name)[1]) for name in UNKNOWN}
    assert sum(count > 0 for count in num_invented.values()) >= 3, num_invented


def test_a_picture_that_hangs_holds_no_event(world: World) -> None:
    """Though it shows somebody who does something."""
    recording, events = rows(world.told, "hung")
    assert events == []
    assert [stretch["reason"] for stretch in recording["unrecognisable"]] == [STILL]


def test_what_the_model_knows_is_told_as_before(world: World) -> None:
    """Somebody whom no split has seen: the same events, and no stretch."""
    recording, events = rows(world.told, "person")
    assert recording["unrecognisable"] == []
    assert events
    assert events == rows(world.invented, "person")[1]


def test_nobody_does_anything_in_an_empty_room(world: World) -> None:
    """Empty rooms that no split has seen are known, and nothing is told of them."""
    for name in ("empty-1001", "empty-1002"):
        recording, events = rows(world.told, name)
        assert recording["unrecognisable"] == []
        assert events == []


def test_the_kind_of_head_makes_no_difference(world: World) -> None:
    """A model that looks at windows alone finds the same stretches: they go by the frozen backbone."""
    for name in ("street", "person", "black"):
        path = world.videos / f"{name}.mp4"
        stretches = [
            model.unrecognisable(model.model.recognise(path, batch_size=16, num_workers=0))
            for model in (world.linear, world.temporal)
        ]
        assert stretches[0] == stretches[1]

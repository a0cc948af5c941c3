"""Stage 2: a plan made before anything is decoded, batches of frames or block inputs, a training that resumes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from ruamel.yaml import YAML
from torch import Tensor, nn

from features.backbone import DTYPES, VJepa2Backbone, best_device, load_backbone
from features.clips import ClipReader, Source, read_videos
from features.decode.container import UnreadableVideo
from features.embed import EmbeddedVideo, embed_videos
from features.provenance import ProvenanceMismatch
from features.store.block_inputs import BlockInputs, open_block_inputs, write_block_inputs
from features.store.embeddings import write_embeddings
from features.video import Segment, WindowPlan
from heads import weights
from heads.action_model import ActionModel, Tail, load_action_model, predict_block_inputs, predict_clips
from heads.linear import LinearHead
from heads.losses import bce
from heads.predictions import Predictions
from heads.shape import TemporalShape
from heads.targets import window_targets
from heads.temporal import TemporalHead
from heads.training.batches import Plan, block_input_batches, frame_batches, plan_batches
from heads.training.candidates import Candidate, History, ParameterGroup
from heads.training.loop import TrainBatches, fit
from heads.training.schedule import TrainingSchedule
from heads.training.state import Checkpoint
from heads.training.validation import Evaluate, on_block_inputs, on_frames
from heads.typicality import Typicality
from pipeline.dataset import manifest
from pipeline.dataset.judged import write_judged
from pipeline.layout import Layout
from pipeline.stages import finetune, predict
from tests.forks import ForkServer
from tests.tiny_backbone import PREPROCESSING, write_backbone
from tests.videos import evenly, number_of, write_video

pytestmark = pytest.mark.slow

PLAN = WindowPlan(num_frames=4, sample_fps=4, stride_s=0.75, max_still_s=1.0)
READER = ClipReader(PLAN, PREPROCESSING, "auto")
LABELS = ("c000", "c001", "c002")
RATE = 12  # frames a second of the videos: every third one lies on the grid
STEPS = 30


def num_frames(k: int) -> int:
    """The number of frames of video k."""
    return 24 + 10 * k


@dataclass(frozen=True)
class World:
    """A folder with a backbone and six videos of 2 to 6 s, each with three actions at different times."""

    folder: Path

    @property
    def backbone_dir(self) -> Path:
        return self.folder / "backbone"

    @cached_property
    def sources(self) -> dict[str, Source]:
        return {f"v{k}": Source(f"v{k}", self.folder / f"v{k}.mp4") for k in range(6)}

    @cached_property
    def segments(self) -> dict[str, list[Segment]]:
        videos = read_videos(list(self.sources.values()), READER, num_workers=0)
        return {source.video_id: [clip.segment for clip in clips] for source, clips in videos}

    @property
    def windows(self) -> dict[str, range]:
        return {video_id: range(len(segments)) for video_id, segments in self.segments.items()}

    def target_of(self, video_id: str, segment: Segment) -> np.ndarray:
        k = int(video_id[1:])
        actions = [(label, Segment(0.3 * j + 0.2 * k, 1.1 + 0.9 * j)) for j, label in enumerate(LABELS) if k < 4 or j]
        return window_targets([segment], actions, LABELS, min_overlap_s=0.4)[0]

    def target_at(self, video_id: str, window: int) -> np.ndarray:
        return self.target_of(video_id, self.segments[video_id][window])

    def shown(self, video_id: str, first: int) -> list[int]:
        """The frames of the window that begins at grid frame `first`; the last one repeats past the end."""
        last = 3 * ((num_frames(int(video_id[1:])) - 1) // 3)
        return [min(3 * (first + i), last) for i in range(4)]

    def backbone(self) -> VJepa2Backbone:
        loaded = load_backbone(self.backbone_dir, dtype=torch.float32)
        assert isinstance(loaded, VJepa2Backbone)
        return loaded

    def model(self) -> ActionModel:
        """The model at the start of stage 2: the last block is trainable, the head has random weights."""
        backbone = self.backbone()
        backbone.last.requires_grad_(True)
        head = LinearHead(64, len(LABELS))
        nn.init.normal_(head.linear.weight, std=0.1, generator=torch.Generator().manual_seed(1))
        nn.init.zeros_(head.linear.bias)
        tail = Tail(backbone, head, features=["mean", "max"])
        return ActionModel(backbone, tail, preprocessing=PREPROCESSING)

    def embedded(self) -> dict[str, EmbeddedVideo]:
        """Each video's embeddings and block inputs."""
        videos = embed_videos(
            self.backbone(),
            list(self.sources.values()),
            READER,
            block_input_windows={video_id: frozenset(numbers) for video_id, numbers in self.windows.items()},
            batch_size=3,
            num_workers=0,
            device=torch.device("cpu"),
        )
        return {source.video_id: video.result() for source, video in videos}

    def block_inputs(self, precision: str) -> BlockInputs:
        """The block inputs of every window, stored as `extract` stores them."""
        folder = self.folder / f"block_inputs.{precision}.zarr"
        if not folder.exists():
            videos = self.embedded()
            write_block_inputs(
                folder,
                self.windows,
                lambda video_id: videos[video_id].block_inputs.to(DTYPES[precision]),
                precision=precision,
                provenance={},
            )
        return open_block_inputs(folder)[0]

    def plan(self, seed: int = 0, **changed: Any) -> Plan:
        settings: dict[str, Any] = {"windows_per_pass": 3, "buffer_size": 8, "start_frames": 1, "mirrored_share": 0.0}
        return plan_batches(
            list(self.sources.values())[:4],
            self.windows,
            steps=STEPS,
            batch_size=2,
            generator=torch.Generator().manual_seed(seed),
            **(settings | changed),
        )

    def evaluate_on(self, block_inputs: BlockInputs | None) -> Evaluate:
        val_windows = {video_id: frozenset(self.windows[video_id]) for video_id in ("v4", "v5", "v0")}
        if block_inputs is not None:
            return on_block_inputs(block_inputs, val_windows, self.target_at, batch_size=4)
        sources = [replace(self.sources[video_id], windows=numbers) for video_id, numbers in val_windows.items()]
        return on_frames(sources, READER, self.target_of, batch_size=4, num_workers=0)

    def train(
        self, block_inputs: BlockInputs | None, *, checkpoint: Path | None = None, die_at: int = -1
    ) -> tuple[dict[str, Tensor], History]:
        """Train stage 2 from block inputs, or from video if None; the process dies before it takes batch `die_at`."""
        plan = self.plan()
        model = self.model()
        tail = model.tail
        frames = frame_batches(plan, READER, self.target_of, num_workers=0)
        batches = frames if block_inputs is None else block_input_batches(plan, block_inputs, self.target_at)
        groups: list[ParameterGroup] = [
            {"params": list(module.parameters()), "lr": lr, "weight_decay": 0.01, "name": name}
            for name, module, lr in (("head", tail.head, 0.01), ("last_block", tail.last_block, 0.003))
        ]
        (history,) = fit(
            model if block_inputs is None else tail,
            train_batches=dying(batches, die_at),
            evaluate=self.evaluate_on(block_inputs),
            candidates=[Candidate("finetune", groups, bce)],
            schedule=TrainingSchedule(
                steps=STEPS,
                accumulation=2,
                evaluate_every_steps=6,
                patience=9,
                warmup_share=0.1,
                decay="cosine",
                max_grad_norm=1.0,
                precision="fp32",
            ),
            generator=torch.Generator().manual_seed(5),
            checkpoint=Checkpoint(checkpoint, {"plan": plan.sha256}, 4) if checkpoint else None,
            cpu=True,
        )
        return tail.trained_tensors(), history


def dying(batches: TrainBatches, die_at: int) -> TrainBatches:
    def from_batch(first: int) -> Iterator[tuple[Tensor, ...]]:
        for number, batch in enumerate(batches(first), start=first):
            if number == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    return from_batch


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("world"))
    write_backbone(made.backbone_dir, num_hidden_layers=3)
    for k, source in enumerate(made.sources.values()):
        # Square, so that the crop leaves enough of every bar.
        write_video(source.path, evenly(num_frames(k), RATE), rate=RATE, size=(128, 128))
    return made


@pytest.fixture(scope="module")
def from_video(world: World) -> tuple[dict[str, Tensor], History]:
    return world.train(None)


def read(plan: Plan, world: World, first: int = 0) -> list[tuple[Tensor, ...]]:
    return list(frame_batches(plan, READER, world.target_of, num_workers=0)(first))


def numbers_in(frames: Tensor) -> list[list[int]]:
    """The frame numbers of each clip of a batch, read after the margin that the crop cut off is put back."""
    padded = np.pad(frames.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    return [[number_of(image) for image in clip] for clip in padded]


def distance(some: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return float(sum((some[name] - other[name]).double().square().sum() for name in some) ** 0.5)


def test_a_plan_draws_every_window_before_any_again(world: World) -> None:
    """Passes take windows without replacement, each video once an epoch; batches mix videos."""
    plan = world.plan(windows_per_pass=99)
    assert [len(batch) for batch in plan.batches] == [2] * STEPS
    per_epoch = sum(len(world.windows[video_id]) for video_id in list(world.sources)[:4])
    first_epoch = plan.passes[:4]
    assert {source.video_id for source in first_epoch} == {"v0", "v1", "v2", "v3"}
    assert sum(len(source.windows or ()) for source in first_epoch) == per_epoch
    assert {source.first_frame for source in plan.passes} == {0}
    assert not any(item.mirrored for batch in plan.batches for item in batch)
    assert len({plan.passes[item.pass_number].video_id for item in plan.batches[0] + plan.batches[1]}) > 1


def test_a_plan_is_a_function_of_its_generator(world: World) -> None:
    """The same seed gives the same plan, another seed another plan; the files' paths do not matter."""
    assert world.plan().sha256 == world.plan().sha256 != world.plan(seed=1).sha256
    plan = world.plan()
    moved = replace(plan, passes=tuple(replace(source, path=Path("elsewhere")) for source in plan.passes))
    assert moved.sha256 == plan.sha256
    with pytest.raises(ValueError, match="no window"):
        plan_batches(
            list(world.sources.values()),
            {},
            steps=1,
            batch_size=1,
            windows_per_pass=1,
            buffer_size=1,
            start_frames=1,
            mirrored_share=0.0,
            generator=torch.Generator(),
        )


def test_batches_hold_the_planned_windows_with_their_targets(world: World) -> None:
    """Each clip has the frames at its window's times, and the targets of that window."""
    plan = world.plan()
    for batch, (frames, targets) in zip(plan.batches, read(plan, world), strict=True):
        keys = [(plan.passes[item.pass_number].video_id, item.window) for item in batch]
        assert numbers_in(frames) == [world.shown(video_id, 3 * window) for video_id, window in keys]
        np.testing.assert_array_equal(targets, [world.target_at(*key) for key in keys])


def test_the_plan_goes_on_from_any_batch(world: World, tmp_path: Path) -> None:
    """Batches from k on are those of an unbroken run; passes without a window in them are not read."""
    plan = world.plan()
    whole = read(plan, world)
    for first in (1, 13, STEPS - 1):
        rest = read(plan, world, first)
        assert len(rest) == STEPS - first
        for (frames, targets), (same_frames, same_targets) in zip(whole[first:], rest, strict=True):
            assert torch.equal(frames, same_frames)
            assert torch.equal(targets, same_targets)
    needed = {item.pass_number for batch in plan.batches[13:] for item in batch}
    assert needed != set(range(len(plan.passes)))
    gone = tuple(
        source if number in needed else replace(source, path=tmp_path / "gone")
        for number, source in enumerate(plan.passes)
    )
    assert torch.equal(read(replace(plan, passes=gone), world, 13)[-1][0], whole[-1][0])


def test_frames_wait_in_the_buffer_and_nowhere_else(world: World) -> None:
    """A pass is read when a batch needs it: with a buffer of one window, the first batch takes few passes."""
    plan = world.plan(buffer_size=1)
    late = tuple(
        replace(source, path=Path("not read")) if number > 2 else source for number, source in enumerate(plan.passes)
    )
    batches = frame_batches(replace(plan, passes=late), READER, world.target_of, num_workers=0)(0)
    frames, _ = next(batches)
    assert torch.equal(frames, read(plan, world)[0][0])


def test_random_starts_show_later_frames_with_their_own_targets(world: World) -> None:
    """A late pass gives windows that begin later, with their own targets, and leaves out the last window."""
    plan = world.plan(start_frames=PLAN.stride_frames)
    late = [source.first_frame for source in plan.passes]
    assert set(late) == {0, 1, 2}
    differing = 0
    for batch, (frames, targets) in zip(plan.batches, read(plan, world), strict=True):
        for item, numbers, target in zip(batch, numbers_in(frames), targets, strict=True):
            source = plan.passes[item.pass_number]
            first = 3 * item.window + source.first_frame
            assert numbers == world.shown(source.video_id, first)
            video_s = num_frames(int(source.video_id[1:])) / RATE
            true = world.target_of(source.video_id, Segment(first / 4, min(first / 4 + 1, video_s)))
            np.testing.assert_array_equal(target, true)
            differing += bool((true != world.target_at(source.video_id, item.window)).any())
    assert differing


def test_a_video_of_one_window_is_read_from_its_beginning() -> None:
    """A video of one window always starts at frame 0, since its window cannot be left out."""
    plan = plan_batches(
        [Source("a", Path("a"))],
        {"a": [0]},
        steps=9,
        batch_size=1,
        windows_per_pass=4,
        buffer_size=2,
        start_frames=3,
        mirrored_share=0.0,
        generator=torch.Generator().manual_seed(0),
    )
    assert {source.first_frame for source in plan.passes} == {0}


def test_flips_mirror_about_half_of_the_windows_and_change_nothing_else(world: World) -> None:
    """The same windows in the same batches with the same targets, some mirrored left-right."""
    plain, flipped = world.plan(), world.plan(mirrored_share=0.5)
    assert [[item[:2] for item in batch] for batch in plain.batches] == [
        [item[:2] for item in batch] for batch in flipped.batches
    ]
    mirrored = [item.mirrored for batch in flipped.batches for item in batch]
    assert 0.25 < np.mean(mirrored) < 0.75
    pairs = zip(read(plain, world), read(flipped, world), flipped.batches, strict=True)
    for (frames, targets), (maybe, same_targets), batch in pairs:
        assert torch.equal(targets, same_targets)
        for clip, other, item in zip(frames, maybe, batch, strict=True):
            assert torch.equal(clip, other.flip(2) if item.mirrored else other)


def test_block_inputs_are_stored_of_windows_as_they_are(world: World) -> None:
    """Plans with late starts or mirrored windows are refused for block inputs."""
    for plan in (world.plan(start_frames=3), world.plan(mirrored_share=0.5)):
        with pytest.raises(ValueError, match="windows as they are"):
            block_input_batches(plan, world.block_inputs("fp32"), world.target_at)


def test_a_video_that_has_become_shorter_is_named(world: World, tmp_path: Path) -> None:
    """A window that the video no longer has raises an error with the file and what was found."""
    short = write_video(tmp_path / "short.mp4", evenly(13, RATE), rate=RATE, size=(128, 128))
    plan = world.plan()
    passes = tuple(replace(source, path=short) for source in plan.passes)
    with pytest.raises(UnreadableVideo, match=r"short\.mp4.*as when it was embedded"):
        read(replace(plan, passes=passes), world)


def test_block_inputs_and_video_train_to_the_same_parameters(
    world: World, from_video: tuple[dict[str, Tensor], History]
) -> None:
    """In fp32 on a CPU, weights, losses and scores are equal bit for bit after 30 steps that changed the block."""
    parameters, history = from_video
    from_block_inputs, same_history = world.train(world.block_inputs("fp32"))
    assert history == same_history
    assert parameters.keys() == from_block_inputs.keys()
    assert all(torch.equal(parameters[name], from_block_inputs[name]) for name in parameters)
    before = world.model().tail.trained_tensors()
    assert history.best.step > 0
    assert any(not torch.equal(parameters[name], before[name]) for name in parameters if name.startswith("last_block."))


def test_block_inputs_in_half_precision_train_nearly_the_same(
    world: World, from_video: tuple[dict[str, Tensor], History]
) -> None:
    """With fp16 block inputs, gradients differ by about 1e-3, and the result of 30 steps by under 5% of the way."""
    gradients = {}
    for precision in ("fp32", "fp16"):
        tail = world.model().tail.train()
        inputs, targets = next(block_input_batches(world.plan(), world.block_inputs(precision), world.target_at)(0))
        bce(tail(inputs), targets).backward()
        gradients[precision] = {
            name: parameter.grad for name, parameter in tail.named_parameters() if parameter.grad is not None
        }
    zeros = {name: torch.zeros_like(gradient) for name, gradient in gradients["fp32"].items()}
    assert distance(gradients["fp16"], gradients["fp32"]) < 1.5e-3 * distance(gradients["fp32"], zeros)

    parameters, _ = from_video
    half, _ = world.train(world.block_inputs("fp16"))
    assert distance(half, parameters) < 0.05 * distance(world.model().tail.trained_tensors(), parameters)


def be_killed(folder: Path, checkpoint: Path, num_threads: int, die_at: int) -> None:
    torch.set_num_threads(num_threads)
    World(folder).train(None, checkpoint=checkpoint, die_at=die_at)


def test_a_killed_training_resumes_to_the_same_parameters(
    world: World, from_video: tuple[dict[str, Tensor], History], fork_server: ForkServer, tmp_path: Path
) -> None:
    """A training killed before, between or after checkpoints ends with the result of an unbroken one."""
    checkpoint = tmp_path / "checkpoint"
    for moment in (3, 11, 25):
        pid = fork_server.start(be_killed, world.folder, checkpoint, torch.get_num_threads(), moment)
        assert fork_server.wait(pid) == -signal.SIGKILL
    assert any(checkpoint.iterdir())
    parameters, history = world.train(None, checkpoint=checkpoint)
    unbroken, unbroken_history = from_video
    assert history == unbroken_history
    assert {name: distance({name: parameters[name]}, {name: unbroken[name]}) for name in unbroken} == dict.fromkeys(
        unbroken, 0.0
    )
    assert not checkpoint.exists()


def test_stage_2_changes_the_last_block_and_the_head_alone(
    world: World, from_video: tuple[dict[str, Tensor], History], tmp_path: Path
) -> None:
    """Only the last block and the head are saved; loaded into a fresh backbone, they are the trained ones."""
    parameters, _ = from_video
    assert {name.split(".")[0] for name in parameters} == {"last_block", "head"}
    before = world.model().tail.trained_tensors()
    unchanged = {name for name in parameters if torch.equal(parameters[name], before[name])}
    assert unchanged == {"head.mean", "head.inverse_std"}
    weights.save(tmp_path, parameters, {"labels": LABELS, "features": ["mean", "max"], "provenance": {}})
    model, _ = load_action_model(tmp_path, world.backbone(), PREPROCESSING, expected={})
    assert {name for name, _ in model.tail.named_children()} == {"last_block", "after_last", "head"}
    assert all(torch.equal(value, parameters[name]) for name, value in model.tail.trained_tensors().items())
    fresh = world.backbone().state_dict()
    assert isinstance(model.backbone, VJepa2Backbone)
    for name, value in model.backbone.state_dict().items():
        assert name.startswith("last.") or torch.equal(value, fresh[name])


def test_the_split_model_is_the_backbone_and_the_head(world: World) -> None:
    """Blocks and tail give the logits that the whole encoder, its pooling and the head give, bit for bit."""
    model = world.model().eval()
    frames, _ = read(world.plan(), world)[0]
    with torch.no_grad():
        tokens = model.backbone.tokens(PREPROCESSING.normalise(frames, torch.float32))
        pooled = model.backbone.pool(tokens, ["mean", "max"])
        expected = model.tail.head(torch.cat([pooled["mean"], pooled["max"]], dim=-1))
        assert torch.equal(model(frames), expected)
        assert torch.equal(model.tail(model.block_input(frames)), expected)
    model.train()
    assert isinstance(model.backbone, VJepa2Backbone)
    frozen = (model.backbone.embeddings, model.backbone.blocks, model.tail.after_last)
    assert not any(module.training for part in frozen for module in part.modules())
    assert model.backbone.last.training


def test_predictions_from_block_inputs_are_those_from_frames(world: World) -> None:
    """Each window has the same probabilities, nearly so in half precision; no windows give no rows."""
    model = world.model().eval()
    device = torch.device("cpu")
    clips = [
        (source.video_id, clip)
        for source, clips in read_videos([world.sources["v3"]], READER, num_workers=0)
        for clip in clips
    ]
    from_frames = np.stack([row for _, _, row in predict_clips(model, clips, batch_size=4, device=device)])
    for precision, tolerance in (("fp32", 1e-6), ("fp16", 1e-3), ("bf16", 1e-2)):
        block_inputs = world.block_inputs(precision)
        rows = [block_inputs.row("v3", window) for window in block_inputs.windows["v3"]]
        batches = (block_inputs.read(rows[first : first + 3]) for first in range(0, len(rows), 3))
        probabilities = predict_block_inputs(model.tail, batches, device=device)
        np.testing.assert_allclose(probabilities, from_frames, rtol=0, atol=tolerance)
    assert predict_block_inputs(model.tail, iter([]), device=device).shape == (0, 3)


def test_a_head_alone_is_the_model_with_the_backbone_as_it_came(world: World, tmp_path: Path) -> None:
    """Stage 1's folder loads as the same kind of model, and a backbone of other weights is refused by name."""
    model = world.model()
    weights.save(
        tmp_path,
        model.tail.head.state_dict(),
        {"labels": LABELS, "features": ["mean", "max"], "provenance": {"backbone": {"sha256": "0" * 64}}},
    )
    backbone = world.backbone()
    loaded, _ = load_action_model(tmp_path, backbone, PREPROCESSING, expected={})
    frames, _ = read(world.plan(), world)[0]
    with torch.no_grad():
        assert torch.equal(loaded(frames), model.eval()(frames))
    with pytest.raises(ProvenanceMismatch, match="sha256"):
        load_action_model(tmp_path, backbone, PREPROCESSING, expected={"backbone": {"sha256": backbone.weights_sha256}})


def test_workers_read_the_same_batches(world: World) -> None:
    """Decoding in other processes changes nothing."""
    plan = world.plan()
    apart = frame_batches(plan, READER, world.target_of, num_workers=2)(0)
    for (frames, targets), (same, same_targets) in zip(read(plan, world)[:6], apart, strict=False):
        assert torch.equal(frames, same)
        assert torch.equal(targets, same_targets)


@dataclass(frozen=True)
class Stages:
    """A project in `root` for the stages: v0 … v3 are train, v4 is val, v5 is test."""

    world: World
    root: Path

    @property
    def paths(self) -> Layout:
        return Layout("demo", "actions", self.root)

    @classmethod
    def written(cls, world: World, root: Path, **finetune_params: object) -> Stages:
        """Write the inputs of `finetune`, with changed params, and block inputs of train and val."""
        stages = cls(world, root)
        paths = stages.paths
        splits = dict(zip(world.sources, ["train"] * 4 + ["val", "test"], strict=True))
        entries = [
            manifest.VideoEntry(
                video_id=video_id,
                path=source.path.name,
                subject=f"s{video_id}",
                scene="Kitchen",
                split=splits[video_id],
                length_s=num_frames(k) / RATE,
                intervals=tuple(
                    manifest.Interval(label, 0.3 * j + 0.2 * k, 1.1 + 0.9 * j) for j, label in enumerate(LABELS)
                ),
            )
            for k, (video_id, source) in enumerate(world.sources.items())
        ]
        manifest.write(paths.manifest, manifest.Manifest(tuple(entries)))
        videos = world.embedded()
        made_by = {"backbone": {"sha256": world.backbone().weights_sha256}, "precision": "fp32", "attention": "sdpa"}
        num_windows = {video_id: len(numbers) for video_id, numbers in world.windows.items()}
        write_embeddings(
            paths.embeddings, num_windows, lambda video_id: videos[video_id].embeddings, provenance=made_by
        )
        stages.store({video_id: world.windows[video_id] for video_id in list(world.sources)[:5]})
        paths.backbone.parent.mkdir(parents=True)
        paths.backbone.symlink_to(world.backbone_dir)
        paths.dataset.symlink_to(world.folder)
        labels = [{"id": label, "name": label} for label in LABELS]
        config = {"provenance": made_by, "features": ["mean", "max"], "labels": labels}
        weights.save(paths.model("linear"), world.model().tail.head.state_dict(), config)
        shape = TemporalShape(width=4, blocks=1, dropout=0.0)
        temporal = TemporalHead(world.model().tail.head.linear.in_features, len(LABELS), shape)
        weights.save(paths.model("temporal"), temporal.state_dict(), config | {"temporal": asdict(shape)})
        size = world.model().tail.head.linear.in_features // 2
        typicality = Typicality(np.zeros(size, dtype=np.float32), np.eye(size, dtype=np.float32))
        typicality.save(paths.typicality, backbone_sha256=world.backbone().weights_sha256)
        write_judged(paths.judged, {}, repeats=1)
        paths.recordings.mkdir()
        sizes = videos["v0"].embeddings.sizes
        write_embeddings(
            paths.recording_embeddings, {}, lambda _: videos["v0"].embeddings, provenance=made_by, sizes=sizes
        )
        values = YAML(typ="safe").load(Path(__file__).parents[1] / "params" / "demo.yaml")
        values["windows"] = {"num_frames": 4, "sample_fps": 4, "stride_s": 0.75, "max_still_s": 1.0}
        values["temporal"]["embeddings"] = ["frozen"]
        values["extract"] |= {"batch_size": 4, "num_workers": 0, "precision": "fp32"}
        values["finetune"] |= {
            "steps": 12,
            "batch_size": 2,
            "evaluate_every_steps": 6,
            "shuffle_windows": 8,
            "windows_per_video": 3,
            "checkpoint_every_steps": 4,
            **finetune_params,
        }
        (root / "params").mkdir()
        YAML(typ="safe").dump(values, root / "params" / "demo.yaml")
        return stages

    def store(self, windows: Mapping[str, Sequence[int]]) -> None:
        """Store block inputs of these windows and no others."""
        videos = self.world.embedded()
        made_by = {"backbone": {"sha256": self.world.backbone().weights_sha256}}
        made_by |= {"precision": "fp32", "attention": "sdpa"}  # type: ignore[dict-item]
        write_block_inputs(
            self.paths.block_inputs,
            windows,
            lambda video_id: videos[video_id].block_inputs,
            precision="fp32",
            provenance=made_by,
        )

    def run(self, stage: click.Command) -> str:
        """Run a stage; returns its output and, if it failed, its error."""
        with contextlib.chdir(self.root):
            done = CliRunner().invoke(stage, ["demo", "actions"])
        assert isinstance(done.exception, SystemExit | None), done.exception
        return done.output if done.exit_code == 0 else f"exit {done.exit_code}: {done.output}"

    def predictions(self) -> list[Predictions]:
        """Stage 2's predictions on val and on test."""
        return [
            Predictions.load(path("finetune")) for path in (self.paths.val_predictions, self.paths.test_predictions)
        ]


def test_the_stage_needs_no_video_where_block_inputs_are_stored(world: World, tmp_path: Path) -> None:
    """With block inputs no video file is needed, and the model is nearly that of source video."""
    trained = {}
    for source in ("video", "block_inputs"):
        (tmp_path / source).mkdir()
        stages = Stages.written(world, tmp_path / source, source=source)
        if source == "block_inputs":
            stages.paths.dataset.unlink()
            stages.paths.dataset.mkdir()
        assert f"finetuned from {source} for 12 steps" in stages.run(finetune.main)
        trained[source], _ = weights.load(stages.paths.model("finetune"), expected={})
    # On a GPU frozen blocks round differently where a batch has another number of windows.
    atol = 1e-6 if best_device().type == "cpu" else 1e-5
    for name, value in trained["video"].items():
        torch.testing.assert_close(trained["block_inputs"][name], value, rtol=1e-4, atol=atol)
    # `predict` reads a video only where a window of it is not stored: here v5, of test.
    (stages.paths.dataset / "v5.mp4").symlink_to(world.sources["v5"].path)
    output = stages.run(predict.main)
    num_val, num_test = len(world.windows["v4"]), len(world.windows["v5"])
    stored = "from stored block inputs (torch.float32)"
    assert f"val: {num_val} windows of 1 videos; finetune: {num_val} {stored}, 0 from video" in output
    assert f"test: {num_test} windows of 1 videos; finetune: 0 {stored}, {num_test} from video" in output
    from_block_inputs = stages.predictions()
    stages.store({})
    (stages.paths.dataset / "v4.mp4").symlink_to(world.sources["v4"].path)
    assert "0 from stored block inputs" in stages.run(predict.main)
    for predictions, others in zip(from_block_inputs, stages.predictions(), strict=True):
        np.testing.assert_allclose(predictions.probabilities, others.probabilities, rtol=0, atol=1e-5)


def test_too_few_block_inputs_say_what_to_raise(world: World, tmp_path: Path) -> None:
    """The stage fails with exit status 1 and a sentence that names the parameter."""
    stages = Stages.written(world, tmp_path, source="block_inputs")
    stages.store({})
    output = stages.run(finetune.main)
    assert output.startswith("exit 1")
    assert "raise finetune.block_inputs_gb" in output

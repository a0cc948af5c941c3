"""Stage 2: a plan made before anything is decoded, its batches of frames or of tokens, a training that resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import click
import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from torch import Tensor, nn

from features.backbone import DTYPES, Backbone, create, save
from features.clips import Reading, Source, read_passes
from features.decode.grid import UnreadableVideo
from features.embed import EmbeddedVideo, embed_videos
from features.preprocess import Preprocessing
from features.store import block_inputs as stored_tokens
from features.store import embeddings as store
from features.store.block_inputs import Tokens, open_tokens
from features.video import Segment, WindowPlan
from heads import weights
from heads.action_model import ActionModel, Tail, load_action_model, predict_clips, predict_tokens, require_same_prefix
from heads.linear import Head
from heads.losses import bce
from heads.predictions import Predictions
from heads.targets import window_targets
from heads.training.batches import Plan, frame_batches, on_frames, on_tokens, plan_batches, token_batches
from heads.training.loop import Candidate, History, TrainBatches, TrainingSchedule, fit
from heads.training.state import Checkpoint
from heads.training.validation import Evaluate
from pipeline.dataset import manifest
from pipeline.stages import finetune, predict
from tests.videos import evenly, number_of, write_video

PREPROCESSING = Preprocessing(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
PLAN = WindowPlan(num_frames=4, sample_fps=4, stride_s=0.75)
READING = Reading(PLAN, PREPROCESSING, "auto")
LABELS = ("c000", "c001", "c002")
RATE = 12  # frames a second of the videos: every third one lies on the grid
STEPS = 30


def num_frames(k: int) -> int:
    """Of video number k."""
    return 24 + 10 * k


@dataclass(frozen=True)
class World:
    """A folder of six videos of 2 to 6 seconds and a backbone. Video k shows its three actions at times of its own."""

    folder: Path

    @property
    def backbone_dir(self) -> Path:
        return self.folder / "backbone"

    @cached_property
    def sources(self) -> dict[str, Source]:
        return {f"v{k}": Source(f"v{k}", self.folder / f"v{k}.mp4") for k in range(6)}

    @cached_property
    def segments(self) -> dict[str, list[Segment]]:
        passes = read_passes(list(self.sources.values()), READING, num_workers=0)
        return {video_id: [clip.segment for clip in clips] for video_id, clips in passes}

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
        """Which frames a window shows that begins at grid frame `first`: the last one is repeated past the end."""
        last = 3 * ((num_frames(int(video_id[1:])) - 1) // 3)
        return [min(3 * (first + i), last) for i in range(4)]

    def backbone(self) -> Backbone:
        return Backbone.load(self.backbone_dir, dtype=torch.float32)

    def model(self) -> ActionModel:
        """As stage 2 begins: the last block may change, and the head says something."""
        backbone = self.backbone()
        backbone.last.requires_grad_(True)
        head = Head(64, len(LABELS))
        nn.init.normal_(head.linear.weight, std=0.1, generator=torch.Generator().manual_seed(1))
        nn.init.zeros_(head.linear.bias)
        tail = Tail(backbone, head, features=["mean", "max"])
        return ActionModel(backbone, tail, preprocessing=PREPROCESSING)

    def embedded(self) -> dict[str, EmbeddedVideo]:
        """Each video's embeddings, and what enters the last block of every window of it."""
        found = embed_videos(
            self.backbone(), list(self.sources.values()), READING,
            token_windows={video_id: frozenset(numbers) for video_id, numbers in self.windows.items()},
            batch_size=3, num_workers=0, device=torch.device("cpu"),
        )  # fmt: skip
        return {video.source.video_id: video for video in found if isinstance(video, EmbeddedVideo)}

    def tokens(self, precision: str) -> Tokens:
        """What enters the last block of every window, stored as `extract` stores it."""
        folder = self.folder / f"tokens.{precision}.zarr"
        if not folder.exists():
            found = self.embedded()
            stored_tokens.write(
                folder, self.windows, lambda each: found[each].tokens.to(DTYPES[precision]), precision=precision,
                attributes={},
            )  # fmt: skip
        return open_tokens(folder)[0]

    def plan(self, seed: int = 0, **changed: float) -> Plan:
        settings = {"windows_per_pass": 3, "buffer_size": 8, "start_frames": 1, "mirrored_share": 0.0}
        return plan_batches(
            list(self.sources.values())[:4], self.windows, steps=STEPS, batch_size=2,
            generator=torch.Generator().manual_seed(seed), **(settings | changed),
        )  # fmt: skip

    def evaluate_on(self, tokens: Tokens | None) -> Evaluate:
        judged = {video_id: frozenset(self.windows[video_id]) for video_id in ("v4", "v5", "v0")}
        if tokens is not None:
            return on_tokens(tokens, judged, self.target_at, batch_size=4)
        sources = [replace(self.sources[video_id], windows=numbers) for video_id, numbers in judged.items()]
        return on_frames(sources, READING, self.target_of, batch_size=4, num_workers=0)

    def train(
        self, tokens: Tokens | None, *, checkpoint: Path | None = None, die_at: int = -1
    ) -> tuple[dict[str, Tensor], History]:
        """Stage 2 from tokens, else from video; the process is killed before it takes batch `die_at`."""
        plan = self.plan()
        model = self.model()
        tail = model.tail
        frames = frame_batches(plan, READING, self.target_of, num_workers=0)
        batches = frames if tokens is None else token_batches(plan, tokens, self.target_at)
        groups = [
            {"params": list(module.parameters()), "lr": lr, "weight_decay": 0.01, "name": name}
            for name, module, lr in (("head", tail.head, 0.01), ("last_block", tail.last_block, 0.003))
        ]
        (history,) = fit(
            model if tokens is None else tail,
            train_batches=dying(batches, die_at),
            evaluate=self.evaluate_on(tokens),
            candidates=[Candidate("finetune", groups, bce)],
            schedule=TrainingSchedule(
                steps=STEPS, accumulation=2, evaluate_every=6, patience=9, warmup_share=0.1, decay="cosine",
                max_grad_norm=1.0, precision="fp32",
            ),
            generator=torch.Generator().manual_seed(5),
            checkpoint=Checkpoint(checkpoint, {"plan": plan.sha256}, 4) if checkpoint else None,
            cpu=True,
        )  # fmt: skip
        return tail.trained_tensors(), history


def dying(batches: TrainBatches, die_at: int) -> TrainBatches:
    def from_batch(first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for number, batch in enumerate(batches(first), start=first):
            if number == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    return from_batch


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("world"))
    model = create(
        seed=0, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, crop_size=32, num_frames=4,
        num_pooler_layers=1, num_labels=2,
    )  # fmt: skip
    save(model, made.backbone_dir, name="tiny", preprocessing=PREPROCESSING, dtype=torch.float32)
    for k, source in enumerate(made.sources.values()):
        # Square, so that the crop leaves enough of every bar.
        write_video(source.path, evenly(num_frames(k), RATE), rate=RATE, size=(128, 128))
    return made


@pytest.fixture(scope="module")
def from_video(world: World) -> tuple[dict[str, Tensor], History]:
    return world.train(None)


def read(plan: Plan, world: World, first: int = 0) -> list[tuple[Tensor, Tensor]]:
    return list(frame_batches(plan, READING, world.target_of, num_workers=0)(first))


def numbers_in(frames: Tensor) -> list[list[int]]:
    """Which frames of its video each clip of a batch shows: the margin that the crop cut off is put back."""
    padded = np.pad(frames.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    return [[number_of(image) for image in clip] for clip in padded]


def distance(some: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return float(sum((some[name] - other[name]).double().square().sum() for name in some) ** 0.5)


def test_a_plan_draws_every_window_before_any_again(world: World) -> None:
    """Passes take windows without replacement, all videos before any again; batches are mixed over videos."""
    plan = world.plan(windows_per_pass=99)
    assert [len(batch) for batch in plan.batches] == [2] * STEPS
    per_epoch = sum(len(world.windows[video_id]) for video_id in list(world.sources)[:4])
    first_epoch = plan.passes[:4]
    assert {each.video_id for each in first_epoch} == {"v0", "v1", "v2", "v3"}
    assert sum(len(each.windows or ()) for each in first_epoch) == per_epoch
    assert {each.first_frame for each in plan.passes} == {0}
    assert not any(draw.mirrored for batch in plan.batches for draw in batch)
    assert len({plan.passes[draw.pass_number].video_id for draw in plan.batches[0] + plan.batches[1]}) > 1


def test_a_plan_is_a_function_of_its_generator(world: World) -> None:
    """The same seed gives the same plan, another seed another; where the files lie does not matter."""
    assert world.plan().sha256 == world.plan().sha256 != world.plan(seed=1).sha256
    plan = world.plan()
    moved = replace(plan, passes=tuple(replace(each, path=Path("elsewhere")) for each in plan.passes))
    assert moved.sha256 == plan.sha256
    with pytest.raises(ValueError, match="no window"):
        plan_batches(
            list(world.sources.values()), {}, steps=1, batch_size=1, windows_per_pass=1, buffer_size=1,
            start_frames=1, mirrored_share=0.0, generator=torch.Generator(),
        )  # fmt: skip


def test_batches_hold_the_planned_windows_with_their_targets(world: World) -> None:
    """Each clip shows the frames of its window's times, and never parts from its label."""
    plan = world.plan()
    for batch, (frames, targets) in zip(plan.batches, read(plan, world), strict=True):
        keys = [(plan.passes[draw.pass_number].video_id, draw.window) for draw in batch]
        assert numbers_in(frames) == [world.shown(video_id, 3 * window) for video_id, window in keys]
        np.testing.assert_array_equal(targets, [world.target_at(*key) for key in keys])


def test_the_plan_goes_on_from_any_batch(world: World, tmp_path: Path) -> None:
    """From batch k on come the very batches that an unbroken run would see, and no pass without one of them is read."""
    plan = world.plan()
    whole = read(plan, world)
    for first in (1, 13, STEPS - 1):
        rest = read(plan, world, first)
        assert len(rest) == STEPS - first
        for (frames, targets), (same_frames, same_targets) in zip(whole[first:], rest, strict=True):
            assert torch.equal(frames, same_frames)
            assert torch.equal(targets, same_targets)
    needed = {draw.pass_number for batch in plan.batches[13:] for draw in batch}
    assert needed != set(range(len(plan.passes)))
    gone = tuple(
        each if number in needed else replace(each, path=tmp_path / "gone") for number, each in enumerate(plan.passes)
    )
    assert torch.equal(read(replace(plan, passes=gone), world, 13)[-1][0], whole[-1][0])


def test_frames_wait_in_the_buffer_and_nowhere_else(world: World) -> None:
    """A pass is read when a batch needs it: with a buffer of one window, the first batch takes few passes."""
    plan = world.plan(buffer_size=1)
    late = tuple(
        replace(each, path=Path("not read")) if number > 2 else each for number, each in enumerate(plan.passes)
    )
    batches = frame_batches(replace(plan, passes=late), READING, world.target_of, num_workers=0)(0)
    frames, _ = next(batches)
    assert torch.equal(frames, read(plan, world)[0][0])


def test_random_starts_show_later_frames_with_their_own_targets(world: World) -> None:
    """A late pass gives windows that begin so much later, and what is true of those; the last window is left alone."""
    plan = world.plan(start_frames=PLAN.stride_frames)
    late = [each.first_frame for each in plan.passes]
    assert set(late) == {0, 1, 2}
    differing = 0
    for batch, (frames, targets) in zip(plan.batches, read(plan, world), strict=True):
        for draw, numbers, target in zip(batch, numbers_in(frames), targets, strict=True):
            source = plan.passes[draw.pass_number]
            first = 3 * draw.window + source.first_frame
            assert numbers == world.shown(source.video_id, first)
            is_last = numbers[-1] == world.shown(source.video_id, 99)[-1]
            end_s = (numbers[-1] + 1) / RATE if is_last else first / 4 + 1
            true = world.target_of(source.video_id, Segment(first / 4, end_s))
            np.testing.assert_array_equal(target, true)
            differing += bool((true != world.target_at(source.video_id, draw.window)).any())
    assert differing


def test_a_video_of_one_window_is_read_from_its_beginning() -> None:
    """There is no second window to leave out, so nothing is passed over."""
    plan = plan_batches(
        [Source("a", Path("a"))], {"a": [0]}, steps=9, batch_size=1, windows_per_pass=4, buffer_size=2,
        start_frames=3, mirrored_share=0.0, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert {each.first_frame for each in plan.passes} == {0}


def test_flips_mirror_about_half_of_the_windows_and_change_nothing_else(world: World) -> None:
    """The same windows in the same batches with the same targets, some mirrored left-right."""
    plain, flipped = world.plan(), world.plan(mirrored_share=0.5)
    assert [[draw[:2] for draw in batch] for batch in plain.batches] == [
        [draw[:2] for draw in batch] for batch in flipped.batches
    ]
    mirrored = [draw.mirrored for batch in flipped.batches for draw in batch]
    assert 0.25 < np.mean(mirrored) < 0.75
    pairs = zip(read(plain, world), read(flipped, world), flipped.batches, strict=True)
    for (frames, targets), (maybe, same_targets), batch in pairs:
        assert torch.equal(targets, same_targets)
        for clip, other, draw in zip(frames, maybe, batch, strict=True):
            assert torch.equal(clip, other.flip(2) if draw.mirrored else other)


def test_stored_tokens_are_of_windows_as_they_are(world: World) -> None:
    """A plan that wants what a cache cannot give is refused."""
    for plan in (world.plan(start_frames=3), world.plan(mirrored_share=0.5)):
        with pytest.raises(ValueError, match="windows as they are"):
            token_batches(plan, world.tokens("fp32"), world.target_at)


def test_a_video_that_has_become_shorter_is_named(world: World, tmp_path: Path) -> None:
    """A window that was embedded and is no longer there stops the training with the file and what was found."""
    short = write_video(tmp_path / "short.mp4", evenly(13, RATE), rate=RATE, size=(128, 128))
    plan = world.plan()
    passes = tuple(replace(each, path=short) for each in plan.passes)
    with pytest.raises(UnreadableVideo, match=r"short\.mp4.*as when it was embedded"):
        read(replace(plan, passes=passes), world)


def test_tokens_and_video_train_to_the_same_parameters(
    world: World, from_video: tuple[dict[str, Tensor], History]
) -> None:
    """In fp32 on a CPU, after 30 steps, bit for bit, and so are losses and scores on the way; the block has changed."""
    parameters, history = from_video
    from_tokens, same_history = world.train(world.tokens("fp32"))
    assert history == same_history
    assert parameters.keys() == from_tokens.keys()
    assert all(torch.equal(parameters[name], from_tokens[name]) for name in parameters)
    before = world.model().tail.trained_tensors()
    assert history.best.step > 0
    assert any(not torch.equal(parameters[name], before[name]) for name in parameters if name.startswith("last_block."))


def test_tokens_in_half_precision_train_nearly_the_same(
    world: World, from_video: tuple[dict[str, Tensor], History]
) -> None:
    """With fp16 tokens a gradient is within about 1e-3, and where 30 steps lead differs by little of the way."""
    gradients = {}
    for precision in ("fp32", "fp16"):
        tail = world.model().tail.train()
        tokens, targets = next(token_batches(world.plan(), world.tokens(precision), world.target_at)(0))
        bce(tail(tokens), targets).backward()
        gradients[precision] = {name: each.grad for name, each in tail.named_parameters() if each.grad is not None}
    nothing = {name: torch.zeros_like(each) for name, each in gradients["fp32"].items()}
    assert distance(gradients["fp16"], gradients["fp32"]) < 1.5e-3 * distance(gradients["fp32"], nothing)

    parameters, _ = from_video
    half, _ = world.train(world.tokens("fp16"))
    assert distance(half, parameters) < 0.05 * distance(world.model().tail.trained_tensors(), parameters)


def test_a_killed_training_resumes_to_the_same_parameters(
    world: World, from_video: tuple[dict[str, Tensor], History], tmp_path: Path
) -> None:
    """Killed before the first checkpoint, between two, and soon after an evaluation: as if it had never been."""
    checkpoint = tmp_path / "checkpoint"
    arguments = [str(world.folder), str(checkpoint), str(torch.get_num_threads()), "3", "11", "25"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_finetuning", *arguments],
        check=False, capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3", "11", "25"]
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
    """Only these are saved, under their names; loaded into a backbone as it came, they answer as they were trained."""
    parameters, _ = from_video
    assert {name.split(".")[0] for name in parameters} == {"last_block", "head"}
    before = world.model().tail.trained_tensors()
    unchanged = {name for name in parameters if torch.equal(parameters[name], before[name])}
    assert unchanged == {"head.mean", "head.inverse_std"}
    weights.save(tmp_path, parameters, {"features": ["mean", "max"]})
    model, _ = load_action_model(tmp_path, world.backbone(), PREPROCESSING, expect={})
    assert {name for name, _ in model.tail.named_children()} == {"last_block", "layernorm", "pooler", "head"}
    assert all(torch.equal(value, parameters[name]) for name, value in model.tail.trained_tensors().items())
    fresh = world.backbone().state_dict()
    for name, value in model.backbone.state_dict().items():
        assert name.startswith("last.") or torch.equal(value, fresh[name])


def test_the_split_model_is_the_backbone_and_the_head(world: World) -> None:
    """Frames through prefix and tail give what the whole encoder, pooled, gives the head: to the last bit."""
    model = world.model().eval()
    frames, _ = read(world.plan(), world)[0]
    with torch.no_grad():
        tokens = model.backbone.tokens(PREPROCESSING.normalise(frames, torch.float32))
        pooled = model.backbone.pool(tokens, ["mean", "max"])
        expected = model.tail.head(torch.cat([pooled["mean"], pooled["max"]], dim=-1))
        assert torch.equal(model(frames), expected)
        assert torch.equal(model.tail(model.prefix(frames)), expected)
    model.train()
    frozen = (model.backbone.embeddings, model.backbone.blocks, model.tail.layernorm, model.tail.pooler)
    assert not any(module.training for part in frozen for module in part.modules())
    assert model.backbone.last.training


def test_predictions_from_tokens_are_those_from_frames(world: World) -> None:
    """The same probabilities for each window, nearly so in half precision, and none for no windows."""
    model = world.model().eval()
    device = torch.device("cpu")
    clips = [
        (video_id, clip)
        for video_id, clips in read_passes([world.sources["v3"]], READING, num_workers=0)
        for clip in clips
    ]
    from_frames = np.stack([row for _, _, row in predict_clips(model, clips, batch_size=4, device=device)])
    for precision, tolerance in (("fp32", 1e-6), ("fp16", 1e-3), ("bf16", 1e-2)):
        tokens = world.tokens(precision)
        rows = [tokens.row("v3", window) for window in tokens.windows["v3"]]
        batches = (tokens.read(rows[first : first + 3]) for first in range(0, len(rows), 3))
        found = predict_tokens(model.tail, batches, device=device)
        np.testing.assert_allclose(found, from_frames, rtol=0, atol=tolerance)
    assert predict_tokens(model.tail, iter([]), device=device).shape == (0, 3)


def test_a_head_alone_is_the_model_with_the_backbone_as_it_came(world: World, tmp_path: Path) -> None:
    """Stage 1's folder loads as the same kind of model, and a backbone of other weights is refused by name."""
    model = world.model()
    weights.save(
        tmp_path, model.tail.head.state_dict(), {"features": ["mean", "max"], "backbone": {"sha256": "0" * 64}}
    )
    backbone = world.backbone()
    loaded, _ = load_action_model(tmp_path, backbone, PREPROCESSING, expect={})
    frames, _ = read(world.plan(), world)[0]
    with torch.no_grad():
        assert torch.equal(loaded(frames), model.eval()(frames))
    with pytest.raises(weights.WeightsMismatch, match="sha256"):
        load_action_model(tmp_path, backbone, PREPROCESSING, expect={"backbone": {"sha256": backbone.weights_sha256}})


def test_tokens_of_another_backbone_are_refused() -> None:
    """All that made the embeddings must have made the tokens; what differs is named. They may say more."""
    made_by = {"backbone": {"sha256": "a"}, "precision": "fp32", "windows": (8, 4)}
    require_same_prefix(made_by | {"windows": [8, 4], "more": 1}, expect=made_by, path=Path("tokens.zarr"))
    with pytest.raises(weights.WeightsMismatch, match=r"tokens\.zarr.*precision: wanted 'fp32', found 'bf16'"):
        require_same_prefix(made_by | {"precision": "bf16"}, expect=made_by, path=Path("tokens.zarr"))


def test_workers_read_the_same_batches(world: World) -> None:
    """Decoding in other processes changes nothing."""
    plan = world.plan()
    apart = frame_batches(plan, READING, world.target_of, num_workers=2)(0)
    for (frames, targets), (same, same_targets) in zip(read(plan, world)[:6], apart, strict=False):
        assert torch.equal(frames, same)
        assert torch.equal(targets, same_targets)


@dataclass(frozen=True)
class Stages:
    """The world as the stages find it: v0 … v3 are train, v4 is val, v5 is test."""

    world: World
    folder: Path

    @classmethod
    def written(cls, world: World, folder: Path, **tuning: object) -> Stages:
        """All that comes before `finetune`, with some of its parameters changed; tokens are stored of train and val."""
        splits = dict(zip(world.sources, ["train"] * 4 + ["val", "test"], strict=True))
        entries = [
            manifest.VideoEntry(
                video_id, source.path.name, f"s{video_id}", "Kitchen", splits[video_id], num_frames(k) / RATE,
                tuple(manifest.Interval(label, 0.3 * j + 0.2 * k, 1.1 + 0.9 * j) for j, label in enumerate(LABELS)),
            )
            for k, (video_id, source) in enumerate(world.sources.items())
        ]  # fmt: skip
        manifest.write(folder / "manifest", manifest.Manifest(tuple(entries)))
        embedded = world.embedded()
        made_by = {"backbone": {"sha256": world.backbone().weights_sha256}, "precision": "fp32", "attention": "sdpa"}
        num_windows = {video_id: len(numbers) for video_id, numbers in world.windows.items()}
        store.write(folder / "embeddings.zarr", num_windows, lambda each: embedded[each].embeddings, attributes=made_by)
        kept = {video_id: world.windows[video_id] for video_id in list(world.sources)[:5]}
        for name, windows in (("tokens.zarr", kept), ("empty.zarr", {})):
            stored_tokens.write(
                folder / name, windows, lambda each: embedded[each].tokens, precision="fp32", attributes=made_by
            )
        labels = [{"id": label, "name": label} for label in LABELS]
        head = world.model().tail.head.state_dict()
        weights.save(folder / "head", head, made_by | {"features": ["mean", "max"], "labels": labels})
        values = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))
        demo = values["demo"]
        demo["windows"] = {"num_frames": 4, "sample_fps": 4, "stride_s": 0.75}
        demo["extract"] |= {"batch_size": 4, "num_workers": 0, "precision": "fp32"}
        demo["finetune"] |= {
            "steps": 12, "batch_size": 2, "evaluate_every_steps": 6, "shuffle_windows": 8, "windows_per_video": 3,
            "checkpoint_every_steps": 4, **tuning,
        }  # fmt: skip
        (folder / "params.yaml").write_text(yaml.safe_dump(values | {"profile": "demo"}), encoding="utf-8")
        return cls(world, folder)

    def run(self, command: click.Command, dataset: Path, *rest: str, tokens: str = "tokens.zarr") -> str:
        """Run a stage; what it said, and how it ended where it failed."""
        inputs = {
            "dataset": dataset, "embeddings": self.folder / "embeddings.zarr", "tokens": self.folder / tokens,
            "manifest": self.folder / "manifest", "backbone": self.world.backbone_dir, "head": self.folder / "head",
            "params": self.folder / "params.yaml",
        }  # fmt: skip
        arguments = [word for name, path in inputs.items() for word in (f"--{name}", str(path))]
        done = CliRunner().invoke(command, [*arguments, *rest])
        assert isinstance(done.exception, SystemExit | None), done.exception
        return done.output if done.exit_code == 0 else f"exit {done.exit_code}: {done.output}"

    def finetune(self, dataset: Path, out: Path, *, tokens: str = "tokens.zarr") -> str:
        places = {"out": out, "history": out.with_suffix(".csv"), "checkpoint": out.with_suffix(".checkpoint")}
        words = [word for name, path in places.items() for word in (f"--{name}", str(path))]
        return self.run(finetune.main, dataset, *words, tokens=tokens)


def test_the_stage_needs_no_video_where_tokens_are_stored(world: World, tmp_path: Path) -> None:
    """With source tokens there may be no video file at all, and the model is the one that source video gives."""
    trained = {}
    for source, dataset in (("video", world.folder), ("tokens", tmp_path / "nothing here")):
        (tmp_path / source).mkdir()
        stages = Stages.written(world, tmp_path / source, source=source)
        told = stages.finetune(dataset, tmp_path / source / "finetune")
        assert f"finetuned from {source} for 12 steps" in told
        trained[source], _ = weights.load(tmp_path / source / "finetune", expect={})
    for name, value in trained["video"].items():
        torch.testing.assert_close(trained["tokens"][name], value, rtol=1e-4, atol=1e-6)
    # `predict` reads a video only where a window of it is not stored: here v5, of test.
    few = tmp_path / "few"
    few.mkdir()
    (few / "v5.mp4").symlink_to(world.sources["v5"].path)
    model = ["--finetune", str(tmp_path / "tokens" / "finetune"), "--out"]
    told = stages.run(predict.main, few, *model, str(tmp_path / "from tokens"))
    num_val, num_test = len(world.windows["v4"]), len(world.windows["v5"])
    assert f"val: {num_val} windows of 1 videos, {num_val} from stored tokens (torch.float32), 0 from video" in told
    assert f"test: {num_test} windows of 1 videos, 0 from stored tokens (torch.float32), {num_test} from video" in told
    stages.run(predict.main, world.folder, *model, str(tmp_path / "from video"), tokens="empty.zarr")
    for split in ("val", "test"):
        some, other = (
            Predictions.load(tmp_path / way / f"finetune.{split}.npz") for way in ("from tokens", "from video")
        )
        np.testing.assert_allclose(some.probabilities, other.probabilities, rtol=0, atol=1e-5)


def test_too_few_stored_tokens_say_what_to_raise(world: World, tmp_path: Path) -> None:
    """One sentence with the parameter, and a status that stops DVC."""
    stages = Stages.written(world, tmp_path, source="tokens")
    told = stages.finetune(world.folder, tmp_path / "finetune", tokens="empty.zarr")
    assert told.startswith("exit 1")
    assert "raise finetune.tokens_gb" in told


def be_killed(folder: Path, checkpoint: Path, moments: list[int]) -> None:
    """A training in a process of its own for each moment, killed then; torch is imported once for all of them."""
    for die_at in moments:
        child = os.fork()
        if not child:
            World(folder).train(None, checkpoint=checkpoint, die_at=die_at)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            print(die_at)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    be_killed(Path(sys.argv[1]), Path(sys.argv[2]), [int(moment) for moment in sys.argv[4:]])

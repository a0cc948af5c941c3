"""Speed of stage 2 from stored block inputs compared with video: the same steps by the same loop. On a CPU."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from bench import Row, Seconds
from bench.worlds import (
    CHARADES_WINDOWS,
    DEMO_WINDOWS,
    TINY_BACKBONE,
    VIT_L,
    demo_videos,
    write_footage,
)
from features.backbone import DTYPES, Backbone, load_backbone
from features.clips import ClipReader, Source
from features.embed import embed_videos
from features.preprocess import Preprocessing
from features.store.block_inputs import BlockInputs, open_block_inputs, write_block_inputs
from heads.action_model import ActionModel, Tail
from heads.linear import LinearHead
from heads.losses import bce
from heads.training.batches import block_input_batches, frame_batches, plan_batches
from heads.training.candidates import Candidate, ParameterGroup
from heads.training.loop import TrainBatches, fit
from heads.training.schedule import TrainingSchedule

NUM_LABELS = 80
GOALS = {"mean": 5.0, "pooler": 2.5}
"""Goals by the head's feature: the mean of the tokens is nearly free; gradients pass through the frozen pooler."""


@dataclass(frozen=True)
class Training:
    """What to train on, and how. `windows` are window numbers by video id; `steps` batches make one update."""

    sources: Sequence[Source]
    windows: Mapping[str, Sequence[int]]
    reader: ClipReader
    steps: int
    batch_size: int
    windows_per_pass: int
    precision: Literal["fp32", "bf16", "fp16"]
    num_workers: int


def measure() -> list[Row]:
    """Both model sizes, each with a head on the mean of the tokens and one on the pooler."""
    demo = demo_videos(24)
    sources = [Source(path.stem, path) for path in demo]
    small = ClipReader(DEMO_WINDOWS, Preprocessing.from_checkpoint(TINY_BACKBONE), "auto")
    with tempfile.TemporaryDirectory() as folder:
        footage = [write_footage(Path(folder) / f"{k}.mp4", duration_s=5, seed=k) for k in range(2)]
        return [
            *measure_sources(
                "the demo's backbone and videos",
                load_backbone(TINY_BACKBONE, dtype=torch.float32),
                Training(
                    sources,
                    {source.video_id: range(sum(1 for _ in small.clips(source))) for source in sources},
                    small,
                    steps=20,
                    batch_size=16,
                    windows_per_pass=16,
                    precision="fp32",
                    num_workers=0,
                ),
                rounds=5,
            ),
            *measure_sources(
                "ViT-L, 16 frames of 256 pixels",
                VIT_L.backbone(torch.float32),
                Training(
                    [Source(path.stem, path) for path in footage],
                    {path.stem: range(2) for path in footage},
                    ClipReader(CHARADES_WINDOWS, VIT_L.preprocessing, "auto"),
                    steps=2,
                    batch_size=1,
                    windows_per_pass=2,
                    precision="bf16",
                    num_workers=0,
                ),
                rounds=3,
            ),
        ]


def measure_sources(what: str, backbone: Backbone, training: Training, *, rounds: int) -> list[Row]:
    """Steps a second from fp16 block inputs over steps a second from video, for each of `GOALS`."""
    with tempfile.TemporaryDirectory() as folder:
        block_inputs = stored_block_inputs(backbone, training, Path(folder) / "block_inputs.zarr")
        return [measure_feature(what, feature, backbone, training, block_inputs, rounds=rounds) for feature in GOALS]


def measure_feature(
    what: str, feature: str, backbone: Backbone, training: Training, block_inputs: BlockInputs, *, rounds: int
) -> Row:
    """One row, with a head on `feature`."""
    backbone.last.requires_grad_(True)
    tail = Tail(backbone, LinearHead(backbone.hidden_size, NUM_LABELS), features=[feature])
    model = ActionModel(backbone, tail, preprocessing=training.reader.preprocessing)
    plan = plan_batches(
        training.sources,
        training.windows,
        steps=training.steps,
        batch_size=training.batch_size,
        windows_per_pass=training.windows_per_pass,
        buffer_size=4 * training.batch_size,
        start_frames=1,
        mirrored_share=0.0,
        generator=torch.Generator().manual_seed(0),
    )
    targets = np.zeros(NUM_LABELS, dtype=np.bool_)
    from_video = frame_batches(plan, training.reader, lambda *_: targets, num_workers=training.num_workers)
    from_store = block_input_batches(plan, block_inputs, lambda *_: targets)
    train_s(tail, tail, from_store, training)  # the first training in a process is slower
    rounds_s = [
        (train_s(model, tail, from_video, training), train_s(tail, tail, from_store, training)) for _ in range(rounds)
    ]
    video, store = map(Seconds, zip(*rounds_s, strict=True))
    return Row(
        f"Stage 2, {what}, head on {'the mean of the tokens' if feature == 'mean' else 'the pooler'}",
        "steps per second from stored block inputs / from video",
        video.over(store),
        goal=GOALS[feature],
        note="" if training.num_workers else "video is decoded in the training's own process",
        details={
            "steps": training.steps,
            "batch_size": training.batch_size,
            "precision": training.precision,
            "block_inputs": str(block_inputs.dtype).removeprefix("torch."),
            "num_workers": training.num_workers,
            "rounds": rounds,
            **(video / training.steps).details("video_step"),
            **(store / training.steps).details("block_inputs_step"),
        },
    )


def train_s(model: nn.Module, tail: Tail, batches: TrainBatches, training: Training) -> float:
    """Seconds of one update: from the evaluation before its first step to the one after its last; both do no work."""
    evaluated_s: list[float] = []

    def evaluate(_: nn.Module) -> dict[str, float]:
        evaluated_s.append(time.perf_counter())
        return {"loss": 0.0, "map": 0.0}

    groups: list[ParameterGroup] = [
        {"params": list(part.parameters()), "lr": 1e-5, "weight_decay": 0.0, "name": name}
        for name, part in (("head", tail.head), ("last_block", tail.last_block))
    ]
    fit(
        model,
        train_batches=batches,
        evaluate=evaluate,
        candidates=[Candidate("finetune", groups, bce)],
        schedule=TrainingSchedule(
            steps=training.steps,
            accumulation=training.steps,
            evaluate_every_steps=training.steps,
            patience=1,
            warmup_share=0.0,
            decay="constant",
            max_grad_norm=None,
            precision=training.precision,
        ),
        generator=torch.Generator().manual_seed(0),
        checkpoint=None,
        cpu=True,
    )
    before_s, after_s = evaluated_s
    return after_s - before_s


def stored_block_inputs(backbone: Backbone, training: Training, path: Path) -> BlockInputs:
    """The block inputs of all windows, computed and stored as `extract` does."""
    computed = {}
    for source, video in embed_videos(
        backbone,
        training.sources,
        training.reader,
        block_input_windows={video_id: frozenset(numbers) for video_id, numbers in training.windows.items()},
        batch_size=training.batch_size,
        num_workers=0,
        device=torch.device("cpu"),
    ):
        computed[source.video_id] = video.result().block_inputs.to(DTYPES["fp16"])
    write_block_inputs(path, training.windows, computed.__getitem__, precision="fp16", provenance={})
    return open_block_inputs(path)[0]

"""Stage `finetune`: stage 2, the last encoder block and the head, from video or stored block inputs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace

import torch
from torch import nn

from features.backbone import load_backbone
from features.clips import ClipReader, Source
from features.files import locked, sha256_of
from features.preprocess import Preprocessing
from features.video import Segment
from heads import weights
from heads.action_model import ActionModel, Tail
from heads.linear import load_linear_head
from heads.losses import bce, known_only
from heads.training.batches import Targets, block_input_batches, frame_batches, plan_batches
from heads.training.candidates import Candidate, ParameterGroup
from heads.training.loop import fit
from heads.training.processes import is_main_process, num_processes, process_rank, shares_batches
from heads.training.state import Checkpoint
from heads.training.validation import on_block_inputs, on_frames
from pipeline.block_inputs import require_block_inputs
from pipeline.dataset import manifest
from pipeline.dataset.judged import JudgedRecording, read_judged
from pipeline.dataset.truth import read_splits
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.stage import stage
from pipeline.training_params import FinetuneParams

log = logging.getLogger(__name__)


class CannotLearnFrom(Exception):
    """Recordings that people judged cannot be read as they were judged."""


@stage
def main(params: Params, paths: Layout) -> None:
    """Finetune the last encoder block and the head; a second run waits for one that is under way."""
    with locked(paths.checkpoint.parent) if is_main_process() else nullcontext():
        _finetune(params, paths)


def _finetune(params: Params, paths: Layout) -> None:
    finetune = params.finetune
    batch_size, num_workers = params.extract.batch_size, params.extract.num_workers
    videos = manifest.read(paths.manifest)
    label_ids = [label["id"] for label in weights.read_config(paths.model("linear"))["labels"]]
    (train, val), provenance = read_splits(
        paths.embeddings, videos, ("train", "val"), label_ids, poolings=(), min_overlap_s=params.targets.min_overlap_s
    )
    head, config = load_linear_head(paths.model("linear"), expected=provenance)
    preprocessing = Preprocessing.from_checkpoint(paths.backbone)
    # The weights stay fp32 while they train; `precision` is that of the arithmetic.
    backbone = load_backbone(paths.backbone, dtype=torch.float32, attention=provenance["attention"])
    backbone.last.requires_grad_(True)
    tail = Tail(backbone, head, features=config["features"])
    generator = torch.Generator().manual_seed(params.seed)

    block_inputs = None
    windows: Mapping[str, Sequence[int]] = train.windows_of | val.windows_of
    if finetune.source == "block_inputs":
        block_inputs = require_block_inputs(paths.block_inputs, provenance, (train, val))
        windows = block_inputs.windows

    def sources(video_ids: Iterable[str]) -> list[Source]:
        return [Source(video_id, paths.dataset / videos.by_id[video_id].path) for video_id in video_ids]

    judged, repeats = _judged_recordings(paths, finetune)
    taught = [Source(name, paths.judged_recordings / name) for name in judged] * repeats

    def target_of(video_id: str, segment: Segment) -> Targets:
        if video_id not in judged:
            return train.target_of(video_id, segment)
        return judged[video_id].video.targets([segment], label_ids, min_overlap_s=train.min_overlap_s)[0]

    plan = plan_batches(
        sources(train.video_ids) + taught,
        {**windows, **{name: recording.windows for name, recording in judged.items()}},
        steps=finetune.steps,
        batch_size=finetune.batch_size,
        windows_per_pass=finetune.windows_per_video,
        buffer_size=finetune.shuffle_windows,
        start_frames=params.windows.stride_frames if finetune.random_starts else 1,
        mirrored_share=0.5 if finetune.flip else 0.0,
        generator=generator,
    )
    takes_turns = shares_batches(
        accumulation=finetune.accumulation,
        batch_size=finetune.batch_size,
        evaluate_every_steps=finetune.evaluate_every_steps,
    )
    own_plan = plan.share(process_rank(), num_processes(), of_batches=takes_turns)
    val_windows = val.spread(finetune.evaluate_windows, among=windows)
    model: nn.Module
    if block_inputs is None:
        model = ActionModel(backbone, tail, preprocessing=preprocessing)
        views = provenance.get("views", "center")
        reader = ClipReader(params.windows, preprocessing, params.extract.decoder, views=views)
        train_batches = frame_batches(own_plan, reader, target_of, num_workers=num_workers)
        val_sources = [replace(source, windows=val_windows[source.video_id]) for source in sources(val_windows)]
        evaluate = on_frames(val_sources, reader, val.target_of, batch_size=batch_size, num_workers=num_workers)
    else:
        model = tail
        train_batches = block_input_batches(own_plan, block_inputs, train.target_at)
        evaluate = on_block_inputs(block_inputs, val_windows, val.target_at, batch_size=batch_size)
    loss = known_only(bce) if judged else bce
    (history,) = fit(
        model,
        train_batches=train_batches,
        evaluate=evaluate,
        candidates=[Candidate("finetune", _parameter_groups(finetune, head, backbone.last), loss)],
        schedule=finetune.schedule,
        generator=generator,
        checkpoint=Checkpoint(
            paths.checkpoint,
            {
                "plan": plan.sha256,
                "val_windows": {video_id: sorted(numbers) for video_id, numbers in val_windows.items()},
                "seed": params.seed,
                "targets": asdict(params.targets),
                "finetune": asdict(replace(finetune, checkpoint_every_steps=1)),  # how often does not matter
                "decoder": params.extract.decoder,
                "batch_size": batch_size,
                "head": weights.sha256(paths.model("linear")),
                "embeddings": provenance,
                **({"judged": sha256_of(paths.judged)} if judged else {}),
            },
            finetune.checkpoint_every_steps,
        ),
        cpu=False,
        takes_turns=takes_turns,
    )

    if not is_main_process():
        return
    weights.save(paths.model("finetune"), tail.trained_tensors(), config)
    history.save(paths.history("finetune"))
    log.info(
        "finetuned from %s for %d steps of %d windows; val mAP %.3f at step %d",
        *(finetune.source, history.rows[-1].step, finetune.batch_size, history.best.val_map, history.best.step),
    )


def _judged_recordings(paths: Layout, finetune: FinetuneParams) -> tuple[dict[str, JudgedRecording], int]:
    """What stage `train` leaves of corrections, and how often an epoch has it; raises `CannotLearnFrom`."""
    judged, repeats = read_judged(paths.judged)
    if judged and finetune.source != "video":
        raise CannotLearnFrom(
            "block inputs of recordings are not stored: set finetune.source to video, or corrections.finetune to false"
        )
    for name, recording in judged.items():
        path = paths.judged_recordings / name
        if not path.is_file() or sha256_of(path) != recording.sha256:
            raise CannotLearnFrom(f"{path} is not the file that was reviewed: run `dvc repro`, which looks at it anew")
    return judged, repeats


def _parameter_groups(finetune: FinetuneParams, head: nn.Module, last_block: nn.Module) -> list[ParameterGroup]:
    rates = (
        ("head", head, finetune.head_learning_rate),
        ("last_block", last_block, finetune.backbone_learning_rate),
    )
    return [
        {"params": list(module.parameters()), "lr": rate, "weight_decay": finetune.weight_decay, "name": name}
        for name, module, rate in rates
    ]


if __name__ == "__main__":
    main()

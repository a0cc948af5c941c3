"""Stage `attentive`: a head with attention over the tokens of the frozen backbone, where a profile asks for it.

It is measured beside the other models, by the protocol `videoglue_frozen` too, and is not among those for diaries.
"""

from __future__ import annotations

import logging
from dataclasses import asdict

import torch

from features.backbone import best_device, load_backbone
from features.clips import ClipReader, Source
from features.files import atomic_folder
from features.preprocess import Preprocessing
from heads import weights
from heads.action_model import ActionModel, AttentiveTail
from heads.attentive import load_attentive_head, new_attentive_head
from heads.losses import bce
from heads.training.batches import block_input_batches, plan_batches
from heads.training.candidates import Candidate
from heads.training.loop import fit
from heads.training.validation import on_block_inputs
from pipeline.block_inputs import require_block_inputs, window_probabilities
from pipeline.dataset import labels, manifest
from pipeline.dataset.truth import read_splits
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.probabilities import predictions_of
from pipeline.stage import stage, write_not_asked_for

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """Train the head on stored block inputs, and predict val and test."""
    attentive, finetune = params.attentive, params.finetune
    if attentive is None:
        outs = (paths.model("attentive"), paths.attentive_predictions)
        write_not_asked_for("`attentive` of the profile's params is null", outs, [paths.history("attentive")])
        return
    label_set = labels.read_label_set(paths.label_set)
    videos = manifest.read(paths.manifest)
    (train, val, test), provenance = read_splits(
        paths.embeddings,
        videos,
        manifest.SPLITS,
        label_set.ids,
        poolings=(),
        min_overlap_s=params.targets.min_overlap_s,
    )
    block_inputs = require_block_inputs(paths.block_inputs, provenance, (train, val))
    backbone = load_backbone(paths.backbone, dtype=torch.float32, attention=provenance["attention"])
    generator = torch.Generator().manual_seed(params.seed)
    head = new_attentive_head(backbone.hidden_size, torch.from_numpy(train.windows), generator=generator)
    files = {video.video_id: paths.dataset / video.path for video in videos.videos}
    plan = plan_batches(
        [Source(video_id, files[video_id]) for video_id in train.video_ids],
        block_inputs.windows,
        steps=attentive.steps,
        batch_size=attentive.batch_size,
        windows_per_pass=finetune.windows_per_video,
        buffer_size=finetune.shuffle_windows,
        start_frames=1,
        mirrored_share=0.0,
        generator=generator,
    )
    val_windows = val.spread(finetune.evaluate_windows, among=block_inputs.windows)
    batch_size = params.extract.batch_size
    (history,) = fit(
        AttentiveTail(backbone, head),
        train_batches=block_input_batches(plan, block_inputs, train.target_at),
        evaluate=on_block_inputs(block_inputs, val_windows, val.target_at, batch_size=batch_size),
        candidates=[
            Candidate(
                "attentive",
                [
                    {
                        "params": list(head.parameters()),
                        "lr": attentive.learning_rate,
                        "weight_decay": attentive.weight_decay,
                        "name": "head",
                    }
                ],
                bce,
            )
        ],
        schedule=attentive.schedule,
        generator=generator,
        checkpoint=None,
        cpu=False,
    )
    config = {
        "provenance": provenance,
        "labels": label_set.to_json(),
        "train": {"num_windows": len(train.windows), "num_videos": len(train.video_ids)} | asdict(attentive),
    }
    with atomic_folder(paths.model("attentive")) as folder:
        weights.save(folder, head.state_dict(), config)
    history.save(paths.history("attentive"))
    log.info("val mAP %.3f at step %d", history.best.val_map, history.best.step)

    head, _ = load_attentive_head(paths.model("attentive"), expected=provenance)
    preprocessing = Preprocessing.from_checkpoint(paths.backbone)
    model = ActionModel(backbone, AttentiveTail(backbone, head), preprocessing=preprocessing).eval()
    with atomic_folder(paths.attentive_predictions) as folder:
        for truth in (val, test):
            probabilities, num_stored = window_probabilities(
                model,
                truth,
                block_inputs,
                files,
                ClipReader(params.windows, preprocessing, params.extract.decoder),
                batch_size=batch_size,
                num_workers=params.extract.num_workers,
                device=best_device(),
            )
            log.info("%s: %d of %d windows from stored block inputs", truth.name, num_stored, len(probabilities))
            sha256 = weights.sha256(paths.model("attentive"))
            predictions_of(truth, probabilities, model_sha256=sha256).save(folder / f"{truth.name}.npz")


if __name__ == "__main__":
    main()

"""Stage `sweep`: thresholds, calibration and event rules, from val's probabilities alone."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np

from heads.predictions import Predictions
from pipeline.dataset import manifest
from pipeline.dataset.annotated import annotated, video_actions
from pipeline.dataset.recordings import true_actions
from pipeline.layout import Layout, models_of
from pipeline.params import Params
from pipeline.stage import stage
from reports import thresholds
from reports.exclusions import find_exclusions
from reports.recognisable import Limits
from reports.tuning import tune

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """For each model, try every threshold on val's windows, and every event rule on val's videos and recordings."""
    videos = manifest.read(paths.manifest)
    of_videos = video_actions(videos, "val")
    models = models_of(params.temporal.embeddings)
    predictions = {model: Predictions.load(paths.val_predictions(model, "videos")) for model in models}
    train = [(video.length_s, video.actions) for video in videos.split("train")]
    exclusions = find_exclusions(train, predictions[models[0]].labels)
    val_recordings = Predictions.load(paths.val_predictions(models[0], "recordings"))
    Limits.chosen(np.concatenate([predictions[models[0]].distances, val_recordings.distances])).save(paths.limits)
    for model, val in predictions.items():
        sweep = thresholds.sweep(
            val.probabilities,
            val.targets,
            labels=val.labels,
            grid=params.sweep.values(),
            half_way_positives=params.sweep.half_way_positives,
        )
        if not params.sweep.low <= sweep.threshold <= params.sweep.high:
            log.warning("%s: the best threshold, %.3g, lies beyond the curve's", model, sweep.threshold)
        sweep = dataclasses.replace(sweep, model_sha256=val.model_sha256)
        sweep.save(paths.sweep(model))
        sweep.save_curve(paths.sweep_curve(model))

        recordings = Predictions.load(paths.val_predictions(model, "recordings"))
        actions = true_actions(paths.recordings, "val", set(recordings.videos.tolist()))
        decoding = tune(
            [*annotated("video", val, of_videos), *annotated("recording", recordings, actions)],
            val.labels,
            stride_s=params.windows.stride_s,
            exclusions=exclusions,
            min_precision=params.diary.min_precision,
            model_sha256=val.model_sha256,
        )
        decoding.save(paths.decoding(model))
        log.info(
            "%s: threshold %.2f, micro-F1 on val %.3f; event F1 on val %.3f",
            *(model, sweep.threshold, sweep.best.micro_f1, decoding.event_f1),
        )


if __name__ == "__main__":
    main()

"""Stage `sweep`: thresholds, calibration and event rules, from val's probabilities alone."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np

from heads.predictions import Predictions
from pipeline.dataset import manifest
from pipeline.dataset.annotated import annotated, video_actions
from pipeline.dataset.recordings import true_actions
from pipeline.layout import MODELS, Layout
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
    predictions = {model: Predictions.load(paths.val_predictions(model, "videos")) for model in MODELS}
    train = [(video.length_s, video.actions) for video in videos.split("train")]
    exclusions = find_exclusions(train, predictions[MODELS[0]].labels)
    of_recordings = Predictions.load(paths.val_predictions(MODELS[0], "recordings"))
    distances = np.concatenate([predictions[MODELS[0]].distances, of_recordings.distances])
    Limits.chosen(distances).save(paths.limits)
    for model, val in predictions.items():
        sweep = thresholds.sweep(
            val.probabilities,
            val.targets,
            labels=val.labels,
            grid=params.sweep.values(),
            min_positives=params.sweep.min_positives,
        )
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

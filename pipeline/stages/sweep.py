"""Stage `sweep`: thresholds, from val's probabilities alone."""

from __future__ import annotations

import dataclasses
import logging

from heads.predictions import Predictions
from pipeline.layout import MODELS, Layout
from pipeline.params import Params
from pipeline.stage import stage
from reports import thresholds

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """Try every threshold on val, for each model."""
    for model in MODELS:
        val = Predictions.load(paths.val_predictions(model))
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
        log.info("%s: threshold %.2f, micro-F1 on val %.3f", model, sweep.threshold, sweep.best.micro_f1)


if __name__ == "__main__":
    main()

"""Stage `sweep`: thresholds from val's probabilities alone."""

from __future__ import annotations

import logging
from pathlib import Path

from heads.predictions import Predictions
from pipeline import params
from pipeline.stage import params_option, path_option, stage
from reports import thresholds

log = logging.getLogger(__name__)


@stage(params.ParamsError)
@path_option("--predictions", "Folder of <model>.val.npz.")
@path_option("--out", "Folder of sweeps, to be written.")
@params_option
def main(predictions: Path, out: Path, params_file: Path) -> None:
    """Try every threshold on val, for each model."""
    chosen = params.load(params_file).active.sweep
    out.mkdir(parents=True, exist_ok=True)
    grid = thresholds.threshold_grid(low=chosen.low, high=chosen.high, step=chosen.step)
    for model in ("head", "finetune"):
        val = Predictions.load(predictions / f"{model}.val.npz")
        found = thresholds.sweep(
            val.probabilities, val.targets, labels=val.labels, grid=grid, min_positives=chosen.min_positives
        )
        found.save(out / f"{model}.json")
        found.save_curve(out / f"{model}.csv")
        log.info("%s: threshold %.2f, micro-F1 on val %.3f", model, found.threshold, found.best.micro_f1)


if __name__ == "__main__":
    main()

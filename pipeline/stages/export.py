"""Stage `export`: the model that does better on val, as a folder that writes diaries without this project."""

from __future__ import annotations

import json
import logging

from features.files import sha256_of
from features.sealed import damage_told
from heads import weights
from pipeline.layout import MODELS, Layout
from pipeline.model_folder import write_model_folder
from pipeline.params import Params
from pipeline.stage import stage
from reports.events import event_rules
from reports.thresholds import Sweep

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """Choose by micro-F1 on val, at each model's own threshold; stage 1 where they are equal."""
    sweeps = {model: Sweep.load(paths.sweep(model)) for model in MODELS}
    for model, sweep in sweeps.items():
        sweep.require_model(weights.sha256(paths.model(model)), paths.sweep(model))
    better = max(sweeps, key=lambda model: sweeps[model].best.micro_f1)
    with damage_told(paths.metrics(better), remedy="run `dvc repro report`"):
        test_micro_f1 = json.loads(paths.metrics(better).read_text(encoding="utf-8"))["micro_f1"]
    diary = params.diary
    write_model_folder(
        paths.diary_model,
        model=paths.model(better),
        backbone=paths.backbone,
        diary_model={
            "profile": paths.profile,
            "label_set": paths.labels,
            "model": better,
            "thresholds_sha256": sha256_of(paths.sweep(better)),
            "test_micro_f1": test_micro_f1,
            "decoder": params.extract.decoder,
            "precision": params.extract.precision,
            "min_quiet_s": diary.min_quiet_s,
        },
        rules=event_rules(
            sweeps[better],
            thresholds=diary.thresholds,
            offset_ratio=diary.offset_ratio,
            min_duration_s=diary.min_duration_s,
            merge_gap_s=diary.merge_gap_s,
            per_label=diary.per_label,
        ),
    )
    log.info("exported %s, micro-F1 on val %.3f, to %s", better, sweeps[better].best.micro_f1, paths.diary_model)


if __name__ == "__main__":
    main()

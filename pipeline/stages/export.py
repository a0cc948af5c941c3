"""Stage `export`: the model with the best events on val, as a folder that writes diaries without this project."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

from features.sealed import damage_told
from heads import weights
from pipeline.dataset import charades
from pipeline.dataset.roles import read_roles
from pipeline.layout import Layout, models_of
from pipeline.model_card import CardFacts, DataSet, model_card
from pipeline.model_folder import write_model_folder
from pipeline.params import Params
from pipeline.stage import stage
from reports.decoding import Decoding

log = logging.getLogger(__name__)


@stage
def main(params: Params, paths: Layout) -> None:
    """Choose by event F1 on val, the mean of videos and recordings; the simpler model where they are equal."""
    scores = {}
    for model in models_of(params.temporal.embeddings):
        decoding = Decoding.load(paths.decoding(model))
        decoding.require_model(weights.sha256(paths.model(model)), paths.decoding(model))
        scores[model] = decoding.event_f1
    best = max(scores, key=lambda model: scores[model])
    export_model(best, paths.diary_model, params, paths)
    log.info("exported %s to %s; event F1 on val: %s", best, paths.diary_model, scores)


def export_model(model: str, out: Path, params: Params, paths: Layout) -> None:
    """Write the folder `out` of one of the project's models."""
    config = weights.read_config(paths.model(model))
    data_set: DataSet = "charades" if charades.is_there(paths.dataset) else "own"
    if params.fetch.source == "rendered":
        data_set = "demo"
    with damage_told(paths.scores, remedy="run `dvc repro report`"):
        scores = json.loads(paths.scores.read_text(encoding="utf-8"))
        events = scores["models"][model]["events"]
        test_precision = (events.get("recordings") or events["videos"])["careful"]["precision"]
        card = model_card(
            CardFacts(
                model=model,
                profile=paths.profile,
                label_set=paths.labels,
                backbone=config["provenance"]["backbone"]["id"],
                labels=[label["name"] for label in config["labels"]],
                trained_on=params.diary.trained_on,
                data_set=data_set,
            ),
            scores,
        )
    write_model_folder(
        out,
        model=paths.model(model),
        backbone=paths.backbone,
        decoding=paths.decoding(model),
        roles=read_roles(paths.roles),
        typicality=paths.typicality,
        limits=paths.limits,
        card=card,
        diary_model={
            "profile": paths.profile,
            "label_set": paths.labels,
            "model": model,
            "test_precision": test_precision,
            "decoder": params.extract.decoder,
            "precision": params.extract.precision,
            "trained_on": params.diary.trained_on,
            "min_quiet_s": params.diary.min_quiet_s,
            "motion_gate": None if params.recordings.gate is None else asdict(params.recordings.gate),
        },
    )


if __name__ == "__main__":
    main()

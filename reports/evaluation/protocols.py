"""The table of named protocols, as formatted cells. Knows the blocks of `reports.metrics.protocols`, and no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.evaluation.event_tables import Cell, score

_METRICS = {"micro_f1": "micro-F1", "map": "mAP"}


@dataclass(frozen=True)
class ProtocolRow:
    """One protocol: what it says of itself, what it rests on, and a cell for each model with its interval below it."""

    name: str
    metric: str
    sentence: str
    counts: str
    cells: Sequence[Cell]


def protocol_table(blocks: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[ProtocolRow]]:
    """The models of all blocks, in their order, and a row for each protocol; a dash for a model without a number."""
    models = list(dict.fromkeys(model for block in blocks.values() for model in block["models"]))
    return models, [
        ProtocolRow(
            name,
            _METRICS[block["metric"]],
            block["sentence"],
            f"{block['split']}: {block['n_videos']:,} videos of {block['n_subjects']:,} people, "
            f"{block['n_labels']:,} labels"
            + (
                f", {missing:,} of them without positives"
                if (missing := len(block["labels_without_positives"]))
                else ""
            ),
            [_cell(block["models"].get(model)) for model in models],
        )
        for name, block in blocks.items()
    ]


def _cell(found: Mapping[str, float | None] | None) -> Cell:
    if found is None:
        return Cell("–")
    count = f"{score(found['low'])} to {score(found['high'])}"
    if "chosen_on_val" in found:
        count += f"; {score(found['chosen_on_val'])} chosen on validation"
    return Cell(score(found["value"]), count)

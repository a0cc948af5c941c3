"""The report's curves as CSV files, for `dvc plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from features.files import atomic_folder, write_csv
from reports.evaluation.results import ModelResult


def write_curves(folder: Path, models: Mapping[str, ModelResult], *, names: Sequence[str]) -> None:
    """Write `<model>_thresholds.csv`, `_precision_recall.csv` and `_reliability.csv` for each of `names`.

    A name without a model has files without rows: DVC wants to find what dvc.yaml draws.
    """
    with atomic_folder(folder) as partial:
        for name in names:
            model = models.get(name)
            curve = model.curve if model else None
            reliability = model.reliability if model else None
            write_csv(
                partial / f"{name}_thresholds.csv",
                ["threshold", "micro_f1", "macro_f1"],
                [(row["threshold"], row["micro_f1"], row["macro_f1"]) for row in model.sweep] if model else [],
            )
            write_csv(
                partial / f"{name}_precision_recall.csv",
                ["recall", "precision"],
                list(zip(curve.recall, curve.precision, strict=True)) if curve else [],
            )
            write_csv(
                partial / f"{name}_reliability.csv",
                ["mean_probability", "share_true"],
                [(own.mean_probability, own.share_true) for own in reliability.after] if reliability else [],
            )

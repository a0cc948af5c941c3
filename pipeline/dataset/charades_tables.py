"""Charades as tables with the columns of `HuggingFaceM4/charades`: a data set that `datasets` saved, or parquet files.

Labels are numbers there, and times lie in a column of their own, as float32 at times. What is read are the rows of
the official CSV files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.dataset.labels import Label, LabelSet, read_classes
from pipeline.dataset.manifest import ManifestError

_COLUMNS = ("video_id", "subject", "scene", "labels", "action_timings", "length")
_CLASSES = "Charades_v1_classes.txt"
_SAVED = "dataset_dict.json"
_SPLITS = ("train", "test")
_CLASS_NAME = re.compile(r"(?:c\d{3}\s+)?(\S.*)")

Row = dict[str, str]


def find(dataset: Path) -> Path | None:
    """The folder of the tables: `dataset` or one below it, down to two levels; None without one."""
    for pattern in ("", "*/", "*/*/"):
        for folder in sorted(dataset.glob(pattern)) if pattern else [dataset]:
            if (folder / _SAVED).is_file() or all(any(folder.glob(f"{split}*.parquet")) for split in _SPLITS):
                return folder
    return None


def read(dataset: Path) -> tuple[LabelSet, dict[str, Path], dict[str, Iterator[tuple[int, Row]]]]:
    """The classes; for train and test where the rows come from; and the rows, each with its number from 1.

    Class names are those of `Charades_v1_classes.txt` where it is there, else the tables' own. Raises `ManifestError`.
    """
    folder = find(dataset)
    if folder is None:
        raise ManifestError(
            f"{dataset}: no Charades_v1_train.csv in it, nor in Charades/ below it; "
            "is fetch.dataset_dir the right folder?"
        )
    tables = {split: _table(folder, split) for split in _SPLITS}
    stated = next((file for file in (dataset / _CLASSES, dataset / "Charades" / _CLASSES) if file.is_file()), None)
    classes = read_classes(stated) if stated else _classes(folder, tables["train"])
    sources = dict.fromkeys(_SPLITS, folder) if (folder / _SAVED).is_file() else _parquet_sources(folder)
    return classes, sources, {split: _rows(sources[split], tables[split]) for split in _SPLITS}


def _parquet_sources(folder: Path) -> dict[str, Path]:
    return {split: min(folder.glob(f"{split}*.parquet")) for split in _SPLITS}


def _table(folder: Path, split: str) -> Any:
    """The split as a `datasets.Dataset` of the columns that are read."""
    import datasets
    import pyarrow
    import pyarrow.parquet

    try:
        if (folder / _SAVED).is_file():
            saved = datasets.load_from_disk(str(folder))
            if split not in saved:
                raise ManifestError(f"{folder}: wanted splits train and test, found {', '.join(saved)}")
            table = saved[split]
        else:
            files = sorted(folder.glob(f"{split}*.parquet"))
            parts = pyarrow.concat_tables([pyarrow.parquet.read_table(file) for file in files])
            table = datasets.Dataset(datasets.table.InMemoryTable(parts))
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
        raise ManifestError(f"{folder}: split {split} cannot be read: {' '.join(str(error).split())[:300]}") from error
    absent = [name for name in _COLUMNS if name not in table.column_names]
    if absent:
        raise ManifestError(f"{folder}: split {split} has no column {', '.join(absent)}; found {table.column_names}")
    return table.select_columns(list(_COLUMNS))


def _classes(folder: Path, table: Any) -> LabelSet:
    names = getattr(getattr(table.features["labels"], "feature", None), "names", None)
    if not names:
        raise ManifestError(f"{folder}: the labels have no names; put {_CLASSES} beside it")
    labels = []
    for number, name in enumerate(names):
        match = _CLASS_NAME.fullmatch(name.strip())
        labels.append(Label(_id(number), match[1] if match else _id(number)))
    return LabelSet(folder.name, tuple(labels), folder, tuple(range(1, len(labels) + 1)))


def _rows(source: Path, table: Any) -> Iterator[tuple[int, Row]]:
    for number, row in enumerate(table, start=1):
        labels, times = row["labels"] or [], row["action_timings"] or []
        if len(labels) != len(times) or any(len(pair) != 2 for pair in times):
            raise ManifestError(f"{source}:{number}: {len(labels)} labels and {len(times)} pairs of times")
        actions = [
            f"{_id(label)} {_text(start)} {_text(end)}" for label, (start, end) in zip(labels, times, strict=True)
        ]
        texts: Mapping[str, str | None] = {"id": row["video_id"], "subject": row["subject"], "scene": row["scene"]}
        yield (
            number,
            {
                **{key: text or "" for key, text in texts.items()},
                "actions": ";".join(actions),
                "length": _text(row["length"]),
            },
        )


def _id(number: int) -> str:
    return f"c{number:03d}"


def _text(seconds: float | None) -> str:
    """The shortest decimal that rounds to the same float32: the annotations have two digits behind the point."""
    import numpy as np

    return "" if seconds is None or math.isnan(seconds) else str(np.float32(seconds))

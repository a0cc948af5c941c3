"""Annotations in the official CSV files and as tables of `datasets` give the same manifest, byte for byte."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from pipeline.dataset import kinds, manifest
from pipeline.dataset.manifest import ManifestError
from pipeline.stages.fetch import link_files
from pipeline.user_folders import files_below
from tests.test_manifest import CLASSES, make_dataset

NAMES = [f"c{number:03d}" for number in range(157)]
for known in CLASSES.splitlines():
    NAMES[int(known[1:4])] = known[5:]


def as_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of an official file with the columns of the hub's data set, and one more."""
    rows = []
    with file.open(newline="", encoding="utf-8") as text:
        for row in csv.DictReader(text):
            actions = [action.split() for action in row["actions"].split(";") if action]
            rows.append(
                {
                    "video_id": row["id"],
                    "video": f"Charades_v1/{row['id']}.mp4",
                    "subject": row["subject"],
                    "scene": row["scene"],
                    "quality": int(row["quality"] or -100),
                    "script": row["script"],
                    "labels": [int(action[0][1:]) for action in actions],
                    "action_timings": [[float(action[1]), float(action[2])] for action in actions],
                    "length": float(row["length"]),
                }
            )
    return rows


def as_dataset(rows: list[dict[str, Any]], seconds: str = "float32", names: list[str] = NAMES) -> datasets.Dataset:
    features = datasets.Features(
        {
            **{name: datasets.Value("string") for name in ("video_id", "video", "subject", "scene", "script")},
            "quality": datasets.Value("int32"),
            "labels": datasets.List(datasets.ClassLabel(names=names)),
            "action_timings": datasets.List(datasets.List(datasets.Value(seconds))),
            "length": datasets.Value(seconds),
        }
    )
    return datasets.Dataset.from_list(rows, features=features)


def save(tables: dict[str, datasets.Dataset], folder: Path) -> None:
    datasets.DatasetDict(tables).save_to_disk(str(folder))


def save_parquet(tables: dict[str, datasets.Dataset], folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    for split, table in tables.items():
        num_parts = min(2, len(table))
        for part in range(num_parts):
            name = f"{split}-{part:05d}-of-{num_parts:05d}.parquet"
            table.shard(num_parts, part, contiguous=True).to_parquet(str(folder / "data" / name))


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official layout, with every quirk of the annotations."""
    return make_dataset(tmp_path_factory.mktemp("official"))


def tables_of(official: Path, seconds: str = "float32", names: list[str] = NAMES) -> dict[str, datasets.Dataset]:
    return {
        split: as_dataset(as_rows(official / f"Charades_v1_{split}.csv"), seconds, names) for split in ("train", "test")
    }


def other(official: Path, folder: Path) -> Path:
    """A folder of the videos alone."""
    shutil.copytree(official / "Charades_v1_480", folder / "Charades_v1_480")
    return folder


def written(dataset: Path, out: Path) -> bytes:
    manifest.write(out, kinds.read(dataset, val_share=0.25, seed=0).videos)
    return b"".join(file.read_bytes() for file in sorted(out.iterdir()))


@pytest.mark.parametrize("seconds", ["float32", "float64"])
@pytest.mark.parametrize(("save_as", "place"), [(save, ""), (save, "charades"), (save_parquet, "")])
def test_both_give_the_same_manifest(
    official: Path,
    tmp_path: Path,
    save_as: Callable[[dict[str, datasets.Dataset], Path], None],
    place: str,
    seconds: str,
) -> None:
    """Saved to disk beside the videos or in a folder of its own, or as parquet; float32 costs no digit.

    `prepare` sees the links that `fetch` makes.
    """
    mine, dataset = other(official, tmp_path / "other"), tmp_path / "linked"
    save_as(tables_of(official, seconds), mine / place)
    link_files(mine, [file.relative_to(mine) for file in files_below(mine)], dataset)
    assert written(dataset, tmp_path / "a") == written(official, tmp_path / "b")
    classes = {label.id: label.name for label in kinds.read(dataset, val_share=0.25, seed=0).classes.labels}
    assert len(classes) == 157
    assert all(classes[line[:4]] == line[5:] for line in CLASSES.splitlines())


def test_names_that_hold_the_id_lose_it(official: Path, tmp_path: Path) -> None:
    """`c008 Opening a door` is the name `Opening a door`; an official file of classes goes first."""
    dataset = other(official, tmp_path / "other")
    save(tables_of(official, names=[f"c{number:03d} {name} now" for number, name in enumerate(NAMES)]), dataset)
    assert kinds.read(dataset, val_share=0.25, seed=0).classes.names[8] == "Opening a door now"
    shutil.copy(official / "Charades_v1_classes.txt", dataset)
    assert kinds.read(dataset, val_share=0.25, seed=0).classes.names == tuple(line[5:] for line in CLASSES.splitlines())


def test_tables_that_are_others_are_told(official: Path, tmp_path: Path) -> None:
    """A missing column or split, labels without times, a label that is no class, a damaged file: a sentence each."""
    tables = tables_of(official)
    rows = as_rows(official / "Charades_v1_train.csv")
    cases = {
        "has no column length": tables | {"train": tables["train"].remove_columns("length")},
        "wanted splits train and test, found train": {"train": tables["train"]},
        "1: 3 labels and 0 pairs of times": tables | {"train": as_dataset([rows[0] | {"action_timings": []}])},
        ":1: AAAA1: no subject": tables | {"train": as_dataset([rows[0] | {"subject": ""}])},
    }
    for number, (told, case) in enumerate(cases.items()):
        dataset = other(official, tmp_path / str(number))
        save(case, dataset)
        with pytest.raises(ManifestError, match=told):
            kinds.read(dataset, val_share=0.25, seed=0)
    for file in (dataset / "train").glob("*.arrow"):
        file.write_bytes(b"no arrow")
    with pytest.raises(ManifestError, match=f"{dataset}: split train cannot be read: "):
        kinds.read(dataset, val_share=0.25, seed=0)

"""A label from a few stretches, by models that never learned it: `python -m bench.own_labels`, after `make repro`.

The classes of the project's label set are held out in groups: for each, stages `train`, `finetune` and
`finetune_temporal` run without its classes in a copy of the project, and without the pooler, which the demo's backbone
brings pretrained on all of them. Each class that val shows is then learned from stretches of train, of which all other
windows are unlabelled, and looked for in val. Half of the classes were chosen by; the others are the number to tell.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from ruamel.yaml import YAML

from features.store.embeddings import Embeddings, read_embeddings
from features.video import Segment
from heads.own_labels import Windows, learn
from heads.predictions import rows_by_video
from heads.temporal import TemporalEnsemble, load_temporal_head, video_hidden
from pipeline import params as project_params
from pipeline.dataset import labels, manifest
from pipeline.dataset.truth import SplitTruth, read_splits
from pipeline.layout import Layout
from reports.metrics.average_precision import average_precisions

_FEATURES = ["mean", "max"]
_MODEL = "finetune_temporal"


@click.command()
@click.option(
    "--groups", default=4, show_default=True, help="How many trainings; each holds out one of as many classes."
)
@click.option("--stretches", default=5, show_default=True, help="That a label is learned from.")
@click.option("--draws", default=3, show_default=True, help="Of stretches, for each class.")
def main(groups: int, stretches: int, draws: int) -> None:
    """Print each class's average precision on val, and the means over those chosen by and over the others."""
    project = project_params.load_project(Path())
    paths = Layout(project.profile, project.label_sets[0], root=Path().absolute())
    held_out = [labels.read_label_set(paths.label_set).labels[group::groups] for group in range(groups)]
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, group in enumerate(held_out):
            own = _trained_without({label.id for label in group}, paths, Path(folder, str(number)))
            found |= _measured([label.id for label in group], own, stretches=stretches, draws=draws)
    in_order = [found[label] for label in sorted(found)]
    for label in sorted(found):
        click.echo(f"{label} {found[label]:.3f}")
    click.echo(
        f"{stretches} stretches: average precision {np.mean(in_order[::2]):.3f} of {len(in_order[::2])} classes that "
        f"were chosen by, {np.mean(in_order[1::2]):.3f} of {len(in_order[1::2])} others"
    )


def _trained_without(held_out: set[str], paths: Layout, root: Path) -> Layout:
    """A project in `root` that shares what is no label's, and whose label set and models lack these classes."""
    own = Layout(paths.profile, "without", root=root)
    yaml = YAML()
    params = yaml.load(paths.root / "params" / f"{paths.profile}.yaml")
    params["temporal"] |= {"features": _FEATURES, "embeddings": ["frozen", "finetuned"]}
    params["train"]["features"] = _FEATURES
    for path in (own.label_set, own.manifest, root / "params" / "any"):
        path.parent.mkdir(parents=True)
    yaml.dump(params, root / "params" / f"{paths.profile}.yaml")
    for path in (
        paths.manifest,
        paths.dataset.parent,
        paths.embeddings,
        paths.block_inputs,
        paths.recording_embeddings,
        paths.recording_hashes,
    ):
        (root / path.relative_to(paths.root)).symlink_to(path)
    kept = [label for label in labels.read_label_set(paths.label_set).labels if label.id not in held_out]
    own.label_set.write_text("".join(f"{label.id} {label.name}\n" for label in kept), encoding="utf-8")
    for stage in ("train", "finetune", "finetune_temporal"):
        command = [sys.executable, "-m", f"pipeline.stages.{stage}", own.profile, own.labels]
        subprocess.run(command, cwd=root, check=True)
    return own


def _measured(classes: list[str], paths: Layout, *, stretches: int, draws: int) -> dict[str, float]:
    """The mean average precision on val of each class that val shows, by its id."""
    params = project_params.load(paths.root, paths.profile)
    stride_s, min_overlap_s = params.windows.stride_s, params.targets.min_overlap_s
    head, _ = load_temporal_head(paths.model(_MODEL), expected={})
    finetuned, _ = read_embeddings(paths.finetuned_embeddings("videos"), poolings=_FEATURES)
    splits, _ = read_splits(
        paths.embeddings,
        manifest.read(paths.manifest),
        ("train", "val"),
        classes,
        poolings=["mean"],
        min_overlap_s=min_overlap_s,
    )
    train, val = (_windows(split, finetuned, head, stride_s=stride_s) for split in splits)
    found = {}
    for column, label in enumerate(classes):
        if not splits[1].windows[:, column].any():
            continue
        actions = [
            (train[video_id], action.segment)
            for video_id in train
            for action in splits[0].actions[video_id]
            if action.label == label and train[video_id].shows(action.segment).any()
        ]
        precisions = []
        for draw in range(draws):
            rng = np.random.default_rng([*label.encode(), draw])
            picked = rng.choice(len(actions), min(stretches, len(actions)), replace=False)
            own, _ = learn([actions[number] for number in picked], list(train.values()))
            scores = np.concatenate([own.probabilities(video) for video in val.values()])
            precisions.append(average_precisions(scores[:, None], splits[1].windows[:, [column]])[0])
        found[label] = float(np.mean(precisions))
    return found


def _windows(
    split: SplitTruth, finetuned: Embeddings, head: TemporalEnsemble, *, stride_s: float
) -> dict[str, Windows]:
    """The windows of each video, in the order of the split's rows."""
    own = finetuned.select(split.video_ids)
    found = {}
    for video_id, rows in rows_by_video(split.embeddings.video_ids).items():
        start_s = split.embeddings.start_s[rows]
        windows = [Segment(*times) for times in zip(start_s, split.embeddings.end_s[rows], strict=True)]
        hidden = video_hidden(head, [own.vectors[name][rows] for name in _FEATURES], start_s, stride_s=stride_s)
        vectors = {"mean": split.embeddings.vectors["mean"][rows]}
        found[video_id] = Windows.of(windows, vectors, hidden, stride_s=stride_s)
    return found


if __name__ == "__main__":
    main()

"""Cost of 20 heads at once compared with one, and of a large stage 1 compared with scikit-learn. On a CPU."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import psutil
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from torch import Tensor

from bench import Row, interleaved
from bench.worlds import ROOT, NothingToMeasure
from features.store import embeddings as store
from heads.shape import TemporalShape
from heads.training.grid import Setting, Trial, settings_of, train_heads, train_temporal_heads
from heads.training.schedule import TrainingSchedule
from heads.training.sequences import Sequences
from heads.training.validation import average_precisions
from pipeline.dataset import labels, manifest
from pipeline.dataset.truth import split_truth

Rows = tuple[Tensor, Tensor]
"""Features (n, D) and targets (n, L)."""

ONE = Setting("bce", 0.003, 0.1)
TWENTY = settings_of(["bce", "asymmetric"], [0.0003, 0.001, 0.003, 0.01, 0.03], [0.0, 0.1])


def measure() -> list[Row]:
    """20 heads on the demo's embeddings and label set `diary`; the large stage 1 on random embeddings."""
    train, val = demo_rows(ROOT / "data" / "demo", ROOT / "labels" / "demo" / "diary.txt")
    made_up = made_up_rows(72_000, num_features=1024, num_labels=80)
    return [
        measure_grid(train, val, steps=600, rounds=3),
        *measure_large(*made_up, num_val=8_000, steps=1_000, sklearn_labels=8),
        measure_temporal(
            num_videos=9_848, windows_per_video=29, num_features=1024, num_labels=80, num_members=3, steps=1_000
        ),
    ]


def measure_grid(train: Rows, val: Rows, *, steps: int, rounds: int) -> Row:
    """One row: 20 heads and one head, both for all `steps`: patience never ends a training early."""
    schedule = schedule_of(steps, patience=steps)
    ways = {
        "one": lambda: train_on(train, val, [ONE], schedule, batch_size=256),
        "twenty": lambda: train_on(train, val, TWENTY, schedule, batch_size=256),
    }
    ways["one"]()  # the first training in a process is slower
    taken = interleaved(ways, rounds=rounds)
    one, twenty = taken["one"].wall, taken["twenty"].wall
    features, targets = train
    return Row(
        "Stage 1 on the demo, 20 heads at once",
        "wall time of 20 heads / of one",
        twenty.over(one),
        goal=3.0,
        better="lower",
        details={
            "windows": len(features),
            "features": features.shape[1],
            "labels": targets.shape[1],
            "steps": steps,
            "batch_size": 256,
            "rounds": rounds,
            **one.details("one"),
            **twenty.details("twenty"),
        },
    )


def measure_large(features: Tensor, targets: Tensor, *, num_val: int, steps: int, sklearn_labels: int) -> list[Row]:
    """Two rows: our seconds with all evaluations, and those of scikit-learn's one-vs-rest logistic regression.

    scikit-learn fits labels one by one: `sklearn_labels` of them are timed, and the time is extrapolated to all. Both
    mAPs are over these labels.
    """
    train, val = (features[num_val:], targets[num_val:]), (features[:num_val], targets[:num_val])
    start_s = time.perf_counter()
    (trial,) = train_on(train, val, [ONE], schedule_of(steps, patience=3), batch_size=256)
    ours_s = time.perf_counter() - start_s
    with torch.no_grad():
        our_logits = trial.head(val[0])[:, :sklearn_labels].numpy()

    timed_targets = targets[:, :sklearn_labels].numpy()
    inputs = features.float().numpy()
    start_s = time.perf_counter()
    classifier = OneVsRestClassifier(LogisticRegression(max_iter=100)).fit(inputs[num_val:], timed_targets[num_val:])
    sklearn_s = (time.perf_counter() - start_s) * targets.shape[1] / sklearn_labels
    sklearn_logits = classifier.decision_function(inputs[:num_val]).astype(np.float32)
    logits = np.stack([our_logits, sklearn_logits])
    our_map, sklearn_map = np.nanmean(average_precisions(logits, timed_targets[:num_val]), axis=1)
    size = f"{len(train[0]):,} windows of {features.shape[1]:,} features, {targets.shape[1]} labels"
    details = {
        "steps": trial.history.rows[-1].step,
        "batch_size": 256,
        "val_windows": num_val,
        "ours_s": ours_s,
        "sklearn_s": sklearn_s,
        "sklearn_labels_timed": sklearn_labels,
        "map": float(our_map),
        "sklearn_map": float(sklearn_map),
    }
    return [
        Row(f"Stage 1, {size}", "wall seconds", ours_s, goal=20.0, better="lower", details=details),
        Row(
            f"One-vs-rest logistic regression, {size}",
            "scikit-learn's wall time / ours",
            sklearn_s / ours_s,
            note=f"val mAP: scikit-learn {sklearn_map:.3f}, ours {our_map:.3f}; "
            f"{sklearn_labels} labels timed, scaled to all",
            details=details,
        ),
    ]


def measure_temporal(
    *, num_videos: int, windows_per_video: int, num_features: int, num_labels: int, num_members: int, steps: int
) -> Row:
    """One row: seconds of temporal heads on random embeddings in fp16, with all evaluations on a tenth of them."""
    generator = torch.Generator().manual_seed(0)
    num_windows = num_videos * windows_per_video
    parts = [torch.randn(windows_per_video, num_features, generator=generator).half() for _ in range(num_videos)]
    features, targets = torch.cat(parts), torch.rand(num_windows, num_labels, generator=generator) < 0.05
    del parts
    held_out = num_videos // 10
    windows, first = torch.arange(windows_per_video), held_out * windows_per_video

    def sequences(rows: slice, count: int) -> Sequences:
        return Sequences(features[rows], targets[rows], windows.repeat(count), (windows_per_video,) * count)

    start_s = time.perf_counter()
    train_temporal_heads(
        sequences(slice(first, None), num_videos - held_out),
        sequences(slice(first), held_out),
        shape=TemporalShape(width=128, blocks=4, dropout=0.5),
        num_members=num_members,
        settings=[Setting("bce", 0.002, 0.01)],
        schedule=schedule_of(steps, patience=steps),
        batch_size=16,
        sequence_windows=64,
        generator=generator,
        cpu=True,
    )
    seconds = time.perf_counter() - start_s
    peak_gib = psutil.Process().memory_info().rss / 2**30
    return Row(
        f"{num_members} temporal heads, {num_windows:,} windows of {num_features:,} features, {num_labels} labels",
        "wall seconds",
        seconds,
        goal=600.0,
        better="lower",
        note=f"{steps:,} steps of 16 sequences; {peak_gib:.1f} GiB in memory at the end",
        details={"steps": steps, "seconds": seconds, "gib_at_the_end": peak_gib},
    )


def demo_rows(data: Path, label_file: Path) -> tuple[Rows, Rows]:
    """The rows of train and val, as in the stage `train`. Raises `NothingToMeasure` without embeddings."""
    if not (data / "embeddings.zarr").exists():
        raise NothingToMeasure(f"there is no {data / 'embeddings.zarr'}: run `make repro` first")
    videos = manifest.read(data / "manifest")
    stored, _ = store.read_embeddings(data / "embeddings.zarr")
    ids = labels.read_label_set(label_file).ids
    train, val = (split_truth(stored, videos, split, ids, min_overlap_s=0.5) for split in ("train", "val"))
    return as_rows(train.embeddings, train.windows), as_rows(val.embeddings, val.windows)


def as_rows(embeddings: store.Embeddings, targets: np.ndarray) -> Rows:
    return torch.from_numpy(embeddings.features(("mean", "max"))), torch.from_numpy(targets)


def made_up_rows(num_rows: int, *, num_features: int, num_labels: int) -> Rows:
    """Random features in fp16, as stored, and labels that noisy hyperplanes separate; 2–20% of the targets are true."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(num_rows, num_features, generator=generator)
    directions = torch.randn(num_features, num_labels, generator=generator) / num_features**0.5
    pull = features @ directions + 0.3 * torch.randn(num_rows, num_labels, generator=generator)
    shares = torch.linspace(0.02, 0.2, num_labels)[torch.randperm(num_labels, generator=generator)]
    thresholds = torch.stack([column.quantile(1 - share) for column, share in zip(pull.T, shares, strict=True)])
    return features.half(), pull > thresholds


def train_on(
    train: Rows, val: Rows, settings: list[Setting], schedule: TrainingSchedule, *, batch_size: int
) -> list[Trial]:
    generator = torch.Generator().manual_seed(0)
    return train_heads(
        train, val, settings=settings, schedule=schedule, batch_size=batch_size, generator=generator, cpu=True
    )


def schedule_of(steps: int, *, patience: int) -> TrainingSchedule:
    return TrainingSchedule(
        steps=steps,
        accumulation=1,
        evaluate_every_steps=max(1, steps // 10),
        patience=patience,
        warmup_share=0.05,
        decay="cosine",
        max_grad_norm=1.0,
        precision="fp32",
    )

"""The report at Charades' size from made-up predictions; the exact sweep beside a loop over scikit-learn. On a CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import f1_score

from bench import Row, interleaved
from bench.real_size import Size, make_project, run_stage
from bench.worlds import write_footage
from features.files import write_csv, write_json
from features.video import Segment
from heads import weights
from heads.predictions import Predictions
from heads.targets import video_targets, window_targets
from pipeline.dataset import labels, manifest
from pipeline.dataset.manifest import VideoEntry
from pipeline.layout import Layout, models_of
from pipeline.params import Params, load
from reports import thresholds
from reports.calibration import Calibration
from reports.decoding import Decoding
from reports.events import EventRule
from reports.recognisable import Limits
from reports.thresholds import Bools, Floats

_PROFILE, _LABELS = "charades", "diary"


def measure() -> list[Row]:
    return [*measure_report(Size(hidden_size=32)), measure_sweep(num_rows=400, num_labels=8, rounds=3)]


def measure_report(size: Size) -> list[Row]:
    """Two rows: wall seconds of the stage with four models, and megabytes of its page."""
    with tempfile.TemporaryDirectory(prefix="report") as made:
        root = Path(made)
        make_project(root, size)
        run_stage(root, "prepare")
        num_windows = make_predictions(root)
        taken = run_stage(root, "report")
        page_mb = Layout(_PROFILE, _LABELS, root).report.stat().st_size / 1e6
    what = f"Stage `report`, made-up predictions: {size.test_videos:,} test videos, {num_windows:,} windows, 4 models"
    details = {**taken, "page_mb": page_mb, "test_videos": size.test_videos, "test_windows": num_windows}
    note = f"{taken['cpu_s']:.0f} CPU s, {taken['peak_gib']:.1f} GiB at most"
    return [
        Row(what, "wall seconds", taken["wall_s"], goal=60.0, better="lower", note=note, details=details),
        Row(what, "MB of the page", page_mb, goal=5.0, better="lower", details=details),
    ]


def measure_sweep(*, num_rows: int, num_labels: int, rounds: int) -> Row:
    """One row: the best of all thresholds, for each label and for all, by a loop over `f1_score` and by one sort.

    Both must find the same thresholds, else `RuntimeError` is raised.
    """
    rng = np.random.default_rng(0)
    probabilities = rng.random((num_rows, num_labels)).astype(np.float32)
    targets = rng.random((num_rows, num_labels)) < probabilities / 2
    found: dict[str, list[float]] = {}

    def by_sort() -> None:
        found["sort"] = _best_thresholds(thresholds.best_threshold, probabilities, targets)

    def by_loop() -> None:
        found["loop"] = _best_thresholds(_by_loop, probabilities, targets)

    by_sort()
    taken = interleaved({"sort": by_sort, "loop": by_loop}, rounds=rounds)
    if found["sort"] != found["loop"]:
        raise RuntimeError(f"the thresholds differ: {found}")
    one, other = taken["sort"].wall, taken["loop"].wall
    return Row(
        f"Exact sweep, {num_rows:,} windows, {num_labels} labels",
        "wall time of a loop over `sklearn.metrics.f1_score` / ours",
        other.over(one),
        goal=50.0,
        note="the same thresholds",
        details={"rows": num_rows, "labels": num_labels, **one.details("sort"), **other.details("loop")},
    )


def _best_thresholds(best: Any, probabilities: Floats, targets: Bools) -> list[float]:
    own = [best(probabilities[:, k], targets[:, k]) for k in range(targets.shape[1])]
    return [*own, best(probabilities.ravel(), targets.ravel())]


def _by_loop(probabilities: Floats, targets: Bools) -> float:
    """The lowest of the thresholds with the best F1."""
    scores = {float(each): float(f1_score(targets, probabilities >= each)) for each in np.unique(probabilities)}
    return max(scores, key=lambda threshold: scores[threshold])


def make_predictions(root: Path) -> int:
    """All that the stage reads behind `prepare`; returns the number of test windows.

    Each model has a probability of its own clarity for what is on. All test videos are one short film.
    """
    paths, params = Layout(_PROFILE, _LABELS, root), load(root, _PROFILE)
    label_set, videos = labels.read_label_set(paths.label_set), manifest.read(paths.manifest)
    film = write_footage(root / "film.mp4", duration_s=3, seed=0, size=(320, 240))
    for video in videos.split("test"):
        place = paths.dataset / video.path
        place.unlink(missing_ok=True)
        place.symlink_to(film)
    frequencies = [0.05] * len(label_set.ids)
    config = {
        "labels": [{"id": label, "name": name} for label, name in zip(label_set.ids, label_set.names, strict=True)],
        "features": ["mean"],
        "members": 1,
        "temporal": {"width": 8, "blocks": 2, "dropout": 0.0},
        "train": {"num_windows": 200_000, "window_frequencies": frequencies, "video_frequencies": frequencies},
        "provenance": {
            "backbone": {"id": "made-up", "sha256": "0" * 64},
            "windows": {"num_frames": 16, "stride_s": params.windows.stride_s},
            "precision": "fp32",
        },
    }
    write_csv(paths.failed, ["video_id", "reason"], [])
    write_json(paths.seeds, {})
    Limits(max_distance=1e9).save(paths.limits)
    num_windows = 0
    for number, model in enumerate(models_of(params.temporal.embeddings)):
        weights.save(paths.model(model), {"made_up": torch.zeros(1)}, config)
        rng = np.random.default_rng(number)
        own = {
            split: _predicted(videos.split(split), label_set.ids, params, rng, clarity=1.0 + number)
            for split in ("val", "test")
        }
        own["val"].save(paths.val_predictions(model))
        own["test"].save(paths.test_predictions(model))
        nothing = _predicted((), label_set.ids, params, rng, clarity=1.0)
        nothing.save(paths.val_predictions(model, "recordings"))
        nothing.save(paths.test_predictions(model, "recordings"))
        _write_choices(paths, model, own["val"], params)
        rows = [(100 * k, 1 / (k + 1), 1 / (k + 1), 0.1 * k) for k in range(5)]
        write_csv(paths.history(model), ["step", "train_loss", "val_loss", "val_map"], rows)
        num_windows = len(own["test"].video_ids)
    return num_windows


def _predicted(
    videos: tuple[VideoEntry, ...], ids: tuple[str, ...], params: Params, rng: np.random.Generator, *, clarity: float
) -> Predictions:
    """A logit of -3, `clarity` more where a label is on, and noise that lasts."""
    plan = params.windows
    columns: Mapping[str, list[Any]] = {
        name: [] for name in ("ids", "window", "start_s", "logits", "targets", "videos")
    }
    for video in videos:
        start_s = np.arange(plan.num_windows(video.length_s)) * plan.stride_s
        windows = [Segment(start, start + plan.window_s) for start in start_s.tolist()]
        targets = window_targets(windows, video.actions, ids, min_overlap_s=params.targets.min_overlap_s)
        noise = rng.normal(size=(len(windows), len(ids))) + rng.normal(size=len(ids))
        columns["ids"].append(np.full(len(windows), video.video_id))
        columns["window"].append(np.arange(len(windows), dtype=np.int32))
        columns["start_s"].append(start_s)
        columns["logits"].append(noise - 3 + (1 + clarity) * targets)
        columns["targets"].append(targets)
        columns["videos"].append(video_targets(video.classes, ids))

    def joined(name: str, empty: Any) -> Any:
        return np.concatenate(columns[name]) if columns[name] else empty

    nothing = np.zeros((0, len(ids)))
    start_s = joined("start_s", np.zeros(0))
    return Predictions(
        labels=ids,
        video_ids=joined("ids", np.zeros(0, dtype="U1")),
        window=joined("window", np.zeros(0, dtype=np.int32)),
        start_s=start_s,
        end_s=start_s + plan.window_s,
        probabilities=(1 / (1 + np.exp(-joined("logits", nothing)))).astype(np.float32),
        targets=joined("targets", nothing.astype(bool)),
        videos=np.array([video.video_id for video in videos], dtype="U8"),
        video_targets=np.array(columns["videos"], dtype=bool).reshape(-1, len(ids)),
        model_sha256="",
    )


def _write_choices(paths: Layout, model: str, val: Predictions, params: Params) -> None:
    """A sweep of val, and event rules that nobody tuned."""
    sweep = thresholds.sweep(
        val.probabilities,
        val.targets,
        labels=val.labels,
        grid=params.sweep.values(),
        half_way_positives=params.sweep.half_way_positives,
    )
    sweep.save(paths.sweep(model))
    rules = dict.fromkeys(val.labels, EventRule(0.4, 0.3, 1.0, 1.0))
    calibration = Calibration.identity(len(val.labels))
    Decoding(val.labels, calibration, 3, rules, rules, (), params.diary.min_precision, {}, {}).save(
        paths.decoding(model)
    )

"""Seconds and memory of each stage behind `extract` on a made-up store of Charades' size. On a CPU.

The project that the stages run in is Charades' profile with made-up annotations and embeddings, in a folder of its own.
`finetune` makes one update from a few stored block inputs: how long a step takes does not depend on the data set.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from ruamel.yaml import YAML

from bench import Row
from bench.worlds import ROOT, ModelSize
from features.backbone import save
from features.files import write_csv, write_json
from features.store.block_inputs import write_block_inputs
from features.store.embeddings import VideoEmbeddings, read_embeddings, write_embeddings
from features.video import Segment
from heads import weights
from heads.targets import window_targets
from pipeline.dataset import labels, manifest
from pipeline.dataset.windows import block_input_windows
from pipeline.frozen import load_frozen_encoder
from pipeline.layout import Layout
from pipeline.params import load

_PROFILE, _LABELS = "charades", "diary"
_POOLINGS = ("max", "mean", "pooler")
STAGES = ("prepare", "train", "finetune", "predict", "sweep", "report")
_MIN_LENGTH_S = 6.0
_STORED_BLOCK_INPUTS = 1_000


@dataclass(frozen=True)
class Size:
    """How much is made up. Charades has 7,985 and 1,863 videos of 30 seconds, by 267 subjects."""

    train_videos: int = 7_985
    test_videos: int = 1_863
    subjects: int = 267
    mean_length_s: float = 30.5
    hidden_size: int = 1024
    steps: int = 160  # of the trainings of heads, of which topic `heads` has the time of a step


_CHARADES = Size()


def measure(size: Size = _CHARADES, stages: Sequence[str] = STAGES) -> list[Row]:
    """A row for each of these first stages: the CPU seconds of its process, and beside them its peak memory."""
    with tempfile.TemporaryDirectory(prefix="real_size") as made:
        root = Path(made)
        make_project(root, size)
        taken, num_windows = {}, 0
        for name in stages:
            if name == "train":
                num_windows = make_embeddings(root, size)
            elif name == "predict":
                make_finetuned(root)
            taken[name] = run_stage(root, name)
    return [
        Row(
            f"Stage `{name}`, {size.train_videos + size.test_videos:,} videos, {num_windows:,} windows of 3 × "
            f"{size.hidden_size:,} numbers",
            "CPU seconds",
            taken[name]["cpu_s"],
            note=f"{taken[name]['wall_s']:.0f} s, {taken[name]['peak_gib']:.1f} GiB at most",
            details={**taken[name], **asdict(size), "num_windows": num_windows},
        )
        for name in stages
    ]


_MEASURED = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)]))
"""
"""Runs a command from a small process: Linux counts as a process's peak what its parent held when it was forked."""


def run_stage(root: Path, name: str) -> dict[str, float]:
    """Run a stage in the project `root` in a process of its own; its seconds and the most memory that it held."""
    stage = [f"pipeline.stages.{name}", _PROFILE, *([] if name == "prepare" else [_LABELS])]
    start_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, sys.executable, "-m", *stage],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(ROOT), "VIDEO_DIARY_CACHE": str(root / "cache")},
        stdout=subprocess.PIPE,
        check=True,
    )
    cpu_s, peak_bytes = json.loads(done.stdout.splitlines()[-1])
    return {"wall_s": time.perf_counter() - start_s, "cpu_s": cpu_s, "peak_gib": peak_bytes / 2**30}


def make_project(root: Path, size: Size) -> None:
    """Params, label sets, made-up annotations in the official layout, empty video files, and a small backbone."""
    values = YAML(typ="safe").load(ROOT / "params" / f"{_PROFILE}.yaml")
    values["temporal"]["embeddings"] = ["frozen", "finetuned"]
    for section in ("train", "temporal"):
        values[section] |= {"steps": size.steps, "evaluate_every_steps": size.steps}
    values["finetune"] |= {"source": "block_inputs", "steps": 16, "evaluate_every_steps": 16, "precision": "fp32"}
    (root / "params").mkdir()
    YAML(typ="safe").dump(values, root / "params" / f"{_PROFILE}.yaml")
    YAML(typ="safe").dump({"profile": _PROFILE, "label_sets": [_LABELS]}, root / "params.yaml")
    shutil.copytree(ROOT / "labels" / _PROFILE, root / "labels" / _PROFILE)
    paths = Layout(_PROFILE, _LABELS, root)
    named = labels.read_label_set(paths.label_set)
    names = {f"c{k:03}": f"Action {k}" for k in range(157)} | dict(zip(named.ids, named.names, strict=True))
    with paths.roles.open(newline="", encoding="utf-8") as file:
        names |= {row["label"]: f"Action {row['label']}" for row in csv.DictReader(file) if row["label"] not in names}
    _make_annotations(paths.dataset, names, size)
    small = ModelSize(
        hidden_size=size.hidden_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        crop_size=32,
        num_frames=16,
        num_pooler_layers=1,
        num_labels=3,
    )
    save(small.model(), paths.backbone, name="made-up", preprocessing=small.preprocessing, dtype=torch.float32)


def _make_annotations(dataset: Path, names: Mapping[str, str], size: Size) -> None:
    rng = np.random.default_rng(0)
    (dataset / "Charades").mkdir(parents=True)
    (dataset / "Charades_v1_480").mkdir()
    classes = "".join(f"{label} {name}\n" for label, name in sorted(names.items()))
    (dataset / "Charades" / "Charades_v1_classes.txt").write_text(classes, encoding="utf-8")
    ids, first = sorted(names), 0
    num_test_subjects = max(1, size.subjects * size.test_videos // (size.train_videos + size.test_videos))
    for split, count, subjects in (
        ("train", size.train_videos, range(num_test_subjects, size.subjects)),
        ("test", size.test_videos, range(num_test_subjects)),
    ):
        with (dataset / "Charades" / f"Charades_v1_{split}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "subject", "scene", "actions", "length"])
            for number in range(first, first + count):
                video_id, length_s = f"V{number:05}", max(_MIN_LENGTH_S, rng.normal(size.mean_length_s, 4.0))
                starts = rng.uniform(0, length_s - 5, 7)
                actions = zip(rng.choice(ids, 7, replace=False), starts, starts + rng.uniform(3, 20, 7), strict=True)
                column = ";".join(f"{label} {start:.2f} {end:.2f}" for label, start, end in actions)
                rows.writerow([video_id, f"S{subjects[number % len(subjects)]}", "Kitchen", column, f"{length_s:.2f}"])
                (dataset / "Charades_v1_480" / f"{video_id}.mp4").touch()
        first += count


def make_embeddings(root: Path, size: Size) -> int:
    """Write the stores of videos and of no recordings, and return how many windows of videos there are.

    Vectors are noise with a direction for each label of the window.
    """
    paths = Layout(_PROFILE, _LABELS, root)
    plan, videos = load(root, _PROFILE).windows, manifest.read(paths.manifest)
    label_ids = labels.read_label_set(paths.label_set).ids
    rng = np.random.default_rng(1)
    directions = rng.standard_normal((len(label_ids), size.hidden_size), dtype=np.float32) * 0.2

    def load_video(video_id: str) -> VideoEmbeddings:
        video = videos.by_id[video_id]
        count = plan.num_windows(video.length_s)
        numbers = np.arange(count, dtype=np.int32)
        start_s = numbers.astype(np.float64) * plan.stride_s
        windows = [Segment(start, start + plan.window_s) for start in start_s.tolist()]
        pulls = window_targets(windows, video.actions, label_ids, min_overlap_s=0.5).astype(np.float32) @ directions
        noise = rng.standard_normal((len(_POOLINGS), count, size.hidden_size), dtype=np.float32)
        return VideoEmbeddings(
            numbers,
            start_s,
            start_s + plan.window_s,
            np.zeros(count, dtype=np.int32),
            {name: (own + pulls).astype(np.float16) for name, own in zip(_POOLINGS, noise, strict=True)},
        )

    num_windows = {video.video_id: plan.num_windows(video.length_s) for video in videos.videos}
    encoder = load_frozen_encoder(paths.backbone, paths.cache, plan, decoder="pyav", precision="fp32", attention="sdpa")
    provenance, backbone = encoder.store_provenance, encoder.backbone
    write_embeddings(paths.embeddings, num_windows, load_video, provenance=provenance)
    sizes = dict.fromkeys(_POOLINGS, size.hidden_size)
    write_embeddings(paths.recording_embeddings, {}, load_video, provenance=provenance, sizes=sizes)
    write_csv(paths.recording_hashes, ["recording", "sha256"], [])
    write_csv(paths.failed, ["video_id", "reason"], [])
    write_json(paths.seeds, {})
    shape = backbone.block_input_shape(plan.num_frames)
    windows = block_input_windows(videos, plan, num_clips=_STORED_BLOCK_INPUTS, evaluate_windows=300)
    generator = torch.Generator().manual_seed(2)
    write_block_inputs(
        paths.block_inputs,
        {video_id: sorted(numbers) for video_id, numbers in windows.items()},
        lambda video_id: torch.randn(len(windows[video_id]), *shape, generator=generator).half(),
        precision="fp16",
        provenance=provenance,
    )
    return sum(num_windows.values())


def make_finetuned(root: Path) -> None:
    """As if the finetuned block gave what the frozen one does: its embeddings, and the temporal heads on them."""
    paths = Layout(_PROFILE, _LABELS, root)
    _, provenance = read_embeddings(paths.recording_embeddings)
    paths.finetuned.mkdir(parents=True)
    for store, of in ((paths.embeddings, "videos"), (paths.recording_embeddings, "recordings")):
        paths.finetuned_embeddings(of).symlink_to(store)
    tensors, config = weights.load(paths.model("temporal"), expected={})
    weights.save(paths.model("finetune_temporal"), tensors, config | {"embeddings": provenance})
    shutil.copy(paths.history("temporal"), paths.history("finetune_temporal"))

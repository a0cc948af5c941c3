"""A tiny project with models of made-up embeddings, and diaries of somebody in whose videos labels look different."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from features.cache import EmbeddingCache
from features.decode.damage import VideoEnd
from features.files import write_csv
from features.pictures import WindowPictures
from features.store.embeddings import VideoEmbeddings, read_embeddings, write_embeddings
from features.video import Segment
from heads import weights
from heads.targets import cell_targets
from pipeline.dataset import manifest
from pipeline.dataset.manifest import Interval, Manifest, VideoEntry
from pipeline.diaries.output import STORED, OutputFolder, Row
from pipeline.diaries.pages import write_pages
from pipeline.layout import Layout
from reports.corrections import Correction, append_correction
from reports.diary.formats.export import write_formats
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.diary.stored import write_stored
from reports.events import Event, EventRule, EventsFound
from tests.diaries import stored
from tests.model_folders import PLAN, make_model_folder, write_decoding, write_limits

REPOSITORY = Path(__file__).parents[1]
NAMES = {"sit": "Sitting", "cup": "Holding a cup"}
RULE = EventRule(0.5, 0.5, 0, 0)
_NUMBERS = itertools.count()
_SIZE = 32
_POOLINGS = ("pooler", "mean", "max")
Truth = Sequence[tuple[str, float, float]]


def truth_of(seed: int) -> Truth:
    """Each label is on for a few seconds, twice."""
    rng = np.random.default_rng(seed)
    return [
        (label, float(start), float(start) + 3)
        for label in NAMES
        for start in 10 * np.arange(2) + rng.integers(1, 6, 2)
    ]


def video(seed: int, truth: Truth, *, stranger: bool = False, length_s: int = 20) -> VideoEmbeddings:
    """Windows whose first two numbers show what is on; of a `stranger`, the other way round and weaker."""
    rng = np.random.default_rng(seed)
    start_s = np.arange(2 * length_s - 1, dtype=np.float64) * PLAN.stride_s
    end_s = start_s + PLAN.window_s
    windows = [Segment(*times) for times in zip(start_s, end_s, strict=True)]
    actions = [(label, Segment(start, end)) for label, start, end in truth]
    on = cell_targets(windows, actions, list(NAMES), stride_s=PLAN.stride_s)
    vectors = rng.normal(size=(len(windows), _SIZE)) * 0.3
    vectors[:, 2 * stranger : 2 * stranger + 2] += 2 * on
    vectors[:, 4] += 3 * stranger
    return VideoEmbeddings(
        np.arange(len(windows), dtype=np.int32),
        start_s,
        end_s,
        np.zeros(len(windows), dtype=np.int32),
        {name: vectors.astype(np.float16) for name in _POOLINGS},
        WindowPictures.of([(0.5, 0.5, 0.5)] * len(windows)),
    )


def make_project(root: Path) -> Layout:
    """Everything that stage `train` reads, but no video; recordings are "home.mp4", "val/a.mp4" and "test/b.mp4"."""
    paths = Layout("tiny", "diary", root)
    values: dict[str, Any] = YAML(typ="safe").load(REPOSITORY / "params" / "demo.yaml")
    values["windows"] = {name: getattr(PLAN, name) for name in values["windows"]}
    short = {"features": ["mean"], "steps": 60, "evaluate_every_steps": 20, "learning_rate": 0.01, "loss": "bce"}
    values["train"] |= short | {"weight_decay": 0.0}
    values["temporal"] |= short | {"steps": 200, "width": 8, "blocks": 1, "dropout": 0.0, "members": 1, "batch_size": 4}
    (root / "params").mkdir(parents=True)
    (root / "params" / "tiny.yaml").write_text(json.dumps(values))
    (root / "params.yaml").write_text(json.dumps({"profile": "tiny", "label_sets": ["diary"]}))
    paths.label_sets.mkdir(parents=True)
    paths.label_set.write_text("".join(f"{label} {name}\n" for label, name in NAMES.items()))
    paths.roles.write_text("label,role,thing,phrase,together\n")

    made = make_model_folder(root / "scratch", temporal=True)
    provenance = weights.read_config(made)["provenance"]
    shutil.copytree(root / "scratch" / "backbone", paths.backbone)
    truths = {f"v{k:02}": truth_of(k) for k in range(24)}
    entries = [
        VideoEntry(
            video_id,
            f"{video_id}.mp4",
            subject=video_id,
            scene="room",
            split="train" if k < 16 else "val" if k < 20 else "test",
            length_s=20.0,
            intervals=tuple(Interval(*own) for own in truth),
        )
        for k, (video_id, truth) in enumerate(truths.items())
    ]
    manifest.write(paths.manifest, Manifest(tuple(entries)))
    _store(paths.embeddings, {name: video(k, truth) for k, (name, truth) in enumerate(truths.items())}, provenance)
    recordings = {
        "home.mp4": video(40, truth_of(40), stranger=True),
        "val/a.mp4": video(41, truth_of(41)),
        "test/b.mp4": video(42, truth_of(42)),
    }
    _store(paths.recording_embeddings, recordings, provenance)
    write_csv(paths.recording_hashes, ["recording", "sha256"], [(name, sha256(name)) for name in recordings])
    for name, seed in (("val/a", 41), ("test/b", 42)):
        write_csv(
            paths.recordings / f"{name}.truth.csv",
            ["start_s", "end_s", "label"],
            [(start, end, label) for label, start, end in truth_of(seed)],
        )
    say(paths.corrections_file)
    return paths


def sha256(name: str) -> str:
    """A stand-in for the hash of a video that is not there."""
    return name.encode().hex().ljust(64, "0")[:64]


def say(path: Path, *corrections: Correction) -> None:
    """A file with these corrections and no others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch()
    for each in corrections:
        append_correction(path, each)


def said(verdict: Any, name: str, label: str, start_s: float, end_s: float, **others: Any) -> Correction:
    return Correction(
        id=f"c{next(_NUMBERS)}",
        verdict=verdict,
        video_sha256=sha256(name),
        who="ada",
        when="2026-03-14T20:00:00+01:00",
        label=label,
        start_s=start_s,
        end_s=end_s,
        **others,
    )


def whole_review(name: str, seed: int) -> list[Correction]:
    """All that is true of a video, and that nothing else is."""
    return [
        *(said("add", name, label, start, end) for label, start, end in truth_of(seed)),
        said("complete", name, "", 0, 20),
    ]


def run_train(paths: Layout, patch: pytest.MonkeyPatch) -> Result:
    from pipeline.stages.train import main

    patch.chdir(paths.root)
    return CliRunner().invoke(main, [paths.profile, paths.labels], catch_exceptions=False)


def finish(paths: Layout) -> None:
    """What stages behind `train` would write: rules, and limits that nothing exceeds."""
    digest = weights.sha256(paths.model("temporal"))
    write_decoding(paths.decoding("temporal"), list(NAMES), RULE, model_sha256=digest)
    backbone = weights.read_config(paths.model("temporal"))["provenance"]["backbone"]["sha256"]
    free = write_limits(paths.root / "scratch", backbone_sha256=backbone, size=_SIZE)
    paths.limits.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(free["limits"], paths.limits)
    shutil.copyfile(free["typicality"], paths.typicality)


def make_diaries(out: Path, names: Mapping[str, int]) -> OutputFolder:
    """Diaries of these videos, by name, with one wrong event each; the number is the seed of their truth."""
    output = OutputFolder(out)
    model = DiaryModel("tiny", "diary", "temporal", "a" * 64, "b" * 64, dict.fromkeys(NAMES, RULE))
    for name in names:
        recording_id = name.removesuffix(".mp4")
        recording = Recording(recording_id, name, 20.0, None, "unknown", (Segment(0, 20),))
        found = EventsFound((Event(f"{recording_id}-001", "cup", Segment(0, 1), 0.9, 0.8),), {})
        with output.writing(Row(recording_id, name, sha256(name)), is_damaged=False) as folder:
            write_formats(folder, ("jsonl", "csv"), recording, found, NAMES, model)
            (folder / "thumbnails").mkdir()
            write_stored(folder / STORED, stored(recording, found, NAMES, model))
    write_pages(output)
    return output


def keep(paths: Layout, names: Mapping[str, int]) -> None:
    """Put the stranger's videos into the cache, as `diary write` would."""
    _, provenance = read_embeddings(paths.embeddings)
    cache = EmbeddingCache(paths.cache, provenance | {"backbone": {"sha256": provenance["backbone"]["sha256"]}})
    with cache.locked():
        for name, seed in names.items():
            cache.put(sha256(name), video(seed, truth_of(seed), stranger=True), VideoEnd(20.0))


def _store(path: Path, videos: Mapping[str, VideoEmbeddings], provenance: Mapping[str, Any]) -> None:
    sizes = dict.fromkeys(_POOLINGS, _SIZE)
    write_embeddings(
        path, {name: len(own) for name, own in videos.items()}, videos.__getitem__, provenance=provenance, sizes=sizes
    )

"""What the report shows beyond scores: curves, pairs of labels, examples, counts of people, and its Markdown twin."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from features.video import Segment
from heads.predictions import Predictions
from pipeline.report_facts import shown_params, write_pictures
from reports.calibration import Calibration
from reports.decoding import Decoding
from reports.evaluation.closer_look import chosen_point
from reports.evaluation.curve_files import write_curves
from reports.evaluation.examples import Example, examples
from reports.evaluation.markdown import write_markdown
from reports.evaluation.page import write_page
from reports.evaluation.pairs import confusions, found_together
from reports.evaluation.results import CloserLook, FailedVideo, ModelResult, Report, SplitFacts
from reports.evaluation.rows import choices, chosen_model, clock, scored_labels
from reports.events import EventRule
from reports.metrics.matching import AnnotatedRecording, StatedEvent, TrueEvent, event_truth
from reports.metrics.precision_recall import PrecisionRecall, precision_recall
from reports.thresholds import decide, sweep
from tests.videos import evenly, write_video

LABELS = ("a", "b", "c")


def predictions(seed: int, *, num_videos: int = 6, per_video: int = 5) -> Predictions:
    """Random probabilities of random targets; label c is never on."""
    random = np.random.default_rng(seed)
    n = num_videos * per_video
    targets = random.random((n, 3)) < [0.3, 0.5, 0.0]
    ids = np.repeat([f"v{k}" for k in range(num_videos)], per_video)
    windows = np.tile(np.arange(per_video), num_videos)
    return Predictions(
        labels=LABELS,
        video_ids=ids,
        window=windows.astype(np.int32),
        start_s=windows.astype(float),
        end_s=(windows + 1).astype(np.float64),
        probabilities=np.round(random.random((n, 3)), 1).astype(np.float32),
        targets=targets,
        videos=np.unique(ids),
        video_targets=np.maximum.reduceat(targets, np.arange(0, n, per_video)),
    )


def test_the_curve_has_the_precision_and_recall_of_every_threshold() -> None:
    """Each point is that of a threshold, ties included; many points are thinned, and none is made up."""
    own = predictions(0)
    probabilities, targets = own.probabilities[:, 0], own.targets[:, 0]
    curve = precision_recall(probabilities, targets)
    points = {
        (
            round(recall_score(targets, decide(probabilities, float(t))), 4),
            round(precision_score(targets, decide(probabilities, float(t))), 4),
        )
        for t in np.unique(probabilities)
    }
    assert set(zip(curve.recall, curve.precision, strict=True)) <= points
    assert max(curve.recall) == 1.0
    assert list(curve.recall) == sorted(curve.recall)
    random = np.random.default_rng(1)
    many, is_on = random.random(5000), random.random(5000) < 0.2
    full, thin = precision_recall(many, is_on, max_points=10_000), precision_recall(many, is_on, max_points=50)
    assert len(thin.recall) <= 50
    both = (set(zip(each.recall, each.precision, strict=True)) for each in (thin, full))
    assert next(both) <= next(both)
    assert precision_recall(many, np.zeros(5000, dtype=bool)).recall == ()


def test_labels_are_scored_at_one_threshold_and_at_their_own() -> None:
    """Precision, recall and F1 by scikit-learn at the global threshold; F1 at the own one; windows, videos, val."""
    val, test = predictions(2), predictions(3)
    found = sweep(val.probabilities, val.targets, labels=LABELS, grid=np.array([0.25, 0.5]), half_way_positives=3)
    rows = scored_labels(val, test, found, {"a": "A", "b": "B", "c": "C"})
    for k in (0, 1):
        row, targets = rows[k], test.targets[:, k]
        named = decide(test.probabilities[:, k], found.threshold)
        own = decide(test.probabilities[:, k], found.label_thresholds[k])
        assert row["precision"] == pytest.approx(precision_score(targets, named))
        assert row["recall"] == pytest.approx(recall_score(targets, named))
        assert row["f1"] == pytest.approx(f1_score(targets, named))
        assert row["own_f1"] == pytest.approx(f1_score(targets, own))
        assert row["n_videos"] == len({test.video_ids[i] for i in np.flatnonzero(targets)})
        assert row["n_val"] == val.targets[:, k].sum()
    assert (rows[2]["n_positives"], rows[2]["n_videos"], rows[2]["n_val"]) == (0, 0, 0)
    recall, precision = chosen_point(test, found.threshold) or (0, 0)
    named = decide(test.probabilities, found.threshold)
    assert recall == pytest.approx(recall_score(test.targets.ravel(), named.ravel()))
    assert precision == pytest.approx(precision_score(test.targets.ravel(), named.ravel()))


def test_pairs_are_counted_by_window_and_video() -> None:
    """A missed label beside a wrongly named one is a confusion, two named ones are together; rare pairs are not."""
    targets = np.zeros((20, 3), dtype=bool)
    named = np.zeros((20, 3), dtype=bool)
    targets[:5, 0], named[:4, 1], named[4, 2] = True, True, True
    targets[10:14, [0, 1]], named[10:14, [0, 1]] = True, True
    ids = ["v0"] * 3 + ["v1"] * 7 + ["v2"] * 10
    (confusion,) = confusions(named, targets, labels=LABELS, video_ids=ids)
    assert (confusion.missed, confusion.named, confusion.count, confusion.num_videos) == ("a", "b", 4, 2)
    assert (confusion.num_missed, confusion.expected) == (5, 1.0)
    (pair,) = found_together(named, targets, labels=LABELS, video_ids=ids)
    assert (pair.first, pair.second, pair.named, pair.true, pair.num_videos) == ("a", "b", 4, 4, 1)
    assert pair.expected == 1.6
    assert confusions(named, named, labels=LABELS, video_ids=ids) == []


def decoding() -> Decoding:
    rules = dict.fromkeys(LABELS, EventRule(0.5, 0.5, 0, 0))
    return Decoding(LABELS, Calibration.identity(3), 1, rules, rules, (), 0.5, {}, {})


def test_examples_are_the_surest_and_the_worst() -> None:
    """Hits, misses and false alarms by IoU 0.3, each label and video once; misses have the mean of their cells."""
    windows = [Segment(k, k + 1) for k in range(10)]
    low = np.full((10, 3), 0.1)
    low[4:6, 1] = 0.3
    videos = [AnnotatedRecording(name, "video", windows, low, []) for name in ("v", "w")]
    truth = event_truth(
        [TrueEvent("v", "a", Segment(0, 4)), TrueEvent("v", "b", Segment(4, 6)), TrueEvent("w", "b", Segment(0, 2))],
        {"v": windows, "w": windows},
        LABELS,
    )
    stated = [
        StatedEvent("v", "a", Segment(0, 3), 0.9),
        StatedEvent("v", "a", Segment(8, 10), 0.8),
        StatedEvent("v", "c", Segment(3, 5), 0.95),
        StatedEvent("w", "c", Segment(0, 1), 0.7),
    ]
    found = examples(decoding(), truth, stated, videos, stride_s=1.0)
    assert [(each.kind, each.label, each.video_id, each.segment) for each in found] == [
        ("hit", "a", "v", Segment(0, 3)),
        ("miss", "b", "w", Segment(0, 2)),
        ("false_alarm", "c", "v", Segment(3, 5)),
    ]
    assert [round(each.probability, 3) for each in found] == [0.9, 0.1, 0.95]
    assert [each.meanwhile for each in found] == [(), ("c",), ("a", "b")]
    every = examples(decoding(), truth, [], videos, stride_s=1.0)
    assert [(each.label, each.video_id, round(each.probability, 2)) for each in every] == [
        ("a", "v", 0.1),
        ("b", "w", 0.1),
    ]


def test_pictures_lie_apart_from_the_page(tmp_path: Path) -> None:
    """Three JPEGs of each example at its times, addresses from the page; a video that cannot be read has none."""
    folder, page = tmp_path / "data" / "examples", tmp_path / "results" / "a page" / "report.html"
    (tmp_path / "data").mkdir()
    good = write_video(tmp_path / "data" / "a film.mp4", evenly(40, 10), size=(64, 48))
    (tmp_path / "data" / "broken.mp4").write_bytes(b"nothing")
    own = [Example("hit", "a", "v", Segment(1, 3), 0.9), Example("miss", "a", "w", Segment(0, 1), 0.1)]
    pictures, videos = write_pictures(folder, own, {"v": good, "w": tmp_path / "data" / "broken.mp4"}, page=page)
    assert pictures == [[f"../../data/examples/01_{at:08d}.jpg" for at in (1333, 2000, 2667)], []]
    assert videos == ["../../data/a%20film.mp4#t=1,3", "../../data/broken.mp4#t=0,1"]
    assert sorted(path.name for path in folder.iterdir()) == [Path(each).name for each in pictures[0]]
    assert all(path.read_bytes().startswith(b"\xff\xd8") for path in folder.iterdir())
    assert {path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())} == {0}  # of people, maybe


def test_params_are_shown_without_folders_of_the_machine() -> None:
    """Every value by its dotted name; paths are left out."""
    from pipeline import params

    shown = shown_params(replace(params.load(Path(__file__).parents[1], "charades"), clip="~/clip"))
    assert shown["windows.stride_s"] == "1.0"
    assert shown["train.learning_rate"].startswith("[0.0001")
    assert "~" not in "".join(shown.values())


def model(**changes: Any) -> ModelResult:
    metrics = {"n_windows": 9, "n_videos": 3, "n_labels": 1, "n_labels_without_positives": 0, "threshold": 0.3}
    row = {"label": "a", "name": "A | b", "n_positives": 2, "n_videos": 1, "n_val": 0, "ap": 0.5, "f1": 0.4}
    row |= {"precision": 0.3, "recall": 0.2, "own_f1": 0.1, "threshold": 0.6}
    return replace(ModelResult(metrics | {"micro_f1": 0.5, "macro_f1": 0.4}, [row], [], []), **changes)


REPORT = Report(
    "demo",
    "diary",
    {"linear": model(val_event_f1=0.6), "temporal": model(val_event_f1=0.5)},
    [
        SplitFacts("train", 9, 90, 4, dropped={"cut": 1}),
        SplitFacts("val", 5, 50, 2, dropped={"cut": 0}),
        SplitFacts("test", 3, 9, 1),
    ],
    [FailedVideo("X1", "no moov | atom")],
    {"seed": "0"},
    closer=CloserLook(examples=[Example("miss", "a", "v1", Segment(61, 62.5), 0.25)]),
    num_val_recordings=4,
    seeds={"seeds": [0, 1], "models": {"linear": {"map": {"mean": 0.5, "std": 0.01}}}},
    machine={"machine": "a computer"},
    params={"train.steps": "7"},
)


def test_the_twin_says_the_same_in_tables_of_markdown(tmp_path: Path) -> None:
    """All rows of a table have as many cells; names are escaped; machine and params are the page's alone."""
    write_markdown(tmp_path / "report.md", REPORT)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| A \\| b | 2 | 1 | 0.500 | 0.300 | 0.200 | 0.400 | 0.100 | 0.60 | – | – | 0 |" in text
    assert "| no moov \\| atom | 1 |" in text
    assert "v1" not in text, "no video is named in what lies in git"
    assert "| Calibration and event rules, by F1 of events | val | 5 videos of 2 people and 4 recordings |" in text
    assert "| train | 9 | 90 | 4 | 1 |" in text
    assert "| mAP of windows | 0.500 ± 0.010 |" in text
    assert "a computer" not in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    again = replace(REPORT, machine={"machine": "another"})
    write_markdown(tmp_path / "again.md", again)
    assert (tmp_path / "again.md").read_text(encoding="utf-8") == text


def test_the_page_says_who_chose_what_and_where_it_was_made(tmp_path: Path) -> None:
    """Counts of people behind each choice, what was dropped, params and machine; the chosen model comes first."""
    write_page(tmp_path / "report.html", REPORT)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert chosen_model(REPORT.models) == "linear"
    assert text.index('<h3 class="apart">linear</h3>') < text.index("The same of temporal")
    assert "5 videos of 2 people and 4 recordings" in text
    assert "train.steps: 7" in text
    assert "a computer" in text
    assert ("The model that is exported, by F1 of events", "val", "5 videos of 2 people") in choices(
        REPORT.splits, num_val_recordings=0
    )
    assert not re.search(r"<th[^>]*></th>", text)


def test_curves_are_files_for_dvc(tmp_path: Path) -> None:
    """Rows of each curve by model; a model that a profile does not have has files without rows."""
    sweep_rows = [{"threshold": 0.1, "micro_f1": 0.2, "macro_f1": 0.3}]
    own = model(sweep=sweep_rows, curve=PrecisionRecall((0.5, 1.0), (0.9, 0.2)))
    write_curves(tmp_path / "curves", {"linear": own}, names=("linear", "temporal"))
    written = {path.name: path.read_text().splitlines() for path in (tmp_path / "curves").iterdir()}
    assert written["linear_thresholds.csv"][1:] == ["0.1,0.2,0.3"]
    assert written["linear_precision_recall.csv"] == ["recall,precision", "0.5,0.9", "1.0,0.2"]
    assert written["linear_reliability.csv"] == written["temporal_reliability.csv"] == ["mean_probability,share_true"]
    assert len(written) == 6


def test_times_are_minutes_seconds_and_tenths() -> None:
    assert [clock(each) for each in (0, 59.96, 61, 725.25)] == ["0:00.0", "1:00.0", "1:01.0", "12:05.2"]

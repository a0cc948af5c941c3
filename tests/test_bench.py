"""The benchmark's code runs on small inputs, and the table of docs/benchmarks.md is what was measured."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path

import av
import pytest
import torch

from bench import Row, Seconds, dvc, extraction, finetuning, gpu, heads, interleaved, precision, recordings
from bench.__main__ import RESULTS, TOPICS
from bench.table import BEGIN, END, put_into, table, write
from bench.worlds import ROOT, TINY_BACKBONE, VIT_L, ModelSize, NothingToMeasure, write_footage
from features.clips import ClipReader, Source
from features.preprocess import Preprocessing
from features.video import WindowPlan
from tests.videos import evenly, number_of, write_video

pytestmark = pytest.mark.slow

SMALL = ModelSize(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    crop_size=32,
    num_frames=4,
    num_pooler_layers=1,
    num_labels=3,
)
PLAN = WindowPlan(num_frames=4, sample_fps=4, stride_s=0.5, max_still_s=1.0)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{k}.mp4", evenly(24, 12), size=(64, 48)) for k in range(2)]


def work(videos: list[Path], *, num_workers: int) -> extraction.Work:
    sources = [Source(path.stem, path, frozenset({0, 1})) for path in videos]
    return extraction.Work(
        sources, ClipReader(PLAN, SMALL.preprocessing, "auto"), batch_size=2, num_workers=num_workers
    )


def is_measured(rows: list[Row]) -> bool:
    return all(row.measured is not None and row.measured > 0 for row in rows)


def test_recordings_of_unlike_length_are_measured(videos: list[Path]) -> None:
    """Memory, speed and gate, on ten and twenty seconds; the gate leaves windows of the still stretches out."""
    plan = WindowPlan(num_frames=8, sample_fps=4, stride_s=0.5, max_still_s=1.0)
    rows = recordings.measure(plan=plan, videos=videos, lengths_s=(10.0, 20.0))
    assert is_measured(rows)
    details = rows[0].details
    short, long = details["by_length_s"]["10"], details["by_length_s"]["20"]
    assert (short["num_windows"], long["num_windows"]) == (17, 37)
    assert long["num_embedded"] == 37 > details["long_with_gate"]["num_embedded"]


def test_extraction_is_measured_on_a_large_backbone(videos: list[Path]) -> None:
    """Both rows of ViT-L are measured, on a small model and with a worker."""
    rows = extraction.measure_large(SMALL, work(videos, num_workers=1), rounds=1)
    assert [row.goal for row in rows] == [0.95, 1.8]
    assert is_measured(rows)
    assert rows[0].details["windows"] == 4


def test_extraction_is_measured_on_the_demo_backbone(videos: list[Path]) -> None:
    """Both rows of the tiny backbone, and the one of decoding alone."""
    reader = ClipReader(WindowPlan(8, 4, 0.75, 1.0), Preprocessing.from_checkpoint(TINY_BACKBONE), "auto")
    small = extraction.Work([Source(path.stem, path) for path in videos], reader, batch_size=2, num_workers=0)
    rows = extraction.measure_tiny(TINY_BACKBONE, small, rounds=1, num_prototype_videos=1)
    rows.append(extraction.measure_decoding("test videos", videos, reader, rounds=1))
    assert [(row.goal, row.better) for row in rows] == [(1.15, "lower"), (5.0, "higher"), (0.8, "higher")]
    assert is_measured(rows)


def test_the_prototype_reads_the_frames_of_its_window(tmp_path: Path) -> None:
    """Its seek and decode give the window's frames, so both ways do the same work."""
    path = write_video(tmp_path / "v.mp4", evenly(60, 12))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        container.seek(round(2.0 / stream.time_base), stream=stream)
        times_s = [2.0, 2.25, 2.5, 2.75]
        pictures = list(extraction.shown_at(container.decode(stream), times_s))
    assert [number_of(picture) for picture in pictures] == [24, 27, 30, 33]


def test_precisions_are_measured(videos: list[Path]) -> None:
    """A row for bf16, fp16 and eager attention; all are near to fp32, and bf16 is the farthest."""
    bf16, fp16, eager = precision.measure(videos=videos, plan=WindowPlan(8, 4, 0.75, 1.0))
    assert bf16.measured is not None
    assert fp16.measured is not None
    assert eager.measured is not None
    assert abs(eager.measured) < fp16.measured < bf16.measured < 0.01


def test_an_accelerator_is_measured_by_the_same_code(videos: list[Path]) -> None:
    """The code for CUDA runs on the CPU: the peak, each batch size, and extraction end to end."""
    rows = gpu.measure_on(
        torch.device("cpu"),
        SMALL,
        work(videos, num_workers=0),
        (1, 2),
        matrix_side=32,
        rounds=1,
        num_windows=2,
    )
    assert is_measured(rows)
    assert rows[-1].details["windows"] == 4


def test_heads_are_measured() -> None:
    """20 heads compared with one, and a large stage 1 compared with scikit-learn, on random embeddings."""
    features, targets = heads.made_up_rows(600, num_features=8, num_labels=4)
    rows = [
        heads.measure_grid((features[100:], targets[100:]), (features[:100], targets[:100]), steps=10, rounds=1),
        *heads.measure_large(features, targets, num_val=100, steps=10, sklearn_labels=2),
    ]
    assert [(row.goal, row.better) for row in rows] == [(3.0, "lower"), (20.0, "lower"), (None, "higher")]
    assert is_measured(rows)


def test_finetuning_is_measured(videos: list[Path]) -> None:
    """A head on the mean of the tokens and one on the pooler are measured, each from stored block inputs."""
    training = finetuning.Training(
        [Source(path.stem, path) for path in videos],
        {path.stem: (0, 1) for path in videos},
        ClipReader(PLAN, SMALL.preprocessing, "auto"),
        steps=2,
        batch_size=2,
        windows_per_pass=2,
        precision="fp32",
        num_workers=0,
    )
    rows = finetuning.measure_sources("a small backbone", SMALL.backbone(torch.float32), training, rounds=1)
    assert [row.goal for row in rows] == [5.0, 2.5]
    assert is_measured(rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_an_accelerator_its_rows_say_so() -> None:
    """Each row is present, not measured, with the reason."""
    rows = gpu.measure()
    assert {(row.measured, row.note) for row in rows} == {(None, "no CUDA device")}
    assert [row.goal for row in rows] == [None, None, 0.55, None, 0.9]


def test_flops_are_those_of_vit_l() -> None:
    """1.656 T in the encoder and 0.215 T in the pooler."""
    assert VIT_L.clip_flops == pytest.approx(1.656e12 + 0.215e12, rel=1e-3)


def test_footage_is_what_it_says(tmp_path: Path) -> None:
    """Two seconds of footage give two seconds of frames, about as many bits as asked for."""
    path = write_footage(tmp_path / "footage.mp4", duration_s=2, seed=0, size=(320, 240), bit_rate=200_000)
    reader = ClipReader(WindowPlan(4, 8, 0.5, 1.0), SMALL.preprocessing, "auto")
    clips = list(reader.clips(Source("footage", path)))
    assert clips[-1].segment.end_s == pytest.approx(2.0, abs=1 / 8)
    assert 100_000 < path.stat().st_size * 8 / 2 < 400_000


def test_a_repro_of_nothing_is_measured_in_a_copy(tmp_path: Path) -> None:
    """The copy has what git does not ignore, and data/; a stage with a stale result is committed, not run."""
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").touch()
    (root / ".gitignore").write_text("/data/\n/ignored\n")
    (root / "ignored").write_text("x")
    (root / "data" / "out").write_text("made by hand")
    (root / "dvc.yaml").write_text("stages:\n  make:\n    cmd: exit 1\n    outs: [data/out]\n")
    (row,) = dvc.measure(root=root, rounds=1)
    assert is_measured([row])
    assert not (root / "dvc.lock").exists()
    copy = tmp_path / "copy"
    dvc.copy_checkout(root, copy)
    assert (copy / "data" / "out").is_file()
    assert not (copy / "ignored").exists()
    (root / "data" / "out").unlink()
    with pytest.raises(NothingToMeasure, match="dvc commit"):
        dvc.measure(root=root, rounds=1)


def test_a_row_says_what_and_why() -> None:
    """A row without a measurement needs a reason, a ratio is finite, and a goal has a direction."""
    with pytest.raises(ValueError, match="says why"):
        Row("speed", "a / b", None)
    with pytest.raises(ValueError, match="finite"):
        Row("speed", "a / b", float("nan"))
    assert Row("speed", "a / b", 2.0, goal=2.0).met is True
    assert Row("speed", "a / b", 2.0, goal=1.0, better="lower").met is False
    assert Row("speed", "a / b", 2.0).met is None


def test_a_ratio_is_of_neighbours_in_time() -> None:
    """A slow-down of the machine between rounds does not change the ratio."""
    a, b = Seconds((1.0, 10.0, 4.0)), Seconds((2.0, 20.0, 8.0))
    assert a.over(b) == 0.5
    assert (a + b).over(b / 2) == 3.0


def test_ways_take_turns() -> None:
    """Every way runs once a round; every other round is in reverse order."""
    order: list[str] = []
    taken = interleaved({name: partial(order.append, name) for name in "ab"}, rounds=3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert len(taken["a"].wall.rounds) == len(taken["b"].cpu.rounds) == 3


def test_the_table_is_what_the_files_say(tmp_path: Path) -> None:
    """The table is made from JSON: ratio, goal with its direction, missed goals, and rows not measured."""
    write(tmp_path, "extraction", [Row("fast", "a / b", 0.912345, goal=0.95, details={"a_s": 1.23456})])
    write(tmp_path, "gpu", [Row("gpu", "c / d", None, goal=1.3, better="lower", note="no device")])
    assert json.loads((tmp_path / "extraction.json").read_text())["rows"][0]["details"] == {"a_s": 1.235}
    made = table(tmp_path, TOPICS)
    assert "| fast | a / b | 0.912 | ≥ 0.95 | missed |" in made
    assert "| gpu | c / d | not measured | ≤ 1.3 | no device |" in made
    readme = f"before {BEGIN} old {END} after"
    assert put_into(readme, made) == f"before {BEGIN}\n{made}\n{END} after"
    assert put_into(put_into(readme, made), made) == put_into(readme, made)
    with pytest.raises(ValueError, match="no place"):
        put_into("no markers", made)


def test_rows_stand_below_their_machine(tmp_path: Path) -> None:
    """What was measured on another machine has a table of its own, which names it."""
    for topic in ("extraction", "heads", "gpu"):
        write(tmp_path, topic, [Row(f"of {topic}", "a / b", 1.0)])
    file = tmp_path / "gpu.json"
    content = json.loads(file.read_text())
    content["machine"] = {"cpu": "a CPU", "cores": 16, "device": "a card", "torch": "2"}
    file.write_text(json.dumps(content))
    here, there = table(tmp_path, TOPICS).split("a CPU, 16 cores, a card, torch 2:")
    assert "of extraction" in here
    assert "of heads" in here
    assert "of gpu" in there
    assert there.count("| what |") == here.count("| what |") == 1


@pytest.mark.skipif(not list(RESULTS.glob("*.json")), reason="nothing has been measured here")
def test_the_page_shows_what_was_measured() -> None:
    """`python -m bench --table` would change nothing."""
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert put_into(page, table(RESULTS, TOPICS)) == page

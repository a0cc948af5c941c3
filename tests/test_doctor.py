"""`diary doctor` on a small project of real videos: what it finds whole, missing and wrong."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from ruamel.yaml import YAML

from features.backbone import best_device, choose_precision, load_backbone
from features.preprocess import Preprocessing
from pipeline.checkup import machine, project, timing
from pipeline.checkup.findings import Finding, checked, duration
from pipeline.checkup.timing import Rates, embedding_error, estimates, made_up_clip
from pipeline.cli.doctor import doctor
from pipeline.layout import Layout
from pipeline.params import ParamsError, load
from tests.videos import evenly, write_video

REPOSITORY = Path(__file__).parents[1]
BACKBONE = REPOSITORY / "pipeline" / "demo" / "backbone"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project of three labelled videos, with the demo's backbone, in a DVC repository that has run nothing."""
    root = tmp_path / "project"
    for name in ("params", "labels", "pipeline"):
        (root / name).mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPOSITORY / name, root / name)
    values = YAML(typ="safe").load(REPOSITORY / "params" / "demo.yaml")
    videos = tmp_path / "videos"
    values["fetch"] = {
        "source": "folder",
        "dataset_dir": str(videos),
        "backbone_dir": str(BACKBONE),
        "recordings_dir": None,
        "corrections": None,
    }
    values["extract"]["precision"] = "auto"  # on a CPU that multiplies bf16, what that costs is measured
    YAML(typ="safe").dump(values, root / "params" / "demo.yaml")
    videos.mkdir()
    rows = ["file_name,start_s,end_s,label,subject,split"]
    for split in ("train", "val", "test"):
        write_video(videos / f"{split}.mp4", evenly(36, 12), size=(64, 48))
        rows.append(f"{split}.mp4,0.5,2.0,waving,{split},{split}")
    (videos / "metadata.csv").write_text("\n".join(rows) + "\n")
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").touch()
    return root


def run(root: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(doctor, ["--project", str(root), *options])
    assert isinstance(done.exception, SystemExit | None), done.exception
    return done.exit_code, done.output


def files(root: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and ".dvc" not in path.parts and ".git" not in path.parts:
            yield path.relative_to(root).as_posix(), path.stat().st_mtime_ns


@pytest.mark.slow
def test_a_whole_project_is_ok_and_timed(root: Path) -> None:
    """Exit status 0; windows are timed and multiplied; stages that have not run are a warning; no file changes."""
    before = list(files(root))
    status, output = run(root)
    assert status == 0, output
    assert "3 of 3 annotated videos" in output
    assert "warning DVC: " in output
    assert "`dvc repro` runs them" in output
    for begin in ("ok      Python: 3.", "ok      torch: 2.", "ok      decoder: pyav: libavcodec", "ok      memory: "):
        assert begin in output
    assert "ok      decoding: " in output
    assert "an hour of video: about " in output
    assert "`dvc repro` from nothing: about " in output
    assert "9 windows embedded" in output
    is_bf16 = choose_precision("auto", best_device()) == "bf16" and best_device().type == "cpu"
    assert ("precision on this CPU: bf16 takes " in output) == is_bf16
    assert "failed" not in output
    assert list(files(root)) == before


def test_what_is_missing_fails_with_what_to_do(root: Path, tmp_path: Path) -> None:
    """A missing video, a missing backbone, no DVC: exit status 1, each in a line of its own, and no traceback."""
    (tmp_path / "videos" / "val.mp4").write_bytes(b"")
    values = YAML(typ="safe").load(root / "params" / "demo.yaml")
    values["fetch"]["backbone_dir"] = str(tmp_path / "nowhere")
    YAML(typ="safe").dump(values, root / "params" / "demo.yaml")
    shutil.rmtree(root / ".dvc")
    status, output = run(root, "--no-timing")
    assert status == 1
    assert "failed  checkpoint: " in output
    assert "set fetch.backbone_dir in params/demo.yaml" in output
    assert "failed  DVC: the project is no DVC repository" in output
    assert "failed  data set: " in output
    assert "val.mp4" in output, output


def test_a_project_that_is_none_says_so(tmp_path: Path) -> None:
    """A folder without params.yaml is one sentence, with exit status 1."""
    status, output = run(tmp_path)
    assert status == 1
    assert output.startswith("Error: ")
    assert len(output.strip().splitlines()) == 1


def test_too_little_room_fails_before_the_disk_is_full(tmp_path: Path) -> None:
    """Bytes for folders of one disk add up; memory that no closing of programs gives fails."""
    free = shutil.disk_usage(tmp_path).free
    both = [("the cache", tmp_path / "a", 0.6 * free), ("the project", tmp_path / "b", 0.6 * free)]
    assert [finding.state for finding in machine.disk(both)] == ["ok", "failed"]
    assert [finding.state for finding in machine.memory(1e18, "all of it")] == ["failed"]
    assert [finding.state for finding in machine.memory(1, "a byte")] == ["ok"]


def test_room_is_asked_for_what_is_there(root: Path) -> None:
    """Stage 2's block inputs are those of the windows that there are, up to what the params allow."""
    params, paths = load(root, "demo"), Layout("demo", root=root)
    found = project.sizes(params, paths)
    assert found is not None
    assert found.num_windows == {"train": 3, "val": 3, "test": 3}
    shape = load_backbone(BACKBONE, dtype=torch.float32).block_input_shape(params.windows.num_frames)
    assert found.block_inputs_bytes(1e12) == 6 * shape[0] * shape[1] * 2
    assert found.block_inputs_bytes(1000) == 1000


def test_a_check_that_breaks_is_a_finding() -> None:
    """Our own errors say what to do; others are told with their type, and what was found before is kept."""

    def ours() -> Iterator[Finding]:
        yield Finding("before", "ok", "fine")
        raise ParamsError("set this to that")

    def another() -> Iterator[Finding]:
        raise OSError(5, "Input/output error", "/dev/x")
        yield

    assert [str(finding) for finding in checked("x", ours)] == ["ok      before: fine", "failed  x: set this to that"]
    (broken,) = checked("x", another)
    assert broken.state == "failed"
    assert "OSError: [Errno 5] Input/output error: '/dev/x'" in broken.found
    assert broken.remedy


@pytest.mark.slow
def test_the_error_of_a_precision_is_measured() -> None:
    """The clip is always the same; fp32 has no error against itself, bf16 a small one, other weights a large one."""
    assert torch.equal(made_up_clip(8, 64), made_up_clip(8, 64))
    preprocessing = Preprocessing.from_checkpoint(BACKBONE)
    plain, half, other = (load_backbone(BACKBONE, dtype=d) for d in (torch.float32, torch.bfloat16, torch.float32))
    frames = made_up_clip(8, preprocessing.crop_size)
    assert embedding_error(plain, plain, preprocessing, frames) < 1e-12
    assert 1e-12 < embedding_error(half, plain, preprocessing, frames) < timing.MAX_ERROR
    with torch.no_grad():
        for parameter in other.last.parameters():
            parameter.mul_(3)
    assert embedding_error(other, plain, preprocessing, frames) > timing.MAX_ERROR


def test_estimates_follow_from_the_rates() -> None:
    """An hour is its windows' time, three views take three times as long; on a GPU decoding goes on beside."""
    from dataclasses import replace

    params = load(REPOSITORY, "charades")
    rates = Rates(encode_s=1.0, tail_s=0.1, decode_s=0.8, is_cpu=False)
    assert rates.window_s(num_workers=4) == 1.0
    assert replace(rates, decode_s=8.0).window_s(num_workers=4) == 2.0
    assert estimates(params, rates, {}, temporal_on_finetuned=False) == [
        "an hour of video: about 60 min; less where nothing moves"
    ]
    windows = {"train": 3600, "val": 1800, "test": 1800}
    _, repro = estimates(params, rates, windows, temporal_on_finetuned=False)
    # 7,200 windows; 4,000 steps of 1.2 s and 300 windows of 1 s; val and test again.
    assert repro.startswith("`dvc repro` from nothing: about 4 h 25 min (7,200 windows embedded 2 h 0 min, ")
    assert [duration(s) for s in (0.2, 80, 600, 12_000, 400_000)] == ["1 s", "80 s", "10 min", "3 h 20 min", "5 days"]

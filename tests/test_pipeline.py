"""The pipeline as people run it: `dvc repro` of a small demo in a clone of its own, and the command `diary`."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from features.decode.grid import frames_on_grid
from features.store.embeddings import read_embeddings
from pipeline import params
from pipeline.layout import Layout
from tests.offline import without_network
from tests.videos import evenly, write_video

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
VIDEO = "from my phone.mov"
SMALL = {
    "num_train_videos": 22,
    "num_test_videos": 8,
    "num_train_subjects": 5,
    "num_test_subjects": 3,
    "mean_length_s": 6,
    "recording_s": 12,
    "steps": 12,
    "evaluate_every_steps": 6,
    "shuffle_windows": 32,
    "evaluate_windows": 40,
    "num_workers": 1,
    "embeddings": "[frozen]",
}


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"}


def run(folder: Path, *command: str, fails: bool = False, **variables: str) -> str:
    """A command in the folder, without network, with what it printed; its exit status is as expected."""
    done = subprocess.run(
        [*without_network(), *command],
        cwd=folder,
        env=environment() | variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def edit(clone: Path, **values: object) -> None:
    """Set keys of the demo's params in any section."""
    file = clone / "params" / "demo.yaml"
    text = file.read_text(encoding="utf-8")
    for key, value in values.items():
        text, times = re.subn(rf"^( +{key}: )[^#\n]*", rf"\g<1>{value}  ", text, flags=re.MULTILINE)
        assert times, key
    file.write_text(text, encoding="utf-8")


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)@", output)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the repository's current files with a small demo of one label set, after `dvc repro`."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        text=True,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        source = REPOSITORY / name
        if source.is_file() and not name.startswith("results/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    edit(folder, **SMALL)
    text = (folder / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(text.replace("[diary, handpicked]", "[handpicked]"), encoding="utf-8")
    output = run(folder, "dvc", "repro")
    assert stages_run(output) == list(YAML(typ="safe").load(folder / "dvc.yaml")["stages"])
    return folder


def test_a_second_run_has_nothing_to_do(clone: Path) -> None:
    """Every stage names all that it reads and writes."""
    assert stages_run(run(clone, "dvc", "repro")) == ["sources"]  # it looks into the user's folders every time


def test_all_that_is_promised_is_there(clone: Path) -> None:
    """Metrics with their keys, a page, and what there is of each recording; the broken video is a row."""
    results = clone / "results" / "demo" / "handpicked"
    keys = {
        "micro_f1",
        "micro_f1_at_half",
        "micro_f1_prior",
        "macro_f1",
        "map",
        "threshold",
        "n_windows",
        "n_videos",
        "n_labels",
        "n_labels_without_positives",
    }
    scores = json.loads((results / "scores.json").read_text())
    assert scores["models"].keys() == scores["intervals"].keys() == {"linear", "temporal", "finetune"}
    for model, metrics in scores["models"].items():
        assert json.loads((results / f"{model}.json").read_text())["map"] == metrics["map"]
        assert keys <= metrics.keys()
        assert keys <= metrics["video"].keys()
        assert metrics["n_videos"] == 8
        assert 0 <= metrics["micro_f1"] <= 1
    assert "<html" in (results / "report.html").read_text()
    for recording in ("morning", "evening"):
        names = {file.name for file in (results / "diary" / recording).iterdir()}
        assert names == {"events.jsonl", "recording.json", "thumbnails"}
    assert {"index.html", "2026-03-14.html", "2026-03-14.md"} <= {file.name for file in (results / "diary").iterdir()}
    with (clone / "data" / "demo" / "failed.csv").open(newline="") as file:
        failed = list(csv.DictReader(file))
    assert len(failed) == 1
    embeddings, made_by = read_embeddings(clone / "data" / "demo" / "embeddings.zarr")
    assert failed[0]["video_id"] not in set(embeddings.video_ids.tolist())
    assert made_by["windows"]["num_frames"] == 8
    assert "micro_f1" in run(clone, "dvc", "metrics", "show")


def test_too_many_failures_stop_the_stage_with_their_list(clone: Path, tmp_path: Path) -> None:
    """Beyond `max_failed_share` the stage fails, names what failed and why, and leaves the whole list."""
    project = Layout("demo", root=tmp_path)
    shutil.copy(clone / "params.yaml", tmp_path)
    shutil.copytree(clone / "params", tmp_path / "params")
    edit(tmp_path, max_failed_share=0.0)
    project.dataset.parent.mkdir(parents=True)
    finished = Layout("demo", root=clone)
    for name in ("dataset", "manifest", "backbone"):
        getattr(project, name).symlink_to(getattr(finished, name))
    path = f"{clone}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    output = run(tmp_path, sys.executable, "-m", "pipeline.stages.extract", "demo", fails=True, PYTHONPATH=path)
    assert "1 of 30 videos failed, more than max_failed_share = 0 allows" in output
    assert "index is missing or damaged" in output
    assert "Traceback" not in output
    assert project.failed.read_text() == finished.failed.read_text()
    assert not project.embeddings.exists()


def test_nothing_that_is_saved_needs_pickle(clone: Path) -> None:
    """Weights are safetensors and predictions plain arrays, so that no file can run code."""
    endings = {file.suffix for file in (clone / "data").rglob("*") if file.is_file()}
    assert not endings & {".pt", ".pth", ".pkl", ".bin", ".ckpt"}
    assert ".safetensors" in endings


@pytest.fixture(scope="module")
def written(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a video, portrait, MPEG-4 in a MOV at 30 frames a second, and its `diaries` by the command."""
    folder = tmp_path_factory.mktemp("written")
    video = write_video(folder / VIDEO, evenly(75, 30), codec="mpeg4", rate=30, size=(180, 320))
    run(clone, *write_command(video), "-o", str(folder / "diaries"), "--labels", "handpicked")
    return folder


def write_command(video: Path) -> list[str]:
    start = "2026-05-01T12:00:00+02:00"
    return [sys.executable, "-m", "pipeline.cli", "write", str(video), "--recorded-at", start]


def test_the_command_writes_a_diary_of_any_video(written: Path) -> None:
    """Events and the page of the day that was given."""
    out = written / "diaries"
    recording = out / "from my phone"
    assert {file.name for file in recording.iterdir()} == {"events.jsonl", "recording.json", "thumbnails"}
    for name in ("2026-05-01.md", "2026-05-01.html"):
        assert "Friday, 1 May 2026" in (out / name).read_text(encoding="utf-8")
    for line in (recording / "events.jsonl").read_text(encoding="utf-8").splitlines():
        assert json.loads(line)["start_clock"].startswith("2026-05-01T12:00:0")


def test_what_is_no_video_is_said_in_one_line(clone: Path, tmp_path: Path) -> None:
    """A text file named .mp4 costs a sentence and exit status 1; the video beside it is written all the same."""
    (tmp_path / "notes.mp4").write_text("bread, milk")
    write_video(tmp_path / "good.mp4", evenly(24, 12), codec="libx264")
    command = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "write",
        "--labels",
        "handpicked",
        "-o",
        str(tmp_path / "out"),
    ]
    output = run(clone, *command, str(tmp_path / "notes.mp4"), fails=True)
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if "Error" in line]
    assert "notes.mp4" in line
    run(clone, *command, str(tmp_path / "notes.mp4"), str(tmp_path / "good.mp4"), fails=True)
    assert (tmp_path / "out" / "good" / "events.jsonl").is_file()


def test_a_model_folder_needs_no_project(clone: Path, written: Path, tmp_path: Path) -> None:
    """Moved elsewhere, the exported folder alone writes the same diary, with no params, no DVC and no repository."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    command = write_command(tmp_path / VIDEO)
    shutil.copytree(Layout("demo", "handpicked", clone).diary_model, tmp_path / "model")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(elsewhere, *command, "-o", str(tmp_path / "other"), "--model", str(tmp_path / "model"), PYTHONPATH=str(clone))
    for name in ("from my phone/events.jsonl", "2026-05-01.md", "2026-05-01.html"):
        assert (tmp_path / "other" / name).read_bytes() == (tmp_path / "diaries" / name).read_bytes()
    (tmp_path / "model" / "diary.json").unlink()
    output = run(elsewhere, *command, "-o", "x", "--model", str(tmp_path / "model"), fails=True, PYTHONPATH=str(clone))
    assert "is no model folder: it has no diary.json" in output
    assert "Traceback" not in output


def test_the_wheel_alone_writes_a_diary(clone: Path, tmp_path: Path) -> None:
    """Installed from a wheel into an environment of its own, the command needs a model folder and no repository."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(clone, *pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path / "wheels"), str(clone))
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    run(tmp_path, *pip, "install", "--quiet", "--no-deps", "--target", str(site), str(wheel))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # installed already, but for the project
    shutil.copytree(Layout("demo", "handpicked", clone).diary_model, tmp_path / "model")
    write_video(tmp_path / "kitchen.mp4", evenly(40, 12))
    code = "import features; from pipeline.cli.__main__ import main; print(features.__file__); main()"
    command = [str(tmp_path / "venv" / "bin" / "python"), "-c", code, "write", "kitchen.mp4", "-o", "out"]
    output = run(tmp_path, *command, "--model", "model", PYTHONPATH="")
    assert str(site) in output
    assert {path.name for path in (tmp_path / "out" / "kitchen").iterdir()} == {
        *("events.jsonl", "recording.json", "thumbnails")
    }


def test_models_that_are_not_trained_are_asked_for(clone: Path, tmp_path: Path) -> None:
    """Another label set or profile: a sentence that says what is missing and what makes it."""
    command = [sys.executable, "-m", "pipeline.cli", "write", "x.mp4", "-o", str(tmp_path)]
    assert "run `dvc repro`" in run(clone, *command, "--labels", "diary", fails=True)
    assert "there is no params/holidays.yaml" in run(clone, *command, "--profile", "holidays", fails=True)


def test_charades_without_its_folder_says_which_and_where(clone: Path) -> None:
    """One parameter switches to Charades, and a missing folder is named with its key."""
    project, profile = clone / "params.yaml", clone / "params" / "charades.yaml"
    kept = {file: file.read_text(encoding="utf-8") for file in (project, profile)}
    try:
        project.write_text(kept[project].replace("profile: demo", "profile: charades"), encoding="utf-8")
        profile.write_text(kept[profile].replace("~/Charades", "/nowhere/Charades"), encoding="utf-8")
        output = run(clone, "dvc", "repro", fails=True)
    finally:
        for file, text in kept.items():
            file.write_text(text, encoding="utf-8")
    assert "there is no folder /nowhere/Charades: set fetch.dataset_dir in params/charades.yaml" in output
    assert "Traceback" not in output
    assert stages_run(run(clone, "dvc", "repro")) == ["sources"]


def test_a_folder_is_linked_and_not_copied(clone: Path, tmp_path: Path) -> None:
    """A user's data set is linked, not copied, in the same layout."""
    finished, linked = Layout("demo", root=clone), Layout("charades", root=tmp_path)
    for name in ("params", "labels"):
        shutil.copytree(clone / name, tmp_path / name)
    shutil.copy(clone / "params.yaml", tmp_path)
    file = tmp_path / "params" / "charades.yaml"
    text = file.read_text(encoding="utf-8").replace("~/Charades", str(finished.dataset))
    file.write_text(text.replace("~/vjepa2-vitl-fpc16-256-ssv2", str(finished.backbone)), encoding="utf-8")
    assert params.load(tmp_path, "charades").fetch.source == "folder"
    for stage in ("sources", "fetch"):
        run(tmp_path, sys.executable, "-m", f"pipeline.stages.{stage}", "charades", PYTHONPATH=str(clone))
    videos = sorted((finished.dataset / "Charades_v1_480").iterdir())
    assert videos
    for video in videos:
        assert (linked.dataset / "Charades_v1_480" / video.name).samefile(video)
    assert [path.name for path in linked.recordings.iterdir()] == [".fetched"]


# The last two change the clone.
def test_a_head_parameter_runs_train_and_what_follows_alone(clone: Path) -> None:
    """Embeddings are made once: editing the head's learning rate extracts nothing again, as DVC says beforehand."""
    edit(clone, learning_rate=0.002)
    ran = stages_run(run(clone, "dvc", "repro", "--dry"))
    assert ran[:2] == ["sources", "train"]
    assert "extract" not in ran


def pieces(clone: Path) -> set[Path]:
    """The finished videos in the cache, of any recipe."""
    return set(Layout("demo", root=clone).cache.glob("*/*.safetensors"))


def begun(clone: Path, *command: str, until: int) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """A command that has begun, and its stage `extract`, which has finished `until` more videos than there were."""
    before = pieces(clone)
    started = subprocess.Popen(
        command, cwd=clone, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while len(pieces(clone) - before) < until:
        assert started.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    below = psutil.Process(started.pid).children(recursive=True)
    (stage,) = [process for process in below if process.cmdline()[1:3] == ["-m", "pipeline.stages.extract"]]
    return started, stage


def embedded_and_reused(output: str) -> tuple[int, int]:
    counts = re.search(r"embedded (\d+) videos, (\d+) were in the cache", output)
    assert counts, output
    return int(counts[1]), int(counts[2])


def test_kills_at_any_level_cost_no_finished_video(clone: Path) -> None:
    """`kill -9` of a worker, of dvc, of the stage; then `dvc repro` or `dvc exp run`: nothing finished is done again.

    What comes out in the end is byte for byte what one unbroken run writes.
    """
    (clone / ".gitignore").open("a").write("/results/\n")
    for command in (["add", "-A"], ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "small demo"]):
        subprocess.run(["git", *command], cwd=clone, check=True, capture_output=True)
    edit(clone, stride_s=0.5)
    extract = ("dvc", "repro", "--single-item", "extract@demo")

    before = len(pieces(clone))
    started, stage = begun(clone, *extract, until=3)
    (server,) = [process for process in stage.children() if "forkserver" in " ".join(process.cmdline())]
    server.children()[0].kill()  # a worker: another one takes its place
    while stage.is_running() and len(pieces(clone)) < before + 8:
        time.sleep(0.02)
    started.kill()  # dvc alone: the stage goes on, and the next one waits for it
    started.wait()
    finished = len(pieces(clone)) - before
    num_embedded, num_reused = embedded_and_reused(run(clone, *extract))
    assert num_reused >= finished
    assert num_embedded + num_reused == 29

    edit(clone, stride_s=1.25)
    before = len(pieces(clone))
    started, stage = begun(clone, *extract, until=5)
    stage.kill()
    assert started.wait() != 0
    finished = len(pieces(clone)) - before
    assert 5 <= finished < 29
    output = run(clone, "dvc", "exp", "run", "--single-item", "extract@demo")
    num_embedded, num_reused = embedded_and_reused(output)
    assert (num_embedded, num_reused) == (29 - finished, finished)

    after_kills = {path: path.read_bytes() for path in (clone / "data" / "demo").glob("*.zarr/**/*") if path.is_file()}
    shutil.rmtree(Layout("demo", root=clone).cache)
    assert embedded_and_reused(run(clone, *extract, "--force")) == (29, 0)
    assert after_kills == {
        path: path.read_bytes() for path in (clone / "data" / "demo").glob("*.zarr/**/*") if path.is_file()
    }


def test_models_of_the_project_are_compared_on_one_video(clone: Path, tmp_path: Path) -> None:
    """Side by side, with all frames; one that was never trained is named."""
    video = write_video(tmp_path / "a.mp4", evenly(24, 12))
    command = [sys.executable, "-m", "pipeline.cli", "overlay", str(video), "-o", str(tmp_path / "out.mp4")]
    assert "no model 'other' in this project" in run(clone, *command, "--compare", "linear,other", fails=True)
    run(clone, *command, "--compare", "linear,finetune")
    written = list(frames_on_grid(tmp_path / "out.mp4", sample_fps=12, decoder="pyav"))
    assert [frame.image.shape for frame in written] == [(120, 320, 3)] * 24

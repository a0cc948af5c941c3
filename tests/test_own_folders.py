"""The user's own folders: linked, watched, and never written to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import params
from pipeline.layout import Layout, models_of
from pipeline.params import ParamsError
from pipeline.stages.fetch import ForeignFiles, link_files, refuse_foreign_files
from tests.test_pipeline import run, stages_run

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Layout:
    """A project whose profile `charades` reads from three folders of somebody's, beside it."""
    root, mine = tmp_path / "project", tmp_path / "mine"
    shutil.copytree(REPOSITORY / "params", root / "params")
    shutil.copytree(REPOSITORY / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    shutil.copy(REPOSITORY / "dvc.yaml", root)
    for name in ("features", "pipeline", "labels"):
        (root / name).symlink_to(REPOSITORY / name)
    text = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(text.replace("profile: demo", "profile: charades"), encoding="utf-8")
    for name in ("dataset", "backbone", "recordings"):
        (mine / name).mkdir(parents=True)
        name_folder(root, name, mine / name)
    (mine / "backbone" / "config.json").write_text("{}")
    (mine / "recordings" / "monday.mp4").write_bytes(b"film")
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    return Layout("charades", root=root)


def name_folder(root: Path, name: str, folder: Path) -> None:
    file = root / "params" / "charades.yaml"
    yaml = YAML()
    values = yaml.load(file)
    values["fetch"][f"{name}_dir"] = str(folder)
    yaml.dump(values, file)


def run_stage(project: Layout, name: str, *, fails: bool = False) -> str:
    command = [sys.executable, "-m", f"pipeline.stages.{name}", project.profile]
    return run(project.root, *command, fails=fails, PYTHONPATH=str(REPOSITORY))


@pytest.mark.parametrize(
    "place",
    [
        "data/charades/fetched/dataset",
        "data/charades",
        "data/demo/recordings",
        "results/charades/films",
        "data",
        "",
        "../project/data/charades/models",
        "linked",
    ],
)
@pytest.mark.parametrize("name", ["dataset", "recordings"])
def test_no_folder_of_the_users_overlaps_with_outputs(project: Layout, name: str, place: str) -> None:
    """Equal, inside, around, through a link: refused before any stage runs, and nothing is lost."""
    (project.root / "linked").symlink_to(project.root / "data" / "charades")
    folder = project.root / place
    folder.mkdir(parents=True, exist_ok=True) if place != "linked" else (project.root / "data/charades").mkdir(
        parents=True
    )
    (folder / "film.mp4").write_bytes(b"mine")
    name_folder(project.root, name, folder)
    with pytest.raises(ParamsError, match=rf"fetch\.{name}_dir: .* overlaps with .*; name a folder apart"):
        params.load(project.root, "charades")
    assert (folder / "film.mp4").read_bytes() == b"mine"


def test_a_folder_beside_the_outputs_is_taken(project: Layout) -> None:
    """data/ itself is no output: a data set may be kept in it, under a name that is no profile's."""
    folder = project.root / "data" / "Charades_v1_480"
    folder.mkdir(parents=True)
    name_folder(project.root, "dataset", folder)
    assert params.load(project.root, "charades").fetch.source == "folder"


def test_dvc_deletes_nothing_of_the_users(project: Layout) -> None:
    """`dvc repro` with a folder that is an output stops at the first stage; all files are still there."""
    mine = project.dataset
    mine.mkdir(parents=True)
    (mine / "film.mp4").write_bytes(b"mine")
    name_folder(project.root, "dataset", mine)
    output = run(project.root, "dvc", "repro", fails=True, PYTHONPATH=str(REPOSITORY))
    assert "overlaps with" in output
    assert "Traceback" not in output
    assert (mine / "film.mp4").read_bytes() == b"mine"


def test_a_file_that_fetch_did_not_put_there_stops_it(project: Layout) -> None:
    """A video in an output's folder is the user's: `fetch` says where it goes, and deletes nothing."""
    run_stage(project, "sources")
    run_stage(project, "fetch")
    (project.recordings / "holiday.mp4").write_bytes(b"mine")
    output = run_stage(project, "fetch", fails=True)
    assert "holiday.mp4" in output
    assert "fetch.recordings_dir" in output
    assert "Traceback" not in output
    assert (project.recordings / "holiday.mp4").read_bytes() == b"mine"


def test_a_file_that_was_replaced_is_the_users(tmp_path: Path) -> None:
    """A file of the same name and another size, or in the place of a link, is not what `fetch` put there."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.mp4").write_bytes(b"film")
    link_files(tmp_path / "source", [Path("a.mp4")], tmp_path / "out")
    refuse_foreign_files(tmp_path / "out")
    (tmp_path / "out" / "a.mp4").unlink()
    (tmp_path / "out" / "a.mp4").write_bytes(b"another film")
    with pytest.raises(ForeignFiles, match=r"a\.mp4"):
        refuse_foreign_files(tmp_path / "out")


@pytest.mark.slow
def test_what_comes_changes_or_goes_in_the_users_folder_is_seen(project: Layout) -> None:
    """`dvc repro` links a new recording, and one that the user deletes is gone everywhere."""
    mine = project.root.parent / "mine" / "recordings"

    def repro() -> list[str]:
        return stages_run(run(project.root, "dvc", "repro", "fetch@charades", PYTHONPATH=str(REPOSITORY)))

    def linked() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in project.recordings.glob("*.mp4")}

    assert repro() == ["sources", "fetch"]
    assert linked() == {"monday.mp4": b"film"}
    assert repro() == ["sources"]
    (mine / "tuesday.mp4").write_bytes(b"another")
    assert repro() == ["sources", "fetch"]
    assert linked() == {"monday.mp4": b"film", "tuesday.mp4": b"another"}
    (mine / "tuesday.mp4").write_bytes(b"longer than before")
    assert repro() == ["sources", "fetch"]
    assert linked()["tuesday.mp4"] == b"longer than before"
    (mine / "monday.mp4").unlink()
    assert not (project.recordings / "monday.mp4").exists()  # at once: it was a link
    assert repro() == ["sources", "fetch"]
    assert set(linked()) == {"tuesday.mp4"}
    mine.rename(mine.with_name("moved"))
    output = run(project.root, "dvc", "repro", "fetch@charades", fails=True, PYTHONPATH=str(REPOSITORY))
    assert f"there is no folder {mine}" in output


def test_linked_folders_are_followed_and_circles_end(project: Layout) -> None:
    """Videos on another disk behind a link are found; a link to a folder above is not walked again."""
    mine = project.root.parent / "mine"
    (mine.parent / "disk").mkdir()
    (mine.parent / "disk" / "AB12C.mp4").write_bytes(b"film")
    (mine / "dataset" / "Charades_v1_480").symlink_to(mine.parent / "disk")
    (mine / "dataset" / "circle").symlink_to(mine / "dataset")
    run_stage(project, "sources")
    run_stage(project, "fetch")
    assert (project.dataset / "Charades_v1_480" / "AB12C.mp4").read_bytes() == b"film"
    assert not (project.dataset / "circle").exists()


@pytest.mark.parametrize("name", ["data", "results"])
def test_outputs_on_another_disk_are_refused_first(project: Layout, name: str) -> None:
    """DVC takes no outputs outside the project, and says so only after each stage has run: it is said before."""
    elsewhere = project.root.parent / "elsewhere"
    elsewhere.mkdir()
    (project.root / name).symlink_to(elsewhere)
    output = run_stage(project, "sources", fails=True)
    assert f"{name} is a link to {elsewhere}" in output
    assert "mount --bind" in output
    assert "dvc cache dir" in output


def test_the_cache_lies_outside_the_project(project: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment's temporary workspace finds the same cache; the environment names another place."""
    assert project.cache == Layout("demo", root=project.root / "elsewhere").cache
    monkeypatch.delenv("VIDEO_DIARY_CACHE")
    assert project.cache.is_absolute()
    assert not project.cache.is_relative_to(project.root)
    monkeypatch.setenv("VIDEO_DIARY_CACHE", "~/videos/cache")
    assert project.cache == Path("~/videos/cache").expanduser()


def test_a_persons_diaries_never_land_in_git(tmp_path: Path) -> None:
    """Git ignores all diaries but one day of the demo's, so that an experiment cannot commit them."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    shutil.copy(REPOSITORY / ".gitignore", tmp_path)

    def is_ignored(profile: str, name: str = "monday/recording.json") -> bool:
        page = Layout(profile, "diary").diaries / name
        return subprocess.run(["git", "check-ignore", "--quiet", page], cwd=tmp_path, check=False).returncode == 0

    assert is_ignored("charades")
    assert is_ignored("home")
    assert is_ignored("demo")
    for name in ("index.html", "manifest.json", "2026-03-15.html", "noon/thumbnails/000000100.jpg"):
        assert is_ignored("demo", name)
    for name in ("2026-03-14.html", "2026-03-14.md", "morning/recording.json", "evening/thumbnails/000000100.jpg"):
        assert not is_ignored("demo", name)
        assert is_ignored("home", name)


def test_annotations_are_not_pushed() -> None:
    """The manifest, the predictions and what people judged carry annotations: `dvc push` leaves them here."""
    stages = YAML(typ="safe").load(REPOSITORY / "dvc.yaml")["stages"].values()
    outs = [out if isinstance(out, dict) else {out: {}} for stage in stages for out in stage["outs"]]
    pushed = {
        Path(name).name
        for out in outs
        for name, options in out.items()
        if options.get("cache", True) and options.get("push", True)
    }
    models = {*models_of(["frozen", "finetuned"]), "attentive", "diary", "typicality.safetensors"}
    assert pushed == {"embeddings.zarr", "block_inputs.zarr", "failed.csv", *models}

"""The params files are checked as a whole, before any work."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline import params
from pipeline.params import ParamsError

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def values() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(REPOSITORY / "params" / "demo.yaml")
    return loaded


def load(values: dict[str, Any], tmp_path: Path) -> params.Params:
    path = tmp_path / "params" / "demo.yaml"
    path.parent.mkdir(exist_ok=True)
    YAML(typ="safe").dump(values, path)
    return params.load(tmp_path, "demo")


def refusal(values: dict[str, Any], tmp_path: Path) -> list[str]:
    with pytest.raises(ParamsError) as caught:
        load(values, tmp_path)
    return [line.removeprefix(f"{tmp_path}/params/demo.yaml: ") for line in str(caught.value).splitlines()]


def test_the_committed_files_are_valid() -> None:
    """All profiles load, and params.yaml names one of them."""
    project = params.load_project(REPOSITORY)
    assert (project.profile, project.label_sets) == ("demo", ("diary", "handpicked"))
    assert params.load(REPOSITORY, "demo").fetch.source == "rendered"
    assert params.load(REPOSITORY, "charades").fetch.source == "folder"
    assert params.load(REPOSITORY, "folder").fetch.source == "folder"


def test_charades_keeps_the_prototypes_values() -> None:
    """Where the prototype had a value, the charades file has the same one."""
    charades = params.load(REPOSITORY, "charades")
    assert charades.windows.window_s == 2.0
    assert charades.train.features == ("pooler",)
    for schedule in (charades.train, charades.finetune):
        assert (schedule.steps, schedule.batch_size, schedule.accumulation) == (4000, 1, 16)
    assert charades.train.learning_rate == (charades.finetune.head_learning_rate,) == (1e-4,)
    assert charades.train.weight_decay == (charades.finetune.weight_decay,) == (0.0,)
    assert charades.train.loss == ("bce",)
    assert charades.finetune.backbone_learning_rate == 1e-5
    assert (charades.sweep.low, charades.sweep.high, charades.sweep.step) == (0.05, 0.95, 0.05)


def test_an_unknown_key_is_named_with_what_is_allowed(values: dict[str, Any], tmp_path: Path) -> None:
    """A misspelt key fails with its path, the nearest key and all that are allowed there."""
    values["sweep"]["steps"] = values["sweep"].pop("step")
    assert refusal(values, tmp_path) == [
        "sweep.step: missing",
        "sweep.steps: unknown key; did you mean step? allowed here: low, high, step, half_way_positives",
    ]


def test_all_faults_are_told_at_once(values: dict[str, Any], tmp_path: Path) -> None:
    """One line for each fault, in the order of the sections."""
    del values["train"]["weight_decay"]
    values["train"]["learning_rate"] = "fast"
    values["extract"]["decoder"] = "opencv"
    assert refusal(values, tmp_path) == [
        "extract.decoder: should be 'auto', 'pyav' or 'decord', got 'opencv'",
        "train.learning_rate: should be a valid number, got 'fast'",
        "train.weight_decay: missing",
    ]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("train.steps", 1.5, "train.steps: should be a valid integer, got 1.5"),
        ("train.steps", "1500", "train.steps: should be a valid integer, got '1500'"),
        ("train.steps", True, "train.steps: should be a valid integer, got True"),
        ("train.learning_rate", 0, "train.learning_rate: should be greater than 0, got 0"),
        ("train.learning_rate", float("nan"), "train.learning_rate: should be a finite number, got nan"),
        ("train.learning_rate", [], "train.learning_rate: "),
        ("train.learning_rate", [1e-3, -1e-3], "train.learning_rate.1: should be greater than 0, got -0.001"),
        ("train.learning_rate", [1e-3, 1e-3], "train: learning_rate names 0.001 more than once"),
        ("train.weight_decay", [0, 0.0], "train: weight_decay names 0.0 more than once"),
        ("train.weight_decay", [[0.1]], "train.weight_decay.0: should be a valid number, got [0.1]"),
        ("train.weight_decay", -0.1, "train.weight_decay: should be greater than or equal to 0, got -0.1"),
        ("train.weight_decay", "0.1", "train.weight_decay: should be a valid number, got '0.1'"),
        ("train.loss", "focal", "train.loss: should be 'bce', 'asymmetric' or 'class_balanced', got 'focal'"),
        ("train.loss", ["bce", "bce"], "train: loss names bce more than once"),
        ("train.loss", None, "train.loss: should be 'bce', 'asymmetric' or 'class_balanced', got None"),
        ("train.features", [], "train.features: "),
        ("train.features", "mean", "train.features: should be a valid array, got 'mean'"),
        ("train.features", ["mean", "min"], "train.features.1: should be 'pooler', 'mean' or 'max', got 'min'"),
        ("train.features", ["mean", "mean"], "train: features names mean more than once"),
        ("train.warmup_share", 1.0, "train.warmup_share: should be less than 1, got 1.0"),
        ("train.decay", "linear", "train.decay: should be 'cosine' or 'constant', got 'linear'"),
        ("train.precision", "fp8", "train.precision: should be 'fp32', 'bf16' or 'fp16', got 'fp8'"),
        ("train.patience", 0, "train.patience: should be greater than or equal to 1, got 0"),
        ("train.accumulation", 10**9 + 7, "train: steps must be a multiple of accumulation"),
        ("windows.stride_s", 1e-6, "windows: stride_s must be a multiple of 1 / sample_fps"),
        ("finetune.source", "tokens", "finetune.source: should be 'video' or 'block_inputs', got 'tokens'"),
        ("finetune.block_inputs_gb", 0, "finetune.block_inputs_gb: should be greater than 0, got 0"),
        ("finetune.flip", 1, "finetune.flip: should be a valid boolean, got 1"),
        ("finetune.num_workers", 2, "finetune.num_workers: unknown key"),
        ("sweep.low", 0.99, "sweep: low + a whole number of steps must give high"),
        ("sweep.step", 0.07, "sweep: low + a whole number of steps must give high"),
        ("prepare.val_share", 0.6, "prepare.val_share: should be less than or equal to 0.5, got 0.6"),
        ("diary.min_precision", 1.0, "diary.min_precision: should be less than 1, got 1.0"),
        ("diary.per_label", {}, "diary.per_label: unknown key"),
        ("temporal.blocks", 9, "temporal.blocks: should be less than or equal to 8, got 9"),
        ("fetch.num_test_videos", 0, "fetch.num_test_videos: should be greater than or equal to 1, got 0"),
        ("fetch.source", "hub", "fetch.source: got 'hub'; allowed: 'rendered', 'folder'"),
    ],
)
def test_a_value_that_cannot_be_fails(
    values: dict[str, Any], tmp_path: Path, key: str, value: object, told: str
) -> None:
    """A mistyped, impossible or contradicting value fails with its key path and what is allowed."""
    section, name = key.split(".")
    values[section][name] = value
    assert refusal(values, tmp_path)[0].startswith(told)


def test_what_a_head_is_trained_with_may_be_a_list(values: dict[str, Any], tmp_path: Path) -> None:
    """Rate, decay and loss of stage 1 are each one value or several; what is read is always several."""
    values["train"] |= {"learning_rate": 0.01, "weight_decay": [0, 0.1], "loss": ["asymmetric"]}
    train = load(values, tmp_path).train
    assert (train.learning_rate, train.weight_decay, train.loss) == ((0.01,), (0.0, 0.1), ("asymmetric",))


@pytest.mark.parametrize("augmentation", ["random_starts", "flip"])
def test_stored_block_inputs_cannot_be_augmented(values: dict[str, Any], tmp_path: Path, augmentation: str) -> None:
    """What a cache cannot give is refused with the way out; each alone is allowed."""
    values["finetune"][augmentation] = True
    assert load(values, tmp_path).finetune.source == "video"
    values["finetune"]["source"] = "block_inputs"
    assert refusal(values, tmp_path)[0].startswith("finetune: random_starts and flip need source video")
    values["finetune"][augmentation] = False
    assert load(values, tmp_path).finetune.source == "block_inputs"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "profile: demos\nlabel_sets: [diary]\n",
            "profile: there is no params/demos.yaml; there are charades, demo, folder",
        ),
        ("profile: demo\nlabel_sets: []\n", "label_sets: "),
        ("profile: demo\nlabel_sets: [diary, diary]\n", "label_sets names diary more than once"),
        ("profile: demo\nlabel_sets: [../diary]\n", "label_sets.0: "),
        ("profile: demo\nlabel_set: [diary]\n", "label_sets: missing"),
        ("profile: demo\nlabel_sets: [diary]\ndemo: {}\n", "demo: unknown key; allowed here: profile, label_sets"),
    ],
)
def test_the_project_file_is_checked(tmp_path: Path, text: str, told: str) -> None:
    """Profile and label sets exist, are unique and can name files."""
    shutil.copytree(REPOSITORY / "params", tmp_path / "params")
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError) as caught:
        params.load_project(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/params.yaml: {told}")


def test_an_int_serves_as_a_float(values: dict[str, Any], tmp_path: Path) -> None:
    """A whole number may stand where seconds are wanted."""
    values["targets"]["min_overlap_s"] = 1
    assert load(values, tmp_path).targets.min_overlap_s == 1.0


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    """1e-05, which `dvc exp run -S` writes, is a number, although YAML 1.1 takes it for a word."""
    shutil.copytree(REPOSITORY / "params", tmp_path / "params")
    path = tmp_path / "params" / "demo.yaml"
    path.write_text(re.sub(r"backbone_learning_rate: \S+", "backbone_learning_rate: 3e-05", path.read_text()))
    assert params.load(tmp_path, "demo").finetune.backbone_learning_rate == 3e-5


def test_a_key_given_twice_fails(tmp_path: Path) -> None:
    """A second key of the same name is not silently the one that counts."""
    (tmp_path / "params.yaml").write_text("profile: demo\nlabel_sets: [diary]\nprofile: charades\n")
    with pytest.raises(ParamsError, match=r'params.yaml:3: found duplicate key "profile"'):
        params.load_project(tmp_path)


@pytest.mark.parametrize("text", ["", "- demo\n", "profile: [demo\n", "\ttab: 1\n"])
def test_what_is_no_mapping_fails(tmp_path: Path, text: str) -> None:
    """An empty file, a list and broken YAML are told by name, not by a traceback."""
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"params\.yaml"):
        params.load_project(tmp_path)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    """Run elsewhere, a stage says that it wants the repository's top folder."""
    with pytest.raises(ParamsError, match="no such file; run from the repository's top folder"):
        params.load_project(tmp_path)


def test_params_cannot_be_changed(values: dict[str, Any], tmp_path: Path) -> None:
    """What was loaded stays as it was loaded."""
    loaded = load(values, tmp_path)
    with pytest.raises(AttributeError):
        loaded.train.steps = 1  # type: ignore[misc]

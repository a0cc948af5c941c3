"""params.yaml is checked as a whole, before any work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import params
from pipeline.params import ParamsError

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    return loaded


def load(values: dict[str, Any], tmp_path: Path) -> params.Params:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return params.load(path)


def refusal(values: dict[str, Any], tmp_path: Path) -> list[str]:
    with pytest.raises(ParamsError) as caught:
        load(values, tmp_path)
    return [line.removeprefix(f"{tmp_path}/params.yaml: ") for line in str(caught.value).splitlines()]


def test_the_committed_file_is_valid_for_both_profiles(values: dict[str, Any], tmp_path: Path) -> None:
    """The committed params.yaml loads, and switching the profile is one word."""
    demo = load(values | {"profile": "demo"}, tmp_path)
    charades = load(values | {"profile": "charades"}, tmp_path)
    assert demo.active.fetch.source == "rendered"
    assert charades.active.fetch.source == "folder"
    assert charades.label_sets == ("diary", "handpicked")


def test_charades_keeps_the_prototypes_values(values: dict[str, Any], tmp_path: Path) -> None:
    """Where the prototype had a value, the charades section has the same one."""
    active = load(values | {"profile": "charades"}, tmp_path).active
    assert active.windows.plan.window_s == 2.0
    assert active.train.features == ("pooler",)
    for schedule in (active.train, active.finetune):
        assert (schedule.steps, schedule.batch_size, schedule.accumulation) == (4000, 1, 16)
    assert active.train.learning_rate == (active.finetune.head_learning_rate,) == (1e-4,)
    assert active.train.weight_decay == (active.finetune.weight_decay,) == (0.0,)
    assert active.train.loss == ("bce",)
    assert active.finetune.backbone_learning_rate == 1e-5
    assert (active.sweep.low, active.sweep.high, active.sweep.step) == (0.05, 0.95, 0.05)


def test_an_unknown_key_is_named_with_what_is_allowed(values: dict[str, Any], tmp_path: Path) -> None:
    """A misspelt key fails with its path, the nearest key and all that are allowed there."""
    values["demo"]["sweep"]["steps"] = values["demo"]["sweep"].pop("step")
    assert refusal(values, tmp_path) == [
        "demo.sweep.steps: unknown key; did you mean step? allowed here: low, high, step, min_positives"
    ]


def test_the_inactive_profile_is_checked_too(values: dict[str, Any], tmp_path: Path) -> None:
    """A fault in the section that is not in use fails as well, and all faults are told at once."""
    del values["charades"]["train"]["learning_rate"]
    values["demo"]["train"]["learning_rate"] = "fast"
    values["demo"]["extract"]["decoder"] = "opencv"
    assert refusal(values, tmp_path) == [
        "demo.extract.decoder: should be 'auto', 'pyav' or 'decord', got 'opencv'",
        "demo.train.learning_rate: should be a valid number, got 'fast'",
        "charades.train.learning_rate: missing",
    ]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("train.steps", 1.5, "demo.train.steps: should be a valid integer, got 1.5"),
        ("train.steps", "1500", "demo.train.steps: should be a valid integer, got '1500'"),
        ("train.steps", True, "demo.train.steps: should be a valid integer, got True"),
        ("train.learning_rate", 0, "demo.train.learning_rate: should be greater than 0, got 0"),
        ("train.learning_rate", float("nan"), "demo.train.learning_rate: should be a finite number, got nan"),
        ("train.learning_rate", [], "demo.train.learning_rate: "),
        ("train.learning_rate", [1e-3, -1e-3], "demo.train.learning_rate.1: should be greater than 0, got -0.001"),
        ("train.learning_rate", [1e-3, 1e-3], "demo.train: learning_rate names 0.001 more than once"),
        ("train.weight_decay", [0, 0.0], "demo.train: weight_decay names 0.0 more than once"),
        ("train.weight_decay", [[0.1]], "demo.train.weight_decay.0: should be a valid number, got [0.1]"),
        ("train.weight_decay", -0.1, "demo.train.weight_decay: should be greater than or equal to 0, got -0.1"),
        ("train.weight_decay", "0.1", "demo.train.weight_decay: should be a valid number, got '0.1'"),
        ("train.loss", "focal", "demo.train.loss: should be 'bce', 'asymmetric' or 'class_balanced', got 'focal'"),
        ("train.loss", ["bce", "bce"], "demo.train: loss names bce more than once"),
        ("train.loss", None, "demo.train.loss: should be 'bce', 'asymmetric' or 'class_balanced', got None"),
        ("train.features", [], "demo.train.features: "),
        ("train.features", "mean", "demo.train.features: should be a valid tuple, got 'mean'"),
        ("train.features", ["mean", "min"], "demo.train.features.1: should be 'pooler', 'mean' or 'max', got 'min'"),
        ("train.features", ["mean", "mean"], "demo.train: features names mean more than once"),
        ("train.accumulation", 10**9 + 7, "demo.train: steps must be a multiple of accumulation"),
        ("windows.stride_s", 1e-6, "demo.windows: stride_s must be a multiple of 1 / sample_fps"),
        ("finetune.source", "cache", "demo.finetune.source: should be 'video' or 'tokens', got 'cache'"),
        ("finetune.tokens_gb", 0, "demo.finetune.tokens_gb: should be greater than 0, got 0"),
        ("finetune.flip", 1, "demo.finetune.flip: should be a valid boolean, got 1"),
        ("finetune.num_workers", 2, "demo.finetune.num_workers: unknown key"),
        ("sweep.low", 0.99, "demo.sweep: low + a whole number of steps must give high"),
        ("sweep.step", 0.07, "demo.sweep: low + a whole number of steps must give high"),
        ("prepare.val_share", 0.6, "demo.prepare.val_share: should be less than or equal to 0.5, got 0.6"),
        ("diary.per_label", {"phone": {}}, "demo.diary.per_label.phone: "),
        ("diary.per_label", {"c015": {"gap_s": 1}}, "demo.diary.per_label.c015.gap_s: unknown key"),
        ("fetch.num_test_videos", 0, "demo.fetch.num_test_videos: should be greater than 0, got 0"),
        ("fetch.source", "hub", "demo.fetch.source: got 'hub'; allowed: 'rendered', 'folder'"),
    ],
)
def test_a_value_that_cannot_be_fails(
    values: dict[str, Any], tmp_path: Path, key: str, value: object, told: str
) -> None:
    """A mistyped, impossible or contradicting value fails with its key path and what is allowed."""
    section, name = key.split(".")
    values["demo"][section][name] = value
    assert refusal(values, tmp_path)[0].startswith(told)


def test_what_a_head_is_trained_with_may_be_a_list(values: dict[str, Any], tmp_path: Path) -> None:
    """Rate, decay and loss of stage 1 are each one value or several; what is read is always several."""
    values["demo"]["train"] |= {"learning_rate": 0.01, "weight_decay": [0, 0.1], "loss": ["asymmetric"]}
    train = load(values, tmp_path).active.train
    assert (train.learning_rate, train.weight_decay, train.loss) == ((0.01,), (0.0, 0.1), ("asymmetric",))


@pytest.mark.parametrize("augmentation", ["random_starts", "flip"])
def test_stored_tokens_cannot_be_augmented(values: dict[str, Any], tmp_path: Path, augmentation: str) -> None:
    """What a cache cannot give is refused with the way out; each alone is allowed."""
    values["demo"]["finetune"][augmentation] = True
    assert load(values, tmp_path).active.finetune.source == "video"
    values["demo"]["finetune"]["source"] = "tokens"
    assert refusal(values, tmp_path)[0].startswith("demo.finetune: random_starts and flip need source video")
    values["demo"]["finetune"][augmentation] = False
    assert load(values, tmp_path).active.finetune.source == "tokens"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"profile": "demos"}, "profile: no section named 'demos'; allowed: demo, charades"),
        ({"label_sets": []}, "label_sets: "),
        ({"label_sets": ["diary", "diary"]}, "label_sets names diary more than once"),
        ({"label_sets": ["../diary"]}, "label_sets.0: "),
        ({"label_set": ["diary"]}, "label_set: neither profile nor label_sets"),
    ],
)
def test_the_top_of_the_file_is_checked(
    values: dict[str, Any], tmp_path: Path, change: dict[str, object], told: str
) -> None:
    """Profile and label sets exist, are unique and can name files."""
    assert refusal(values | change, tmp_path)[0].startswith(told)


def test_an_int_serves_as_a_float(values: dict[str, Any], tmp_path: Path) -> None:
    """A whole number may stand where seconds are wanted."""
    values["demo"]["targets"]["min_overlap_s"] = 1
    assert load(values, tmp_path).active.targets.min_overlap_s == 1.0


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    """1e-05, which `dvc exp run -S` writes, is a number, although YAML 1.1 takes it for a word."""
    text = (REPOSITORY / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(r"backbone_learning_rate: \S+", "backbone_learning_rate: 3e-05", text))
    loaded = params.load(path)
    assert {profile.finetune.backbone_learning_rate for profile in loaded.profiles.values()} == {3e-5}


def test_a_key_given_twice_fails(tmp_path: Path) -> None:
    """A second key of the same name is not silently the one that counts."""
    path = tmp_path / "params.yaml"
    path.write_text("profile: demo\nlabel_sets: [diary]\nprofile: charades\n")
    with pytest.raises(ParamsError, match=r"params.yaml:3: profile is given twice"):
        params.load(path)


@pytest.mark.parametrize("text", ["", "- demo\n", "profile: [demo\n", "\ttab: 1\n"])
def test_what_is_no_mapping_fails(tmp_path: Path, text: str) -> None:
    """An empty file, a list and broken YAML are told by name, not by a traceback."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=r"params\.yaml"):
        params.load(path)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    """Run elsewhere, a stage says that it wants the repository's top folder."""
    with pytest.raises(ParamsError, match="no such file; run from the repository's top folder"):
        params.load(tmp_path / "params.yaml")


def test_params_cannot_be_changed(values: dict[str, Any], tmp_path: Path) -> None:
    """What was loaded stays as it was loaded."""
    loaded = load(values, tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        loaded.active.train.steps = 1

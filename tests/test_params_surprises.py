"""What YAML can hold and no params file should: each surprise is a line that names the file, and never a traceback."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from dvc.utils.serialize import parse_yaml

from pipeline import params
from pipeline.params import ParamsError

REPOSITORY = Path(__file__).parents[1]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def project(tmp_path: Path, key: str, value: str) -> Path:
    """A project whose demo.yaml has `value` for the first `key`."""
    shutil.copytree(REPOSITORY / "params", tmp_path / "params")
    path = tmp_path / "params" / "demo.yaml"
    text, times = re.subn(rf"(?m)^( *{key}:) [^#\n]*", lambda line: f"{line[1]} {value}  ", path.read_text(), count=1)
    assert times == 1
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("? [1, 2]\n: 3\n", r"a key is text, got \(1, 2\)"),
        ("? {a: 1}\n: 3\n", "found unhashable key"),
        ("1: x\n", "a key is text, got 1; put it in quotes"),
        ("null: x\n", "a key is text, got None"),
        ("true: x\n", "a key is text, got True"),
        ("2020-01-01: x\n", "a key is text, got datetime"),
        ("profile: {2: x}\n", "profile: a key is text, got 2"),
        ("profile: 2026-13-45\n", "month must be in 1..12"),
        ("profile: 2026-02-30\n", "not what its tag or form says: day "),
        ("profile: !!int x\n", "not what its tag or form says: invalid literal"),
        ("profile: !!float x\n", "not what its tag or form says: could not convert"),
        ("profile: !!bool x\n", "not what its tag or form says: 'x'"),
        ("profile: !!binary x\n", "failed to decode base64"),
        ("profile: !!binary eA==\n", "profile: should be text, a number or a list, got bytes"),
        ("profile: !!set {a, b}\n", "profile: should be text, a number or a list, got set"),
        ("profile: !!timestamp x\n", "failed to construct timestamp"),
        ("profile: !!python/object:os.system x\n", "could not determine a constructor"),
        ("profile: !mine x\n", "could not determine a constructor"),
        ("profile: " + "[" * 200_000 + "\n", r":1: nested more than 20 levels deep"),
        ("".join(f"{' ' * k}a:\n" for k in range(3000)), r":21: nested more than 20 levels deep"),
        ("profile: &a [*a]\n", "nested more than 20 levels deep; an anchor"),
        ("profile: &a {b: *a}\n", "nested more than 20 levels deep; an anchor"),
        (BOMB, "more than 10000 values; an anchor"),
        ("profile: *nobody\n", "found undefined alias"),
        ("profile: {<<: 3}\n", "expected a mapping or list of mappings for merging"),
        ("profile: demo\nprofile: demo\n", 'found duplicate key "profile"'),
        ("profile: {a: 1, a: 2}\n", 'found duplicate key "a"'),
        ("profile: demo\n---\nprofile: demo\n", "expected a single document"),
        ("profile: 1" + "0" * 23 + "\n", "profile: a whole number is at most"),
        ("profile: " + "9" * 5000 + "\n", "not what its tag or form says"),
        ("profile: \0\n", "not what its tag or form says: unacceptable character"),
        ("- " * 5000 + "x\n", "nested more than 20 levels deep"),
        ("[]\n", r"expected a mapping of keys, got \[\]"),
        ("just words\n", "expected a mapping of keys, got 'just words'"),
    ],
)
def test_what_no_params_file_holds_is_a_line(tmp_path: Path, text: str, told: str) -> None:
    """The line begins with the file, and says what is wrong."""
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=told) as caught:
        params.load_project(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) <= 2


def test_a_file_that_is_no_text_is_a_line(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are told with the file."""
    (tmp_path / "params.yaml").write_bytes(b"profile: \xff\xfe\n")
    with pytest.raises(ParamsError, match=r"params\.yaml: .*utf-8"):
        params.load_project(tmp_path)


@pytest.mark.parametrize("text", ["010", "0o10", "1_000", "0xff", "1e3", "-0", "00", "1.e2", "+12", "0b1"])
def test_a_number_is_the_one_that_dvc_reads(tmp_path: Path, text: str) -> None:
    """What DVC shows and compares is what a stage computes with, or the stage refuses it; 010 is ten."""
    path = project(tmp_path, "steps", text)
    wanted = parse_yaml(path.read_text(), str(path))["train"]["steps"]
    try:
        found = params.load(tmp_path, "demo").train.steps
    except ParamsError as error:
        assert repr(wanted) in str(error) or "evaluate_every_steps must be at most steps" in str(error)  # noqa: PT017
    else:
        assert found == wanted


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("seed", "1" + "0" * 23, "seed: a whole number is at most 9223372036854775807"),
        ("seed", "4294967296", "seed: should be less than 4294967296"),
        ("seed", "2026-03-14", "seed: should be a valid integer, got '2026-03-14'"),
        ("min_overlap_s", "1e300", "targets.min_overlap_s: should be less than or equal to 1000000000"),
        ("block_inputs_gb", "1e300", "finetune.block_inputs_gb: should be less than or equal to 1000000000"),
        ("min_overlap_s", "1e400", "targets.min_overlap_s: should be a finite number"),
        ("shuffle_windows", "10000000000", "finetune.shuffle_windows: should be less than or equal to 1000000000"),
        ("sample_fps", "1e-320", "windows: stride_s must be a multiple of 1 / sample_fps = inf s"),
        ("stride_s", "1e300", "windows: a window has at most 4096 frames, it and a stride last at most a day"),
        ("num_frames", "100000", "windows: a window has at most 4096 frames"),
        ("stride_s", "1e308", "numbers are too large or too small together"),
        ("step", "1e-320", "numbers are too large or too small together"),
        ("step", "0.00001", "sweep: at most 10,000 steps lead from low to high, got 90000"),
    ],
)
def test_a_number_that_no_one_means_is_a_line(tmp_path: Path, key: str, value: str, told: str) -> None:
    """Beyond what generators, clocks and memory take, the key is named; nothing overflows later."""
    project(tmp_path, key, value)
    with pytest.raises(ParamsError) as caught:
        params.load(tmp_path, "demo")
    assert f"params/demo.yaml: {told}" in str(caught.value)


def test_anchors_that_people_use_are_read(tmp_path: Path) -> None:
    """A value that is named once and used twice counts as if it were written twice."""
    path = project(tmp_path, "precision", "fp32")
    text = path.read_text()
    assert text.count("steps: 1200 ") == 1
    path.write_text(text.replace("steps: 1200 ", "steps: &n 1200 ").replace("steps: 300 ", "steps: *n "))
    assert params.load(tmp_path, "demo").finetune.steps == 1200

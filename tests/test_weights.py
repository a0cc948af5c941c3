import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from features.provenance import ProvenanceMismatch
from heads import weights
from heads.weights import WeightsMismatch

CONFIG: dict[str, Any] = {
    "labels": ["c015", "c059"],
    "provenance": {
        "backbone": {"id": "tiny", "sha256": "abc"},
        "poolings": ["mean", "max"],
        "windows": {"num_frames": 16, "sample_fps": 8.0, "stride_s": 1.0},
    },
}


@pytest.fixture
def head() -> nn.Linear:
    return nn.Linear(3, 2)


@pytest.fixture
def folder(head: nn.Linear, tmp_path: Path) -> Path:
    weights.save(tmp_path / "head", head.state_dict(), CONFIG)
    return tmp_path / "head"


def test_weights_come_back_as_they_were(head: nn.Linear, folder: Path) -> None:
    """Loaded tensors and config are those saved, and fill a new module; expected tuples match lists."""
    expected = {"poolings": ("mean", "max"), "windows": CONFIG["provenance"]["windows"]}
    tensors, config = weights.load(folder, expected=expected)
    assert config == CONFIG == weights.read_config(folder)
    other = nn.Linear(3, 2)
    weights.load_into(other, tensors)
    assert torch.equal(other.weight, head.weight)
    assert torch.equal(other.bias, head.bias)


def test_the_same_weights_are_the_same_bytes(head: nn.Linear, folder: Path, tmp_path: Path) -> None:
    """Files and hash depend on values, not on the order of names or the time of writing."""
    turned = dict(reversed(head.state_dict().items()))
    weights.save(tmp_path / "again", turned, dict(reversed(CONFIG.items())))
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert weights.sha256(tmp_path / "again") == weights.sha256(folder)
    weights.save(tmp_path / "again", turned, CONFIG | {"labels": ["c059", "c015"]})
    assert weights.sha256(tmp_path / "again") != weights.sha256(folder)


def test_what_does_not_belong_together_is_named(folder: Path) -> None:
    """Every difference is named by key, wanted and found; also one that only one side has."""
    expected = {
        "backbone": {"id": "tiny", "sha256": "def"},
        "windows": {"num_frames": 16, "sample_fps": 8.0, "stride_s": 1.0, "crop": 96},
        "features": "pooler",
    }
    with pytest.raises(ProvenanceMismatch) as failure:
        weights.load(folder, expected=expected)
    said = str(failure.value)
    assert "backbone.sha256: wanted 'def', found 'abc'" in said
    assert "windows.crop: wanted 96, found nothing" in said
    assert "features: wanted 'pooler', found nothing" in said
    assert "backbone.id" not in said
    with pytest.raises(ProvenanceMismatch, match=r"windows\.stride_s: wanted nothing, found 1\.0"):
        weights.load(folder, expected={"windows": {"num_frames": 16, "sample_fps": 8.0}})


def test_tensors_that_do_not_fit_are_listed_and_not_copied(head: nn.Linear) -> None:
    """Missing, unexpected and mismatched are named in one message, and the module stays as it was."""
    module = nn.Sequential(head, nn.Linear(2, 1))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    tensors = {
        "0.weight": torch.zeros(2, 4),
        "0.bias": torch.zeros(2),
        "1.weight": torch.zeros(1, 2),
        "2.bias": head.bias,
    }
    sentence = (
        r"missing \['1.bias'\]; unexpected \['2.bias'\]; mismatched \['0.weight: wanted \(2, 3\), found \(2, 4\)'\]"
    )
    with pytest.raises(WeightsMismatch, match=sentence):
        weights.load_into(module, tensors)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_what_was_not_written_completely_is_not_loaded(folder: Path) -> None:
    """A folder without config.json, which is written last, and a missing folder are refused with one sentence."""
    (folder / "config.json").unlink()
    for missing in (folder, folder.parent / "nowhere"):
        for use in (lambda path: weights.load(path, expected={}), weights.sha256):
            with pytest.raises(FileNotFoundError, match="run the stage that trains it"):
                use(missing)


def test_a_failed_save_leaves_no_complete_folder(head: nn.Linear, folder: Path) -> None:
    """If the config cannot be written, new tensors are not left with the old config."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        weights.save(folder, head.state_dict(), {"best_map": float("nan")})
    assert not (folder / "config.json").exists()


def test_saving_keeps_what_else_is_in_the_folder(head: nn.Linear, folder: Path) -> None:
    """Other files in the folder stay, and no partial file does."""
    (folder / "history.csv").write_text("step\n")
    weights.save(folder, head.state_dict(), {"labels": []})
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "history.csv", "model.safetensors"]
    assert json.loads((folder / "config.json").read_text())["labels"] == []

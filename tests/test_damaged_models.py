"""The folders of a backbone, a trained model and an exported one, damaged: loaded as they were, or refused."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from features.backbone import BackboneError, best_device, create, load_backbone, save
from features.preprocess import Preprocessing, PreprocessingError
from features.sealed import DamagedFile, read_sealed_json, write_sealed_json
from heads import weights
from heads.action_model import Tail, load_action_model
from heads.linear import LinearHead, load_linear_head
from heads.weights import WeightsMismatch
from pipeline.model_folder import ModelFolderError, load_recogniser, write_model_folder
from pipeline.recognition import WindowModel
from reports.events import EventRule
from tests.model_folders import write_decoding, write_limits
from tests.test_damaged_files import OWN_PACKAGES, mutations

SIDE, NUM_FRAMES, HIDDEN = 32, 4, 24
PREPROCESSING = Preprocessing(SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
LABELS = [{"id": "c015", "name": "Holding a phone"}, {"id": "c059", "name": "Sitting"}]
FRAMES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, NUM_FRAMES, SIDE, SIDE, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`backbone`, `model` (of stage 2) and `diary`, the exported folder of both."""
    folder = tmp_path_factory.mktemp("made")
    model = create(
        seed=0,
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        crop_size=SIDE,
        num_frames=NUM_FRAMES,
        num_pooler_layers=1,
        num_labels=2,
    )
    save(model, folder / "backbone", name="tiny", preprocessing=PREPROCESSING, dtype=torch.float32)
    backbone = load_backbone(folder / "backbone", dtype=torch.float32)
    tail = Tail(backbone, LinearHead(2 * HIDDEN, len(LABELS)), features=("mean", "max"))
    provenance = {
        "backbone": {"id": backbone.id, "sha256": backbone.weights_sha256},
        "preprocessing": PREPROCESSING.to_dict(),
        "windows": {"num_frames": NUM_FRAMES, "sample_fps": 4.0, "stride_s": 0.5, "max_still_s": 1.0},
        "precision": "fp32",
        "attention": "sdpa",
    }
    config = {"provenance": provenance, "labels": LABELS, "features": ["mean", "max"]}
    weights.save(folder / "model", tail.trained_tensors(), config)
    weights.save(folder / "head", tail.head.state_dict(), config)
    write_model_folder(
        folder / "diary",
        model=folder / "model",
        backbone=folder / "backbone",
        decoding=write_decoding(
            folder / "decoding.json", [label["id"] for label in LABELS], EventRule(0.5, 0.35, 1.0, 1.0)
        ),
        **write_limits(folder, backbone_sha256=backbone.weights_sha256, size=HIDDEN),
        card="",
        roles={},
        diary_model={
            "profile": "demo",
            "label_set": "diary",
            "model": "finetune",
            "test_precision": 0.5,
            "decoder": "pyav",
            "precision": "fp32",
            "trained_on": "This model knows nothing.",
            "min_quiet_s": 5.0,
        },
    )
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def edit_json(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: each for key, each in (content | values).items() if each != "absent"}))


def edit_tensors(path: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def write_index(folder: Path, content: object) -> None:
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def bytes_of(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors").write_bytes(content)


def config_of(**values: Any) -> Callable[[Path], object]:
    return lambda folder: edit_json(folder / "config.json", **values)


def text_of(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "config.json").write_bytes(content)


def fill(name: str, value: float) -> Callable[[Path], object]:
    return lambda folder: edit_tensors(folder / "model.safetensors", lambda all_: all_[name].view(-1)[3:4].fill_(value))


BIAS = "vjepa2.encoder.layernorm.bias"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (bytes_of(b""), "cannot be loaded"),
        (bytes_of(b"\x08\x00\x00\x00"), "cannot be loaded"),
        (bytes_of(struct.pack("<Q", 2**62) + b"{}"), "cannot be loaded"),
        (bytes_of(struct.pack("<Q", 2) + b"{}"), "do not fit its config.json"),
        (bytes_of(b"PK\x03\x04 a pickle in a zip"), "cannot be loaded"),
        (text_of(b""), "is not JSON"),
        (text_of(b"\xff\xfe{}"), "is not JSON"),
        (text_of(b"[" * 100_000), "is not JSON"),
        (text_of(b"[]"), "holds one JSON object"),
        (text_of(b"null"), "holds one JSON object"),
        (text_of(b"{}"), "a model of type None"),
        (config_of(hidden_size=0), "hidden_size must be a number above 0, found 0"),
        (config_of(patch_size=0), "patch_size must be a number above 0"),
        (config_of(tubelet_size=0), "tubelet_size must be a number above 0"),
        (config_of(num_attention_heads=0), "num_attention_heads must be a number above 0"),
        (config_of(num_hidden_layers=-1), "num_hidden_layers must be a number above 0"),
        (config_of(crop_size="256"), "crop_size must be a number above 0, found '256'"),
        (config_of(crop_size=None), "crop_size must be a number above 0, found None"),
        (config_of(frames_per_clip=True), "frames_per_clip must be a number above 0"),
        (config_of(num_attention_heads=5), "cannot be loaded"),
        (config_of(num_hidden_layers=10**9), "num_hidden_layers must be a number up to 1000, found 1000000000"),
        (config_of(num_labels=10**30), "num_labels must be a number up to 1000000"),
        (config_of(layer_norm_eps=float("nan")), "layer_norm_eps must be a number up to 1000000, found nan"),
        (config_of(hidden_act="gelu_of_tomorrow"), "cannot be loaded"),
        (config_of(hidden_act=7), "cannot be loaded"),
        (config_of(layer_norm_eps="small"), "cannot be loaded"),
        (config_of(quantization_config={"quant_method": "bitsandbytes"}), "the weights are quantised"),
        (config_of(hidden_size=2 * HIDDEN), "do not fit its config.json"),
        (config_of(num_hidden_layers=3), "do not fit its config.json"),
        (lambda folder: write_index(folder, []), "holds one JSON object"),
        (lambda folder: write_index(folder, {}), "weight_map must name a file"),
        (lambda folder: write_index(folder, {"weight_map": {}}), "weight_map must name a file"),
        (lambda folder: write_index(folder, {"weight_map": {"x": 3}}), "weight_map must name a file"),
        (
            lambda folder: write_index(folder, {"weight_map": {"x": "../model.safetensors"}}),
            "weight_map must name a file",
        ),
        (lambda folder: write_index(folder, {"weight_map": {"x": "gone.safetensors"}}), "lacks gone.safetensors"),
        (fill(BIAS, torch.nan), f"are nan or infinite: {BIAS}"),
        (fill("vjepa2.encoder.layer.0.mlp.fc1.weight", -torch.inf), "are nan or infinite: vjepa2.encoder.layer.0.mlp"),
        (lambda folder: edit_tensors(folder / "model.safetensors", lambda all_: all_.pop(BIAS)), f"missing: {BIAS}"),
        (lambda folder: edit_tensors(folder / "model.safetensors", dict.clear), "do not fit its config.json"),
    ],
)
def test_a_backbone_that_is_not_whole_is_a_sentence(damage: Callable[[Path], object], told: str, folder: Path) -> None:
    """It names the folder or the file, what is wrong there, and nothing of it is used."""
    damage(folder / "backbone")
    with pytest.raises(BackboneError) as caught:
        load_backbone(folder / "backbone", dtype=torch.float32)
    assert told in str(caught.value)
    assert str(folder / "backbone") in str(caught.value)


@pytest.mark.slow
def test_any_value_of_any_key_of_a_backbones_config_loads_or_is_refused(folder: Path) -> None:
    """No key, with a value of any type, gives another error than ours; what loads computes."""
    path = folder / "backbone" / "config.json"
    content = json.loads(path.read_text())
    pixels = torch.zeros(1, NUM_FRAMES, 3, SIDE, SIDE)
    for key in [*content, "quantization_config", "dtype", "attention_dropout", "text_config", "nonsense"]:
        value: Any
        for value in (None, "x", 0, 2.5, [], True, 10**30, {"a": [1]}):
            path.write_text(json.dumps(content | {key: value}))
            try:
                backbone = load_backbone(folder / "backbone", dtype=torch.float32)
                backbone.require_fit(num_frames=NUM_FRAMES, crop_size=SIDE)
            except BackboneError as error:
                assert str(folder) in str(error) or "tiny" in str(error), (key, value)  # noqa: PT017
            else:
                assert backbone.tokens(pixels).shape == (1, 8, HIDDEN), (key, value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"3", "holds one JSON object"),
        (b'{"crop_size": 32, "image_mean": [1], "image_std": [1, 1, 1]}', "three numbers"),
        (b'{"crop_size": 0, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}', "at least 1 pixel"),
        (b'{"crop_size": 32, "image_mean": [1, 1, NaN], "image_std": [1, 1, 1]}', "finite"),
    ],
)
def test_a_processors_file_is_read_or_refused(content: bytes, told: str, folder: Path) -> None:
    """Another part of the same folder, with the same rule."""
    (folder / "backbone" / "video_preprocessor_config.json").write_bytes(content)
    with pytest.raises(PreprocessingError, match=told):
        Preprocessing.from_checkpoint(folder / "backbone")


def test_what_the_backbone_does_not_take_is_told_before_any_video(folder: Path) -> None:
    """An odd number of frames, and a processor of another size."""
    backbone = load_backbone(folder / "backbone", dtype=torch.float32)
    backbone.require_fit(num_frames=6, crop_size=SIDE)
    with pytest.raises(BackboneError, match=r"windows\.num_frames must be a multiple of 2, .* got 7"):
        backbone.require_fit(num_frames=7, crop_size=SIDE)
    with pytest.raises(BackboneError, match="pictures of 32 pixels a side, its processor's file says 64"):
        backbone.require_fit(num_frames=6, crop_size=64)


def resealed(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object], **config: Any) -> None:
    """Write the trained model in `folder` anew, as a program would that writes wrong ones: with right hashes."""
    found = weights.read_config(folder)
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    weights.save(folder, tensors, found | config)


def rename(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors.update({new: tensors.pop(old)})


@pytest.mark.parametrize(
    ("edit", "config", "told"),
    [
        (lambda tensors: tensors.pop("linear.weight"), {}, "linear.weight of a head of 2 labels .*: nothing"),
        (
            lambda tensors: tensors.update({"linear.weight": torch.ones(2)}),
            {},
            r"linear.weight of a head of 2 labels has a row for each: \(2,\)",
        ),
        (lambda tensors: tensors.update({"linear.weight": torch.ones(2, 3)}), {}, "mean: wanted .3,., found .48,."),
        (lambda tensors: tensors.update({"linear.weight": torch.ones(0, 48)}), {}, r": \(0, 48\)"),
        (lambda tensors: tensors.update({"more": torch.ones(1)}), {}, "unexpected .'more'."),
        (rename("mean", "means"), {}, "missing .'mean'.; unexpected .'means'."),
        (lambda tensors: tensors["mean"][2:3].fill_(torch.nan), {}, "nan or infinity in mean"),
        (lambda tensors: tensors["linear.bias"][:1].fill_(torch.inf), {}, "nan or infinity in linear.bias"),
        (lambda tensors: None, {"labels": LABELS[:1]}, "a head of 1 labels"),
        (lambda tensors: None, {"labels": None}, "NoneType"),
    ],
)
def test_a_head_that_is_none_is_a_sentence(
    edit: Callable[[dict[str, torch.Tensor]], object], config: dict[str, Any], told: str, folder: Path
) -> None:
    """Tensors with right hashes that make no head of these labels, or hold nan, are named with the folder."""
    resealed(folder / "head", edit, **config)
    with pytest.raises(DamagedFile, match=told) as caught:
        load_linear_head(folder / "head", expected={})
    assert str(folder / "head") in str(caught.value)
    assert "run the stage that writes it again" in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "config", "told"),
    [
        (lambda tensors: tensors.pop("head.linear.weight"), {}, "linear.weight of a head of 2 labels .*: nothing"),
        (lambda tensors: tensors.pop("last_block.norm1.weight"), {}, "missing .'norm1.weight'."),
        (rename("last_block.norm1.weight", "last_block.norm1.scale"), {}, "unexpected .'norm1.scale'."),
        (lambda tensors: None, {"features": ["mean"]}, "the head takes 48 features, mean of the backbone are 24 each"),
        (lambda tensors: None, {"features": 3}, "not iterable"),
    ],
)
def test_a_stage_2_model_that_is_none_is_a_sentence(
    edit: Callable[[dict[str, torch.Tensor]], object], config: dict[str, Any], told: str, folder: Path
) -> None:
    """The last block, the head and the poolings must fit the backbone and each other."""
    resealed(folder / "model", edit, **config)
    backbone = load_backbone(folder / "backbone", dtype=torch.float32)
    with pytest.raises(DamagedFile, match=told):
        load_action_model(folder / "model", backbone, PREPROCESSING, expected={})


def test_tensors_of_another_model_do_not_pass(folder: Path) -> None:
    """Two good folders whose tensors are exchanged are two bad ones: config.json states its tensors' hash."""
    other = folder / "other"
    shutil.copytree(folder / "head", other)
    resealed(other, lambda tensors: tensors["mean"].add_(1))
    shutil.copyfile(other / "model.safetensors", folder / "head" / "model.safetensors")
    with pytest.raises(DamagedFile, match=r"model\.safetensors cannot be used: its hash is not the tensors_sha256"):
        weights.load(folder / "head", expected={})


def test_a_folder_of_an_earlier_version_says_what_to_do(folder: Path) -> None:
    """Without hashes nothing can be checked."""
    (folder / "head" / "config.json").write_text('{"labels": [], "provenance": {}}')
    with pytest.raises(DamagedFile, match=r"states no sha256: an earlier version wrote it.*run the stage"):
        weights.load(folder / "head", expected={})
    write_sealed_json(folder / "head" / "config.json", {"labels": [], "provenance": {}})
    with pytest.raises(DamagedFile, match="states no tensors_sha256"):
        weights.load(folder / "head", expected={})


def test_load_into_still_lists_what_does_not_fit() -> None:
    """Alone, it has no path to name."""
    with pytest.raises(WeightsMismatch, match="tensors do not fit LinearHead: missing"):
        weights.load_into(LinearHead(2, 2), {})


def probabilities(folder: Path) -> tuple[Any, ...]:
    found = load_recogniser(folder)
    assert isinstance(found.model, WindowModel)
    with torch.inference_mode():
        logits = found.model.model.to(best_device())(FRAMES.to(best_device()))
    return logits.tolist(), dict(found.names), found.diary_model, found.decoding, found.model.reader, found.min_quiet_s


@pytest.mark.slow
def test_an_exported_folder_loads_as_it_was_or_is_refused(made: Path, folder: Path) -> None:
    """Each of its files gone, cut, emptied, with bits turned: the same probabilities, or an error with the path."""
    wanted = probabilities(made / "diary")
    rng = random.Random(4)
    diary = folder / "diary"
    files = sorted(path for path in diary.rglob("*") if path.is_file())
    assert len(files) == 9
    faults = []
    for file in files:
        content = file.read_bytes()
        for how, mutated in [("gone", None), *mutations(content, rng)]:
            if mutated is None:
                file.unlink()
            else:
                file.write_bytes(mutated)
            try:
                if probabilities(diary) != wanted:
                    faults.append(f"{file}, {how}: other probabilities")
            except Exception as error:
                is_ours = type(error).__module__.partition(".")[0] in OWN_PACKAGES or isinstance(
                    error, FileNotFoundError
                )
                if not is_ours or str(diary) not in str(error):
                    faults.append(f"{file}, {how}: {error!r}")
        file.write_bytes(content)
    assert faults == []
    assert probabilities(diary) == wanted


def test_an_exported_folder_that_is_not_whole_names_what_is_missing(folder: Path) -> None:
    """A file that a copy left out, and one that somebody edited."""
    processor = folder / "diary" / "backbone" / "video_preprocessor_config.json"
    edit_json(folder / "diary" / "backbone" / "config.json", layer_norm_eps=0.1)
    with pytest.raises(ModelFolderError, match=r"backbone/config\.json is damaged or was edited"):
        load_recogniser(folder / "diary")
    processor.unlink()
    (folder / "diary" / "backbone" / "config.json").unlink()
    with pytest.raises(ModelFolderError, match=r"is not whole: backbone/config\.json is missing"):
        load_recogniser(folder / "diary")


def test_a_model_folder_of_an_earlier_version_says_what_to_do(folder: Path) -> None:
    """Before it said what it was trained on."""
    content = read_sealed_json(folder / "diary" / "diary.json", remedy="")
    del content["trained_on"]
    write_sealed_json(folder / "diary" / "diary.json", content)
    with pytest.raises(DamagedFile, match=r"diary\.json cannot be used: it has no 'trained_on'; export it again"):
        load_recogniser(folder / "diary")

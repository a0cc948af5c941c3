"""A tiny V-JEPA 2 with random weights, saved and loaded as a published one is. The created model is the reference."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from features.backbone import BackboneError, VJepa2Backbone, create, load_backbone, save
from features.pooling import POOLINGS
from features.preprocess import Preprocessing

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE, NUM_FRAMES, HIDDEN = 32, 4, 24
PREPROCESSING = Preprocessing(crop_size=SIDE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def tiny(seed: int) -> Any:
    return create(
        seed=seed,
        hidden_size=HIDDEN,
        num_hidden_layers=3,
        num_attention_heads=2,
        crop_size=SIDE,
        num_frames=NUM_FRAMES,
        num_pooler_layers=1,
        num_labels=5,
    )


@pytest.fixture(scope="module")
def model() -> Any:
    """A model whose norms and biases are not 0 or 1, so that one that is left out changes the result."""
    made = tiny(seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return made.eval()


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "some-folder"
    save(model, path, name="demo/tiny-vjepa2", preprocessing=PREPROCESSING, dtype=torch.float32)
    return path


@pytest.fixture
def backbone(folder: Path) -> VJepa2Backbone:
    loaded = load_backbone(folder, dtype=torch.float32)
    assert isinstance(loaded, VJepa2Backbone)
    return loaded


@pytest.fixture
def broken(folder: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint to break."""
    return Path(shutil.copytree(folder, tmp_path / "broken"))


def pixels(num_clips: int) -> torch.Tensor:
    return torch.randn(num_clips, NUM_FRAMES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def test_tokens_are_the_encoders_own_bit_for_bit(model: Any, backbone: VJepa2Backbone) -> None:
    """block_input is what enters the encoder's last block, and last_block gives what leaves it, bit for bit."""
    entered: list[torch.Tensor] = []
    hook = model.vjepa2.encoder.layer[-1].register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    with torch.no_grad():
        wanted = model.vjepa2.encoder(pixels(3)).last_hidden_state
    hook.remove()
    block_input = backbone.block_input(pixels(3))
    assert block_input.shape == (3, 2 * 2 * 2, HIDDEN)
    assert torch.equal(block_input, entered[0])
    assert torch.equal(backbone.last_block(block_input), wanted)
    assert torch.equal(backbone.tokens(pixels(3)), wanted)
    assert wanted.std() > 0.1


def test_the_pooler_is_the_classifiers_own_bit_for_bit(model: Any, backbone: VJepa2Backbone) -> None:
    """The classifier's weights on our pooled vector give the model's own logits; mean and max are over the tokens."""
    with torch.no_grad():
        logits = model(pixels(2)).logits
        tokens = backbone.tokens(pixels(2))
        pooled = backbone.pool(tokens, ["max", "pooler", "mean"])
        assert torch.equal(model.classifier(pooled["pooler"]), logits)
    assert list(pooled) == ["max", "pooler", "mean"]
    np.testing.assert_allclose(pooled["mean"], tokens.numpy().mean(axis=1), atol=1e-6)
    assert np.array_equal(pooled["max"], tokens.numpy().max(axis=1))
    with pytest.raises(ValueError, match="no pooling median; there are pooler, mean, max"):
        backbone.pool(tokens, ["mean", "median"])


def test_pooled_vectors_of_half_precision_tokens_are_float32(folder: Path) -> None:
    """A bfloat16 backbone pools close to the float32 one, in float32."""
    half, full = (load_backbone(folder, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    assert half.dtype == torch.bfloat16
    with torch.no_grad():
        for name, vector in half.pool(half.tokens(pixels(2)), POOLINGS).items():
            assert vector.dtype == torch.float32
            wanted = full.pool(full.tokens(pixels(2)), [name])[name]
            assert (vector - wanted).abs().mean() < 0.1 * wanted.abs().mean()


def test_only_the_last_block_can_learn(backbone: VJepa2Backbone) -> None:
    """With `last` made trainable, the loss reaches it through the frozen pooler, and nothing else trains."""
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    backbone.last.requires_grad_(True)
    outer = torch.nn.Sequential(backbone).train()
    modes = {name for name, module in backbone.named_modules() if module.training}
    assert modes
    assert all(name == "last" or name.startswith("last.") for name in modes)
    block_input = backbone.block_input(pixels(2).requires_grad_())
    assert not block_input.requires_grad
    backbone.pool(backbone.last_block(block_input), ["pooler"])["pooler"].square().sum().backward()
    moved = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert moved == {f"last.{name}" for name, _ in backbone.last.named_parameters()}
    assert all(parameter.grad.abs().sum() > 0 for parameter in backbone.last.mlp.parameters())  # type: ignore[union-attr]
    outer.eval()
    assert not any(module.training for module in backbone.modules())


def test_a_frozen_backbone_never_trains(backbone: VJepa2Backbone) -> None:
    """train() on a module that contains a frozen backbone leaves the backbone in eval mode."""
    torch.nn.Sequential(backbone).train()
    assert not any(module.training for module in backbone.modules())


def test_predictor_and_classifier_are_dropped(model: Any, backbone: VJepa2Backbone) -> None:
    """The backbone has the encoder and the pooler, and nothing else."""
    wanted = sum(p.numel() for part in (model.vjepa2.encoder, model.pooler) for p in part.parameters())
    assert sum(parameter.numel() for parameter in backbone.parameters()) == wanted


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4, 3, 48, 48), r"pixels are \(B, T, 3, 32, 32\), got \(1, 4, 3, 48, 48\)"),
        ((1, 4, 32, 32, 3), r"pixels are \(B, T, 3, 32, 32\)"),
        ((4, 3, 32, 32), r"pixels are \(B, T, 3, 32, 32\)"),
        ((1, 3, 3, 32, 32), "a clip is a multiple of 2 frames, got 3"),
    ],
)
def test_pixels_that_would_go_silently_wrong_raise(
    backbone: VJepa2Backbone, shape: tuple[int, ...], message: str
) -> None:
    """Another resolution, channels last, and an odd number of frames are refused."""
    with pytest.raises(ValueError, match=message):
        backbone.block_input(torch.zeros(shape))


def test_a_backbone_tells_what_it_is(folder: Path, backbone: VJepa2Backbone) -> None:
    """Sizes come from its config, the hash is the weight file's own, and the id is its name and no path."""
    assert (backbone.hidden_size, backbone.crop_size) == (HIDDEN, SIDE)
    assert (backbone.frames_per_clip, backbone.tubelet_size) == (NUM_FRAMES, 2)
    assert backbone.weights_sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert backbone.id == "demo/tiny-vjepa2"


@pytest.mark.parametrize("name", [None, "/home/somebody/models/x", "../x", r"C:\models\x"])
def test_an_id_never_holds_a_path(broken: Path, tmp_path: Path, name: str | None) -> None:
    """Without a name, or with a path as name, the id is the folder's name; in a hub cache, the repository's."""
    path = broken / "config.json"
    content = json.loads(path.read_text())
    del content["_name_or_path"]
    path.write_text(json.dumps(content | ({"_name_or_path": name} if name else {})))
    assert load_backbone(broken, dtype=torch.float32).id == "broken"
    cached = tmp_path / "models--facebook--vjepa2-vitl-fpc16-256-ssv2" / "snapshots" / "0123abcd"
    shutil.copytree(broken, cached)
    assert load_backbone(cached, dtype=torch.float32).id == "facebook/vjepa2-vitl-fpc16-256-ssv2"


def test_weights_in_parts_are_one_backbone(broken: Path, backbone: VJepa2Backbone) -> None:
    """A checkpoint whose weights lie in two files, with their index, loads to the same tokens; a lost part is named."""
    weights = load_file(broken / "model.safetensors")
    (broken / "model.safetensors").unlink()
    parts = {
        "model-00001-of-00002.safetensors": sorted(weights)[:9],
        "model-00002-of-00002.safetensors": sorted(weights)[9:],
    }
    for file, keys in parts.items():
        save_file({key: weights[key] for key in keys}, broken / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = load_backbone(broken, dtype=torch.float32)
    assert torch.equal(loaded.tokens(pixels(1)), backbone.tokens(pixels(1)))
    both = b"".join((broken / file).read_bytes() for file in parts)
    assert loaded.weights_sha256 == hashlib.sha256(both).hexdigest()
    (broken / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BackboneError, match="lacks model-00002-of-00002"):
        load_backbone(broken, dtype=torch.float32)


@pytest.fixture
def transformers_log() -> Iterator[list[str]]:
    """The messages that transformers logs to its own stream, which pytest does not capture."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)


def test_weights_that_do_not_fit_are_listed(
    broken: Path, capfd: pytest.CaptureFixture[str], transformers_log: list[str]
) -> None:
    """Missing, unexpected and mismatched weights are all listed in one error, and nothing else is printed."""
    level = logging.getLogger("transformers").level
    weights = load_file(broken / "model.safetensors")
    del weights["pooler.query_tokens"]
    weights["head.extra"] = torch.zeros(2)
    weights["vjepa2.encoder.layernorm.bias"] = torch.zeros(7)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError) as caught:
        load_backbone(broken, dtype=torch.float32)
    assert str(caught.value).splitlines() == [
        f"the weights in {broken} do not fit its config.json",
        "  missing: pooler.query_tokens",
        "  unexpected: head.extra",
        "  mismatched: vjepa2.encoder.layernorm.bias (found (7,), wanted (24,))",
    ]
    assert capfd.readouterr() == ("", "")
    assert transformers_log == []
    assert logging.getLogger("transformers").level == level != logging.ERROR


def change(file: str, content: str | None) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / file).unlink()
        if content is not None:
            (folder / file).write_text(content)

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "there is no backbone folder"),
        (change("config.json", None), r"is no backbone: it has no config\.json"),
        (change("config.json", "{"), "is not JSON"),
        (change("config.json", '{"model_type": "videomae"}'), "a model of type 'videomae'; known are 'vjepa2'"),
        (change("config.json", "[]"), "holds one JSON object, got list"),
        (change("model.safetensors", None), r"lacks model\.safetensors"),
        (change("model.safetensors", "version https://git-lfs.github.com/spec/v1"), "cannot be loaded"),
    ],
)
def test_what_is_no_backbone_says_so_in_one_line(broken: Path, damage: Callable[[Path], None], message: str) -> None:
    """Each way in which a folder is not a checkpoint gives one sentence with its path."""
    damage(broken)
    with pytest.raises(BackboneError, match=message) as caught:
        load_backbone(broken, dtype=torch.float32)
    assert str(broken) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_loading_says_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No progress bar and no log line on stdout or stderr."""
    load_backbone(folder, dtype=torch.float32)
    assert capfd.readouterr() == ("", "")


def test_a_saved_folder_is_the_same_bytes(model: Any, folder: Path, tmp_path: Path) -> None:
    """Saving again writes the same bytes, none of which is a path of this machine; saving does not change the model."""
    again = tmp_path / "again"
    save(model, again, name="demo/tiny-vjepa2", preprocessing=PREPROCESSING, dtype=torch.float16)
    assert next(model.parameters()).dtype == torch.float32
    assert json.loads((again / "config.json").read_text())["dtype"] == "float16"
    save(model, again, name="demo/tiny-vjepa2", preprocessing=PREPROCESSING, dtype=torch.float32)
    names = ["config.json", "model.safetensors", "video_preprocessor_config.json"]
    assert sorted(path.name for path in again.iterdir()) == names
    for name in names:
        content = (again / name).read_bytes()
        assert content == (folder / name).read_bytes()
        assert str(tmp_path).encode() not in content
    assert Preprocessing.from_checkpoint(again) == PREPROCESSING
    with pytest.raises(ValueError, match="the model wants 32 pixels, got 64"):
        save(model, again, name="x", preprocessing=Preprocessing(64, (0, 0, 0), (1, 1, 1)), dtype=torch.float32)


def test_half_precision_on_disk_loads_as_float32(model: Any, backbone: VJepa2Backbone, tmp_path: Path) -> None:
    """Weights stored in 16 bits give nearly the same tokens, computed in 32."""
    save(model, tmp_path / "half", name="x", preprocessing=PREPROCESSING, dtype=torch.float16)
    loaded = load_backbone(tmp_path / "half", dtype=torch.float32)
    assert loaded.weights_sha256 != backbone.weights_sha256
    torch.testing.assert_close(loaded.tokens(pixels(1)), backbone.tokens(pixels(1)), rtol=0.01, atol=0.01)


def test_the_seed_decides_and_stays_inside() -> None:
    """The same seed makes the same weights, another seed others; torch's random state does not change."""
    state = torch.get_rng_state()
    first, same, other = (tiny(seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["pooler.query_tokens"], other["pooler.query_tokens"])


def test_a_window_pools_the_same_in_any_batch(backbone: VJepa2Backbone) -> None:
    """On a CPU what `pool_each` gives for a window does not depend on the others in its batch, to the last bit."""
    with torch.no_grad():
        together = backbone.pool_each(backbone.tokens(pixels(7)), POOLINGS)
        for k, one in enumerate(pixels(7).split(1)):
            for name, vector in backbone.pool_each(backbone.tokens(one), POOLINGS).items():
                assert torch.equal(vector[0], together[name][k]), name


def test_attention_is_chosen_and_known(folder: Path, backbone: VJepa2Backbone) -> None:
    """Eager attention gives nearly the same tokens, and each backbone says which one it computes."""
    eager = load_backbone(folder, dtype=torch.float32, attention="eager")
    assert (eager.attention, backbone.attention) == ("eager", "sdpa")
    torch.testing.assert_close(eager.tokens(pixels(2)), backbone.tokens(pixels(2)), rtol=1e-4, atol=1e-4)

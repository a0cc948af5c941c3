"""Checkpoints of all published shapes: without pooler, in parts, in half precision, other sizes; tiny and random."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from features.backbone import Backbone, BackboneError, load_backbone, save
from features.pooling import join_views
from features.preprocess import Preprocessing
from features.store.embeddings import StoreError, VideoEmbeddings, embeddings_of
from features.video import WindowPlan
from pipeline.frozen import load_frozen_encoder

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE, NUM_FRAMES = 48, 4
PREPROCESSING = Preprocessing(crop_size=SIDE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def encoder(**sizes: Any) -> Any:
    """As the pretrained checkpoints are: encoder and predictor, without attentive pooler and classifier."""
    from transformers import VJEPA2Config, VJEPA2Model

    config = VJEPA2Config(
        **{
            "hidden_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "crop_size": SIDE,
            "frames_per_clip": 64,
            "pred_hidden_size": 24,
            "pred_num_hidden_layers": 1,
            "pred_num_attention_heads": 2,
        }
        | sizes
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VJEPA2Model(config).eval()


@pytest.fixture(scope="module")
def model() -> Any:
    return encoder()


@pytest.fixture
def folder(model: Any, tmp_path: Path) -> Path:
    save(model, tmp_path / "vitl-fpc64", name="tiny/fpc64", preprocessing=PREPROCESSING, dtype=torch.float32)
    return tmp_path / "vitl-fpc64"


def pixels(num_clips: int, side: int = SIDE) -> torch.Tensor:
    return torch.randn(num_clips, NUM_FRAMES, 3, side, side, generator=torch.Generator().manual_seed(2))


def require_tokens(backbone: Backbone, model: Any, side: int = SIDE) -> None:
    with torch.no_grad():
        wanted = model.encoder(pixels(2, side)).last_hidden_state
        assert torch.equal(backbone.tokens(pixels(2, side)), wanted)


def test_a_checkpoint_without_pooler_gives_mean_and_max(model: Any, folder: Path) -> None:
    """The encoder's own tokens; mean and max of them; the pooler is refused, with what there is."""
    backbone = load_backbone(folder, dtype=torch.float32)
    assert backbone.poolings == ("mean", "max")
    require_tokens(backbone, model)
    tokens = backbone.tokens(pixels(3)).detach()
    pooled = backbone.pool_each(tokens, backbone.poolings)
    assert list(pooled) == ["mean", "max"]
    np.testing.assert_allclose(pooled["mean"], tokens.numpy().mean(axis=1), atol=1e-6)
    assert np.array_equal(pooled["max"], tokens.numpy().max(axis=1))
    with pytest.raises(ValueError, match="no pooling pooler; there are mean, max"):
        backbone.pool(tokens, ["pooler"])


def test_its_last_block_can_learn(folder: Path) -> None:
    """Without a pooler the loss reaches the last block through the layernorm, and nothing else trains."""
    backbone = load_backbone(folder, dtype=torch.float32)
    backbone.last.requires_grad_(True)
    block_input = backbone.block_input(pixels(1))
    assert block_input.shape[1:] == backbone.block_input_shape(NUM_FRAMES)
    backbone.pool(backbone.last_block(block_input), ["mean"])["mean"].square().sum().backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in backbone.parameters())
    assert any(
        parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in backbone.last.parameters()
    )


def test_a_checkpoint_of_the_encoder_alone_loads(model: Any, folder: Path) -> None:
    """The predictor, which no backbone keeps, may be missing; a weight of the encoder may not."""
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("predictor.")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    require_tokens(load_backbone(folder, dtype=torch.float32), model)
    del kept["encoder.layernorm.weight"]
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError) as caught:
        load_backbone(folder, dtype=torch.float32)
    assert str(caught.value).splitlines()[1:] == ["  missing: encoder.layernorm.weight"]


def test_a_classifier_whose_pooler_is_lost_is_refused(folder: Path) -> None:
    """A config.json that names the classifier wants the pooler's weights: they are listed."""
    path = folder / "config.json"
    content = json.loads(path.read_text()) | {"architectures": ["VJEPA2ForVideoClassification"]}
    path.write_text(json.dumps(content))
    with pytest.raises(BackboneError, match=r"(?s)do not fit its config\.json.*missing: .*pooler\.query_tokens"):
        load_backbone(folder, dtype=torch.float32)


def test_parts_without_pooler_are_one_backbone(model: Any, folder: Path) -> None:
    """Weights in two files with their index, as ViT-H and ViT-g are published."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    parts = {file: sorted(weights)[number::2] for number, file in enumerate(files)}
    for file, names in parts.items():
        save_file({name: weights[name] for name in names}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, names in parts.items() for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    backbone = load_backbone(folder, dtype=torch.float32)
    assert backbone.poolings == ("mean", "max")
    require_tokens(backbone, model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_load_in_any_precision(model: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    """What is stored in half precision is computed in what is asked for: rounded once, then as in fp32."""
    save(model, tmp_path, name="tiny/half", preprocessing=PREPROCESSING, dtype=dtype)
    single, half = (load_backbone(tmp_path, dtype=each) for each in (torch.float32, dtype))
    assert (single.dtype, half.dtype) == (torch.float32, dtype)
    stored = load_file(tmp_path / "model.safetensors")["encoder.layer.2.attention.query.weight"]
    assert stored.dtype == dtype
    assert torch.equal(single.last.get_parameter("attention.query.weight"), stored.float())
    with torch.no_grad():
        tokens = half.tokens(pixels(1).to(dtype)).float()
        assert (tokens - single.tokens(pixels(1))).abs().mean() < 0.05


def test_the_sizes_of_a_giant_at_384_pixels(tmp_path: Path) -> None:
    """ViT-g's proportions (heads of 64 channels, mlp_ratio 48/11, 24 patches a side) on a network of two layers."""
    model = encoder(hidden_size=128, num_attention_heads=2, num_hidden_layers=2, mlp_ratio=48 / 11, crop_size=384)
    preprocessing = Preprocessing(384, PREPROCESSING.mean, PREPROCESSING.std)
    save(model, tmp_path, name="tiny/vitg-fpc64-384", preprocessing=preprocessing, dtype=torch.float16)
    backbone = load_backbone(tmp_path, dtype=torch.float32)
    own = Preprocessing.from_checkpoint(tmp_path)
    assert (own.crop_size, own.shortest_edge) == (384, 438)
    backbone.require_fit(num_frames=16, crop_size=own.crop_size)
    assert backbone.block_input_shape(16) == (8 * 24 * 24, 128)
    assert backbone.block_input(pixels(1, 384)).shape == (1, 2 * 24 * 24, 128)


def test_heads_are_told_which_poolings_there_are() -> None:
    """Params that ask for the pooler of a checkpoint without one: which poolings there are, and what to set."""
    vectors = {name: np.zeros((1, 4), dtype=np.float16) for name in ("mean", "max")}
    numbers = np.zeros(1, dtype=np.int32)
    stored = embeddings_of({"v": VideoEmbeddings(numbers, np.zeros(1), np.ones(1), numbers, vectors)})
    with pytest.raises(StoreError) as caught:
        stored.features(["pooler"])
    assert str(caught.value) == (
        "no pooling pooler; stored are mean, max; the checkpoint has no attentive pooler: name some of them under "
        "features of train and temporal in the params"
    )


def test_the_stage_that_embeds_says_which_poolings_there_are(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Before hours of work, of which nothing is lost."""
    plan = WindowPlan(num_frames=NUM_FRAMES, sample_fps=4.0, stride_s=1.0, max_still_s=1.0)
    encoder = load_frozen_encoder(folder, tmp_path, plan, decoder="pyav", precision="fp32", attention="sdpa")
    assert caplog.messages == []  # nobody who writes a diary can choose
    encoder.warn_of_poolings()
    assert caplog.messages == [
        "tiny/fpc64 has no attentive pooler: features of train and temporal in the params can be mean and max"
    ]


def test_views_are_joined_by_pooling() -> None:
    """The maximum for max, the mean for the others; one view is as it was."""
    first, second = (torch.tensor([[1.0, 4.0]]), torch.tensor([[3.0, 2.0]]))
    views = [dict.fromkeys(("pooler", "mean", "max"), view) for view in (first, second)]
    joined = join_views(views)
    assert joined["max"].tolist() == [[3.0, 4.0]]
    assert joined["mean"].tolist() == joined["pooler"].tolist() == [[2.0, 3.0]]
    assert join_views(views[:1])["mean"] is first

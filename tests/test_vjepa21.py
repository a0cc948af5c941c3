"""V-JEPA 2.1 on tiny random weights, against a reference in plain numpy that is written from the module's docstring."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.numpy import load_file, save_file

from features.backbone import BackboneError, load_backbone
from features.clips import ClipReader, Source
from features.embed import embed_videos
from features.preprocess import Preprocessing
from features.video import WindowPlan
from tests.videos import evenly, write_video

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, HEADS, LAYERS, MLP, SIDE, PATCH, TUBELET, NUM_FRAMES = 40, 2, 3, 96, 48, 16, 2, 6
PATCHES = SIDE // PATCH
CONFIG = {
    "model_type": "vjepa2_1",
    "_name_or_path": "tiny/vjepa2.1-vitb-384",
    "hidden_size": SIZE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "mlp_ratio": MLP / SIZE,
    "crop_size": SIDE,
    "patch_size": PATCH,
    "tubelet_size": TUBELET,
    "frames_per_clip": 64,
}

Weights = dict[str, npt.NDArray[np.float32]]


def random_weights() -> Weights:
    """All that a published state dict holds; those of pictures and the first three norms too."""
    generator = np.random.default_rng(0)

    def normal(*shape: int, scale: float = 0.2) -> npt.NDArray[np.float32]:
        return generator.normal(0, scale, shape).astype(np.float32)

    weights = {
        "patch_embed.proj.weight": normal(SIZE, 3, TUBELET, PATCH, PATCH, scale=0.03),
        "patch_embed.proj.bias": normal(SIZE),
        "patch_embed_img.proj.weight": normal(SIZE, 3, 1, PATCH, PATCH),
        "patch_embed_img.proj.bias": normal(SIZE),
        "video_mod_embed": normal(1, 1, SIZE),
        "img_mod_embed": normal(1, 1, SIZE),
    }
    for k in range(LAYERS):
        shapes = {
            "attn.qkv": (3 * SIZE, SIZE),
            "attn.proj": (SIZE, SIZE),
            "mlp.fc1": (MLP, SIZE),
            "mlp.fc2": (SIZE, MLP),
        }
        for name, (rows, columns) in shapes.items():
            weights |= {f"blocks.{k}.{name}.weight": normal(rows, columns), f"blocks.{k}.{name}.bias": normal(rows)}
    norms = [f"blocks.{k}.norm{j}" for k in range(LAYERS) for j in (1, 2)] + [f"norms_block.{j}" for j in range(4)]
    for name in norms:
        weights |= {f"{name}.weight": 1 + normal(SIZE), f"{name}.bias": normal(SIZE)}
    return weights


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights()


@pytest.fixture(scope="module")
def folder(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "vjepa21"
    path.mkdir()
    save_file(weights, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(CONFIG))
    Preprocessing(SIDE, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)).to_checkpoint(path)
    return path


@pytest.fixture
def broken(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "broken"))


def clip() -> npt.NDArray[np.float64]:
    """Pixels (T, 3, H, W)."""
    return np.random.default_rng(1).normal(0, 1, (NUM_FRAMES, 3, SIDE, SIDE))


def reference(weights: Weights, clip: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The tokens (N, D) of a clip (T, 3, H, W), one thing after the other, as the docstring says it."""
    own = {name: value.astype(np.float64) for name, value in weights.items()}

    def linear(name: str, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return rows @ own[f"{name}.weight"].T + own[f"{name}.bias"]

    def norm(name: str, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        centred = rows - rows.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6)
        return scaled * own[f"{name}.weight"] + own[f"{name}.bias"]

    places = [(t, r, c) for t in range(NUM_FRAMES // TUBELET) for r in range(PATCHES) for c in range(PATCHES)]
    tokens = np.empty((len(places), SIZE))
    for number, (t, r, c) in enumerate(places):
        frames = clip[TUBELET * t : TUBELET * (t + 1), :, PATCH * r : PATCH * (r + 1), PATCH * c : PATCH * (c + 1)]
        tubelet = frames.transpose(1, 0, 2, 3)
        for channel in range(SIZE):
            tokens[number, channel] = (own["patch_embed.proj.weight"][channel] * tubelet).sum()
    tokens += own["patch_embed.proj.bias"] + own["video_mod_embed"][0]

    head_dim = SIZE // HEADS
    d = 2 * (head_dim // 3 // 2)

    def turned(vector: npt.NDArray[np.float64], place: tuple[int, int, int]) -> npt.NDArray[np.float64]:
        result = vector.copy()
        last = 256 / PATCH - 1
        at = (place[0], place[1] * last / (PATCHES - 1), place[2] * last / (PATCHES - 1))
        for group in range(3):
            for k in range(d // 2):
                angle = at[group] * 10000 ** (-2 * k / d)
                i = group * d + 2 * k
                a, b = vector[i], vector[i + 1]
                result[i] = a * math.cos(angle) - b * math.sin(angle)
                result[i + 1] = b * math.cos(angle) + a * math.sin(angle)
        return result

    for k in range(LAYERS):
        mixed = linear(f"blocks.{k}.attn.qkv", norm(f"blocks.{k}.norm1", tokens))
        heads = []
        for head in range(HEADS):
            query, key, value = (
                mixed[:, part * SIZE + head * head_dim : part * SIZE + (head + 1) * head_dim] for part in range(3)
            )
            query, key = (
                np.stack([turned(row, at) for row, at in zip(rows, places, strict=True)]) for rows in (query, key)
            )
            likeness = np.exp(query @ key.T / math.sqrt(head_dim))
            heads.append(likeness / likeness.sum(axis=1, keepdims=True) @ value)
        tokens = tokens + linear(f"blocks.{k}.attn.proj", np.concatenate(heads, axis=1))
        inner = linear(f"blocks.{k}.mlp.fc1", norm(f"blocks.{k}.norm2", tokens))
        inner *= 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        tokens = tokens + linear(f"blocks.{k}.mlp.fc2", inner)
    return norm("norms_block.3", tokens)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_tokens_are_those_of_the_specification(folder: Path, weights: Weights, attention: str) -> None:
    """To float32's rounding, in both ways of computing attention."""
    backbone = load_backbone(folder, dtype=torch.float32, attention=attention)  # type: ignore[arg-type]
    pixels = torch.from_numpy(clip()[None]).float()
    with torch.no_grad():
        tokens = backbone.tokens(pixels)
    wanted = reference(weights, clip())
    assert wanted.std() > 0.5
    np.testing.assert_allclose(tokens[0], wanted, atol=2e-4)
    assert backbone.attention == attention


def test_each_weight_counts(folder: Path, weights: Weights, broken: Path) -> None:
    """A change of any weight that is not left out changes the tokens, and of one that is left out changes none."""
    pixels = torch.from_numpy(clip()[None]).float()
    with torch.no_grad():
        whole = load_backbone(folder, dtype=torch.float32).tokens(pixels)
        for name in ("video_mod_embed", "blocks.2.attn.qkv.bias", "norms_block.3.bias", "patch_embed_img.proj.bias"):
            save_file(weights | {name: weights[name] + 0.5}, broken / "model.safetensors")
            changed = load_backbone(broken, dtype=torch.float32).tokens(pixels)
            assert torch.equal(whole, changed) == name.startswith("patch_embed_img"), name


def test_it_is_a_backbone_as_any_other(folder: Path, tmp_path: Path) -> None:
    """It says what it is, pools by mean and max, embeds a video, and its last block alone can learn."""
    backbone = load_backbone(folder, dtype=torch.float32)
    assert (backbone.id, backbone.poolings) == ("tiny/vjepa2.1-vitb-384", ("mean", "max"))
    assert (backbone.hidden_size, backbone.crop_size, backbone.frames_per_clip) == (SIZE, SIDE, 64)
    backbone.require_fit(num_frames=NUM_FRAMES, crop_size=SIDE)
    assert backbone.block_input_shape(NUM_FRAMES) == (NUM_FRAMES // TUBELET * PATCHES**2, SIZE)
    reader = ClipReader(WindowPlan(4, 4.0, 1.0, 1.0), Preprocessing.from_checkpoint(folder), "pyav")
    ((_, part),) = embed_videos(
        backbone,
        [Source("v", write_video(tmp_path / "v.mp4", evenly(36, 12)))],
        reader,
        block_input_windows={"v": frozenset({1})},
        batch_size=2,
        num_workers=0,
        device=torch.device("cpu"),
    )
    video = part.result()
    assert set(video.embeddings.vectors) == {"mean", "max"}
    assert video.block_inputs.shape == (1, *backbone.block_input_shape(4))
    with torch.no_grad():
        pooled = backbone.pool(backbone.last_block(video.block_inputs), ["mean"])["mean"]
    np.testing.assert_allclose(pooled[0], video.embeddings.vectors["mean"][1], atol=2e-3)

    own = backbone.with_own_last_block()
    own.last.requires_grad_(True)
    own.pool(own.last_block(video.block_inputs), ["mean"])["mean"].square().sum().backward()
    assert all(parameter.grad is not None for parameter in own.last.parameters())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_half_precision_stays_close(folder: Path) -> None:
    """bf16 tokens are near those in fp32."""
    pixels = torch.from_numpy(clip()[None]).float()
    single, half = (load_backbone(folder, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    with torch.no_grad():
        wanted, found = single.tokens(pixels), half.tokens(pixels.bfloat16())
    assert found.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(wanted.flatten(), found.float().flatten(), dim=0) > 0.999


def test_weights_in_parts_load(folder: Path, broken: Path) -> None:
    """As one file does."""
    weights = load_file(broken / "model.safetensors")
    (broken / "model.safetensors").unlink()
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    parts = {file: sorted(weights)[number::2] for number, file in enumerate(files)}
    for file, names in parts.items():
        save_file({name: weights[name] for name in names}, broken / file)
    index = {"weight_map": {name: file for file, names in parts.items() for name in names}}
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    pixels = torch.from_numpy(clip()[None]).float()
    with torch.no_grad():
        wanted, found = (load_backbone(path, dtype=torch.float32).tokens(pixels) for path in (folder, broken))
    assert torch.equal(wanted, found)


def test_weights_that_do_not_fit_are_listed(broken: Path, weights: Weights) -> None:
    """Missing, unexpected and misshapen ones, by the names that they have in the file."""
    changed = {name: value for name, value in weights.items() if name != "norms_block.3.bias"}
    changed |= {"module.backbone.x": np.zeros(2, np.float32), "blocks.0.norm1.bias": np.zeros(7, np.float32)}
    save_file(changed, broken / "model.safetensors")
    with pytest.raises(BackboneError) as caught:
        load_backbone(broken, dtype=torch.float32)
    assert str(caught.value).splitlines() == [
        f"the weights in {broken} do not fit its config.json",
        "  missing: norms_block.3.bias",
        "  unexpected: module.backbone.x",
        "  mismatched: blocks.0.norm1.bias (found (7,), wanted (40,))",
    ]
    save_file(weights | {"video_mod_embed": np.full((1, 1, SIZE), np.nan, np.float32)}, broken / "model.safetensors")
    with pytest.raises(BackboneError, match="are nan or infinite: video_mod_embed"):
        load_backbone(broken, dtype=torch.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mlp_ratio": None, "crop_size": None}, "lacks crop_size, mlp_ratio"),
        (
            {"num_attention_heads": 3},
            "hidden_size must be a multiple of num_attention_heads.*found 40 and 3, 48 and 16",
        ),
        ({"crop_size": 50}, "crop_size of patch_size, found 40 and 2, 50 and 16"),
        ({"num_hidden_layers": 2.5}, "cannot be loaded"),
        ({"num_hidden_layers": 2}, "unexpected: blocks.2.attn.proj.bias"),
        ({"mlp_ratio": 4}, r"mismatched: .*blocks.0.mlp.fc1.weight \(found \(96, 40\), wanted \(160, 40\)\)"),
    ],
)
def test_a_config_that_does_not_fit_says_why(broken: Path, change: dict[str, object], message: str) -> None:
    """In one error, whatever is in config.json."""
    content = {key: value for key, value in {**CONFIG, **change}.items() if value is not None}
    (broken / "config.json").write_text(json.dumps(content))
    with pytest.raises(BackboneError, match=f"(?s){message}"):
        load_backbone(broken, dtype=torch.float32)

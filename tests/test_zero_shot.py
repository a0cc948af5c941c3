"""CLIP as a baseline: a tiny checkpoint with random weights, in the format that published ones have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from heads.zero_shot import ClipError, load_zero_shot

PROMPTS = ["Doing a", "Doing nothing", "Opening a laptop"]


def make_clip(folder: Path) -> Path:
    """32 pixels, 16 channels, and a tokenizer that spells every word out in letters."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    folder.mkdir(parents=True)
    letters = [chr(k) for k in range(33, 127)]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: k for k, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": vocabulary["<|startoftext|>"], "eos_token_id": vocabulary["<|endoftext|>"]}
    text = CLIPTextConfig(vocab_size=len(pieces), max_position_embeddings=24, **size, **ends)
    vision = CLIPVisionConfig(image_size=32, patch_size=8, **size)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip")


def test_probabilities_are_what_the_checkpoint_itself_gives(clip: Path) -> None:
    """Pictures of its own size are not resized: the softmax over its logits for each picture, with CLIP's numbers."""
    from transformers import AutoTokenizer, CLIPModel

    pictures = torch.randint(256, (3, 32, 32, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    model, sha256 = load_zero_shot(clip, PROMPTS)
    found = model(pictures)
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    pixels = torch.from_numpy(((pictures.numpy() / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32))
    tokens = AutoTokenizer.from_pretrained(clip)(PROMPTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = CLIPModel.from_pretrained(clip).eval()(**tokens, pixel_values=pixels).logits_per_image.softmax(-1)
    assert torch.allclose(found, expected, atol=1e-5)
    assert found.std() > 1e-4
    assert len(sha256) == 64
    larger = pictures.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    assert torch.allclose(model(larger), found, atol=0.02)


def test_another_kind_of_folder_is_refused_in_a_line(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"nowhere/config\.json cannot be read .* set clip to null"):
        load_zero_shot(tmp_path / "nowhere", PROMPTS)
    (tmp_path / "config.json").write_text('{"model_type": "vjepa2"}')
    with pytest.raises(ClipError, match=r"a model of type 'clip' is wanted, found 'vjepa2'"):
        load_zero_shot(tmp_path, PROMPTS)
    (tmp_path / "config.json").write_bytes((clip / "config.json").read_bytes())
    with pytest.raises(ClipError, match=r"cannot be loaded \(.*\): get the folder again"):
        load_zero_shot(tmp_path, PROMPTS)

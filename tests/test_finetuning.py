"""Stage 2: passes over videos, batches, and a model of which the last block and the head alone change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from features.clips import Reading, Source, read_passes, stream_clips
from features.decode import UnreadableVideo
from features.encoder import Backbone, create, save
from features.preprocess import Preprocessing
from features.video import Clip, Segment, WindowPlan
from heads import weights
from heads.finetuning import clip_batches, plan_passes
from heads.head import Head
from heads.model import ActionModel, load_action_model, predict_clips
from heads.training import TrainingSchedule, fit
from tests.videos import CLOSED_GOP, evenly, write_video

PREPROCESSING = Preprocessing(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
PLAN = WindowPlan(num_frames=4, sample_fps=4, stride_s=0.5)


@pytest.fixture(scope="module")
def backbone_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone")
    model = create(
        seed=0, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, crop_size=32, num_frames=4,
        num_pooler_layers=1, num_labels=2,
    )  # fmt: skip
    save(model, folder, name="tiny", preprocessing=PREPROCESSING, dtype=torch.float32)
    return folder


def model_of(backbone_dir: Path) -> ActionModel:
    backbone = Backbone.load(backbone_dir, dtype=torch.float32)
    return ActionModel(backbone, Head(64, 3), preprocessing=PREPROCESSING, features=["mean", "max"])


def clip_at(start_s: float, grey: int = 128) -> Clip:
    frames = np.full((4, 32, 32, 3), grey, dtype=np.uint8)
    return Clip(Segment(start_s, start_s + 1), frames, np.arange(4) / 4 + start_s, 0)


def test_an_epoch_passes_over_every_video_once() -> None:
    """Passes draw windows without replacement, all videos before any again, and enough clips altogether."""
    sources = [Source(name, Path(name)) for name in "abc"]
    num_windows = {"a": 2, "b": 5, "c": 9}
    generator = torch.Generator().manual_seed(0)
    passes = plan_passes(sources, num_windows, windows_per_pass=4, num_clips=25, generator=generator)
    assert {each.video_id for each in passes[:3]} == {"a", "b", "c"}
    for each in passes:
        assert each.windows is not None
        assert len(each.windows) == min(4, num_windows[each.video_id])
        assert max(each.windows) < num_windows[each.video_id]
    assert sum(len(each.windows or ()) for each in passes) >= 25


def test_the_buffer_gives_each_clip_once_with_its_own_targets() -> None:
    """Shuffled, but a frame never parts from its label; what does not fill a batch is left out."""
    passes = [("v", [clip_at(float(k), grey=k) for k in range(10)]), ("w", [clip_at(0.0, grey=100)])]

    def target_of(video_id: str, start_s: float) -> np.ndarray:
        return np.array([start_s if video_id == "v" else 100.0])

    generator = torch.Generator().manual_seed(1)
    batches = list(clip_batches(passes, target_of, batch_size=3, buffer_size=5, generator=generator))
    assert [frames.shape for frames, _ in batches] == [(3, 4, 32, 32, 3)] * 3
    greys = torch.cat([frames[:, 0, 0, 0, 0] for frames, _ in batches]).tolist()
    assert greys == torch.cat([targets[:, 0] for _, targets in batches]).tolist()
    assert len(set(greys)) == 9
    assert greys != sorted(greys)


def test_stage_2_changes_the_last_block_and_the_head_alone(backbone_dir: Path, tmp_path: Path) -> None:
    """Everything before and after stays as it came, bit for bit; saved and loaded, it answers the same."""
    model = model_of(backbone_dir)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.backbone.last.requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (8, 4, 32, 32, 3), dtype=torch.uint8, generator=generator)
    targets = torch.randint(0, 2, (8, 3), generator=generator).float()
    fit(
        model,
        train_batches=iter([(frames, targets)] * 6),
        evaluate=lambda _: {"loss": 1.0, "map": float(torch.rand((), generator=generator)) + _calls()},
        parameter_groups=[
            {"params": list(model.head.parameters()), "lr": 0.01, "name": "head"},
            {"params": list(model.backbone.last.parameters()), "lr": 0.01, "name": "last_block"},
        ],
        schedule=TrainingSchedule(
            steps=6, accumulation=2, evaluate_every=3, patience=9, weight_decay=0.0, warmup_share=0.0,
            decay="constant", max_grad_norm=None, precision="fp32",
        ),
        generator=generator,
        cpu=True,
    )  # fmt: skip
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith(("backbone.last.", "head.linear.")) for name in changed)
    assert any(name.startswith("backbone.last.") for name in changed)

    weights.save(tmp_path / "finetune", model.trained_tensors(), {"features": ["mean", "max"]})
    loaded, _ = load_action_model(
        tmp_path / "finetune", Backbone.load(backbone_dir, dtype=torch.float32), PREPROCESSING, expect={}
    )
    with torch.no_grad():
        assert torch.equal(loaded(frames), model(frames))


_count = iter(range(1000))


def _calls() -> float:
    return float(next(_count))  # every evaluation is better than the one before, so the last weights stay


def test_a_head_alone_is_the_model_with_the_backbone_as_it_came(backbone_dir: Path, tmp_path: Path) -> None:
    """Stage 1's folder loads as the same kind of model, and a backbone of other weights is refused by name."""
    model = model_of(backbone_dir).eval()
    description = {"features": ["mean", "max"], "backbone": {"id": "tiny", "sha256": "0" * 64}}
    weights.save(tmp_path / "head", model.head.state_dict(), description)
    backbone = Backbone.load(backbone_dir, dtype=torch.float32)
    loaded, _ = load_action_model(tmp_path / "head", backbone, PREPROCESSING, expect={})
    clips = [("v", clip_at(0.0)), ("v", clip_at(1.0, grey=30)), ("w", clip_at(0.0, grey=200))]
    found = list(predict_clips(loaded, clips, batch_size=2, device=torch.device("cpu")))
    assert [(video_id, clip.segment.start_s) for video_id, clip, _ in found] == [("v", 0.0), ("v", 1.0), ("w", 0.0)]
    frames = torch.from_numpy(np.stack([clip.frames for _, clip in clips]))
    with torch.no_grad():
        np.testing.assert_allclose(
            np.stack([row for _, _, row in found]), model(frames).sigmoid().numpy(), rtol=1e-5, atol=1e-6
        )
    expect = {"backbone": {"id": "tiny", "sha256": backbone.weights_sha256}}
    with pytest.raises(weights.WeightsMismatch, match="sha256"):
        load_action_model(tmp_path / "head", backbone, PREPROCESSING, expect=expect)


def test_workers_read_the_same_clips_in_the_same_order(tmp_path: Path) -> None:
    """Decoding in other processes changes nothing, chosen windows included; a bad file is told with its reason."""
    sources = []
    for k in range(3):
        path = tmp_path / f"{k}.mp4"
        write_video(path, evenly(30 + 6 * k, 12), codec="libx264", options=CLOSED_GOP)
        sources.append(Source(str(k), path, frozenset({0, k + 1})))
    reading = Reading(PLAN, PREPROCESSING, "auto")
    alone, together = (list(read_passes(sources, reading, num_workers=n)) for n in (0, 2))
    assert [video_id for video_id, _ in together] == ["0", "1", "2"]
    for (_, one), (_, other) in zip(alone, together, strict=True):
        assert [clip.segment for clip in one] == [clip.segment for clip in other]
        assert all(np.array_equal(a.frames, b.frames) for a, b in zip(one, other, strict=True))
    (tmp_path / "bad.mp4").write_text("no video")
    ends = [
        item
        for item in stream_clips([*sources, Source("bad", tmp_path / "bad.mp4")], reading, num_workers=2)
        if not isinstance(item, tuple)
    ]
    assert sorted(end.video_id for end in ends) == ["0", "1", "2", "bad"]
    assert [isinstance(end.failure, UnreadableVideo) for end in ends if end.video_id == "bad"] == [True]

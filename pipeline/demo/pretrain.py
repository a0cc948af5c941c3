"""The recipe of the demo's backbone: `python -m pipeline.demo.pretrain`, about twenty minutes on two cores.

V-JEPA 2's own way, predicting masked features, needs far more than a laptop has. A tiny encoder learns instead what is
where: for each token, the share of its pixels that shows a floor, a torso, a phone in a hand. Its attentive pooler then
learns, on the frozen tokens, which actions a clip shows, as the published checkpoint's learned Something-Something v2.
People and rooms are in no split of the demo. No stage runs this: its result, in the Hugging Face format, is committed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from features.backbone import create, save
from features.preprocess import Preprocessing
from features.video import Segment
from heads.targets import window_targets
from pipeline.demo.canvas import HEIGHT, KINDS, WIDTH
from pipeline.demo.render import Renderer
from pipeline.demo.script import make_story
from pipeline.demo.world import CLASSES, make_person

SEED = 20260314  # far from every seed that params.yaml is likely to have
NUM_STORIES, LENGTH_S, SAMPLE_FPS, NUM_FRAMES = 600, 14.0, 4, 8
PREPROCESSING = Preprocessing(crop_size=112, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
PATCH, TUBELET = 16, 2
LABELS = sorted(CLASSES.values())


@dataclass(frozen=True)
class _Seen:
    """One rendered story: `frames` (n, S, S, 3) uint8, `shares` (n / 2, S / 16, S / 16, kinds) uint8, of 255."""

    frames: np.ndarray
    shares: np.ndarray
    actions: list[tuple[str, Segment]]


def _see(number: int) -> _Seen:
    torch.set_num_threads(1)
    rng = np.random.default_rng([SEED, number])
    story = make_story(rng, make_person(rng), LENGTH_S)
    renderer = Renderer(story, with_kinds=True)
    frames, shares = [], []
    for k in range(int(LENGTH_S * SAMPLE_FPS) // TUBELET * TUBELET):
        picture, kinds = renderer.render(k / SAMPLE_FPS)
        assert kinds is not None
        frames.append(PREPROCESSING.resize_crop(picture))
        shares.append(_shares(kinds))
    both = np.stack(shares).reshape(-1, TUBELET, *shares[0].shape).mean(axis=1)
    actions = [(label, Segment(start_s, end_s)) for label, start_s, end_s in story.actions]
    return _Seen(np.stack(frames), np.round(both * 255).astype(np.uint8), actions)


def _shares(kinds: np.ndarray) -> np.ndarray:
    """Of each patch of the cropped picture, the share of every kind: (S / 16, S / 16, kinds)."""
    edge, side = PREPROCESSING.shortest_edge, PREPROCESSING.crop_size
    width = edge * WIDTH // HEIGHT
    resized = F.interpolate(torch.from_numpy(kinds)[None, None].float(), size=(edge, width), mode="nearest")[0, 0]
    top, left = (edge - side) // 2, (width - side) // 2
    cropped = resized[top : top + side, left : left + side].long()
    layers = F.one_hot(cropped, len(KINDS)).permute(2, 0, 1).float()
    return F.avg_pool2d(layers[None], PATCH)[0].permute(1, 2, 0).numpy()


def _batches(seen: list[_Seen], batch_size: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless random clips, half of them mirrored: pixels, shares (B, N, kinds), actions (B, labels)."""
    while True:
        frames, shares, actions = [], [], []
        for _ in range(batch_size):
            story = seen[rng.integers(len(seen))]
            first = int(rng.integers((len(story.frames) - NUM_FRAMES) // TUBELET + 1)) * TUBELET
            clip = story.frames[first : first + NUM_FRAMES]
            share = story.shares[first // TUBELET : (first + NUM_FRAMES) // TUBELET]
            if rng.random() < 0.5:
                clip, share = clip[:, :, ::-1], share[:, :, ::-1]
            window = Segment(first / SAMPLE_FPS, (first + NUM_FRAMES) / SAMPLE_FPS)
            frames.append(clip)
            shares.append(share.reshape(-1, len(KINDS)))
            actions.append(window_targets([window], story.actions, LABELS, min_overlap_s=0.5)[0])
        pixels = PREPROCESSING.normalise(torch.from_numpy(np.stack(frames)), torch.float32)
        yield pixels, torch.from_numpy(np.stack(shares)).float() / 255, torch.from_numpy(np.stack(actions)).float()


def _one_cycle(parameters: list[nn.Parameter], peak: float, steps: int) -> tuple[torch.optim.Optimizer, object]:
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=0.02)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, pct_start=0.1)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).with_name("backbone"), show_default=True)
@click.option("--encoder-steps", default=3000, show_default=True)
@click.option("--pooler-steps", default=600, show_default=True)
def main(out: Path, encoder_steps: int, pooler_steps: int) -> None:
    """Make the demo's backbone from nothing."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        stories = pool.map(_see, range(NUM_STORIES), chunksize=4)
        seen = list(tqdm(stories, total=NUM_STORIES, desc="render", unit="story", file=sys.stderr))
    rng = np.random.default_rng([SEED, NUM_STORIES])
    model = create(
        seed=SEED,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        crop_size=PREPROCESSING.crop_size,
        num_frames=NUM_FRAMES,
        num_pooler_layers=1,
        num_labels=len(LABELS),
    )
    encoder = model.vjepa2.encoder

    # What is rare in the pictures, a phone or a hand, is what the actions are about.
    frequency = np.mean([story.shares.mean(axis=(0, 1, 2)) / 255 for story in seen], axis=0)
    weight = torch.from_numpy(np.where(frequency < 0.01, 4.0, 1.0)).float()
    torch.manual_seed(SEED)
    readout = nn.Linear(128, len(KINDS))
    optimizer, schedule = _one_cycle([*encoder.parameters(), *readout.parameters()], 2e-3, encoder_steps)
    batches = _batches(seen, 16, rng)
    with tqdm(range(encoder_steps), desc="encoder", unit="step", file=sys.stderr) as bar:
        for _ in bar:
            pixels, shares, _ = next(batches)
            log_probabilities = readout(encoder(pixels).last_hidden_state).log_softmax(-1)
            loss = -(weight * shares * log_probabilities).sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            schedule.step()  # type: ignore[attr-defined]
            bar.set_postfix(loss=f"{loss.item():.4f}")

    encoder.requires_grad_(False)
    trained = [*model.pooler.parameters(), *model.classifier.parameters()]
    optimizer, schedule = _one_cycle(trained, 1e-3, pooler_steps)
    batches = _batches(seen, 32, rng)
    with tqdm(range(pooler_steps), desc="pooler", unit="step", file=sys.stderr) as bar:
        for _ in bar:
            pixels, _, actions = next(batches)
            logits = model.classifier(model.pooler(encoder(pixels).last_hidden_state))
            loss = F.binary_cross_entropy_with_logits(logits, actions)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()  # type: ignore[attr-defined]
            bar.set_postfix(loss=f"{loss.item():.4f}")

    # Half precision halves what the repository carries; the format has it too.
    save(model, out, name="demo-vjepa2-tiny", preprocessing=PREPROCESSING, dtype=torch.float16)


if __name__ == "__main__":
    main()

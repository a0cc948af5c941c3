"""Training on what somebody judged in part: unknown is in no loss, no share and no gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from features.video import Segment
from heads import losses
from heads.linear import LinearHead
from heads.shape import TemporalShape
from heads.targets import cell_targets, known_targets
from heads.training.grid import best_of, settings_of, train_temporal_heads
from heads.training.schedule import LossName, TrainingSchedule
from heads.training.sequences import Sequences, joined

NAN = float("nan")
LABELS = ["sit", "cup"]


def test_cells_are_on_off_or_unknown() -> None:
    cells = [Segment(k, k + 1) for k in range(6)]
    on = [("sit", Segment(1, 2.6)), ("door", Segment(0, 6))]
    off = [("sit", Segment(2.6, 4)), ("cup", Segment(0, 1.5)), ("cup", Segment(1.5, 2)), ("cup", Segment(5.2, 6))]
    is_on = cell_targets(cells, on, LABELS, stride_s=1)
    found = known_targets(cells, is_on, on + off, LABELS)
    np.testing.assert_array_equal(found[:, 0], [NAN, 1, 1, 0, NAN, NAN])
    np.testing.assert_array_equal(found[:, 1], [0, 0, NAN, NAN, NAN, NAN])


@pytest.mark.parametrize("name", ["bce", "asymmetric", "class_balanced"])
def test_unknown_cells_are_in_no_loss_and_no_gradient(name: LossName) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand((40, 3), generator=generator) < 0.4).float()
    unknown = torch.rand((40, 3), generator=generator) < 0.5
    partial = targets.masked_fill(unknown, NAN)
    logits = torch.randn((2, 40, 3), generator=generator, requires_grad=True)
    found = losses.named(name, partial)(logits, partial)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert not gradient[:, unknown].any()
    assert gradient[:, ~unknown].all() or name == "asymmetric"
    # What the unknown ones really are, and what the model says of them, changes nothing.
    other = logits.detach().clone()
    other[:, unknown] = 7.0
    torch.testing.assert_close(losses.named(name, partial)(other, partial), found.detach())
    if name == "bce":
        for k in range(2):
            torch.testing.assert_close(losses.bce(logits[k][~unknown][:, None], targets[~unknown][:, None]), found[k])


def test_targets_without_unknown_ones_have_the_plain_loss() -> None:
    targets = torch.tensor([[0.0, 1.0]])
    assert losses.named("bce", targets) is losses.bce
    assert losses.named("bce", targets.bool()) is losses.bce
    nothing = torch.full((3, 2), NAN)
    assert losses.named("bce", nothing)(torch.zeros(3, 2), nothing) == 0


def test_a_head_starts_at_the_known_share() -> None:
    targets = torch.tensor([[1, NAN, NAN], [0, 1, NAN], [0, NAN, NAN], [1, 0, NAN]])
    head = LinearHead(2, 3)
    head.start_from(torch.randn(4, 2), targets)
    torch.testing.assert_close(head(torch.zeros(1, 2)).sigmoid()[0], torch.tensor([0.5, 0.5, 1e-4]))


def world(seed: int, num_videos: int, *, shift: float) -> Sequences:
    """Two labels that a shifted feature each shows; somebody new shifts it elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    count = num_videos * 20
    targets = torch.rand((count, 2), generator=generator) < 0.3
    features = torch.randn((count, 6), generator=generator) * 0.4
    features[:, :2] += targets * 2 - shift
    return Sequences(features.half(), targets, torch.arange(20).repeat(num_videos), (20,) * num_videos)


@pytest.mark.usefixtures("one_thread")
def test_partly_judged_videos_teach_what_was_judged() -> None:
    """Half of a new person's cells, judged: the model becomes better on another video of that person."""
    train, val, own, other = world(0, 20, shift=0), world(1, 5, shift=0), world(2, 4, shift=2), world(3, 20, shift=2)
    known = torch.rand(own.targets.shape, generator=torch.Generator().manual_seed(5)) < 0.5
    judged = Sequences(own.features, own.targets.float().masked_fill(~known, NAN), own.steps, own.counts)

    def error(sequences: Sequences) -> float:
        schedule = TrainingSchedule(
            steps=60,
            accumulation=1,
            evaluate_every_steps=60,
            patience=5,
            warmup_share=0.1,
            decay="cosine",
            max_grad_norm=1.0,
            precision="fp32",
        )
        trials = train_temporal_heads(
            sequences,
            val,
            shape=TemporalShape(width=8, blocks=1, dropout=0.0),
            num_members=1,
            settings=settings_of(["bce"], [0.02], [0.0]),
            schedule=schedule,
            batch_size=4,
            sequence_windows=20,
            generator=torch.Generator().manual_seed(0),
            cpu=True,
        )
        windows = other.features.float().reshape(20, 20, 6)
        logits = best_of(trials).head(windows, torch.ones(20, 20, dtype=torch.bool))
        return float(((logits.reshape(-1, 2) > 0) != other.targets).float().mean())

    before, after = error(train), error(joined([train, judged, judged, judged]))
    assert after < before - 0.05

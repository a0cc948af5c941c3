"""Ensembles of temporal heads: what their answer is, how they train, and what their folder holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from features.sealed import DamagedFile
from heads import weights
from heads.shape import TemporalShape
from heads.temporal import TemporalEnsemble, TemporalHead, load_temporal_head, predict_sequence
from heads.training.grid import Trial, settings_of, train_temporal_heads
from heads.training.validation import scores
from tests.test_temporal import MEMORY, SCHEDULE, made_head, noise

FEATURES, STEPS = noise(40, 5), torch.arange(40)


def made_ensemble(num_members: int) -> TemporalEnsemble:
    """Members with random weights of their own, in eval mode."""
    members = [made_head() for _ in range(num_members)]
    for k, member in enumerate(members):
        with torch.no_grad():
            member.linear.weight.add_(noise(*member.linear.weight.shape, seed=k))
    return TemporalEnsemble(members).eval()


def train(num_members: int, *rates: float) -> list[Trial]:
    return train_temporal_heads(
        *MEMORY,
        shape=TemporalShape(width=16, blocks=2, dropout=0.2),
        num_members=num_members,
        settings=settings_of(["bce"], rates, [0.01]),
        schedule=SCHEDULE,
        batch_size=8,
        sequence_windows=24,
        generator=torch.Generator().manual_seed(0),
        cpu=True,
    )


@pytest.mark.parametrize("chunk_windows", [7, 2048])
def test_the_answer_is_the_mean_of_the_members_probabilities(chunk_windows: int) -> None:
    """In one piece and in chunks; one member's answer is its own, to the last bit."""
    ensemble = made_ensemble(3)

    def predicted(head: TemporalHead | TemporalEnsemble) -> Tensor:
        return predict_sequence(head, FEATURES, STEPS, chunk_windows=chunk_windows)

    members = [member for member in ensemble.members if isinstance(member, TemporalHead)]
    each = torch.stack([predicted(member).sigmoid() for member in members])
    assert each.std(0).min() > 1e-3
    torch.testing.assert_close(predicted(ensemble).sigmoid(), each.mean(0), rtol=0, atol=1e-6)
    assert torch.equal(predicted(TemporalEnsemble(members[1:2]).eval()), predicted(members[1]))


def test_members_that_are_very_sure_give_a_finite_answer() -> None:
    """Logits of 500: both sure is sure, sure of opposites is one half."""
    ensemble = made_ensemble(2)
    for k, sign in enumerate((1.0, -1.0)):
        with torch.no_grad():
            ensemble.get_parameter(f"members.{k}.linear.weight").zero_()
            ensemble.get_parameter(f"members.{k}.linear.bias").copy_(torch.tensor([500.0, -500.0, 500.0 * sign]))
    logits = predict_sequence(ensemble, FEATURES, STEPS)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.sigmoid(), torch.tensor([1.0, 0.0, 0.5]).expand(40, 3))


def test_members_are_apart_and_val_judges_them_together() -> None:
    """Weights differ from start to end, standardisation does not; the history's mAP is that of the mean."""
    (trial,) = train(2, 0.01)
    ensemble = trial.head
    assert isinstance(ensemble, TemporalEnsemble)
    first, second = ensemble.members
    for (name, own), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(own, other) == (name in ("mean", "inverse_std"))
    val = MEMORY[1]
    logits = predict_sequence(ensemble, val.features, val.steps_apart(3))
    assert scores(logits, val.targets)["map"] == pytest.approx(trial.history.best.val_map, abs=1e-9)
    assert trial.history.best.val_map > 0.95


@pytest.mark.slow
def test_an_ensemble_of_a_grid_is_what_it_is_alone(tmp_path: Path) -> None:
    """One seed gives the same bytes, alone or beside another setting."""

    def saved(trial: Trial) -> bytes:
        weights.save(tmp_path, trial.head.state_dict(), {})
        return (tmp_path / "model.safetensors").read_bytes()

    together, (alone,) = train(2, 0.003, 0.01), train(2, 0.01)
    assert saved(together[1]) == saved(alone)
    assert together[1].history == alone.history


def test_an_ensemble_comes_back_and_a_single_head_is_one(tmp_path: Path) -> None:
    """All members, and the tensors of a head by itself."""
    ensemble = made_ensemble(3)
    only = ensemble.members[1]
    assert isinstance(only, TemporalHead)
    for model in (ensemble, only):
        weights.save(tmp_path, model.state_dict(), {"provenance": {}, "temporal": asdict(model.shape)})
        loaded, _ = load_temporal_head(tmp_path, expected={})
        assert len(loaded.members) == (3 if model is ensemble else 1)
        assert torch.equal(predict_sequence(loaded, FEATURES, STEPS), predict_sequence(model, FEATURES, STEPS))


def test_a_folder_with_half_a_member_is_refused(tmp_path: Path) -> None:
    """The message names what is missing."""
    ensemble = made_ensemble(2)
    tensors = ensemble.state_dict()
    del tensors["members.1.linear.bias"]
    weights.save(tmp_path, tensors, {"provenance": {}, "temporal": asdict(ensemble.shape)})
    with pytest.raises(DamagedFile, match=r"missing \['members.1.linear.bias'\]"):
        load_temporal_head(tmp_path, expected={})

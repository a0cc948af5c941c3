"""The attentive head: what it can see, what it leaves alone, and the stage that trains it where it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from features.sealed import DamagedFile
from heads import weights
from heads.attentive import load_attentive_head, new_attentive_head
from heads.losses import bce
from heads.training.batches import shuffled_batches
from heads.training.candidates import Candidate
from heads.training.loop import fit
from heads.training.schedule import TrainingSchedule
from heads.training.validation import on_features
from pipeline import params
from reports.metrics.average_precision import average_precisions

SCHEDULE = {
    "steps": 150,
    "accumulation": 1,
    "evaluate_every_steps": 50,
    "patience": 5,
    "warmup_share": 0.1,
    "decay": "cosine",
    "max_grad_norm": 1.0,
    "precision": "fp32",
}
PARAMS = (
    {"learning_rate": 0.003, "weight_decay": 0.01, "batch_size": 2}
    | SCHEDULE
    | {"steps": 20, "evaluate_every_steps": 10}
)


def needles(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of 12 tokens of noise. One token is marked, and its second number alone says whether the label is on.

    Other tokens' second numbers are as large: neither their mean nor their maximum tells anything.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(count, 12, 8, generator=generator)
    tokens[..., 1] = 3 * (2 * torch.randint(2, (count, 12), generator=generator) - 1)
    on = torch.randint(2, (count,), generator=generator).bool()
    places = torch.randint(12, (count,), generator=generator)
    tokens[torch.arange(count), places, 0] = 8.0
    tokens[torch.arange(count), places, 1] = torch.where(on, 3.0, -3.0)
    return tokens, on[:, None]


@pytest.mark.slow
def test_it_finds_the_one_token_that_tells() -> None:
    tokens, on = needles(600, 0)
    generator = torch.Generator().manual_seed(0)
    head = new_attentive_head(8, on, generator=generator)
    assert torch.allclose(head(tokens).sigmoid(), on.float().mean().expand(600, 1))
    others, truth = needles(300, 1)
    fit(
        head,
        train_batches=shuffled_batches(tokens, on, batch_size=64, generator=generator),
        evaluate=on_features(others, truth, [bce]),
        candidates=[
            Candidate("a", [{"params": list(head.parameters()), "lr": 0.01, "weight_decay": 0.0, "name": "head"}], bce)
        ],
        schedule=TrainingSchedule(**SCHEDULE),  # type: ignore[arg-type]
        generator=generator,
        checkpoint=None,
        cpu=True,
    )
    with torch.no_grad():
        probabilities = head(others).sigmoid()
        order = torch.randperm(12, generator=generator)
        assert torch.allclose(head(others[:, order]).sigmoid(), probabilities, atol=1e-5)
    assert average_precisions(probabilities.numpy(), truth.numpy())[0] > 0.97
    by_mean = others[..., 1].mean(dim=1, keepdim=True).sigmoid().numpy()
    assert average_precisions(by_mean, truth.numpy())[0] < 0.8


def test_a_saved_head_gives_the_same(tmp_path: Path) -> None:
    tokens, on = needles(20, 2)
    head = new_attentive_head(8, on, generator=torch.Generator().manual_seed(1)).eval()
    torch.nn.init.normal_(head.linear.weight, generator=torch.Generator().manual_seed(2))
    config = {"provenance": {"backbone": "b"}, "labels": [{"id": "a", "name": "A"}]}
    weights.save(tmp_path / "head", head.state_dict(), config)
    loaded, own = load_attentive_head(tmp_path / "head", expected={"backbone": "b"})
    assert own["labels"] == config["labels"]
    with torch.no_grad():
        assert torch.equal(loaded(tokens), head(tokens))
    weights.save(tmp_path / "other", head.state_dict(), config | {"labels": []})
    with pytest.raises(DamagedFile, match=r"1 rows of linear.weight for 0 labels"):
        load_attentive_head(tmp_path / "other", expected={})


def test_it_needs_stored_block_inputs(tmp_path: Path) -> None:
    values = YAML(typ="safe").load(Path(__file__).parents[1] / "params" / "demo.yaml")
    values["attentive"] = PARAMS
    (tmp_path / "params").mkdir()
    YAML(typ="safe").dump(values, tmp_path / "params" / "demo.yaml")
    with pytest.raises(params.ParamsError, match=r"set finetune.source to block_inputs, or attentive to null"):
        params.load(tmp_path, "demo")

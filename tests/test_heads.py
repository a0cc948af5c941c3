"""Stage 1: losses, many heads trained at once, and average precision on val."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from ruamel.yaml import YAML
from torch import Tensor

import bench.heads
from features.store import embeddings as store
from heads import losses
from heads.linear import LinearHead, LinearHeadGrid
from heads.training.grid import Setting, Trial, best_of, save_table, settings_of, train_heads
from heads.training.schedule import TrainingSchedule
from heads.training.validation import average_precisions, scores
from pipeline.dataset import manifest
from pipeline.dataset.manifest import Interval, Manifest, VideoEntry
from pipeline.layout import Layout
from pipeline.stages.train import main as train_stage
from reports.metrics import average_precision

pytestmark = pytest.mark.usefixtures("one_thread")

REPOSITORY = Path(__file__).parents[1]

SCHEDULE = TrainingSchedule(
    steps=160,
    accumulation=2,
    evaluate_every_steps=10,
    patience=2,
    warmup_share=0.1,
    decay="constant",
    max_grad_norm=0.5,
    precision="fp32",
)


def world(seed: int, num_rows: int = 400) -> tuple[Tensor, Tensor]:
    """Rows of 24 features and 7 labels, rare to frequent, that depend on the features with some noise."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_rows, 24, generator=generator)
    directions = torch.randn(24, 7, generator=torch.Generator().manual_seed(99)) / 24**0.5
    pull = features @ directions + torch.randn(num_rows, 7, generator=generator) * 0.5
    return features * 3 + 1, pull > torch.linspace(0.3, 1.8, 7)


TRAIN, VAL = world(1), world(2, 150)
GRID = settings_of(["bce", "asymmetric", "class_balanced"], [0.001, 0.01, 0.1], [0.0, 0.3])


def train_on(settings: list[Setting], schedule: TrainingSchedule = SCHEDULE) -> list[Trial]:
    generator = torch.Generator().manual_seed(5)
    return train_heads(TRAIN, VAL, settings=settings, schedule=schedule, batch_size=64, generator=generator, cpu=True)


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return train_on(GRID)


def test_each_head_is_what_it_would_be_alone(trials: list[Trial]) -> None:
    """Every head of the grid equals one trained alone, to 1e-5: early stops, best steps, rates, weights."""
    assert len(trials) == 18
    for together in trials:
        (alone,) = train_on([together.setting])
        assert alone.setting == together.setting
        assert [row.step for row in alone.history.rows] == [row.step for row in together.history.rows]
        assert alone.history.best.step == together.history.best.step
        assert together.history.best.val_map == pytest.approx(alone.history.best.val_map, abs=1e-9)
        for own, other in zip(together.history.rows, alone.history.rows, strict=True):
            assert own.val_loss == pytest.approx(other.val_loss, abs=1e-5)
            assert own.learning_rates == other.learning_rates
        for name, value in alone.head.state_dict().items():
            torch.testing.assert_close(together.head.state_dict()[name], value, rtol=0, atol=1e-5)
    assert len({len(trial.history.rows) for trial in trials}) > 2  # they stop at different times
    assert len({trial.history.best.step for trial in trials}) > 2


def test_the_chosen_one_is_best_on_val_and_learned(trials: list[Trial]) -> None:
    """It has the highest val mAP, is the first of equals, and its weights reproduce that mAP."""
    best = best_of(trials)
    assert best.history.best.val_map == max(trial.history.best.val_map for trial in trials)
    assert best.history.best.val_map > best.history.rows[0].val_map + 0.2
    assert best_of([best, dataclasses.replace(best)]) is best
    features, targets = VAL
    with torch.no_grad():
        val_scores = scores(best.head(features), targets)
    assert val_scores["map"] == pytest.approx(best.history.best.val_map, abs=1e-9)


def test_the_table_names_every_head_and_one_choice(trials: list[Trial], tmp_path: Path) -> None:
    """The table has a row per setting with its best evaluation; one row is marked."""
    save_table(tmp_path / "grid.csv", trials)
    with (tmp_path / "grid.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({(row["loss"], row["learning_rate"], row["weight_decay"]) for row in rows}) == 18
    for row, trial in zip(rows, trials, strict=True):
        best = trial.history.best
        assert (row["loss"], float(row["learning_rate"])) == (trial.setting.loss, trial.setting.learning_rate)
        assert (int(row["best_step"]), float(row["val_loss"]), float(row["val_map"])) == (
            best.step,
            best.val_loss,
            best.val_map,
        )
    (chosen_row,) = [row for row in rows if row["chosen"] == "1"]
    assert float(chosen_row["val_map"]) == max(float(row["val_map"]) for row in rows)


def test_a_grid_of_heads_answers_as_each_of_them() -> None:
    """One matrix product gives each head's logits, (C, B, L), with biases and standardisation."""
    head = LinearHead(24, 7)
    head.start_from(*TRAIN)
    grid = LinearHeadGrid(head, 3)
    with torch.no_grad():
        for parameter in grid.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
        grid.heads[1].linear.weight.mul_(2)
        together = grid(VAL[0].half())
        assert together.shape == (3, 150, 7)
        for k, own in enumerate(grid.heads):
            torch.testing.assert_close(together[k], own(VAL[0].half()), rtol=0, atol=1e-5)
    assert torch.equal(head.linear.weight, torch.zeros(7, 24))  # training the copies does not change it


@pytest.mark.parametrize("decimals", [1, 2, 7])
def test_average_precision_is_scikit_learns(decimals: int) -> None:
    """Equal to 1e-9 for each label, with many and few ties; nan without positives, 1 if all are positive."""
    random = np.random.default_rng(decimals)
    probabilities = random.random((500, 12)).round(decimals).astype(np.float32)
    targets = random.random((500, 12)) < np.linspace(0, 0.5, 12)
    targets[:, 1] = np.arange(500) == 77
    targets[:, 2] = True
    precisions = average_precisions(np.stack([probabilities, probabilities[::-1]]), targets)
    assert precisions.shape == (2, 12)
    for candidate_precisions, candidate in zip(precisions, (probabilities, probabilities[::-1]), strict=True):
        np.testing.assert_allclose(
            candidate_precisions, average_precision.average_precisions(candidate, targets), rtol=0, atol=1e-9
        )
    assert math.isnan(precisions[0, 0])
    assert precisions[0, 2] == 1.0


def test_scores_leave_out_labels_without_positives() -> None:
    """mAP is the report's: a mean over labels with positives, nan if there are none. The loss is over all cells."""
    logits = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.rand(60, 5, generator=torch.Generator().manual_seed(1)) < 0.3
    targets[:, 2] = False
    val_scores = scores(logits, targets)
    expected = np.nanmean(average_precision.average_precisions(logits.sigmoid().numpy(), targets.numpy()))
    assert val_scores["map"] == pytest.approx(expected, abs=1e-9)
    assert val_scores["loss"] == pytest.approx(
        float(F.binary_cross_entropy_with_logits(logits, targets.float())), abs=1e-6
    )
    assert math.isnan(scores(logits, torch.zeros(60, 5))["map"])


def cells() -> tuple[Tensor, Tensor]:
    logits = torch.linspace(-12, 12, 49, dtype=torch.float64)[:, None].repeat(1, 2).requires_grad_()
    return logits, torch.tensor([0.0, 1.0]).expand(49, 2)


def test_the_asymmetric_loss_is_the_papers() -> None:
    """Each cell's loss and gradient follow the paper's formula in float64; easy negatives cost exactly 0."""
    logits, targets = cells()
    p = logits.sigmoid()
    shifted = (p - 0.05).clamp(min=0)
    by_hand = torch.where(targets > 0, -p.log(), -(shifted**4) * (1 - shifted).log())
    (expected,) = torch.autograd.grad(by_hand.mean(), logits)
    single = logits.detach().float().requires_grad_()
    loss = losses.asymmetric(single, targets)
    (gradient,) = torch.autograd.grad(loss, single)
    assert loss.item() == pytest.approx(by_hand.mean().item(), rel=1e-5)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-7)
    assert (gradient[single[:, 0] < -3, 0] == 0).all()


def test_no_loss_breaks_at_the_ends() -> None:
    """Logits of ±1,000 give finite losses and gradients, in bf16 too, computed in fp32."""
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for name in ("bce", "asymmetric", "class_balanced"):
        loss = losses.named(name, TRAIN[1][:, :2])
        for dtype in (torch.float32, torch.bfloat16):
            logits = torch.tensor([[1000.0, -1000.0], [1000.0, -1000.0]], dtype=dtype, requires_grad=True)
            value = loss(logits, targets)
            value.backward()
            assert value.dtype == torch.float32
            assert math.isfinite(value.item())
            assert logits.grad is not None
            assert logits.grad.isfinite().all()


def test_class_balance_weighs_by_effective_numbers() -> None:
    """Weights are in the ratio of the effective numbers, (1 - 0.9999^n) / 0.0001, and add up to 2 for each label."""
    targets = torch.zeros(20000, 3)
    targets[:5, 0] = 1
    targets[:10000, 1] = 1
    loss = losses.class_balanced(targets)

    def cost_of(label: int, truth: float) -> float:
        """The weight of a batch's only cell, which costs ln 2 in plain BCE."""
        logits, truths = torch.full((1, 3), 1000.0), torch.ones(1, 3)
        logits[0, label], truths[0, label] = 0.0, truth
        return float(loss(logits, truths)) * 3 / math.log(2)

    def effective(n: int) -> float:
        return (1 - 0.9999**n) / 0.0001

    assert cost_of(0, 1.0) / cost_of(0, 0.0) == pytest.approx(effective(19995) / effective(5), rel=1e-4)
    assert cost_of(1, 1.0) == pytest.approx(cost_of(1, 0.0), rel=1e-4)
    assert cost_of(2, 1.0) / cost_of(2, 0.0) == pytest.approx(
        effective(20000) / 1, rel=1e-4
    )  # a label never shown counts as shown once
    for label in range(3):
        assert cost_of(label, 1.0) + cost_of(label, 0.0) == pytest.approx(2, rel=1e-4)


def test_losses_of_several_candidates_are_each_ones() -> None:
    """Logits (C, B, L) give the C losses of each (B, L); plain BCE is PyTorch's."""
    logits = torch.randn(4, 30, 7, generator=torch.Generator().manual_seed(3))
    targets = TRAIN[1][:30]
    for name in ("bce", "asymmetric", "class_balanced"):
        loss = losses.named(name, TRAIN[1])
        together = loss(logits, targets)
        assert together.shape == (4,)
        for own, value in zip(logits, together, strict=True):
            torch.testing.assert_close(loss(own, targets), value, rtol=1e-5, atol=0)
    plain = F.binary_cross_entropy_with_logits(logits[0], targets.float())
    torch.testing.assert_close(losses.bce(logits[0], targets), plain)


def test_a_grid_is_all_combinations_with_losses_in_runs() -> None:
    """Settings are sorted by loss, so that `fit` computes neighbours with the same loss together."""
    settings = settings_of(["bce", "asymmetric"], [0.1, 0.2, 0.3], [0.0])
    assert [setting.loss for setting in settings] == ["bce"] * 3 + ["asymmetric"] * 3
    assert [setting.learning_rate for setting in settings] == [0.1, 0.2, 0.3] * 2


def run_stage(folder: Path, *, seed_of_test: int) -> dict[str, bytes]:
    """Run stage `train` on 12 videos of 8 windows; returns its files by name. The seed makes the test split."""
    folder.mkdir()
    splits = dict(zip((f"v{k:02}" for k in range(12)), ["train"] * 7 + ["val"] * 3 + ["test"] * 2, strict=True))
    entries, embedded = [], {}
    for k, (video_id, split) in enumerate(splits.items()):
        random = np.random.default_rng([seed_of_test if split == "test" else 0, k])
        starts = np.arange(8, dtype=np.float64) * 2
        acts = [label for label in ("c015", "c059", "c097") if split != "test" or random.random() < 0.5]
        times = {label: float(random.integers(0, 6)) * 2 for label in acts}
        entries.append(
            VideoEntry(
                video_id,
                f"{video_id}.mp4",
                f"s{k}",
                "Kitchen",
                split,
                16.0,
                tuple(Interval(label, start_s, start_s + 4) for label, start_s in times.items()),
            )
        )
        seen = np.array([[times.get(label, -9) <= t < times.get(label, -9) + 4 for label in acts[:3]] for t in starts])
        noise = random.normal(size=(8, 6))
        noise[:, : seen.shape[1]] += 2 * seen
        embedded[video_id] = store.VideoEmbeddings(
            np.arange(8, dtype=np.int32), starts, starts + 2, np.zeros(8, np.int32), {"mean": noise.astype(np.float16)}
        )
    paths = Layout("demo", "set", folder)
    made_by = {"precision": "fp32", "backbone": {"sha256": "0" * 64}}
    manifest.write(paths.manifest, Manifest(tuple(entries)))
    store.write_embeddings(paths.embeddings, dict.fromkeys(splits, 8), embedded.__getitem__, provenance=made_by)
    paths.label_sets.mkdir(parents=True)
    paths.label_set.write_text("c015 Holding a phone\nc059 Sitting down\nc097 Walking\n")
    values = YAML(typ="safe").load(REPOSITORY / "params" / "demo.yaml")
    values["train"] |= {
        "features": ["mean"],
        "learning_rate": [0.001, 0.03],
        "weight_decay": 0.1,
        "loss": ["bce", "class_balanced"],
        "batch_size": 16,
        "steps": 40,
        "evaluate_every_steps": 10,
    }
    values["temporal"] |= {
        "features": ["mean"],
        "width": 4,
        "blocks": 1,
        "sequence_windows": 8,
        "batch_size": 2,
        "steps": 20,
        "evaluate_every_steps": 10,
    }
    (folder / "params").mkdir()
    YAML(typ="safe").dump(values, folder / "params" / "demo.yaml")
    with contextlib.chdir(folder):
        result = CliRunner().invoke(train_stage, ["demo", "set"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return {
        f"{part.name}/{path.name}": path.read_bytes()
        for part in (paths.model("linear"), paths.model("temporal"), paths.grid("linear").parent)
        for path in part.iterdir()
    }


def test_the_stage_keeps_the_best_and_never_sees_test(tmp_path: Path) -> None:
    """Another test split changes no byte; the head's config names its setting, and the table agrees."""
    files = run_stage(tmp_path / "one", seed_of_test=1)
    assert files == run_stage(tmp_path / "other", seed_of_test=2)
    assert set(files) == {
        f"{folder}/{name}" for folder in ("linear", "temporal") for name in ("config.json", "model.safetensors")
    } | {f"history/{model}{kind}.csv" for model in ("linear", "temporal") for kind in ("", "_grid")}
    assert json.loads(files["temporal/config.json"])["temporal"] == {"width": 4, "blocks": 1, "dropout": 0.5}
    rows = list(csv.DictReader(files["history/linear_grid.csv"].decode().splitlines()))
    (chosen_row,) = [row for row in rows if row["chosen"] == "1"]
    assert len(rows) == 4
    described = json.loads(files["linear/config.json"])["train"]
    assert described["num_videos"] == 7
    assert described["loss"] == chosen_row["loss"]
    assert (described["learning_rate"], described["weight_decay"]) == (
        float(chosen_row["learning_rate"]),
        float(chosen_row["weight_decay"]),
    )
    history = list(csv.DictReader(files["history/linear.csv"].decode().splitlines()))
    assert max(float(row["val_map"]) for row in history) == float(chosen_row["val_map"])


def test_heads_are_measured() -> None:
    """The benchmark's code runs on small inputs: one row for the grid, one for our seconds, one for scikit-learn's."""
    row = bench.heads.measure_grid(TRAIN, VAL, steps=4, rounds=1)
    assert row.measured is not None
    assert row.measured > 0
    small = bench.heads.measure_temporal(
        num_videos=20, windows_per_video=5, num_features=8, num_labels=3, num_members=2, steps=10
    )
    assert small.measured is not None
    assert small.measured > 0
    made_up = bench.heads.made_up_rows(600, num_features=32, num_labels=4)
    ours, theirs = bench.heads.measure_large(*made_up, num_val=200, steps=50, sklearn_labels=2)
    assert ours.details["map"] > 0.5
    assert ours.details["sklearn_map"] > 0.5
    assert theirs.measured == pytest.approx(ours.details["sklearn_s"] / ours.details["ours_s"])

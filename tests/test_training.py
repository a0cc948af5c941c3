import copy
import dataclasses
import math
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, multiprocessing, nn

from heads.losses import bce
from heads.training.batches import shuffled_batches
from heads.training.candidates import Candidate, History, ParameterGroup
from heads.training.loop import NonFiniteLoss, fit
from heads.training.schedule import TrainingSchedule
from heads.training.state import Checkpoint
from heads.training.validation import Evaluate
from reports.metrics.average_precision import average_precisions
from tests.forks import ForkServer

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEDULE = TrainingSchedule(
    steps=60,
    accumulation=2,
    evaluate_every_steps=20,
    patience=10,
    warmup_share=0.1,
    decay="cosine",
    max_grad_norm=1.0,
    precision="fp32",
)


def world(seed: int) -> tuple[Tensor, Tensor]:
    """64 rows of 8 features that determine 3 labels linearly."""
    features = torch.randn(64, 8, generator=torch.Generator().manual_seed(seed))
    directions = torch.randn(8, 3, generator=torch.Generator().manual_seed(99))
    return features, (features @ directions > 1.0).float()


VAL = world(2)


def new_head(p_dropout: float = 0.3) -> nn.Sequential:
    head = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.Dropout(p_dropout), nn.Linear(16, 3))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return head


def evaluate_on_val(model: nn.Module) -> dict[str, float]:
    features, targets = VAL
    assert not model.training
    logits = model(features.to(next(model.parameters()).device)).float().cpu()
    val_map = float(np.nanmean(average_precisions(logits.sigmoid().numpy(), targets.numpy() > 0)))
    return {"map": val_map, "loss": float(F.binary_cross_entropy_with_logits(logits, targets))}


def group_of(head: nn.Module, lr: float = 1e-2, name: str = "head", weight_decay: float = 0.01) -> ParameterGroup:
    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    return {"params": trained, "lr": lr, "weight_decay": weight_decay, "name": name}


def train_all(
    model: nn.Module,
    candidates: Sequence[Candidate],
    schedule: TrainingSchedule = SCHEDULE,
    evaluate: Evaluate = evaluate_on_val,
    batches: Sequence[tuple[Tensor, ...]] | None = None,
    checkpoint: Checkpoint | None = None,
    takes_turns: bool = False,
) -> list[History]:
    generator = torch.Generator().manual_seed(11)
    shuffled = shuffled_batches(*world(1), batch_size=16, generator=generator)
    return fit(
        model,
        train_batches=(lambda first: islice(batches, first, None)) if batches else shuffled,
        evaluate=evaluate,
        candidates=candidates,
        schedule=schedule,
        generator=generator,
        checkpoint=checkpoint,
        cpu=True,
        takes_turns=takes_turns,
    )


def train(
    head: nn.Module, schedule: TrainingSchedule = SCHEDULE, evaluate: Evaluate = evaluate_on_val, **others: Any
) -> History:
    (history,) = train_all(head, [Candidate("head", [group_of(head)], bce)], schedule, evaluate, **others)
    return history


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_training_learns_and_says_how() -> None:
    """Val mAP rises from the start's, which is the first row; losses and rates are in every later row."""
    history = train(new_head())
    assert [row.step for row in history.rows] == [0, 20, 40, 60]
    assert history.best.val_map > history.rows[0].val_map + 0.2
    assert history.rows[0].train_loss is None
    losses = [row.train_loss for row in history.rows if row.train_loss is not None]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert history.rows[-1].learning_rates["head"] == pytest.approx(0.0)


def test_the_same_inputs_give_the_same_parameters() -> None:
    """Two runs agree bit for bit, dropout included, and the global random state is left as it was."""
    first, second = new_head(), new_head()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    history = train(first)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert train(second) == history
    assert same(bits(first), bits(second))


def test_one_update_of_accumulated_batches_is_adamw_on_their_mean() -> None:
    """Two micro-batches of 16 move the parameters as one plain AdamW step on all 32 rows does."""
    schedule = dataclasses.replace(
        SCHEDULE, steps=2, evaluate_every_steps=2, warmup_share=0.0, decay="constant", max_grad_norm=None
    )
    features, targets = (tensor[:32] for tensor in world(1))
    head, plain = new_head(0.0), new_head(0.0)
    values = iter([0.1, 0.2])
    batches = list(zip(features.split(16), targets.split(16), strict=True))
    train(head, schedule, lambda _: {"map": next(values), "loss": 1.0}, batches=batches)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.01)
    F.binary_cross_entropy_with_logits(plain(features), targets).backward()
    optimizer.step()
    for name, tensor in bits(plain).items():
        torch.testing.assert_close(bits(head)[name], tensor, rtol=0, atol=1e-6)


def test_the_best_evaluation_is_what_is_left_in_the_model() -> None:
    """mAP is best at step 20: the model ends with the parameters of step 20, and stops 2 evaluations later."""
    values = iter([0.1, 0.5, 0.5, 0.4, 0.9])
    seen = []

    def evaluate(model: nn.Module) -> dict[str, float]:
        seen.append(bits(model))
        return {"map": next(values), "loss": 1.0}

    head = new_head()
    history = train(head, dataclasses.replace(SCHEDULE, steps=100, patience=2), evaluate)
    assert [row.step for row in history.rows] == [0, 20, 40, 60]
    assert history.best.step == 20
    assert same(bits(head), seen[1])
    assert not same(bits(head), seen[3])


def test_training_that_never_helps_returns_the_start() -> None:
    """If no evaluation beats the one before the first step, the model keeps its initial parameters."""
    head = new_head()
    before = bits(head)
    history = train(head, evaluate=lambda _: {"map": 0.5, "loss": 1.0})
    assert history.best.step == 0
    assert same(bits(head), before)


def test_frozen_parts_stay_and_groups_have_their_own_rates() -> None:
    """A frozen layer keeps its bits, and each group's column follows its own peak rate."""
    head = new_head()
    head[1].requires_grad_(False)
    before = bits(head[1])
    groups = [group_of(head[0], 1e-3, "norm"), group_of(head[3], 1e-2, "last")]
    (history,) = train_all(head, [Candidate("head", groups, bce)])
    assert same(bits(head[1]), before)
    for row in history.rows[:-1]:
        assert row.learning_rates["last"] == pytest.approx(10 * row.learning_rates["norm"])


def test_a_parameter_nobody_trains_is_named() -> None:
    """Groups that leave out a trainable parameter fail before any step."""
    head = new_head()
    with pytest.raises(ValueError, match=r"\['0.bias', '0.weight', '1.bias', '1.weight'\] are in none"):
        train_all(head, [Candidate("head", [group_of(head[3])], bce)])
    with pytest.raises(ValueError, match="in two groups"):
        train_all(head, [Candidate("head", [group_of(head), group_of(head[3], name="last")], bce)])
    with pytest.raises(ValueError, match="names of their own"):
        Candidate("head", [group_of(head[0]), group_of(head[3])], bce)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    """The step and the value are in the error, and that batch changed nothing."""
    features, targets = world(1)
    poisoned = features.clone()
    poisoned[0, 0] = math.nan
    batches = [(features, targets), (features, targets), (poisoned, targets)]
    with pytest.raises(NonFiniteLoss, match=r"train loss is nan at step 3 \(head\)") as failure:
        train(new_head(), batches=batches)
    assert failure.value.step == 3
    assert math.isnan(failure.value.value)
    with pytest.raises(ValueError, match="ended before step 3 of 60"):
        train(new_head(), batches=[(features, targets)] * 2)
    with pytest.raises(NonFiniteLoss, match="val loss is inf at step 0"):
        train(new_head(), evaluate=lambda _: {"map": 0.5, "loss": math.inf})


def test_val_without_positives_stops_the_training() -> None:
    """A mAP of nan is refused before the first step."""
    with pytest.raises(ValueError, match="none of the val windows that are evaluated has a label"):
        train(new_head(), evaluate=lambda _: {"map": math.nan, "loss": 1.0})


def test_the_model_comes_back_plain() -> None:
    """After bf16 training the model computes in fp32, has no gradients and can be copied; fp16 needs a GPU."""
    head = new_head()

    def evaluate(model: nn.Module) -> dict[str, float]:
        parts = nn.Sequential(*head)  # an evaluation may go another way than through forward()
        assert parts(VAL[0]).dtype == torch.bfloat16
        return evaluate_on_val(model)

    train(head, dataclasses.replace(SCHEDULE, precision="bf16"), evaluate)
    fresh = new_head().eval()
    fresh.load_state_dict(head.state_dict())
    for model in (head, copy.deepcopy(head)):
        assert torch.equal(model(VAL[0]), fresh(VAL[0]))
    assert not head.training
    assert all(parameter.grad is None for parameter in head.parameters())
    assert "forward" not in vars(head)
    train(new_head())  # another precision in the same process
    with pytest.raises(ValueError, match="fp16 trains on an accelerator only"):
        train(new_head(), dataclasses.replace(SCHEDULE, precision="fp16"))


def test_the_rate_rises_and_then_falls_to_nothing() -> None:
    """10 updates, 2 of warm-up: up to the peak in equal parts, then half a cosine; constant stays."""
    schedule = dataclasses.replace(SCHEDULE, steps=20, warmup_share=0.2)
    factors = [schedule.lr_factor(update) for update in range(11)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[6] == pytest.approx(0.5)
    assert factors[10] == pytest.approx(0.0)
    assert factors[2:] == sorted(factors[2:], reverse=True)
    constant = dataclasses.replace(SCHEDULE, warmup_share=0.0, decay="constant")
    assert {constant.lr_factor(update) for update in range(31)} == {1.0}


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 61},
        {"patience": 0},
        {"evaluate_every_steps": 61},
        {"warmup_share": 1.0},
        {"max_grad_norm": 0.0},
        {"decay": "linear"},
        {"precision": "fp8"},
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    """Schedules with lost steps, without patience or evaluation, or with unknown modes raise when made."""
    with pytest.raises(ValueError, match=r"got|multiple|unknown|at most steps = 60"):
        dataclasses.replace(SCHEDULE, **change)


def test_the_history_is_a_table(tmp_path: Path) -> None:
    """One CSV row for each evaluation; the train loss of step 0 is empty."""
    history = train(new_head())
    history.save(tmp_path / "history.csv")
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "step,train_loss,val_loss,val_map,lr_head"
    assert lines[1].startswith("0,,")
    assert len(lines) == 5


def test_an_epoch_shows_every_row_once_in_a_new_order() -> None:
    """8 batches of 16 are two epochs of 64 rows; with 70 rows each epoch leaves 6 out; 5 rows are one batch."""
    features = torch.arange(70.0)[:, None].half()
    generator = torch.Generator().manual_seed(0)
    batches = shuffled_batches(features[:64], features[:64], batch_size=16, generator=generator)
    drawn = [f for f, _ in islice(batches(0), 8)]
    first, second = torch.cat(drawn[:4]).flatten(), torch.cat(drawn[4:]).flatten()
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(64))
    assert first.tolist() != second.tolist()
    assert drawn[0].dtype == torch.float32
    for rows, seen, sizes in ((70, 64, {16}), (5, 5, {5})):
        batches = shuffled_batches(features[:rows], features[:rows], batch_size=16, generator=generator)
        epoch = [f for f, _ in islice(batches(0), max(1, rows // 16))]
        assert {len(batch) for batch in epoch} == sizes
        assert len(torch.cat(epoch).unique()) == seen
    with pytest.raises(ValueError, match="0 rows"):
        shuffled_batches(features[:0], features[:0], batch_size=16, generator=generator)


@pytest.mark.parametrize("first", [0, 1, 3, 4, 5, 11])
def test_batches_can_begin_anywhere(first: int) -> None:
    """Batches from number k on are the same as after k batches, within the first epoch and after it."""
    features = torch.arange(70.0)[:, None]
    batches = shuffled_batches(features, features, batch_size=16, generator=torch.Generator().manual_seed(3))
    unbroken = [f for f, _ in islice(batches(0), 16)]
    for later, (f, _) in zip(unbroken[first:], batches(first), strict=False):
        assert torch.equal(f, later)


def _train_as_one_of_two(rank: int, port: int, folder: str) -> None:
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ.update(rendezvous | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
    torch.set_num_threads(1)
    schedule = dataclasses.replace(SCHEDULE, steps=12, evaluate_every_steps=6)
    train(new_head(), dataclasses.replace(schedule, steps=6))
    # A second training in the same processes works too, and resumes where both processes stopped.
    checkpoint = Checkpoint(Path(folder) / "checkpoint", {}, every_steps=4)
    shuffled = shuffled_batches(*world(1), batch_size=16, generator=torch.Generator().manual_seed(11))
    own = list(islice(shuffled(0), rank, 12, 2))
    with pytest.raises(ValueError, match="ended before step 12 of 12"):
        train(new_head(0.0), schedule, batches=own[:5], checkpoint=checkpoint, takes_turns=True)
    head = new_head(0.0)
    history = train(head, schedule, batches=own, checkpoint=checkpoint, takes_turns=True)
    torch.save((bits(head), history.rows[-1].train_loss), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    """They take turns at the batches of an update; both end with the parameters and the loss of one process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])
    multiprocessing.start_processes(_train_as_one_of_two, (port, str(tmp_path)), nprocs=2, start_method="forkserver")
    alone = new_head(0.0)
    history = train(alone, dataclasses.replace(SCHEDULE, steps=12, evaluate_every_steps=6))
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert same(one[0], other[0])
    assert one[1] == other[1] == pytest.approx(history.rows[-1].train_loss, abs=1e-6)
    for name, tensor in bits(alone).items():
        torch.testing.assert_close(one[0][name], tensor, rtol=0, atol=1e-5)


class Side(nn.Module):
    """Several models on the same inputs: logits (C, B, L)."""

    def __init__(self, *models: nn.Module) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([model(inputs) for model in self.models])


def evaluate_each(model: nn.Module) -> dict[str, list[float]]:
    assert isinstance(model, Side)
    scores = [evaluate_on_val(one) for one in model.models]
    return {name: [score[name] for score in scores] for name in ("map", "loss")}


def doubled(logits: Tensor, targets: Tensor) -> Tensor:
    return 2 * bce(logits, targets)


def test_candidates_come_out_as_if_alone() -> None:
    """Each candidate's rates, losses, clipping, early stop and best parameters are those of a training alone."""
    schedule = dataclasses.replace(SCHEDULE, steps=120, evaluate_every_steps=10, patience=2, decay="constant")
    settings = [(1e-3, 0.0, bce), (3e-2, 0.5, bce), (1e-1, 0.0, bce), (1e-2, 0.1, doubled)]
    alone, histories = [], []
    for lr, decay, loss in settings:
        head = new_head(0.0)
        histories += train_all(head, [Candidate("one", [group_of(head, lr, weight_decay=decay)], loss)], schedule)
        alone.append(bits(head))
    side = Side(*(new_head(0.0) for _ in settings))
    candidates = [
        Candidate(str(k), [group_of(head, lr, weight_decay=decay)], loss)
        for k, (head, (lr, decay, loss)) in enumerate(zip(side.models, settings, strict=True))
    ]
    together = train_all(side, candidates, schedule, evaluate_each)
    assert len({len(history.rows) for history in histories}) > 1  # some stop before others
    assert len({history.best.step for history in histories}) > 1
    for trained, expected, history, other in zip(side.models, alone, together, histories, strict=True):
        assert [row.step for row in history.rows] == [row.step for row in other.rows]
        assert history.best.step == other.best.step
        assert history.rows[1].train_loss == pytest.approx(other.rows[1].train_loss, abs=1e-5)
        for name, tensor in bits(trained).items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-5)


def test_what_a_stopped_candidate_does_later_counts_for_nothing() -> None:
    """After its patience ran out, a candidate's val mAP and a loss of nan are ignored; the others go on."""
    maps = iter([[0.1, 0.1], [0.2, 0.1], [0.3, 0.1], [0.4, 0.9], [0.5, 0.9]])
    side = Side(new_head(0.0), new_head(0.0))
    seen = []

    def evaluate(_: nn.Module) -> dict[str, list[float]]:
        seen.append([bits(one) for one in side.models])
        if len(seen) == 3:
            with torch.no_grad():
                next(side.models[1].parameters()).fill_(math.nan)
        return {"map": next(maps), "loss": [1.0, 1.0 if len(seen) <= 3 else math.nan]}

    candidates = [Candidate(str(k), [group_of(head)], bce) for k, head in enumerate(side.models)]
    schedule = dataclasses.replace(SCHEDULE, steps=80, patience=2, max_grad_norm=0.1)
    first, second = train_all(side, candidates, schedule, evaluate)
    assert [row.step for row in first.rows] == [0, 20, 40, 60, 80]
    assert [row.step for row in second.rows] == [0, 20, 40]
    assert same(bits(side.models[0]), seen[4][0])
    assert same(bits(side.models[1]), seen[0][1])
    rising, alone = iter([0.1, 0.2, 0.3, 0.4, 0.5]), new_head(0.0)
    train(alone, schedule, lambda _: {"map": next(rising), "loss": 1.0})
    for name, tensor in bits(alone).items():
        torch.testing.assert_close(bits(side.models[0])[name], tensor, rtol=0, atol=1e-5)


def test_gradients_are_shortened_for_each_candidate() -> None:
    """Six updates, some clipped, are those of plain PyTorch with `clip_grad_norm_` on each candidate alone."""
    schedule = dataclasses.replace(
        SCHEDULE, steps=6, accumulation=1, evaluate_every_steps=6, warmup_share=0.0, decay="constant", max_grad_norm=0.5
    )
    generator = torch.Generator().manual_seed(4)
    batches = list(islice(shuffled_batches(*world(1), batch_size=4, generator=generator)(0), 6))
    side = Side(new_head(0.0), new_head(0.0))
    candidates = [
        Candidate(str(k), [group_of(head)], loss)
        for k, (head, loss) in enumerate(zip(side.models, (bce, doubled), strict=True))
    ]
    maps = iter([[0.1, 0.1], [0.2, 0.2]])
    train_all(side, candidates, schedule, lambda _: {"map": next(maps), "loss": [1.0, 1.0]}, batches=batches)
    lengths = []
    for head, factor in zip(side.models, (1, 2), strict=True):
        plain = new_head(0.0)
        optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.01)
        for features, targets in batches:
            optimizer.zero_grad()
            (factor * F.binary_cross_entropy_with_logits(plain(features), targets)).backward()
            lengths.append(float(nn.utils.clip_grad_norm_(plain.parameters(), 0.5)))
            optimizer.step()
        for name, tensor in bits(plain).items():
            torch.testing.assert_close(bits(head)[name], tensor, rtol=0, atol=1e-5)
    assert min(lengths) < 0.5 < max(lengths)


def train_two(checkpoint: Checkpoint | None, *, kill_at: tuple[str, int] | None = None) -> tuple[Side, list[History]]:
    """Train two candidates with dropout; the process dies at the batch, evaluation or write `kill_at` (from 1)."""
    counts = {"batch": 0, "evaluation": 0, "write": 0}

    def count(what: str) -> None:
        counts[what] += 1
        if (what, counts[what]) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    generator = torch.Generator().manual_seed(11)
    batches = shuffled_batches(*world(1), batch_size=16, generator=generator)

    def counted_batches(first_batch: int) -> Iterator[tuple[Tensor, ...]]:
        for batch in batches(first_batch):
            count("batch")
            yield batch

    def evaluate(model: nn.Module) -> dict[str, list[float]]:
        count("evaluation")
        return evaluate_each(model)

    fsync = os.fsync

    def counted_fsync(fd: Any) -> None:  # the partial file is written and not yet renamed
        count("write")
        fsync(fd)

    os.fsync = counted_fsync
    side = Side(new_head(), new_head())
    try:
        histories = fit(
            side,
            train_batches=counted_batches,
            evaluate=evaluate,
            candidates=[
                Candidate("slow", [group_of(side.models[0], 1e-2)], bce),
                Candidate("fast", [group_of(side.models[1], 0.3)], doubled),
            ],
            schedule=dataclasses.replace(SCHEDULE, patience=1, decay="constant"),
            generator=generator,
            checkpoint=checkpoint,
            cpu=True,
        )
    finally:
        os.fsync = fsync
    return side, histories


def _train_and_die(folder: str, kill_at: tuple[str, int]) -> None:
    train_two(Checkpoint(Path(folder), {"seed": 11}, every_steps=7), kill_at=kill_at)


@pytest.fixture(scope="module")
def unbroken() -> tuple[Side, list[History]]:
    return train_two(None)


@pytest.mark.parametrize(
    ("kill_at", "kept_step"),
    [
        (("batch", 5), None),  # before the first checkpoint
        (("batch", 15), 8),
        (("evaluation", 3), 32),  # at step 40: evaluated again, from the state of step 32
        (("batch", 41), 40),  # the next batch after an evaluation and a write
        (("write", 5), 16),  # a write syncs the file, then its folder: the incomplete one at step 24 is not read
        (("evaluation", 4), 56),  # the last one
    ],
)
def test_a_killed_training_ends_as_an_unbroken_one(
    unbroken: tuple[Side, list[History]],
    fork_server: ForkServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kill_at: tuple[str, int],
    kept_step: int | None,
) -> None:
    """After SIGKILL at any moment, the next run resumes the last complete state and ends with the same bits."""
    folder = tmp_path / "checkpoint"
    assert fork_server.wait(fork_server.start(_train_and_die, str(folder), kill_at)) == -signal.SIGKILL
    with caplog.at_level("INFO"):
        side, histories = train_two(Checkpoint(folder, {"seed": 11}, every_steps=7))
    went_on = [record.getMessage() for record in caplog.records if "resuming after step" in record.getMessage()]
    assert [message.split()[3] for message in went_on] == ([str(kept_step)] if kept_step else [])
    expected, expected_histories = unbroken
    assert same(bits(side), bits(expected))
    assert histories == expected_histories
    assert not folder.exists()


def test_another_trainings_state_is_not_gone_on_from(
    unbroken: tuple[Side, list[History]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With another training's or an incomplete checkpoint, the training starts over, logs it, and replaces it."""
    folder = tmp_path / "checkpoint"
    Checkpoint(folder, {"seed": 11}, every_steps=7).write({"x": torch.zeros(1)}, {"step": 8})
    with caplog.at_level("INFO"):
        side, _ = train_two(Checkpoint(folder, {"seed": 11}, every_steps=7))
    assert "is another training's" in caplog.text
    assert same(bits(side), bits(unbroken[0]))
    assert not folder.exists()

    mine = Checkpoint(folder, {"seed": 11}, every_steps=7)
    mine.write({"x": torch.arange(3.0)}, {"step": 8, "loss": 0.1 + 0.2})
    saved = mine.read()
    assert saved is not None
    tensors, state = saved
    assert tensors["x"].tolist() == [0.0, 1.0, 2.0]
    assert state == {"step": 8, "loss": 0.1 + 0.2}
    assert dataclasses.replace(mine, provenance={"seed": 12}).read() is None
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    caplog.clear()
    assert mine.read() is None
    assert "cannot be used" in caplog.text
    assert "the training starts over" in caplog.text
    mine.remove()
    mine.remove()
    assert mine.read() is None
    with pytest.raises(ValueError, match="every_steps"):
        dataclasses.replace(mine, every_steps=0)

import copy
import dataclasses
import math
import os
import socket
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, multiprocessing, nn

from heads.metrics import mean_average_precision
from heads.training import NonFiniteLoss, TrainingSchedule, fit, shuffled_batches

SCHEDULE = TrainingSchedule(
    steps=60,
    accumulation=2,
    evaluate_every=20,
    patience=10,
    weight_decay=0.01,
    warmup_share=0.1,
    decay="cosine",
    max_grad_norm=1.0,
    precision="fp32",
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def world(seed: int) -> tuple[Tensor, Tensor]:
    """64 rows of 8 features that determine 3 labels linearly."""
    features = torch.randn(64, 8, generator=torch.Generator().manual_seed(seed))
    directions = torch.randn(8, 3, generator=torch.Generator().manual_seed(99))
    return features, (features @ directions > 1.0).float()


VAL = world(2)


def new_head(p_dropout: float = 0.3) -> nn.Module:
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
    found = mean_average_precision(logits.sigmoid().numpy(), targets.numpy() > 0)
    return {"map": found, "loss": float(F.binary_cross_entropy_with_logits(logits, targets))}


def train(head: nn.Module, schedule: TrainingSchedule = SCHEDULE, evaluate=evaluate_on_val, batches=None, lr=1e-2):
    generator = torch.Generator().manual_seed(11)
    groups = [{"params": [p for p in head.parameters() if p.requires_grad], "lr": lr, "name": "head"}]
    return fit(
        head,
        train_batches=batches or shuffled_batches(*world(1), batch_size=16, generator=generator),
        evaluate=evaluate,
        parameter_groups=groups,
        schedule=schedule,
        generator=generator,
        cpu=True,
    )


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_training_learns_and_says_how():
    """Val mAP rises from the start's, which is the first row; losses and rates are in every later row."""
    history = train(new_head())
    assert [row.step for row in history.rows] == [0, 20, 40, 60]
    assert history.best.val_map > history.rows[0].val_map + 0.2
    assert history.rows[0].train_loss is None
    assert history.rows[-1].train_loss < history.rows[1].train_loss
    assert history.rows[-1].learning_rates["head"] == pytest.approx(0.0)


def test_the_same_inputs_give_the_same_parameters():
    """Two runs agree bit for bit, dropout included, and the global random state is left as it was."""
    first, second = new_head(), new_head()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    history = train(first)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert train(second) == history
    assert same(bits(first), bits(second))


def test_one_update_of_accumulated_batches_is_adamw_on_their_mean():
    """Two micro-batches of 16 move the parameters as one plain AdamW step on all 32 rows does."""
    schedule = dataclasses.replace(SCHEDULE, steps=2, warmup_share=0.0, decay="constant", max_grad_norm=None)
    features, targets = (tensor[:32] for tensor in world(1))
    head, plain = new_head(0.0), new_head(0.0)
    values = iter([0.1, 0.2])
    batches = zip(features.split(16), targets.split(16), strict=True)
    train(head, schedule, lambda _: {"map": next(values), "loss": 1.0}, batches)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.01)
    F.binary_cross_entropy_with_logits(plain(features), targets).backward()
    optimizer.step()
    for name, tensor in bits(plain).items():
        torch.testing.assert_close(bits(head)[name], tensor, rtol=0, atol=1e-6)


def test_the_best_evaluation_is_what_is_left_in_the_model():
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


def test_training_that_never_helps_returns_the_start():
    """When no evaluation beats the one before the first step, the parameters are those that came in."""
    head = new_head()
    before = bits(head)
    history = train(head, evaluate=lambda _: {"map": 0.5, "loss": 1.0})
    assert history.best.step == 0
    assert same(bits(head), before)


def test_frozen_parts_stay_and_groups_have_their_own_rates():
    """A frozen layer keeps its bits, and each group's column follows its own peak rate."""
    head = new_head()
    head[1].requires_grad_(False)
    before = bits(head[1])
    generator = torch.Generator().manual_seed(11)
    history = fit(
        head,
        train_batches=shuffled_batches(*world(1), batch_size=16, generator=generator),
        evaluate=evaluate_on_val,
        parameter_groups=[
            {"params": list(head[0].parameters()), "lr": 1e-3, "name": "norm"},
            {"params": list(head[3].parameters()), "lr": 1e-2, "name": "last"},
        ],
        schedule=SCHEDULE,
        generator=generator,
        cpu=True,
    )
    assert same(bits(head[1]), before)
    for row in history.rows[:-1]:
        assert row.learning_rates["last"] == pytest.approx(10 * row.learning_rates["norm"])


def test_a_parameter_nobody_trains_is_named():
    """Groups that leave out a trainable parameter fail before any step."""
    head = new_head()
    with pytest.raises(ValueError, match=r"\['0.bias', '0.weight', '1.bias', '1.weight'\] are in none"):
        fit(
            head,
            train_batches=iter([]),
            evaluate=evaluate_on_val,
            parameter_groups=[{"params": list(head[3].parameters()), "lr": 1e-2, "name": "head"}],
            schedule=SCHEDULE,
            generator=torch.Generator(),
            cpu=True,
        )


def test_a_loss_that_is_not_finite_stops_the_training():
    """The step and the value are in the error, and that batch changed nothing."""
    features, targets = world(1)
    poisoned = features.clone()
    poisoned[0, 0] = math.nan
    batches = iter([(features, targets), (features, targets), (poisoned, targets)])
    with pytest.raises(NonFiniteLoss, match="train loss is nan at step 3") as failure:
        train(new_head(), batches=batches)
    assert failure.value.step == 3
    assert math.isnan(failure.value.value)
    with pytest.raises(ValueError, match="ended before step 3 of 60"):
        train(new_head(), batches=iter([(features, targets)] * 2))
    with pytest.raises(NonFiniteLoss, match="val loss is inf at step 0"):
        train(new_head(), evaluate=lambda _: {"map": 0.5, "loss": math.inf})


def test_val_without_positives_stops_the_training():
    """A mAP of nan can choose no weights, and is refused before the first step."""
    with pytest.raises(ValueError, match="has val a label with positives"):
        train(new_head(), evaluate=lambda _: {"map": math.nan, "loss": 1.0})


def test_the_model_comes_back_plain():
    """After bf16 the model answers in fp32 as a fresh one does, has no gradient, can be copied; fp16 needs a GPU."""
    head = new_head()

    def evaluate(model: nn.Module) -> dict[str, float]:
        parts = nn.Sequential(*model)  # an evaluation may go another way than through forward()
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
    with pytest.raises(ValueError, match="fp16 needs"):
        train(new_head(), dataclasses.replace(SCHEDULE, precision="fp16"))


def test_the_rate_rises_and_then_falls_to_nothing():
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
    "change", [{"steps": 61}, {"patience": 0}, {"warmup_share": 1.0}, {"decay": "linear"}, {"precision": "fp8"}]
)
def test_a_schedule_that_makes_no_sense_is_refused(change):
    """Lost steps, no patience, only warm-up and unknown modes fail where the schedule is made."""
    with pytest.raises(ValueError, match=r"got|multiple|unknown"):
        dataclasses.replace(SCHEDULE, **change)


def test_the_history_is_a_table(tmp_path):
    """One CSV row for each evaluation; what step 0 has no train loss for is empty."""
    history = train(new_head())
    history.save(tmp_path / "history.csv")
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "step,train_loss,val_loss,val_map,lr_head"
    assert lines[1].startswith("0,,")
    assert len(lines) == 5


def test_an_epoch_shows_every_row_once_in_a_new_order():
    """8 batches of 16 are two epochs of 64 rows; 70 rows leave 6 out of each; 5 rows are one batch."""
    features = torch.arange(70.0)[:, None].half()
    generator = torch.Generator().manual_seed(0)
    drawn = [
        f for f, _ in islice(shuffled_batches(features[:64], features[:64], batch_size=16, generator=generator), 8)
    ]
    first, second = torch.cat(drawn[:4]).flatten(), torch.cat(drawn[4:]).flatten()
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(64))
    assert first.tolist() != second.tolist()
    assert drawn[0].dtype == torch.float32
    for rows, seen, sizes in ((70, 64, {16}), (5, 5, {5})):
        batches = shuffled_batches(features[:rows], features[:rows], batch_size=16, generator=generator)
        epoch = [f for f, _ in islice(batches, max(1, rows // 16))]
        assert {len(batch) for batch in epoch} == sizes
        assert len(torch.cat(epoch).unique()) == seen
    with pytest.raises(ValueError, match="0 rows"):
        next(shuffled_batches(features[:0], features[:0], batch_size=16, generator=generator))


def _train_as_one_of_two(rank: int, port: int, folder: str) -> None:
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ.update(rendezvous | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
    schedule = dataclasses.replace(SCHEDULE, steps=6, accumulation=1, evaluate_every=3)
    for _ in range(2):  # a second training in the same processes works as the first
        head = new_head(0.0)
        history = train(head, schedule)
    torch.save((bits(head), history.rows[-1].train_loss), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_train_as_one_with_twice_the_batches(tmp_path, monkeypatch):
    """Each process takes every other batch, and both end where one process ends that accumulates the two."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    multiprocessing.spawn(_train_as_one_of_two, args=(port, str(tmp_path)), nprocs=2)
    alone = new_head(0.0)
    history = train(alone, dataclasses.replace(SCHEDULE, steps=12, evaluate_every=6))
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert same(one[0], other[0])
    assert one[1] == other[1] == pytest.approx(history.rows[-1].train_loss, abs=1e-4)
    for name, tensor in bits(alone).items():
        torch.testing.assert_close(one[0][name], tensor, rtol=0, atol=1e-5)

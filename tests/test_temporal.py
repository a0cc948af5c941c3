"""The temporal head: what it sees of a sequence, its targets, its batches and its training."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from features.provenance import ProvenanceMismatch
from features.store.embeddings import Embeddings
from features.video import Segment
from heads import weights
from heads.losses import bce
from heads.shape import TemporalShape
from heads.targets import cell_targets, window_cells
from heads.temporal import (
    TemporalEnsemble,
    TemporalHead,
    TemporalHeadGrid,
    load_temporal_head,
    predict_sequence,
    window_steps,
)
from heads.training.grid import Trial, best_of, save_table, settings_of, train_heads, train_temporal_heads
from heads.training.schedule import TrainingSchedule
from heads.training.sequences import Sequences, on_sequences, sequence_batches, sequences_of
from heads.training.validation import average_precisions, scores

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = TemporalShape(width=8, blocks=3, dropout=0.2)


def made_head(shape: TemporalShape = SHAPE, *, num_features: int = 5, num_labels: int = 3) -> TemporalHead:
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        head = TemporalHead(num_features, num_labels, shape)
    head.mean += 0.5
    head.inverse_std *= 2
    return head.eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- targets ---------------------------------------------------------------------------------------------------------


def segments(*starts_s: float) -> list[Segment]:
    return [Segment(start_s, start_s + 2) for start_s in starts_s]


def on(action: Segment, windows: list[Segment]) -> list[int]:
    targets = cell_targets(windows, [("c015", action), ("c100", Segment(0, 9))], ["c059", "c015"], stride_s=1.0)
    assert not targets[:, 0].any()
    return np.flatnonzero(targets[:, 1]).tolist()


def test_a_label_is_on_where_its_action_covers_half_of_the_cell() -> None:
    """Windows of 2 s a second apart: cells [0, 1.5), [1.5, 2.5), [2.5, 3.5), [3.5, 5); half of one is enough."""
    windows = segments(0, 1, 2, 3)
    assert window_cells(windows, stride_s=1.0) == [
        Segment(0, 1.5),
        Segment(1.5, 2.5),
        Segment(2.5, 3.5),
        Segment(3.5, 5),
    ]
    assert on(Segment(2.0, 5), windows) == [1, 2, 3]
    assert on(Segment(2.01, 5), windows) == [2, 3]
    assert on(Segment(0.75, 3.0), windows) == [0, 1, 2]
    assert on(Segment(0.8, 2.99), windows) == [1]
    assert on(Segment(5, 6), windows) == []


def test_half_of_an_action_shorter_than_the_cell_is_enough() -> None:
    """It is on where half of it lies, in both cells if they halve it, and in one cell at least."""
    windows = segments(0, 1, 2, 3)
    assert on(Segment(1.6, 1.7), windows) == [1]
    assert on(Segment(2.4, 2.6), windows) == [1, 2]
    assert on(Segment(2.3, 2.6), windows) == [1]
    assert on(Segment(4.9, 5.3), windows) == []


def test_two_short_actions_of_a_label_do_not_add_up() -> None:
    """Each interval is judged alone."""
    twice = [("c015", Segment(1.0, 1.9)), ("c015", Segment(2.1, 3.5))]
    targets = cell_targets(segments(0, 1, 2, 3), twice, ["c015"], stride_s=1.0)
    assert targets[:, 0].tolist() == [True, False, True, False]


def test_every_action_within_an_observed_stretch_is_on_somewhere() -> None:
    """Whatever its length and place, around a pause and a last, shorter window too; no cell has a second twice."""
    windows = [*segments(0, 0.75, 1.5, 2.25), Segment(9, 11), Segment(9.75, 10.4 + 0.7)]
    cells = window_cells(windows, stride_s=0.75)
    assert [cell.start_s for cell in cells[1:4]] == [cell.end_s for cell in cells[:3]]
    random = np.random.default_rng(0)
    for low_s, high_s in ((0.0, 4.25), (9.0, 11.1)):
        for start_s, end_s in np.sort(random.uniform(low_s, high_s, (300, 2)), axis=1).tolist():
            assert on(Segment(start_s, end_s), windows), (start_s, end_s)


def test_no_windows_have_no_cells() -> None:
    """Shapes stay."""
    assert cell_targets([], [("c015", Segment(0, 1))], ["c015", "c059"], stride_s=1.0).shape == (0, 2)


# --- the head --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 3, 4])
def test_the_reach_is_as_stated(blocks: int) -> None:
    """An input `reach` steps away changes a window's logits, one a step further changes not a bit; on either side."""
    head = made_head(TemporalShape(width=8, blocks=blocks, dropout=0.0))
    reach = head.shape.reach
    assert reach == {1: 1, 3: 7, 4: 15}[blocks]
    features, mask, t = noise(1, 80, 5), torch.ones(1, 80, dtype=torch.bool), 40
    with torch.no_grad():
        before = head(features, mask)[0, t]
        for side in (-1, 1):
            for distance, matters in ((reach, True), (reach + 1, False)):
                other = features.clone()
                other[0, t + side * distance] += 100.0
                assert torch.equal(head(other, mask)[0, t], before) != matters
                gone = mask.clone()
                gone[0, t + side * distance] = False
                assert torch.equal(head(features, gone)[0, t], before) != matters


def test_nothing_is_read_where_no_window_is() -> None:
    """Masked steps may hold anything, nan too; beyond them a sequence goes on as after its end and before its start."""
    head, reach = made_head(), SHAPE.reach
    features = noise(2, 60, 5)
    mask = torch.ones(2, 60, dtype=torch.bool)
    mask[:, 20 : 20 + reach] = False
    other = features.masked_fill(~mask[..., None], float("nan"))
    with torch.no_grad():
        logits = head(features, mask)
        assert torch.equal(head(other, mask)[mask], logits[mask])
        first, last = features[:, :20], features[:, 20 + reach :]
        for part, own in ((logits[:, :20], first), (logits[:, 20 + reach :], last)):
            alone = head(own, torch.ones(own.shape[:2], dtype=torch.bool))
            torch.testing.assert_close(part.sigmoid(), alone.sigmoid(), rtol=0, atol=1e-6)


def test_steps_do_not_mix_in_a_norm() -> None:
    """What a batch's other sequences hold, and steps out of reach, does not matter, however large it is."""
    head = made_head()
    features, mask = noise(2, 40, 5), torch.ones(2, 40, dtype=torch.bool)
    other = features.clone()
    other[0] *= 1e3
    with torch.no_grad():
        assert torch.equal(head(other, mask)[1], head(features, mask)[1])


@pytest.mark.parametrize("chunk_windows", [1, 7, 50, 299, 300, 4096])
def test_chunks_are_one_piece(chunk_windows: int) -> None:
    """300 windows with two pauses, one longer than the reach: any chunk length gives the probabilities of one pass."""
    head = made_head(TemporalShape(width=32, blocks=4, dropout=0.3), num_features=24)
    features = noise(300, 24).half()
    steps = torch.arange(300)
    steps[100:] += 3
    steps[200:] += 40
    spread, mask = torch.zeros(1, 343, 24), torch.zeros(1, 343, dtype=torch.bool)
    spread[0, steps], mask[0, steps] = features.float(), True
    with torch.no_grad():
        whole = head(spread, mask)[0, steps]
    found = predict_sequence(head, features, steps, chunk_windows=chunk_windows)
    torch.testing.assert_close(found.sigmoid(), whole.sigmoid(), rtol=0, atol=1e-6)
    assert found.std() > 0.1


def test_no_windows_have_no_logits() -> None:
    """(0, L), and no dropout while predicting."""
    head = made_head()
    assert predict_sequence(head, torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64)).shape == (0, 3)
    with pytest.raises(ValueError, match="eval mode"):
        predict_sequence(head.train(), torch.zeros(1, 5), torch.zeros(1, dtype=torch.int64))


def test_steps_come_from_starts() -> None:
    """One step a stride, more over a pause, never none; a pause of hours is no longer than any head reaches."""
    assert window_steps(np.arange(2000) * 0.75, stride_s=0.75).tolist() == list(range(2000))
    assert window_steps(np.array([0, 0.75, 3.05, 3.8]), stride_s=0.75).tolist() == [0, 1, 4, 5]
    assert window_steps(np.array([5.0, 5.1, 5.2]), stride_s=0.75).tolist() == [0, 1, 2]
    assert window_steps(np.array([0.0, 7200.0]), stride_s=0.75).tolist() == [0, 256]
    assert window_steps(np.zeros(0), stride_s=0.75).tolist() == []
    with pytest.raises(ValueError, match="8 blocks"):
        TemporalShape(width=8, blocks=9, dropout=0.0)


def test_it_starts_from_features_in_half_precision_at_the_prior() -> None:
    """Mean and deviation are float64's, also where sums in fp16 would overflow; all answers are the prior."""
    features = (noise(5000, 5) * torch.tensor([1.0, 3, 10, 100, 1000]) + 300).half()
    targets = noise(5000, 3, seed=1) > torch.tensor([0.0, 1.0, 99.0])
    head = made_head()
    head.start_from(features, targets)
    torch.testing.assert_close(head.mean, features.double().mean(0).float())
    torch.testing.assert_close(head.inverse_std, 1 / features.double().std(0).float())
    logits = predict_sequence(head, features, torch.arange(5000))
    prior = targets.double().mean(0).clamp(min=1e-4).float()
    torch.testing.assert_close(logits.sigmoid(), prior.expand(5000, 3), rtol=1e-4, atol=0)


def test_a_saved_head_comes_back(tmp_path: Path) -> None:
    """Weights and shape; another provenance is refused."""
    head = made_head()
    weights.save(tmp_path / "temporal", head.state_dict(), {"provenance": {"a": 1}, "temporal": asdict(head.shape)})
    loaded, config = load_temporal_head(tmp_path / "temporal", expected={"a": 1})
    assert loaded.shape == SHAPE
    assert TemporalShape(**config["temporal"]) == SHAPE
    features, steps = noise(30, 5), torch.arange(30)
    assert torch.equal(predict_sequence(loaded, features, steps), predict_sequence(head, features, steps))
    with pytest.raises(ProvenanceMismatch, match="a: wanted 2, found 1"):
        load_temporal_head(tmp_path / "temporal", expected={"a": 2})


def test_the_average_precision_of_a_single_label_is_right() -> None:
    """With one label, too, probabilities stay beside their own targets and as they were."""
    probabilities = np.array([[0.3, 0.9, 0.1, 0.8], [0.9, 0.8, 0.3, 0.1]], dtype=np.float32)[:, :, None]
    before = probabilities.copy()
    found = average_precisions(probabilities, np.array([True, False, False, True])[:, None])
    assert np.array_equal(probabilities, before)
    np.testing.assert_allclose(found[:, 0], [(1 / 2 + 2 / 3) / 2, (1 + 2 / 4) / 2])


# --- batches ---------------------------------------------------------------------------------------------------------


def numbered() -> Sequences:
    """Three videos of 5, 1 and 7 windows; a feature is its row's number, and so is its target in binary."""
    steps = torch.tensor([0, 1, 2, 4, 5, 0, 0, 1, 2, 3, 4, 5, 6])
    rows = torch.arange(13)
    return Sequences(rows[:, None].half(), (rows[:, None] >> torch.arange(4)) % 2 == 1, steps, (5, 1, 7))


def test_batches_show_each_window_once_an_epoch_in_the_order_of_time() -> None:
    """14 steps an epoch, one of them without a window; rows, targets and neighbours belong together."""
    batches = sequence_batches(
        numbered(), batch_size=2, sequence_windows=7, generator=torch.Generator().manual_seed(3)
    )(0)
    orders = set()
    for features, mask, targets in islice(batches, 20):
        assert features.shape == (2, 7, 1)
        assert features.dtype == targets.dtype == torch.float32
        rows = features[mask].int().flatten().tolist()
        assert sorted(rows) == list(range(13))
        assert (targets.int() << torch.arange(4)).sum(1).tolist() == rows
        stream = torch.where(mask, features[..., 0], -1).int().flatten().tolist()
        text = " ".join(map(str, stream))
        assert all(video in text for video in ("0 1 2 -1 3 4", "5", "6 7 8 9 10 11 12"))
        orders.add(tuple(rows))
    assert len(orders) == 6  # all orders of three videos


def test_batches_go_on_from_any_one() -> None:
    """Batch k from a fresh start is batch k, across epochs and for lengths that divide nothing."""
    batches = sequence_batches(numbered(), batch_size=2, sequence_windows=3, generator=torch.Generator().manual_seed(3))
    all_of_them = list(islice(batches(0), 12))
    for first in (1, 2, 3, 7, 11):
        for own, other in zip(next(batches(first)), all_of_them[first], strict=True):
            assert torch.equal(own, other)


def test_sequences_refuse_what_does_not_fit() -> None:
    """Counts that do not add up, and steps that stand still."""
    good = numbered()
    with pytest.raises(ValueError, match="12 windows of 2 videos"):
        Sequences(good.features, good.targets, good.steps, (5, 7))
    with pytest.raises(ValueError, match="ascend from 0"):
        Sequences(good.features, good.targets, good.steps.clamp(max=3), good.counts)


def test_stored_windows_become_sequences() -> None:
    """Videos in the store's order, poolings side by side in float16, a pause in time as a pause in steps."""
    starts = np.array([0, 0.75, 6.0, 0.0])
    stored = Embeddings(
        video_ids=np.array(["a", "a", "a", "b"]),
        window=np.array([0, 1, 2, 0], dtype=np.int32),
        start_s=starts,
        end_s=starts + 2,
        num_padded=np.zeros(4, dtype=np.int32),
        vectors={"mean": np.ones((4, 2), dtype=np.float16), "max": np.zeros((4, 3), dtype=np.float16)},
    )
    found = sequences_of(stored, np.eye(4, dtype=np.bool_), features=["max", "mean"], stride_s=0.75)
    assert found.counts == (3, 1)
    assert found.steps.tolist() == [0, 1, 8, 0]
    assert found.features.dtype == torch.float16
    assert found.features[0].tolist() == [0, 0, 0, 1, 1]
    assert found.steps_apart(2).tolist() == [0, 1, 8, 11]


def test_val_videos_are_judged_each_alone() -> None:
    """Loss and mAP are those of the windows of every video by itself, for each head of a grid."""
    head = made_head(num_features=1, num_labels=4)
    grid = TemporalHeadGrid(TemporalEnsemble([head]), 2)
    with torch.no_grad():
        grid.heads[1].get_parameter("members.0.linear.weight").mul_(-1)
    val = numbered()
    found = on_sequences(val, [bce, bce])(grid.eval())
    for k, own in enumerate(grid.heads):
        parts = zip(val.features.split(list(val.counts)), val.steps.split(list(val.counts)), strict=True)
        alone = scores(torch.cat([predict_sequence(own, *part) for part in parts]), val.targets)
        assert found["map"][k] == pytest.approx(alone["map"], abs=1e-9)
        assert found["loss"][k] == pytest.approx(alone["loss"], abs=1e-6)


# --- training --------------------------------------------------------------------------------------------------------


def memory_world(seed: int, num_videos: int = 60) -> Sequences:
    """Videos of 12 windows, once up and once down in a feature among noise; the label is on two windows after an up.

    No window alone tells anything of its label.
    """
    random = np.random.default_rng(seed)
    features = random.normal(size=(num_videos, 12, 6)).astype(np.float32) * 0.3
    targets = np.zeros((num_videos, 12, 1), dtype=np.bool_)
    for video in range(num_videos):
        up, down = random.choice(10, 2, replace=False)
        features[video, up, 0] += 3
        features[video, down, 0] -= 3
        targets[video, up + 2] = True
    flat = torch.from_numpy(features.reshape(-1, 6)).half(), torch.from_numpy(targets.reshape(-1, 1))
    return Sequences(*flat, torch.arange(12).repeat(num_videos), (12,) * num_videos)


MEMORY = memory_world(0), memory_world(1)
SCHEDULE = TrainingSchedule(
    steps=80,
    accumulation=1,
    evaluate_every_steps=20,
    patience=4,
    warmup_share=0.1,
    decay="cosine",
    max_grad_norm=1.0,
    precision="fp32",
)


def train_on_memory(*rates: float, seed: int = 0) -> list[Trial]:
    return train_temporal_heads(
        *MEMORY,
        shape=TemporalShape(width=16, blocks=2, dropout=0.2),
        num_members=1,
        settings=settings_of(["bce"], rates, [0.01]),
        schedule=SCHEDULE,
        batch_size=8,
        sequence_windows=24,
        generator=torch.Generator().manual_seed(seed),
        cpu=True,
    )


def test_what_needs_the_past_is_learned_by_the_temporal_head_alone(tmp_path: Path) -> None:
    """Val mAP near 1, where a linear head on the same windows knows little more than nothing; one table for both."""
    temporal = train_on_memory(0.01)
    assert best_of(temporal).history.best.val_map > 0.95
    linear = train_heads(
        *((own.features.float(), own.targets) for own in MEMORY),
        settings=settings_of(["bce"], [0.01], [0.01]),
        schedule=SCHEDULE,
        batch_size=192,
        generator=torch.Generator().manual_seed(0),
        cpu=True,
    )
    assert best_of(linear).history.best.val_map < 0.3
    save_table(tmp_path / "grid.csv", temporal + linear)
    assert (tmp_path / "grid.csv").read_text().count("\n") == 3


def test_the_best_weights_are_kept() -> None:
    """The head that comes back has the val mAP that its history says."""
    (trial,) = train_on_memory(0.01)
    assert isinstance(trial.head, TemporalEnsemble)
    val = MEMORY[1]
    logits = predict_sequence(trial.head, val.features, val.steps_apart(3))
    assert scores(logits, val.targets)["map"] == pytest.approx(trial.history.best.val_map, abs=1e-9)


@pytest.mark.slow
def test_each_head_of_a_grid_is_what_it_is_alone_and_a_seed_decides(tmp_path: Path) -> None:
    """One seed gives the same bytes, alone or beside others, whatever the global random state; another does not."""

    def saved(trial: Trial) -> bytes:
        weights.save(tmp_path, trial.head.state_dict(), {})
        return (tmp_path / "model.safetensors").read_bytes()

    together = train_on_memory(0.003, 0.01, 0.02)
    torch.manual_seed(12345)
    (alone,) = train_on_memory(0.01)
    assert saved(together[1]) == saved(alone)
    assert together[1].history == alone.history
    (other,) = train_on_memory(0.01, seed=1)
    assert saved(other) != saved(alone)

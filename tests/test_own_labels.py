"""Labels of one's own: what is learned from a few stretches, and how sure that is."""

from __future__ import annotations

import numpy as np
import pytest

from features.video import Segment
from heads.own_labels import CannotLearn, Windows, learn

STRIDE_S = 1.0
DIRECTION = np.eye(16)[3]


def world(seed: int, num: int = 400, *, offset: int = 0) -> tuple[Windows, list[Segment]]:
    """A video of windows of 2 s whose vectors are noise, and every 50 s for 6 s lean into one direction."""
    random = np.random.default_rng(seed)
    windows = [Segment(k * STRIDE_S, k * STRIDE_S + 2) for k in range(num)]
    stretches = [Segment(s, s + 6.0) for s in range(10 + offset, num - 10, 50)]
    vectors = random.normal(size=(num, 16)) * np.linspace(0.3, 3, 16)
    for row, window in enumerate(windows):
        if any(window.overlap_s(stretch) >= 1 for stretch in stretches):
            vectors[row] += 3 * DIRECTION
    return Windows.of(windows, {"mean": vectors.astype(np.float32), "max": vectors * 0}, stride_s=STRIDE_S), stretches


def f1(stated: np.ndarray, true: np.ndarray) -> float:
    return float(2 * (stated & true).sum() / (stated.sum() + true.sum()))


def test_five_stretches_are_enough_for_what_stands_out() -> None:
    """In a video that the label was not learned from; what is like it there and was not named does not spoil it."""
    video, stretches = world(0)
    other, true = world(1, offset=5)
    label, certainty = learn([(video, stretch) for stretch in stretches[:5]], [video, other])
    shown = np.logical_or.reduce([other.shows(stretch) for stretch in true])
    assert f1(label.probabilities(other) >= 0.5, shown) > 0.8
    assert certainty.num_stretches == 5
    assert certainty.recall is not None
    assert certainty.recall > 0.7
    assert certainty.stated is not None
    assert certainty.stated < 0.3
    assert certainty.average_precision is not None
    assert 0.3 < certainty.average_precision <= 1


def test_noise_is_said_to_be_hardly_recognised() -> None:
    """Stretches that have nothing in common: left out in turn, they are recognised no better than anything else."""
    random = np.random.default_rng(5)
    windows = [Segment(k, k + 2) for k in range(200)]
    video = Windows.of(windows, {"mean": random.normal(size=(200, 16))}, stride_s=1)
    _, certainty = learn([(video, Segment(s, s + 4)) for s in (5, 45, 90, 130, 170)], [video])
    assert certainty.average_precision is not None
    assert certainty.average_precision < 0.4


def test_two_stretches_are_too_few_to_say() -> None:
    """Yet enough to learn from; so is one."""
    video, stretches = world(0)
    for num in (1, 2):
        label, certainty = learn([(video, stretch) for stretch in stretches[:num]], [])
        assert certainty.num_stretches == num
        assert certainty.average_precision is None
        assert label.probabilities(video).shape == (400,)
        shown = np.logical_or.reduce([video.shows(stretch) for stretch in stretches])
        assert f1(label.probabilities(video) >= 0.5, shown) > 0.4


def test_a_window_is_seen_with_its_neighbours_but_not_across_a_pause() -> None:
    """At the ends and beside a pause it stands for them itself."""
    vectors = np.arange(4, dtype=np.float32)[:, None]
    windows = [Segment(0, 2), Segment(1, 3), Segment(7, 9), Segment(8, 10)]
    rows = Windows.of(windows, {"mean": vectors}, stride_s=1).rows
    assert rows[:, ::2].tolist() == [[0, 0, 1], [0, 1, 1], [2, 2, 3], [2, 3, 3]]
    assert (rows[:, 1::2] == rows[:, ::2] - 1.5).all()
    pooled = Windows.of(windows, {"mean": vectors, "pooler": vectors + 10}, stride_s=1)
    assert pooled.rows[0].tolist() == [10, 10, 11]


def test_what_cannot_be_learned_is_refused() -> None:
    """No window in the stretch, nothing but the stretch, vectors of another size."""
    video, stretches = world(0)
    with pytest.raises(CannotLearn, match="no window"):
        learn([(video, Segment(500, 510))], [])
    with pytest.raises(CannotLearn, match="all there is"):
        learn([(video, Segment(0, 900))], [])
    label, _ = learn([(video, stretches[0])], [])
    with pytest.raises(CannotLearn, match="48"):
        label.probabilities(Windows.of([Segment(0, 2)], {"mean": np.zeros((1, 8))}, stride_s=1))
    assert label.probabilities(Windows.of([], {"mean": np.zeros((0, 16))}, stride_s=1)).shape == (0,)


def test_without_a_pooler_what_changes_in_a_video_counts_beside_what_is_seen() -> None:
    """Rooms that differ by more than the label does hide it less; with a pooler its vectors are looked at alone."""
    random = np.random.default_rng(3)
    windows = [Segment(k, k + 2) for k in range(60)]
    true = np.array([any(window.overlap_s(Segment(s, s + 6)) >= 0.5 for s in (10, 30)) for window in windows])

    def video(pooling: str) -> Windows:
        room = 20 * random.normal(size=16)
        return Windows.of(
            windows, {pooling: room + random.normal(size=(60, 16)) + 3 * np.outer(true, DIRECTION)}, stride_s=1
        )

    share = {}
    for pooling in ("pooler", "mean"):
        videos, others = ([video(pooling) for _ in range(6)] for _ in range(2))
        label, _ = learn([(own, Segment(10, 16)) for own in videos], videos)
        scores = np.concatenate([label.probabilities(other) for other in others])
        top = np.argsort(-scores, kind="stable")[: 6 * true.sum()]
        share[pooling] = np.tile(true, 6)[top].mean()
    assert videos[0].rows.shape == (60, 6 * 16)
    assert share["mean"] > share["pooler"] + 0.1

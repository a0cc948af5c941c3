"""Labels of one's own: what is learned from a few stretches, and how sure that is."""

from __future__ import annotations

import numpy as np
import pytest

from features.video import Segment
from heads.own_labels import CannotLearn, OwnLabel, Windows, learn

STRIDE_S = 1.0
DIRECTION = np.eye(16)[3]


def seen(windows: list[Segment], mean: np.ndarray, hidden: np.ndarray | None = None) -> Windows:
    """Windows with these vectors, and what heads see of them, which is nothing by default."""
    if hidden is None:
        hidden = np.empty((len(windows), 0))
    return Windows.of(windows, {"mean": mean, "max": mean * 0}, hidden.astype(np.float32), stride_s=STRIDE_S)


def world(seed: int, num: int = 400, *, offset: int = 0) -> tuple[Windows, list[Segment]]:
    """A video of windows of 2 s whose vectors are noise, and every 50 s for 6 s lean into one direction."""
    random = np.random.default_rng(seed)
    windows = [Segment(k * STRIDE_S, k * STRIDE_S + 2) for k in range(num)]
    stretches = [Segment(s, s + 6.0) for s in range(10 + offset, num - 10, 50)]
    vectors = random.normal(size=(num, 16)) * np.linspace(0.3, 3, 16)
    for row, window in enumerate(windows):
        if any(window.overlap_s(stretch) >= 1 for stretch in stretches):
            vectors[row] += 3 * DIRECTION
    return seen(windows, vectors), stretches


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
    video = seen(windows, random.normal(size=(200, 16)), random.normal(size=(200, 8)))
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


def test_a_window_is_seen_by_heads_and_with_its_neighbours_but_not_across_a_pause() -> None:
    """What heads see of it, by how much it and those beside it differ from the video's mean, and what a pooler says."""
    vectors = np.arange(4, dtype=np.float32)[:, None]
    windows = [Segment(0, 2), Segment(1, 3), Segment(7, 9), Segment(8, 10)]
    found = seen(windows, vectors, vectors + 10)
    assert found.sizes == (1, 3)
    assert found.rows[:, 0].tolist() == [10, 11, 12, 13]
    beside = [[0, 0, 1], [0, 1, 1], [2, 2, 3], [2, 3, 3]]
    assert (found.rows[:, 1:] + 1.5).tolist() == beside
    pooled = Windows.of(windows, {"mean": vectors, "pooler": vectors + 7}, found.rows[:, :1], stride_s=STRIDE_S)
    assert pooled.sizes == (1, 3, 3)
    assert (pooled.rows[:, :4] == found.rows).all()
    assert (pooled.rows[:, 4:] - 7).tolist() == beside


def test_what_cannot_be_learned_is_refused() -> None:
    """No window in the stretch, nothing but the stretch, vectors of another size."""
    video, stretches = world(0)
    with pytest.raises(CannotLearn, match="no window"):
        learn([(video, Segment(500, 510))], [])
    with pytest.raises(CannotLearn, match="all there is"):
        learn([(video, Segment(0, 900))], [])
    label, _ = learn([(video, stretches[0])], [])
    with pytest.raises(CannotLearn, match="48"):
        label.probabilities(seen([Segment(0, 2)], np.zeros((1, 8))))
    assert label.probabilities(seen([], np.zeros((0, 16)))).shape == (0,)


def test_rooms_that_differ_by_more_than_the_label_do_not_hide_it() -> None:
    """What stays the same throughout a video is not looked at."""
    random = np.random.default_rng(3)
    windows = [Segment(k, k + 2) for k in range(60)]
    true = np.array([any(window.overlap_s(Segment(s, s + 6)) >= 0.5 for s in (10, 30)) for window in windows])

    def video() -> Windows:
        room = 20 * random.normal(size=16)
        return seen(windows, room + random.normal(size=(60, 16)) + 3 * np.outer(true, DIRECTION))

    videos, others = ([video() for _ in range(6)] for _ in range(2))
    label, _ = learn([(own, Segment(10, 16)) for own in videos], videos)
    assert share_at_the_top(label, others, true) > 0.9


def share_at_the_top(label: OwnLabel, videos: list[Windows], true: np.ndarray) -> float:
    """Of as many windows as truly show the label, those with the highest probabilities: the share that shows it."""
    scores = np.concatenate([label.probabilities(video) for video in videos])
    all_true = np.tile(true, len(videos))
    return float(all_true[np.argsort(-scores, kind="stable")[: all_true.sum()]].mean())


@pytest.mark.parametrize("num_members", [1, 25])
def test_what_heads_see_and_what_changes_count_alike(num_members: int) -> None:
    """Each shows a trace of the label, together they show it better, however many heads say the same."""
    random = np.random.default_rng(4)
    windows = [Segment(k, k + 2) for k in range(60)]
    true = np.array([any(window.overlap_s(Segment(s, s + 6)) >= 0.5 for s in (10, 30)) for window in windows])

    hidden, mean = ([random.normal(size=(60, 16)) + 2 * np.outer(true, DIRECTION) for _ in range(40)] for _ in range(2))
    shares = {}
    for name, of_heads, of_backbone in (("heads", 1, 0), ("backbone", 0, 1), ("both", 1, 1)):
        videos = [
            seen(windows, of_backbone * vectors, np.tile(of_heads * own, num_members))
            for own, vectors in zip(hidden, mean, strict=True)
        ]
        label, _ = learn([(own, Segment(10, 16)) for own in videos[:5]], videos[:20])
        shares[name] = share_at_the_top(label, videos[20:], true)
    assert shares["both"] > max(shares["heads"], shares["backbone"]) + 0.03

"""What the last layers of temporal heads see of a video: in parts as at once, and what gives the probabilities."""

from __future__ import annotations

import numpy as np
import torch

from heads.shape import TemporalShape
from heads.temporal import TemporalEnsemble, TemporalHead, video_hidden, video_probabilities

STRIDE_S = 0.5
SHAPE = TemporalShape(width=6, blocks=2, dropout=0.5)
VECTORS = [np.random.default_rng(k).normal(size=(50, size)).astype(np.float16) for k, size in enumerate((3, 4))]
START_S = np.delete(np.arange(60), range(20, 30)) * STRIDE_S  # with a pause


def ensemble() -> TemporalEnsemble:
    torch.manual_seed(0)
    return TemporalEnsemble([TemporalHead(7, 5, SHAPE) for _ in range(2)]).eval()


def test_the_last_layers_make_the_probabilities_of_it() -> None:
    """The members' states lie side by side, in their order."""
    head = ensemble()
    hidden = video_hidden(head, VECTORS, START_S, stride_s=STRIDE_S)
    assert hidden.shape == (50, 2 * 6)
    own = zip(
        (head.members[k].get_submodule("linear") for k in (0, 1)), torch.from_numpy(hidden).split(6, 1), strict=True
    )
    with torch.no_grad():
        members = torch.stack([linear(states).sigmoid() for linear, states in own])
    expected = video_probabilities(head, VECTORS, START_S, stride_s=STRIDE_S)
    np.testing.assert_allclose(members.mean(0).numpy(), expected, atol=1e-6)


def test_a_long_video_in_parts_has_the_same_states() -> None:
    """Across parts and a pause; a video without windows has none."""
    head = ensemble()
    whole = video_hidden(head, VECTORS, START_S, stride_s=STRIDE_S)
    parts = video_hidden(head, VECTORS, START_S, stride_s=STRIDE_S, part_windows=7)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert not np.allclose(whole[:-1], whole[1:], atol=0.1)
    nothing = video_hidden(head, [each[:0] for each in VECTORS], START_S[:0], stride_s=STRIDE_S)
    assert nothing.shape == (0, 12)

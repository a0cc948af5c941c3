"""What speed at real size rests on: the benchmark's made-up project, and workers with their share of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from bench import real_size
from features.workers import imap_processes


def niceness(task: int) -> Iterator[int]:
    yield os.nice(0)


def test_decode_workers_have_the_niceness_of_the_run() -> None:
    """A nicer worker would starve beside any other process, while the model waits for it."""
    runs = imap_processes(niceness, [0], expected=OSError, num_workers=1, ahead=1, hang_s=60.0)
    assert [list(items) for _, items in runs] == [[os.nice(0)]]


@pytest.mark.slow
def test_stages_are_measured_on_a_made_up_project() -> None:
    """Each stage behind `extract` runs from the stores that are made up, and has its seconds and memory."""
    size = real_size.Size(train_videos=60, test_videos=15, subjects=20, mean_length_s=8.0, hidden_size=8, steps=16)
    rows = real_size.measure(size, real_size.STAGES[:4])
    assert [row.name.split("`")[1] for row in rows] == ["prepare", "train", "finetune", "predict"]
    for row in rows:
        assert row.measured is not None
        assert row.measured > 0.1
        assert 0.02 < row.details["peak_gib"] < 4
        assert row.details["num_windows"] > 400

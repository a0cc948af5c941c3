"""The demo's world has what a model must not tell of: rooms that nobody is in, and people who do nothing."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.demo.canvas import KINDS
from pipeline.demo.dataset import make_dataset
from pipeline.demo.recordings import make_recordings
from pipeline.demo.render import Renderer
from pipeline.demo.script import make_story
from pipeline.demo.story import Story
from pipeline.demo.world import make_person

BODY = {"head", "torso", "arm", "hand", "leg"}


def story_of(seed: int, **how: bool | float) -> Story:
    rng = np.random.default_rng(seed)
    return make_story(rng, make_person(rng), 60.0, **how)  # type: ignore[arg-type]


def shown(story: Story, times_s: Sequence[float]) -> set[str]:
    """Names of what the pictures at these times show."""
    renderer = Renderer(story, with_kinds=True)
    pictures = [renderer.render(time_s)[1] for time_s in times_s]
    return {KINDS[k] for kinds in pictures if kinds is not None for k in np.unique(kinds)}


def test_nobody_is_in_an_empty_room() -> None:
    """No part of a body in any picture, whether the door is open or closed, and no action."""
    stories = [story_of(seed, nobody=True) for seed in range(6)]
    assert {story.door.at(0) for story in stories} == {0.0, 1.0}
    for story in stories:
        assert not story.actions
        assert not shown(story, [0.0, 50.0]) & BODY


def test_a_room_that_somebody_left_is_empty_for_a_while() -> None:
    """20 s without a body in the picture and without an action; before and behind it there are both."""
    for seed in range(4):
        story = story_of(seed, away_s=20.0)
        starts_s = [start_s for _, start_s, _ in story.actions]
        ends_s = [0.0, *(end_s for _, _, end_s in story.actions)]
        left_s, back_s = max(
            (
                (end_s, min(start_s for start_s in starts_s if start_s >= end_s))
                for end_s in ends_s
                if end_s <= max(starts_s) and not any(s < end_s + 0.01 < e for _, s, e in story.actions)
            ),
            key=lambda gap: gap[1] - gap[0],
        )
        assert back_s - left_s >= 20.0
        middle_s = (left_s + back_s) / 2
        assert not shown(story, [middle_s - 8, middle_s, middle_s + 8]) & BODY
        assert shown(story, [left_s - 1.5, back_s + 1.5]) & BODY


def test_somebody_stands_idle_now_and_then() -> None:
    """In some videos two seconds and more pass in which somebody is there and no action is."""
    idle = 0
    for seed in range(8):
        story = story_of(seed)
        for time_s in np.arange(1.0, 38.0, 0.5):
            is_busy = any(start_s < time_s + 1 and end_s > time_s - 1 for _, start_s, end_s in story.actions)
            idle += not is_busy and story.depth.at(time_s) < 0.5
    assert idle > 0


@pytest.mark.slow
def test_a_part_of_each_split_shows_nobody(tmp_path: Path) -> None:
    """Of 12 videos of each file of annotations, one at least has no action; recordings of val and test have a gap."""
    make_dataset(
        tmp_path,
        seed=5,
        num_videos={"train": 12, "test": 12},
        num_subjects={"train": 3, "test": 2},
        mean_length_s=1.5,
        num_workers=2,
    )
    for split in ("train", "test"):
        with (tmp_path / "Charades" / f"Charades_v1_{split}.csv").open(newline="") as file:
            assert any(not row["actions"] for row in csv.DictReader(file))
    make_recordings(tmp_path / "recordings", seed=5, length_s=45.0, num_workers=2)
    for name in ("test/noon", "val/tea"):
        with (tmp_path / "recordings" / f"{name}.truth.csv").open(newline="") as file:
            actions = [(float(row["start_s"]), float(row["end_s"])) for row in csv.DictReader(file)]
        assert any(all(e <= t or s >= t + 19 for s, e in actions) for t in np.arange(0.0, 26.0, 0.1))

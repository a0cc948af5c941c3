"""Intervals of models' scores: whose people are drawn, and what a difference says."""

from __future__ import annotations

import dataclasses

import numpy as np

from features.video import Segment
from reports.certainty import RECORDINGS, Scored, certainty
from reports.metrics.events import EventScores, event_scores
from reports.metrics.matching import StatedEvent, TrueEvent, event_truth

SUBJECT_OF = {f"v{k}": f"p{k // 2}" for k in range(12)}  # two videos a person


def events_of(ids: list[str], *, right: int) -> EventScores:
    """One true event a video, of which the first `right` are stated, and one false event in each."""
    truth = event_truth(
        [TrueEvent(video_id, "sit", Segment(0, 4)) for video_id in ids],
        {video_id: [Segment(0, 10)] for video_id in ids},
        ["sit"],
    )
    hits = [StatedEvent(video_id, "sit", Segment(0, 4), 0.9) for video_id in ids[:right]]
    return event_scores(truth, hits + [StatedEvent(video_id, "sit", Segment(6, 8), 0.5) for video_id in ids])


def scored(*, share_right: float, right_events: int) -> Scored:
    rng = np.random.default_rng(0)
    targets = rng.random((240, 3)) < 0.3
    is_right = rng.random((240, 3)) < share_right
    probabilities = np.where(is_right == targets, 0.9, 0.1) + rng.random((240, 3)) / 100
    video_ids = [f"v{k % 12}" for k in range(240)]
    events = {"videos": events_of(sorted(SUBJECT_OF), right=right_events), "recordings": events_of([*"abc"], right=2)}
    subjects = [SUBJECT_OF[video_id] for video_id in video_ids]
    return Scored(probabilities, targets, subjects, 0.5, SUBJECT_OF, events)


def test_people_are_drawn_and_recordings_stand_for_themselves() -> None:
    found = certainty({"linear": scored(share_right=0.7, right_events=6)}, seed=0)
    assert found.num_drawn == {"micro_f1": 6, "map": 6, "events.videos.f1": 6, RECORDINGS: 3}
    assert not found.differences
    own = found.models["linear"]
    assert own["events.videos.f1"].value == 2 * 6 / (12 + 18)
    assert own[RECORDINGS].value == 2 * 2 / (3 + 5)
    assert all(score.low <= score.value <= score.high for score in own.values())


def test_a_difference_is_paired_and_that_of_a_model_and_itself_is_nothing() -> None:
    better, worse = scored(share_right=0.9, right_events=12), scored(share_right=0.6, right_events=4)
    found = certainty({"linear": worse, "temporal": better, "copy": better}, seed=0)
    gain = found.differences["temporal", "linear"]
    assert all(gain[score].low > 0 for score in ("micro_f1", "map", "events.videos.f1"))
    same = found.differences["copy", "temporal"]
    assert {(each.low, each.value, each.high) for each in same.values()} == {(0, 0, 0)}
    assert certainty({"linear": worse}, seed=0) == certainty({"linear": worse}, seed=0)


def test_without_recordings_there_is_no_score_of_them() -> None:
    alone = dataclasses.replace(scored(share_right=0.8, right_events=5), events={})
    assert set(certainty({"linear": alone}, seed=0).to_json()["intervals"]["linear"]) == {"micro_f1", "map"}

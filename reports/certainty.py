"""How sure models' scores on test are, and the differences between them: `Scored`, `Certainty`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from reports.metrics.events import Agreement, EventScores
from reports.metrics.intervals import (
    NUM_DRAWS,
    Draws,
    Interval,
    counts_by_subject,
    draw_subjects,
    f1_scores,
    interval,
    mean_average_precisions,
)
from reports.thresholds import Bools, Floats, decide

RECORDINGS = "events.recordings.f1"


@dataclass(frozen=True, eq=False)
class Scored:
    """One model on test: window `probabilities` and `targets` (n, L) of `subjects` (n,) at `threshold`, and events.

    `events` has the scores at the point of the best F1, by "recordings" and "videos". `subject_of` has the subject of
    each video, by id.
    """

    probabilities: Floats
    targets: Bools
    subjects: Sequence[str]
    threshold: float
    subject_of: Mapping[str, str]
    events: Mapping[str, EventScores] = field(default_factory=dict)

    def draws_of_scores(self, people: Draws, recordings: Draws) -> dict[str, Floats]:
        """Each score in every draw of people; of events of recordings, in every draw of those."""
        decisions = decide(self.probabilities, self.threshold)
        windows = counts_by_subject(decisions, self.targets, self.subjects)
        scores = {
            "micro_f1": f1_scores(windows, people),
            "map": mean_average_precisions(self.probabilities, self.targets, self.subjects, people),
        }
        if "videos" in self.events:
            by_subject: dict[str, Agreement] = {}
            for video_id, count in self.events["videos"].of_recordings.items():
                subject = self.subject_of[video_id]
                by_subject[subject] = by_subject.get(subject, Agreement()) + count
            scores["events.videos.f1"] = f1_scores(by_subject, people)
        if "recordings" in self.events:
            scores[RECORDINGS] = f1_scores(self.events["recordings"].of_recordings, recordings)
        return scores


@dataclass(frozen=True)
class Certainty:
    """Intervals of each model's scores by model and score, and of each model minus the one before it.

    `num_drawn` has how many people, or recordings for events of recordings, each score's draws are of.
    """

    models: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[tuple[str, str], Mapping[str, Interval]]
    num_drawn: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        return {
            "protocol": "held_out: model, thresholds, calibration and event rules chosen on val, scores on test",
            "drawn": f"95% intervals: percentiles of {NUM_DRAWS} draws of people, or of recordings of one person each",
            "num_drawn": dict(self.num_drawn),
            "intervals": {model: _to_json(scores) for model, scores in self.models.items()},
            "differences": {
                f"{later} - {earlier}": _to_json(own) for (later, earlier), own in self.differences.items()
            },
        }


def certainty(models: Mapping[str, Scored], *, seed: int) -> Certainty:
    """Intervals of the models' scores, and the paired differences between neighbours in this order."""
    first = next(iter(models.values()))
    events = first.events.get("recordings")
    people = draw_subjects(first.subjects, seed=seed)
    recordings = draw_subjects(list(events.of_recordings) if events else [], seed=seed)
    draws = {name: model.draws_of_scores(people, recordings) for name, model in models.items()}
    num_drawn = dict.fromkeys(next(iter(draws.values())), len(people.subjects))
    if events:
        num_drawn[RECORDINGS] = len(recordings.subjects)
    return Certainty(
        {name: {score: interval(values) for score, values in own.items()} for name, own in draws.items()},
        {
            (later, earlier): {
                score: interval(values - draws[earlier][score]) for score, values in draws[later].items()
            }
            for earlier, later in pairwise(models)
        },
        num_drawn,
    )


def _to_json(scores: Mapping[str, Interval]) -> dict[str, Any]:
    return {score: own.to_json() for score, own in scores.items()}

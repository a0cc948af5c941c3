"""`DiaryModel`: the model, thresholds and rules that made a diary's events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reports.events import EventRule


@dataclass(frozen=True)
class DiaryModel:
    """What made the events: enough to make them again.

    `rules` has a rule for each label. `test_precision` is the share of such events that
    were right on recordings or videos that the model had never seen, where known. `trained_on` is a sentence that says
    what the model knows.
    """

    profile: str
    label_set: str
    model: str
    model_sha256: str
    thresholds_sha256: str
    rules: Mapping[str, EventRule]
    test_precision: float | None = None
    trained_on: str = ""

    @property
    def num_labels(self) -> int:
        return len(self.rules)

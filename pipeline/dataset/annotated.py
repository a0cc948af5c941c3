"""Predictions beside what truly happens, by video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from features.video import Segment
from heads.predictions import Predictions, rows_by_video
from pipeline.dataset.manifest import Action, Manifest
from reports.metrics.matching import AnnotatedRecording, Kind, TrueEvent


def annotated(
    kind: Kind, predictions: Predictions, actions: Mapping[str, Sequence[Action]]
) -> Iterator[AnnotatedRecording]:
    """Each video of the predictions with its `actions`, by id; one without an entry raises `KeyError`."""
    for video_id, rows in rows_by_video(predictions.video_ids).items():
        times = zip(predictions.start_s[rows], predictions.end_s[rows], strict=True)
        windows = [Segment(start_s, end_s) for start_s, end_s in times]
        truth = [TrueEvent(video_id, action.label, action.segment) for action in actions[video_id]]
        distances = predictions.distances[rows] if len(predictions.distances) else None
        yield AnnotatedRecording(video_id, kind, windows, predictions.probabilities[rows], truth, distances)


def video_actions(videos: Manifest, split: str) -> dict[str, Sequence[Action]]:
    """What happens in each video of a split, by id."""
    return {video.video_id: video.actions for video in videos.split(split)}

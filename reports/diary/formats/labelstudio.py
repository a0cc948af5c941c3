"""Events as a task for Label Studio, whose predictions a person corrects, and the labelling configuration for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from features.files import write_json, write_text
from reports.diary.escaping import visible, without_surrogates
from reports.diary.formats.labels import distinct_names
from reports.diary.model import DiaryModel
from reports.diary.recording import Recording
from reports.events import Event, EventsFound

FRAME_RATE = 25
"""Of the timeline, whatever the video's is: Label Studio counts time in frames of the rate that it is told."""


def write_labelstudio(
    path: Path, recording: Recording, found: EventsFound, names: Mapping[str, str], model: DiaryModel
) -> None:
    """Write one task with a prediction, and beside it, as `.xml`, the project's labelling configuration.

    Regions are ranges of frames, numbered from 1, the last one included, of 1 / `FRAME_RATE` s each. A region's `score`
    is the mean probability, the prediction's the mean of them. What a person confirmed or amended has that as the
    region's note. Less certain events are a second prediction, of a model version that says so. The video is taken from
    Label Studio's local storage, `/data/local-files/?d=<file name>`.
    """
    labels = {label: _value(name) for label, name in distinct_names(names).items()}
    version = f"{visible(model.model)} {model.model_sha256[:16]}"
    predictions = [_prediction(version, found.events, labels)]
    if found.less_certain:
        predictions.append(_prediction(f"{version}, less certain", found.less_certain, labels))
    task = {
        "data": {
            "video": f"/data/local-files/?d={quote(without_surrogates(recording.file_name))}",
            "recording": visible(recording.id),
        },
        "predictions": predictions,
    }
    write_json(path, [task])
    write_text(path.with_suffix(".xml"), _configuration(list(labels.values())))


def _prediction(version: str, events: Sequence[Event], labels: Mapping[str, str]) -> dict[str, object]:
    scores = [event.mean_probability for event in events]
    score = {"score": round(math.fsum(scores) / len(scores), 4)} if scores else {}
    return {"model_version": version, **score, "result": [_region(event, labels[event.label]) for event in events]}


def _region(event: Event, label: str) -> dict[str, object]:
    first = round(event.segment.start_s * FRAME_RATE) + 1
    note = {"meta": {"text": ["confirmed"]}} if event.confirmed else {}
    return {
        **note,
        "id": visible(event.id),
        "from_name": "activities",
        "to_name": "video",
        "type": "timelinelabels",
        "origin": "prediction",
        "score": round(event.mean_probability, 4),
        "value": {
            "ranges": [{"start": first, "end": max(first, round(event.segment.end_s * FRAME_RATE))}],
            "timelinelabels": [label],
        },
    }


def _value(name: str) -> str:
    """The name as a value: behind a dollar sign Label Studio looks for a field of the task."""
    return f"＄{name[1:]}" if name.startswith("$") else name


def _configuration(labels: list[str]) -> str:
    lines = [f"    <Label value={quoteattr(label)}/>" for label in labels]
    return "\n".join(
        [
            "<View>",
            f'  <Video name="video" value="$video" frameRate="{FRAME_RATE}" timelineHeight="200"/>',
            '  <TimelineLabels name="activities" toName="video">',
            *lines,
            "  </TimelineLabels>",
            "</View>\n",
        ]
    )

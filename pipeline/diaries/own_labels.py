"""Labels of one's own beside the diaries: labels.json, what they are learned from, and the events that they give.

A label looks at what the model's temporal head sees: with another model it is learned again, from the same stretches.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.extraction import provenance as provenance_of
from features.files import private_files
from features.sealed import damage_told, read_sealed_json, write_sealed_json
from features.video import Segment
from heads.own_labels import CannotLearn, Certainty, OwnLabel, Windows, learn
from heads.targets import window_cells
from pipeline.diaries.output import LABELS, OutputFolder
from pipeline.recognition import Recognition, SequenceModel, WindowModel
from reports.diary.recording import Recording
from reports.events import EventRule, EventsFound, find_events, numbered

if TYPE_CHECKING:
    from pipeline.model_folder import Recogniser

log = logging.getLogger(__name__)

_VERSION = 2
_OF_NO_MODEL = 1
"""Of files that do not say which model their labels were learned with."""
_REMEDY = "remove it, and add its labels again with `diary label add`"
_BATCH_SIZE = 16  # windows


class UnknownLabel(Exception):
    """There is no label of that name."""


@dataclass(frozen=True, order=True)
class Example:
    """A stretch of a video, by the hash of its bytes, that shows a label."""

    video_sha256: str
    start_s: float
    end_s: float

    @property
    def segment(self) -> Segment:
        return Segment(self.start_s, self.end_s)


@dataclass(frozen=True, eq=False)
class StoredLabel:
    """A label of one's own: what it was learned from, and what came of it with the model of the key `learned_with`."""

    id: str
    name: str
    examples: tuple[Example, ...]
    learned_with: str
    label: OwnLabel
    certainty: Certainty

    def rule(self, stride_s: float) -> EventRule:
        """Events are at least half as long as the shortest example."""
        shortest_s = min(example.segment.duration_s for example in self.examples)
        return EventRule(onset=0.5, offset=0.3, min_duration_s=shortest_s / 2, merge_gap_s=1.5 * stride_s)


@dataclass(frozen=True, eq=False)
class OwnLabels:
    """The labels of a folder of diaries, in order of name."""

    labels: tuple[StoredLabel, ...] = ()

    @property
    def names(self) -> dict[str, str]:
        return {label.id: label.name for label in self.labels}

    def named(self, name: str) -> StoredLabel:
        """Case does not matter; raises `UnknownLabel`."""
        for label in self.labels:
            if label.name.casefold() == name.strip().casefold():
                return label
        known = ", ".join(label.name for label in self.labels) or "none yet"
        raise UnknownLabel(f"there is no label {name!r} of your own here; there are: {known}")

    def without(self, label: StoredLabel) -> OwnLabels:
        return replace(self, labels=tuple(each for each in self.labels if each.id != label.id))

    def added(self, label: StoredLabel) -> OwnLabels:
        """With the label, in place of one with its id."""
        labels = (*self.without(label).labels, label)
        return replace(self, labels=tuple(sorted(labels, key=lambda each: each.name.casefold())))

    def told_by(self, recogniser: Recogniser) -> Recogniser:
        """The recogniser with the names and rules of these labels."""
        rules = {label.id: label.rule(recogniser.stride_s) for label in self.labels}
        model = replace(recogniser.diary_model, rules={**recogniser.diary_model.rules, **rules})
        return replace(recogniser, names={**recogniser.names, **self.names}, diary_model=model)

    def with_events(
        self, found: EventsFound, recording: Recording, seen: Recognition, *, stride_s: float
    ) -> EventsFound:
        """The events of a recording with those of these labels; ids are new, in order of (start, label)."""
        windows = Windows.of(seen.windows, seen.vectors, seen.hidden(), stride_s=stride_s)
        cells = window_cells(seen.windows, stride_s=stride_s)
        stretches = [each.segment for each in recording.unrecognisable]
        rows = [row for row, cell in enumerate(cells) if not any(_is_inside(cell, each) for each in stretches)]
        own = find_events(
            recording.id,
            [cells[row] for row in rows],
            np.stack([label.label.probabilities(windows)[rows] for label in self.labels], axis=1),
            [label.id for label in self.labels],
            {label.id: label.rule(stride_s) for label in self.labels},
            stride_s=stride_s,
        )
        return EventsFound(
            numbered(recording.id, (*found.events, *own.events)),
            {**found.suppressed, **own.suppressed},
            found.less_certain,
        )


def _is_inside(cell: Segment, stretch: Segment) -> bool:
    return stretch.start_s <= cell.start_s and cell.end_s <= stretch.end_s


def labels_for(output: OutputFolder, recogniser: Recogniser) -> OwnLabels | None:
    """The labels of a folder of diaries that this model can tell, or None. Use it while the folder is `locked`.

    Those that were learned with another model are learned again, from what the cache has of their stretches and of
    the folder's recordings; warns of those of which it lacks a video.
    """
    own, key = read_own_labels(output.path) or OwnLabels(), model_key(recogniser)
    stale = [label for label in own.labels if label.learned_with != key]
    if stale:
        videos = kept_windows(recogniser, output, stale)
        for label in stale:
            try:
                own = own.added(_learned(label.name, label.examples, videos, key))
            except CannotLearn as error:
                log.warning("%s: %r was learned with another model: %s", output.path / LABELS, label.name, error)
        write_own_labels(output.path, own)
    told = tuple(label for label in own.labels if label.learned_with == key)
    return OwnLabels(told) if told else None


def read_own_labels(folder: Path) -> OwnLabels | None:
    """Those of a folder of diaries; None where there are none. Raises `DamagedFile`."""
    path = folder / LABELS
    if not path.is_file():
        return None
    content = read_sealed_json(path, remedy=_REMEDY)
    with damage_told(path, remedy=_REMEDY):
        if content["version"] not in (_VERSION, _OF_NO_MODEL):
            raise ValueError(f"it is of version {content['version']}, wanted {_VERSION}")
        labels = [
            StoredLabel(
                row["id"],
                row["name"],
                tuple(Example(**example) for example in row["examples"]),
                "" if content["version"] == _OF_NO_MODEL else row["learned_with"],
                OwnLabel(np.array(row["weights"], dtype=np.float32), row["threshold"]),
                Certainty(**row["certainty"]),
            )
            for row in content["labels"]
        ]
        return OwnLabels(tuple(labels))


def write_own_labels(folder: Path, own: OwnLabels) -> None:
    """Write labels.json, readable for its owner alone."""
    rows = [
        {
            "id": label.id,
            "name": label.name,
            "examples": [asdict(example) for example in label.examples],
            "learned_with": label.learned_with,
            "certainty": asdict(label.certainty),
            "threshold": label.label.threshold,
            "weights": [float(weight) for weight in label.label.weights],
        }
        for label in own.labels
    ]
    with private_files():
        write_sealed_json(folder / LABELS, {"version": _VERSION, "labels": rows})


def model_key(recogniser: Recogniser) -> str:
    """A hash of all that decides what a label looks at: the head, and what made the embeddings."""
    model = recogniser.model
    if isinstance(model, SequenceModel):
        embeddings = [model.cache.provenance, model.frozen[1].provenance if model.frozen else None]
    else:
        assert isinstance(model, WindowModel)
        embeddings = [provenance_of(model.frozen, model.reader)]
    facts = json.dumps([recogniser.diary_model.model_sha256, embeddings], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()


def label_id(name: str) -> str:
    """An id that no label of a data set has: "own-watering-plants"."""
    return "own-" + re.sub(r"[\W_]+", "-", name.strip().casefold()).strip("-")


def kept_windows(
    recogniser: Recogniser, output: OutputFolder, labels: Iterable[StoredLabel] = ()
) -> dict[str, Windows]:
    """By hash, the windows of a folder's recordings and of the videos of `labels`, of those that the cache has."""
    digests = [row.sha256 for row in output.rows.values()]
    digests += [example.video_sha256 for label in labels for example in label.examples]
    found = {}
    for digest in dict.fromkeys(digests):
        seen = recogniser.model.recall(digest)
        if seen is not None:
            found[digest] = Windows.of(seen.windows, seen.vectors, seen.hidden(), stride_s=recogniser.stride_s)
    return found


def learned(
    name: str,
    examples: Mapping[Path, Sequence[Example]],
    before: StoredLabel | None,
    recogniser: Recogniser,
    output: OutputFolder,
) -> StoredLabel:
    """Learn the label `name` from stretches of videos, by their files, with those that it was learned from `before`.

    Whatever else lies in the cache of the recordings of `output` is what it is told from. Raises `CannotLearn`.
    """
    seen = {}
    for path, own in examples.items():
        recognition = recogniser.model.recognise(
            path, batch_size=_BATCH_SIZE, num_workers=1, video_sha256=own[0].video_sha256
        )
        for example in own:
            if example.end_s > recognition.end.end_s + 1:
                raise CannotLearn(f"{path} ends at {recognition.end.end_s:g} s, before {example.end_s:g} s")
        seen[own[0].video_sha256] = Windows.of(
            recognition.windows, recognition.vectors, recognition.hidden(), stride_s=recogniser.stride_s
        )
    videos = kept_windows(recogniser, output, [before] if before else []) | seen
    all_examples = {*(before.examples if before else ()), *(example for own in examples.values() for example in own)}
    return _learned(name.strip(), tuple(sorted(all_examples)), videos, model_key(recogniser))


def _learned(name: str, examples: tuple[Example, ...], videos: Mapping[str, Windows], key: str) -> StoredLabel:
    gone = [example for example in examples if example.video_sha256 not in videos]
    if gone:
        raise CannotLearn(
            f"{len(gone)} of its {len(examples)} stretches are of videos of which the cache has nothing of this model: "
            f"write their diaries with it, or `diary label remove` {name!r} and add it with all its stretches"
        )
    label, certainty = learn(
        [(videos[example.video_sha256], example.segment) for example in examples], list(videos.values())
    )
    return StoredLabel(label_id(name), name, examples, key, label, certainty)


@dataclass(frozen=True)
class Alike:
    """A stretch of a video that is like the examples of a label, and the highest probability in it."""

    video_sha256: str
    segment: Segment
    probability: float


def alike(label: StoredLabel, videos: Mapping[str, Windows], *, num: int) -> list[Alike]:
    """The `num` stretches that are most like the examples and touch none of them, the nearest first.

    Each is a window with its neighbours; no two overlap.
    """
    ranked = sorted(
        (
            (-float(probability), digest, window)
            for digest, windows in videos.items()
            for window, probability in zip(windows.windows, label.label.probabilities(windows), strict=True)
        ),
    )
    taken = [(example.video_sha256, example.segment) for example in label.examples]
    found: list[Alike] = []
    for negative, digest, window in ranked:
        if len(found) == num:
            break
        if not any(other == digest and segment.overlap_s(window) > 0 for other, segment in taken):
            taken.append((digest, window))
            found.append(Alike(digest, window, -negative))
    return found

"""What a review teaches, on other recordings of the same person: `python -m bench.learning`, after `make repro`.

Three new people of the demo's world have six recordings each. Of two of them, in two rooms, 60 events that the
project's model states are judged from what is true: right with the ends that it has, wrong, or another label. Half of
them are those that the model is least sure of, the others spread over its probabilities. Stretches without events are
looked at as a whole. The model that `diary learn` makes of that is measured on two other recordings in the same two
rooms, as people film at home, and on two in rooms that it never saw; so is one that was told lies, and one that
was told of each event's stretch what else is on there.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import product
from pathlib import Path
from uuid import uuid4

import click
import numpy as np

from features.files import sha256_of
from features.video import Segment
from pipeline import params as project_params
from pipeline.dataset.manifest import Action
from pipeline.dataset.recordings import read_truth
from pipeline.demo.film import Film
from pipeline.demo.recordings import render_with_truth
from pipeline.diaries.output import CORRECTIONS, MODEL, STORED, OutputFolder
from pipeline.diaries.selection import select_videos
from pipeline.layout import Layout
from pipeline.learning import learn
from pipeline.model_folder import Recogniser, load_recogniser
from pipeline.recordings import write_diaries
from reports.corrections import Correction, append_correction
from reports.diary.stored import read_stored
from reports.event_evaluation import EventEvaluation, evaluate_events
from reports.events import Event
from reports.metrics.matching import AnnotatedRecording, TrueEvent
from reports.spans import segment_span, union, without

_WHEN = "2026-03-14T20:00:00+00:00"
_NUM_JUDGED = 60
_SHORTEST_S = 0.3  # less of a true event is not seen
_ROOMS = ("the same rooms", "other rooms")


@click.command()
@click.option("--people", default=3, show_default=True)
@click.option("--seeds", default=3, show_default=True, help="Trainings of each person's model.")
@click.option("--lies", default=0.1, show_default=True, help="Share of the answers that are flipped, in a second run.")
def main(people: int, seeds: int, lies: float) -> None:
    """Print event F1 at IoU 0.3 before and after, at the best rules and at the diary's careful ones."""
    project = project_params.load_project(Path())
    params, paths = (
        project_params.load(Path(), project.profile),
        Layout(project.profile, project.label_sets[0]),
    )
    own = load_recogniser(paths.diary_model)
    ways = (("learned", 0.0, False), (f"{lies:.0%} lies", lies, False), ("and what else is on", 0.0, True))
    found: defaultdict[tuple[str, str], list[EventEvaluation]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for person in range(people):
            films = _rendered(Path(folder, f"person{person}"), person)
            _measure(found, f"person {person}", "before", own, films)
            for seed, (told, share, is_whole) in product(range(seeds), ways):
                output = OutputFolder(Path(folder, f"diaries{person}-{seed}-{told}"))
                write_diaries(
                    output.plan(select_videos(films["reviewed"])),
                    output,
                    own,
                    recorded_at=None,
                    batch_size=16,
                    num_workers=1,
                )
                _answer(output, films["reviewed"], seed=seed, lies=share, is_whole=is_whole)
                model = output.path / MODEL
                learn(model, [output], dataclasses.replace(params, seed=seed), paths)
                _measure(found, f"person {person}, seed {seed}", told, load_recogniser(model), films)
    for (told, rooms), evaluations in found.items():
        best, careful = (
            np.mean([each.at_iou(0.3).f1 for each in points])
            for points in zip(*((own.best, own.careful) for own in evaluations), strict=True)
        )
        click.echo(f"mean, {told}, {rooms}: event F1 {best:.3f}, careful {careful:.3f}")


def _rendered(folder: Path, person: int) -> dict[str, list[Path]]:
    """Recordings of somebody who is in no data set: two of two rooms, two more of them, two of other rooms."""
    start = datetime.fromisoformat("2026-03-14T08:02:11+01:00")
    films = [
        Film(
            folder / f"{k}.mp4",
            seed=(777, 7, person, k),
            person_seed=(777, 8, person),
            room_seed=(777, 9, person, k if k >= 4 else k % 2),
            length_s=180.0,
            recorded_at=start,
        )
        for k in range(6)
    ]
    render_with_truth(films, 2)
    paths = [film.path for film in films]
    return {"reviewed": paths[:2], _ROOMS[0]: paths[2:4], _ROOMS[1]: paths[4:]}


def _measure(
    found: defaultdict[tuple[str, str], list[EventEvaluation]],
    who: str,
    told: str,
    recogniser: Recogniser,
    films: Mapping[str, Sequence[Path]],
) -> None:
    for rooms in _ROOMS:
        measured = _measured(recogniser, films[rooms])
        found[told, rooms].append(measured)
        best, careful = (point.at_iou(0.3).f1 for point in (measured.best, measured.careful))
        click.echo(f"{who}, {told}, {rooms}: event F1 {best:.3f}, careful {careful:.3f}")


def _truth(video: Path, names: Sequence[str]) -> list[Action]:
    return [action for action in read_truth(video.with_suffix(".truth.csv")) if action.label in names]


def _measured(recogniser: Recogniser, videos: Sequence[Path]) -> EventEvaluation:
    annotated = []
    for video in videos:
        seen = recogniser.model.recognise(video, batch_size=16, num_workers=1)
        truth = [TrueEvent(str(video), *action) for action in _truth(video, list(recogniser.names))]
        annotated.append(AnnotatedRecording(str(video), "recording", seen.windows, seen.probabilities, truth))
    return evaluate_events(recogniser.decoding, annotated, stride_s=recogniser.stride_s)


def _answer(output: OutputFolder, videos: Sequence[Path], *, seed: int, lies: float, is_whole: bool) -> None:
    """Append to corrections.jsonl what somebody who knows the truth says of these videos.

    With `is_whole` all else that is on in an event's stretch is added, and the stretch is marked complete.
    """
    rng, asked = np.random.default_rng(seed), []
    truths = {sha256_of(video): video for video in videos}
    for row in output.rows.values():
        stored = read_stored(output.path / row.id / STORED)
        truth = _truth(truths[row.sha256], list(stored.names))
        stated = [*stored.found.events, *stored.found.less_certain]
        asked += [(event, row.sha256, truth, stated) for event in stated]
        told = [segment_span(event.segment) for event in stored.found.events]
        observed = union(map(segment_span, stored.recording.observed))
        for start_ms, end_ms in without(observed, told):
            gap = Segment(start_ms / 1000, end_ms / 1000)
            if gap.duration_s >= 1:
                _complete(output, row.sha256, gap, truth)
    asked.sort(key=lambda each: abs(each[0].mean_probability - 0.5))
    unsure, sure = (
        asked[: _NUM_JUDGED // 2],
        sorted(asked[_NUM_JUDGED // 2 :], key=lambda each: each[0].mean_probability),
    )
    spread = np.linspace(0, len(sure) - 1, min(len(sure), _NUM_JUDGED - len(unsure))).round().astype(int)
    for event, sha256, truth, stated in [*unsure, *(sure[k] for k in spread)]:
        _judge(output, event, sha256, truth, stated, is_lie=rng.random() < lies)
        if is_whole:
            _complete(output, sha256, event.segment, truth)


def _complete(output: OutputFolder, sha256: str, stretch: Segment, truth: Sequence[Action]) -> None:
    for action in truth:
        if action.segment.overlap_s(stretch) > _SHORTEST_S:
            _say(output, "add", sha256, action.label, action.segment)
    _say(output, "complete", sha256, "", stretch)


def _judge(
    output: OutputFolder, event: Event, sha256: str, truth: Sequence[Action], stated: Sequence[Event], *, is_lie: bool
) -> None:
    def overlap_s(action: Action) -> float:
        return action.segment.overlap_s(event.segment)

    same = [action for action in truth if action.label == event.label and overlap_s(action) > _SHORTEST_S]
    if is_lie:
        _say(output, "wrong" if same else "right", sha256, event.label, event.segment)
        return
    missed = [
        action
        for action in truth
        if 2 * overlap_s(action) > max(action.segment.duration_s, event.segment.duration_s)
        and not any(
            other.label == action.label and action.segment.overlap_s(other.segment) > _SHORTEST_S for other in stated
        )
    ]
    if not same and not missed:
        _say(output, "wrong", sha256, event.label, event.segment)
        return
    right = max(same or missed, key=overlap_s)
    _say(output, "change", sha256, event.label, event.segment, right)


def _say(
    output: OutputFolder, verdict: str, sha256: str, label: str, segment: Segment, right: Action | None = None
) -> None:
    append_correction(
        output.path / CORRECTIONS,
        Correction(
            id=uuid4().hex,
            verdict=verdict,  # type: ignore[arg-type]
            video_sha256=sha256,
            who="bench",
            when=_WHEN,
            label=label,
            start_s=segment.start_s,
            end_s=segment.end_s,
            new_label="" if right is None else right.label,
            new_start_s=None if right is None else right.segment.start_s,
            new_end_s=None if right is None else right.segment.end_s,
        ),
    )


if __name__ == "__main__":
    main()

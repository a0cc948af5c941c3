"""Stage `diary`, and what the command `diary write` does too: events and a readable diary of each recording."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import numpy as np
from PIL import Image
from tqdm import tqdm

from features.backbone import DTYPES, Backbone, BackboneError, best_device, choose_precision
from features.clips import Finished, Reading, Source, stream_clips
from features.decode.grid import UnreadableVideo, VideoInfo, frame_at, probe
from features.preprocess import Preprocessing, PreprocessingError
from features.video import Clip, Segment
from heads import weights
from heads.action_model import ActionModel, load_action_model, predict_clips
from pipeline import params
from pipeline.stage import params_option, path_option, stage
from reports.diary.page import Provenance, Recording, write_events_jsonl, write_html, write_markdown
from reports.events import EventRule, EventsFound, find_events, observed
from reports.thresholds import Sweep

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".ts", ".3gp", ".mpg", ".mpeg"}
THUMBNAIL_WIDTH = 320  # pixels
# 20260314_080211, 2026-03-14 08.02.11, 2026-03-14T08-02-11 and the like, as cameras and phones name their files.
_TIME_IN_NAME = re.compile(r"(20\d\d)-?(\d\d)-?(\d\d)[ _T-](\d\d)[.:h-]?(\d\d)[.:m-]?(\d\d)(?!\d)")


@dataclass(frozen=True)
class Recogniser:
    """The better of the two models, ready to run, and what turns its probabilities into events."""

    model: ActionModel
    names: dict[str, str]
    provenance: Provenance
    reading: Reading
    batch_size: int
    num_workers: int
    min_quiet_s: float


@stage(params.ParamsError, BackboneError, PreprocessingError, weights.WeightsMismatch, UnreadableVideo)
@path_option("--recordings", "Folder of recordings.")
@path_option("--backbone", "Folder of the backbone.")
@path_option("--models", "Folder of head/ and finetune/.")
@path_option("--sweeps", "Folder of <model>.json.")
@path_option("--metrics", "Folder of <model>.json of `report`.")
@click.option("--label-set", required=True, help="Name of the label set.")
@path_option("--out", "Folder of diaries, to be written.")
@params_option
def main(
    recordings: Path, backbone: Path, models: Path, sweeps: Path, metrics: Path, label_set: str, out: Path,
    params_file: Path,
) -> None:  # fmt: skip
    """Write the diary of every recording."""
    chosen = params.load(params_file)
    recogniser = load_recogniser(
        chosen, backbone=backbone, models=models, sweeps=sweeps, metrics=metrics, label_set=label_set
    )
    videos = sorted(path for path in recordings.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    out.mkdir(parents=True, exist_ok=True)
    failures = write_diaries(videos, out, recogniser, recorded_at=None)
    for failure in failures:
        log.warning("%s", failure)


def load_recogniser(
    chosen: params.Params, *, backbone: Path, models: Path, sweeps: Path, metrics: Path, label_set: str
) -> Recogniser:
    """Load the model that does better on val, by micro-F1 at its own threshold; stage 1 where they are equal."""
    profile = chosen.active
    found = {model: Sweep.load(sweeps / f"{model}.json") for model in ("head", "finetune")}
    better = max(found, key=lambda model: found[model].best.micro_f1)
    preprocessing = Preprocessing.from_checkpoint(backbone)
    dtype = DTYPES[choose_precision(profile.extract.precision, best_device())]
    loaded = Backbone.load(backbone, dtype=dtype, attention=profile.extract.attention)
    model, description = load_action_model(
        models / better,
        loaded,
        preprocessing,
        expect={
            "backbone": {"id": loaded.id, "sha256": loaded.weights_sha256},
            "windows": profile.windows.model_dump(),
            "preprocessing": preprocessing.to_dict(),
        },
    )
    names = {label["id"]: label["name"] for label in description["labels"]}
    return Recogniser(
        model=model,
        names=names,
        provenance=Provenance(
            profile=chosen.profile,
            label_set=label_set,
            model=better,
            model_sha256=weights.sha256(models / better),
            thresholds_sha256=hashlib.sha256((sweeps / f"{better}.json").read_bytes()).hexdigest(),
            rules=event_rules(found[better], profile.diary),
            test_micro_f1=json.loads((metrics / f"{better}.json").read_text(encoding="utf-8"))["micro_f1"],
        ),
        reading=Reading(profile.windows.plan, preprocessing, profile.extract.decoder),
        batch_size=profile.extract.batch_size,
        num_workers=min(1, profile.extract.num_workers),
        min_quiet_s=profile.diary.min_quiet_s,
    )


def event_rules(found: Sweep, diary: params.DiaryParams) -> dict[str, EventRule]:
    """A rule for each label: the swept threshold as onset, a share of it as offset, durations from params.yaml."""
    rules = {}
    for label, own in zip(found.labels, found.label_thresholds, strict=True):
        onset = own if diary.thresholds == "per_label" else found.threshold
        given = diary.per_label.get(label, params.LabelRule())
        rules[label] = EventRule(
            onset=onset,
            offset=onset * diary.offset_ratio,
            min_duration_s=diary.min_duration_s if given.min_duration_s is None else given.min_duration_s,
            merge_gap_s=diary.merge_gap_s if given.merge_gap_s is None else given.merge_gap_s,
        )
    return rules


def write_diaries(
    videos: Sequence[Path], out: Path, recogniser: Recogniser, *, recorded_at: datetime | None
) -> list[UnreadableVideo]:
    """Write `<out>/<recording>/` events.jsonl, diary.md and diary.html for each video that can be read.

    With several recordings, `<out>/diary.md` tells of all of them, day by day. `recorded_at` is when the first video
    begins, where the user says so; the others are taken to follow it without a pause. Returns why others failed.
    """
    parts, failures = [], []
    for recording_id, path in zip(_ids(videos), videos, strict=True):
        try:
            info = probe(path)
            windows, probabilities = _recognise(recording_id, path, recogniser)
        except UnreadableVideo as failure:
            failures.append(failure)
            continue
        end_s = windows[-1].end_s
        begins, source = _begins(path, info, end_s, recorded_at)
        if recorded_at is not None:
            recorded_at += timedelta(seconds=end_s)
        recording = Recording(
            id=recording_id,
            file_name=path.name,
            duration_s=end_s,
            recorded_at=begins,
            recorded_at_source=source,
            observed=tuple(observed(windows)),
            unreadable=None,
        )
        found = find_events(
            recording_id,
            windows,
            probabilities,
            list(recogniser.names),
            recogniser.provenance.rules,
            stride_s=recogniser.reading.plan.stride_s,
        )
        parts.append((recording, found))
        _write_one(path, out / recording_id, recording, found, recogniser)
        log.info("%s: %d events, %d suppressed as too short", path.name, len(found.events), found.num_suppressed)
    if len(parts) > 1:
        write_markdown(
            out / "diary.md", parts, recogniser.names, recogniser.provenance, min_quiet_s=recogniser.min_quiet_s
        )
    return failures


def _recognise(recording_id: str, path: Path, recogniser: Recogniser) -> tuple[list[Segment], np.ndarray]:
    """The recording's windows in order, and their probabilities (n_windows, n_labels)."""

    def clips() -> Iterator[tuple[str, Clip]]:
        stream = stream_clips([Source(recording_id, path)], recogniser.reading, num_workers=recogniser.num_workers)
        for item in tqdm(stream, desc=path.name, unit="window", file=sys.stderr):
            if not isinstance(item, Finished):
                yield item
            elif item.failure is not None:
                raise item.failure

    windows, rows = [], []
    for _, clip, row in predict_clips(
        recogniser.model, clips(), batch_size=recogniser.batch_size, device=best_device()
    ):
        windows.append(clip.segment)
        rows.append(row)
    return windows, np.stack(rows)


def _write_one(path: Path, out: Path, recording: Recording, found: EventsFound, recogniser: Recogniser) -> None:
    out.mkdir(parents=True, exist_ok=True)
    names, provenance = recogniser.names, recogniser.provenance
    middles = sorted((event.segment.start_s + event.segment.end_s) / 2 for event in found.events)
    pictures = dict(zip(middles, frame_at(path, middles), strict=True))
    thumbnails = {
        event.id: _jpeg(pictures[(event.segment.start_s + event.segment.end_s) / 2]) for event in found.events
    }
    write_events_jsonl(out / "events.jsonl", recording, found, names, provenance)
    write_markdown(out / "diary.md", [(recording, found)], names, provenance, min_quiet_s=recogniser.min_quiet_s)
    write_html(
        out / "diary.html", recording, found, names, provenance,
        thumbnails=thumbnails, min_quiet_s=recogniser.min_quiet_s,
    )  # fmt: skip


def _jpeg(pixels: np.ndarray) -> bytes:
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL_WIDTH, THUMBNAIL_WIDTH))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return file.getvalue()


def _ids(videos: Sequence[Path]) -> list[str]:
    """File names without their endings; where two are alike, numbered."""
    ids: list[str] = []
    for path in videos:
        same = sum(each == path.stem or each.startswith(f"{path.stem}~") for each in ids)
        ids.append(f"{path.stem}~{same + 1}" if same else path.stem)
    return ids


def _begins(path: Path, info: VideoInfo, duration_s: float, given: datetime | None) -> tuple[datetime | None, str]:
    """When the recording's first frame was taken, in the order of how far it can be trusted, and where that is from."""
    if given is not None:
        return given if given.tzinfo else given.astimezone(), "given by the user"
    if info.recorded_at is not None:
        # A time that is stored in UTC says nothing of where it was: people read it by their own clock.
        in_utc = info.recorded_at.tzinfo == UTC
        return info.recorded_at.astimezone() if in_utc else info.recorded_at, "container metadata"
    match = _TIME_IN_NAME.search(path.stem)
    if match:
        try:
            return datetime(*(int(part) for part in match.groups())).astimezone(), "file name"  # type: ignore[arg-type]
        except ValueError:
            pass  # digits that are no time
    ended = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return (ended - timedelta(seconds=duration_s)).astimezone(), "file modification time"


if __name__ == "__main__":
    main()

"""`ReviewSession`: what is asked in a review, what was answered, and what becomes of an answer."""

from __future__ import annotations

import dataclasses
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from features.files import private_files, sha256_of
from pipeline.diaries.correcting import Corrections
from pipeline.diaries.output import CORRECTIONS
from pipeline.review.queue import Item, answer
from pipeline.review.recordings import Reviewed
from reports.corrections import Correction, append_correction
from reports.diary.clock import format_time, local_zone
from reports.diary.escaping import visible
from reports.diary.page import thumbnail_name

_LAST_VERDICTS = 300
_MAX_TEXT = 2_000


class BadJudgement(Exception):
    """What the page sent cannot be a correction of these recordings."""


class VideoChanged(Exception):
    """The file at a video's place has other bytes than the video that the diary is of."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Judgement:
    """What a person said of [start_s, end_s) of a recording, in the words of `Correction`."""

    recording: str
    verdict: Literal["right", "wrong", "change", "add", "complete", "skip", "note", "undo"]
    who: str
    label: str = ""
    start_s: float = 0.0
    end_s: float = 0.0
    new_label: str = ""
    new_start_s: float | None = None
    new_end_s: float | None = None
    undoes: str = ""
    note: str = ""
    event_id: str = ""
    probability: float | None = None
    sampling: str = ""


_JUDGEMENT = TypeAdapter(Judgement)


def make_correction(reviewed: Reviewed, judgement: Judgement) -> Correction:
    """The line that a judgement becomes. Raises `BadJudgement` for what does not fit the recording."""
    stored = reviewed.stored
    _, end_ms = stored.recording.span_ms
    for label in filter(None, (judgement.label, judgement.new_label)):
        if label not in stored.names:
            raise BadJudgement(f"{label!r} is none of the {len(stored.names)} labels of the model of {reviewed.id}")
    for time_s in filter(None, (judgement.start_s, judgement.end_s, judgement.new_start_s, judgement.new_end_s)):
        if not 0 <= time_s <= end_ms / 1000:
            raise BadJudgement(f"{time_s} s is not in {reviewed.id}, which lasts {end_ms / 1000:g} s")
    if max(len(judgement.note), len(judgement.who)) > _MAX_TEXT:
        raise BadJudgement(f"wanted at most {_MAX_TEXT} characters")
    if not judgement.who.strip():
        raise BadJudgement("it is not said who judges")
    fields = {name: value for name, value in dataclasses.asdict(judgement).items() if name != "recording"}
    try:
        return Correction(
            **fields,
            id=uuid.uuid4().hex,
            video_sha256=reviewed.video_sha256,
            when=datetime.now(local_zone()).isoformat(timespec="milliseconds"),
            model_sha256=stored.model.model_sha256 if judgement.event_id else "",
        )
    except Exception as error:
        raise BadJudgement(str(error)) from error


class ReviewSession:
    """The questions about recordings of the output folder `out`; answers go to its corrections.jsonl at once.

    Several people, pages and processes may answer at the same time. `on_change` is called behind each answer, and
    `close` when nobody asks any more.
    """

    def __init__(
        self,
        out: Path,
        recordings: Sequence[Reviewed],
        items: Sequence[Item],
        *,
        who: str,
        on_change: Callable[[], None] = lambda: None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.out = out
        self.who = who
        self.items = tuple(items)
        self.close = close
        self._on_change = on_change
        self._recordings = {reviewed.id: reviewed for reviewed in recordings}
        self._hashed: dict[str, tuple[int, int]] = {}
        self._hashing = threading.Lock()

    def judge(self, content: Any) -> dict[str, Any]:
        """Append what the page sent, and return its id with what then holds for whom it names.

        Raises `BadJudgement` and pydantic's `ValidationError`.
        """
        judgement = _JUDGEMENT.validate_python(content)
        reviewed = self._recordings.get(judgement.recording)
        if reviewed is None:
            raise BadJudgement(f"no recording {judgement.recording!r} is reviewed here")
        if judgement.verdict == "undo" and judgement.undoes not in {
            correction.id for correction in Corrections(self.out).of(reviewed.video_sha256)
        }:
            raise BadJudgement("what is to be undone is not there: perhaps it is undone already")
        correction = make_correction(reviewed, judgement)
        with private_files():
            append_correction(self.out / CORRECTIONS, correction)
        self._on_change()
        return {"id": correction.id, **self._now(judgement.who)}

    def whole(self, who: str) -> dict[str, Any]:
        """All that the page needs at its start."""
        names = {label: name for each in self._recordings.values() for label, name in each.stored.names.items()}
        labels = [
            {"id": label, "name": visible(name)} for label, name in sorted(names.items(), key=lambda pair: pair[1])
        ]
        return {
            "who": who,
            "labels": labels,
            "recordings": {name: self._recording(each) for name, each in self._recordings.items()},
            "items": [self._item(item) for item in self.items],
            **self._now(who),
        }

    def video(self, recording_id: str) -> Path | None:
        """The video of a recording, None where there is none; raises `VideoChanged`. Reads all its bytes once."""
        reviewed = self._recordings.get(recording_id)
        if reviewed is None or reviewed.video is None or not reviewed.video.is_file():
            return None
        path, stat = reviewed.video, reviewed.video.stat()
        state = (stat.st_size, stat.st_mtime_ns)
        with self._hashing:
            if self._hashed.get(recording_id) != state:
                if sha256_of(path) != reviewed.video_sha256:
                    raise VideoChanged(f"{path.name} is no longer the video that this diary is of")
                self._hashed[recording_id] = state
        return path

    def picture(self, recording_id: str, at_ms: int) -> Path | None:
        """A picture that is stored of a recording; None where there is none."""
        reviewed = self._recordings.get(recording_id)
        if reviewed is None or at_ms not in reviewed.stored.thumbnails_ms:
            return None
        path = self.out / recording_id / thumbnail_name(at_ms)
        inside = path.resolve().is_relative_to(self.out.resolve())
        return path if inside and path.is_file() else None

    def _recording(self, reviewed: Reviewed) -> dict[str, Any]:
        recording = reviewed.stored.recording
        start = recording.recorded_at
        return {
            "file": visible(recording.file_name),
            "duration_s": recording.span_ms[1] / 1000,
            # The page writes moments of the video as the clock's; without a start it counts from the video's.
            "clock_s": None if start is None else start.hour * 3600 + start.minute * 60 + start.second,
            "day": "" if start is None else start.date().isoformat(),
            "video": reviewed.video is not None,
            "pictures_ms": list(reviewed.stored.thumbnails_ms),
        }

    def _item(self, item: Item) -> dict[str, Any]:
        return {
            "recording": item.recording_id,
            "start_s": item.span[0] / 1000,
            "end_s": item.span[1] / 1000,
            "label": item.label,
            "event_id": item.event_id,
            "probability": item.probability,
            "sampling": item.sampling,
        }

    def _now(self, who: str) -> dict[str, Any]:
        """Which items `who` has answered, the last verdicts of all, and the events that then hold."""
        corrections = Corrections(self.out)
        of_video = {name: corrections.of(each.video_sha256) for name, each in self._recordings.items()}
        own = {name: [each for each in said if each.who == who] for name, said in of_video.items()}
        answers = [answer(item, own[item.recording_id]) for item in self.items]
        verdicts = [(correction.when, name, correction) for name, said in of_video.items() for correction in said]
        verdicts.sort(key=lambda each: each[0])
        return {
            "answers": [None if each is None else each.id for each in answers],
            "verdicts": [
                {"recording": name, "when_in": _when(self._recordings[name], each), **dataclasses.asdict(each)}
                for _, name, each in verdicts[-_LAST_VERDICTS:]
            ],
            "events": {name: self._events(each, of_video[name]) for name, each in self._recordings.items()},
            "complete": {
                name: [[each.start_s, each.end_s] for each in said if each.verdict == "complete"]
                for name, said in of_video.items()
            },
        }

    def _events(self, reviewed: Reviewed, corrections: Sequence[Correction]) -> list[Mapping[str, Any]]:
        return [
            {
                "id": event.id,
                "label": event.label,
                "start_s": event.segment.start_s,
                "end_s": event.segment.end_s,
                "confirmed": event.confirmed,
            }
            for event in reviewed.stored.with_corrections(corrections).found.events
        ]


def _when(reviewed: Reviewed, correction: Correction) -> str:
    recorded_at = reviewed.stored.recording.recorded_at
    return f"{format_time(correction.span[0], recorded_at)}–{format_time(correction.span[1], recorded_at)}"

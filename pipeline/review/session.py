"""`ReviewSession`: what is asked in a review, what was answered, and what becomes of an answer."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from features.files import private_files, sha256_of
from pipeline.diaries.correcting import Corrections
from pipeline.diaries.output import CORRECTIONS
from pipeline.review.judgement import BadJudgement, make_correction
from pipeline.review.queue import answer
from pipeline.review.recordings import Reviewed
from reports.corrections import Correction, append_correction
from reports.diary.clock import format_time
from reports.diary.escaping import visible
from reports.diary.page import THUMBNAILS, thumbnail_name
from reports.diary.timeline import label_hue
from reports.review.sampling import Item

_LAST_VERDICTS = 300


class VideoChanged(Exception):
    """The file at a video's place has other bytes than the video that the diary is of."""


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

        Raises `BadJudgement`.
        """
        name = content.get("recording") if isinstance(content, dict) else None
        reviewed = self._recordings.get(name) if isinstance(name, str) else None
        if reviewed is None:
            raise BadJudgement("no such recording is reviewed here")
        correction = make_correction(reviewed, content)
        corrections = Corrections(self.out).of(reviewed.video_sha256)
        if correction.undoes and correction.undoes not in {each.id for each in corrections}:
            raise BadJudgement("what is to be undone is not there: perhaps it is undone already")
        with private_files():
            append_correction(self.out / CORRECTIONS, correction)
        self._on_change()
        return {"id": correction.id, **self._now(correction.who, [reviewed])}

    def whole(self, who: str) -> dict[str, Any]:
        """All that the page needs at its start."""
        names = {label: name for each in self._recordings.values() for label, name in each.stored.names.items()}
        by_name = sorted(names.items(), key=lambda pair: pair[1])
        return {
            "who": who,
            "labels": [{"id": label, "name": visible(name), "hue": label_hue(label)} for label, name in by_name],
            "recordings": {name: self._recording(each) for name, each in self._recordings.items()},
            "items": [self._item(item) for item in self.items],
            **self._now(who, list(self._recordings.values())),
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
        path = self.out / recording_id / THUMBNAILS / thumbnail_name(at_ms)
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
            "told": item.is_told,
        }

    def _now(self, who: str, recordings: Sequence[Reviewed]) -> dict[str, Any]:
        """Which items `who` has answered, the last verdicts of all, and the events that hold in `recordings`.

        These are by what `who` said alone: two people do not influence each other.
        """
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
            "events": {each.id: self._events(each, own[each.id]) for each in recordings},
            "complete": {
                each.id: [[said.start_s, said.end_s] for said in own[each.id] if said.verdict == "complete"]
                for each in recordings
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

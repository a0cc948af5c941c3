"""What a person said of a stretch of a recording, on a page or in a shell, checked, and the line that it becomes."""

from __future__ import annotations

import dataclasses
import getpass
import uuid
from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from pipeline.review.recordings import Reviewed
from reports.corrections import BadCorrection, Correction
from reports.diary.clock import local_zone

_MAX_TEXT = 2_000  # characters


class BadJudgement(Exception):
    """What the page sent cannot be a correction of these recordings."""


def account_name() -> str:
    """Who judges where nobody says so: the name of the account."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run accounts that have none
        return "somebody"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
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


def make_correction(reviewed: Reviewed, content: Any) -> Correction:
    """The line that `content`, the fields of a judgement, becomes, made now.

    Raises `BadJudgement` for what is none or does not fit the recording.
    """
    try:
        judgement = _JUDGEMENT.validate_python(content)
    except ValidationError as error:
        told = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise BadJudgement("; ".join(told)) from error
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
    except BadCorrection as error:
        raise BadJudgement(str(error)) from error

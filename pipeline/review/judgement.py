"""What a person said of a stretch of a recording, on a page or in a shell, checked, and the line that it becomes."""

from __future__ import annotations

import dataclasses
import getpass
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.review.recordings import Reviewed
from reports.corrections import BadCorrection, Correction
from reports.diary.clock import local_zone

_MAX_TEXT = 2_000  # characters
_MADE_HERE = {"id", "video_sha256", "when", "model_sha256"}
_SAID = {field.name for field in dataclasses.fields(Correction)} - _MADE_HERE | {"recording"}
_CORRECTION = TypeAdapter(Correction)


class BadJudgement(Exception):
    """What the page sent cannot be a correction of these recordings."""


def account_name() -> str:
    """Who judges where nobody says so: the name of the account."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run accounts that have none
        return "somebody"


def make_correction(reviewed: Reviewed, content: Any) -> Correction:
    """The line that `content` becomes, made now: the name of the `recording`, and fields of `Correction`.

    Raises `BadJudgement` for what is none or does not fit the recording.
    """
    if not isinstance(content, Mapping):
        raise BadJudgement(f"wanted the fields of a correction, found {type(content).__name__}")
    if unknown := set(content) - _SAID:
        raise BadJudgement(f"a correction has no {', '.join(sorted(map(str, unknown)))} that could be said")
    said = {name: value for name, value in content.items() if name != "recording"}
    made_here = {
        "id": uuid.uuid4().hex,
        "video_sha256": reviewed.video_sha256,
        "when": datetime.now(local_zone()).isoformat(timespec="milliseconds"),
        "model_sha256": reviewed.stored.model.model_sha256 if said.get("event_id") else "",
    }
    try:
        correction = _CORRECTION.validate_python(said | made_here)
    except ValidationError as error:
        told = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise BadJudgement("; ".join(told)) from error
    except BadCorrection as error:
        raise BadJudgement(str(error)) from error
    _require_fit(correction, reviewed)
    return correction


def _require_fit(correction: Correction, reviewed: Reviewed) -> None:
    """Raise `BadJudgement` where it has a label or a time that the recording does not, or too long a text."""
    stored = reviewed.stored
    _, end_ms = stored.recording.span_ms
    for label in filter(None, (correction.label, correction.new_label)):
        if label not in stored.names:
            raise BadJudgement(f"{label!r} is none of the {len(stored.names)} labels of the model of {reviewed.id}")
    for time_s in filter(None, (correction.start_s, correction.end_s, correction.new_start_s, correction.new_end_s)):
        if not 0 <= time_s <= end_ms / 1000:
            raise BadJudgement(f"{time_s} s is not in {reviewed.id}, which lasts {end_ms / 1000:g} s")
    if max(len(correction.note), len(correction.who)) > _MAX_TEXT:
        raise BadJudgement(f"wanted at most {_MAX_TEXT} characters")
    if not correction.who.strip():
        raise BadJudgement("it is not said who judges")

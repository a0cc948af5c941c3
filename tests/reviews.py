"""A folder of diaries to review, without a model: two recordings with videos, names that hold HTML."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from features.files import sha256_of, write_bytes
from features.thumbnails import Thumbnail
from features.video import Segment
from pipeline.diaries.output import STORED, OutputFolder, Row
from pipeline.diaries.pages import write_pages
from pipeline.recordings import video_address
from pipeline.review.guard import Address
from pipeline.review.recordings import reviewed_recordings
from pipeline.review.session import ReviewSession
from reports.diary.formats.export import write_formats
from reports.diary.model import DiaryModel
from reports.diary.page import THUMBNAILS, thumbnail_name
from reports.diary.recording import Recording
from reports.diary.stored import write_stored
from reports.events import Event, EventRule, EventsFound
from reports.review.sampling import questions
from tests.diaries import stored
from tests.videos import evenly, write_video

REPOSITORY = Path(__file__).parents[1]
NAMES = {
    "sit": "Sitting in a chair",
    "cup": "Holding a cup",
    "door": "Opening a door",
    "html": "<img src=x onerror=document.title='stolen'>",
}
MODEL = DiaryModel("demo", "diary", "head", "a" * 64, "b" * 64, dict.fromkeys(NAMES, EventRule(0.5, 0.4, 0, 0)))
EIGHT = datetime(2026, 3, 14, 8, tzinfo=timezone(timedelta(hours=1)))
KITCHEN = "<b onclick=alert(1)>kitchen &amp;.mp4"
RATE = 6
ADDRESS = Address("127.0.0.1", 8000, "the-token")

Stated = Sequence[tuple[str, float, float, float]]
KITCHEN_EVENTS: Stated = (("sit", 1, 5, 0.9), ("cup", 4, 7, 0.6), ("html", 12, 14, 0.8))
HALL_EVENTS: Stated = (("door", 2, 3, 0.7), ("sit", 5, 9, 0.5))


def make_diaries(folder: Path) -> Path:
    """Write `folder/diaries` of `folder/videos`; "kitchen" begins at eight, "hall" at a time that is not known."""
    out = folder / "diaries"
    for recording_id, file_name, start, duration_s, events in (
        ("kitchen", KITCHEN, EIGHT, 24.0, KITCHEN_EVENTS),
        ("hall", "hall.mp4", None, 12.0, HALL_EVENTS),
    ):
        video = folder / "videos" / file_name
        video.parent.mkdir(exist_ok=True)
        write_video(video, evenly(round(duration_s * RATE), RATE), rate=RATE, size=(64, 48), faststart=True)
        put(out, recording_id, video, start, duration_s, events)
    write_pages(OutputFolder(out))
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what `make_diaries` makes, which no test changes."""
    folder = tmp_path_factory.mktemp("made")
    make_diaries(folder)
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A copy of the diaries."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy" / "diaries"


def put(out: Path, recording_id: str, video: Path, start: datetime | None, duration_s: float, events: Stated) -> None:
    """Store a recording as a run does; pages are still to be written."""
    source = "unknown" if start is None else "file name"
    recording = Recording(recording_id, video.name, duration_s, start, source, (Segment(0, duration_s),))
    found = EventsFound(
        tuple(
            Event(f"{recording_id}-{number:03d}", label, Segment(start_s, end_s), mean, mean)
            for number, (label, start_s, end_s, mean) in enumerate(events, start=1)
        ),
        {},
    )
    output = OutputFolder(out)
    address = video_address(video, out)
    with output.writing(Row(recording_id, video.name, sha256_of(video)), is_damaged=False) as folder:
        write_formats(folder, ("jsonl", "csv"), recording, found, NAMES, MODEL)
        (folder / THUMBNAILS).mkdir()
        picture = Thumbnail.of(np.zeros((90, 160, 3), np.uint8), 3.0)
        write_bytes(folder / THUMBNAILS / thumbnail_name(3000), picture.jpeg)
        whole = stored(recording, found, NAMES, MODEL, video=address, thumbnails_ms=(3000,))
        write_stored(folder / STORED, whole)


def session_of(out: Path, *, who: str = "ada") -> ReviewSession:
    recordings, faults = reviewed_recordings(OutputFolder(out))
    assert faults == []
    items = [item for each in recordings for item in questions(each.stored.recording, each.stored.found)]
    return ReviewSession(out, recordings, items, who=who)


@contextmanager
def served(out: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`diary review` in a process of its own, and the address that it prints."""
    server = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "review", str(out), *options],
        cwd=REPOSITORY,
        env={**os.environ, "TZ": "Europe/Berlin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        yield server, server.stdout.readline().strip()
    finally:
        server.terminate()
        server.wait(timeout=20)

"""Events drawn onto a video: where and when they are on, and nowhere else."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from click.testing import CliRunner

from features.decode.forward import decode_all, shown_frames
from features.decode.timeline import Shown
from features.encode import write_mp4
from features.video import Image, Segment
from pipeline.cli.__main__ import main
from reports.diary.formats.overlay import Overlay, Panel
from reports.diary.recording import Recording
from reports.events import Event, EventsFound
from tests.model_folders import make_model_folder
from tests.videos import evenly, uneven, write_video

START = datetime(2026, 3, 14, 8, 2, 11, 500_000, tzinfo=timezone(timedelta(hours=1)))
GREY = np.full((240, 320, 3), 128, np.uint8)
NAMES = {"sit": "Sitting in a chair", "cup": "Holding a cup"}
FOUND = EventsFound(
    (Event("a-001", "sit", Segment(1.0, 3.0), 0.9, 0.8), Event("a-002", "cup", Segment(2.0, 3.0), 0.9, 0.85)), {}
)


def recording(start: datetime | None = None) -> Recording:
    source = "unknown" if start is None else "container metadata"
    return Recording("a", "a.mp4", 10_000.0, start, source, (Segment(0, 10_000),))


def drawn(
    time_s: float,
    found: EventsFound = FOUND,
    names: Mapping[str, str] = NAMES,
    image: Image = GREY,
    start: datetime | None = None,
) -> Image:
    return Overlay(recording(start), [Panel(found, names)]).draw(image, time_s)


def changed_rows(image: Image, before: Image = GREY) -> set[int]:
    """The rows of the lower three quarters, below the clock, that differ from the picture as it was."""
    top = len(before) // 4
    return {top + int(row) for row in np.flatnonzero((image != before)[top:].any(axis=(1, 2)))}


def test_labels_are_there_while_their_events_are() -> None:
    """From the start of an event on, until its end, a line each, at the lower edge."""
    assert changed_rows(drawn(0.999)) == set()
    one, two = changed_rows(drawn(1.0)), changed_rows(drawn(2.0))
    assert one == set(range(min(one), 240))
    assert two == set(range(min(two), 240))
    assert 240 - min(two) == 2 * (240 - min(one))
    assert changed_rows(drawn(2.9994)) == two
    assert changed_rows(drawn(3.0)) == set()
    assert (drawn(1.0)[:, 250:] == 128).all()  # no wider than its text
    assert GREY.min() == GREY.max() == 128  # the picture itself is not written into


def test_the_clock_is_on_every_picture() -> None:
    """Local time where the start is known, else the time from the start; it changes when a second begins."""
    first = drawn(0.0)
    assert (first[:12, :30] != 128).any()
    assert (drawn(0.9) == first).all()
    assert (drawn(5.0) != first).any()
    known = drawn(0.4, start=START)
    assert (drawn(0.0, start=START) == known).all()
    assert (drawn(0.5, start=START) != known).any()  # half a second after 08:02:11.5 it is 08:02:12
    before, after = (
        drawn(3600.0 * k, start=datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))) for k in (0, 1)
    )
    assert (before != after).any()  # the same hour by the clock, another offset


def test_a_label_has_its_colour_and_its_certainty() -> None:
    """The colour is the label's, whatever its name; another probability is another text."""
    sit = EventsFound((Event("a-001", "sit", Segment(0, 1), 0.9, 0.8),), {})
    cup = EventsFound((Event("a-001", "cup", Segment(0, 1), 0.9, 0.8),), {})
    bar = np.s_[226:236, 2:3]
    assert (drawn(0.5, sit)[bar] == drawn(0.5, sit, {"sit": "Other"})[bar]).all()
    assert (drawn(0.5, sit)[bar] != drawn(0.5, cup)[bar]).any()
    less = EventsFound((Event("a-001", "sit", Segment(0, 1), 0.9, 0.4),), {})
    assert (drawn(0.5, sit) != drawn(0.5, less)).any()


@pytest.mark.parametrize("size", [(2, 2), (16, 16), (48, 64), (240, 320), (1080, 1920), (400, 90)])
def test_any_size_and_any_name_can_be_drawn(size: tuple[int, int]) -> None:
    """Long names are cut, more labels than there is room for are counted; the picture keeps its size."""
    image = np.full((*size, 3), 128, np.uint8)
    names = {
        f"l{k}": text for k, text in enumerate(["x" * 5000, "", "\n\r\x00\u202e", "日本語 ☃ \udcff", *"abcdefgh" * 5])
    }
    found = EventsFound(tuple(Event(f"a-{k}", f"l{k}", Segment(0, 1), 0.9, 0.8) for k in range(len(names))), {})
    shown = drawn(0.5, found, names, image)
    assert shown.shape == image.shape
    assert (shown != image).any()
    if size[0] >= 240:
        assert not (shown == image).all(axis=(1, 2)).all()
        assert len(changed_rows(shown, image)) <= size[0] * 0.61


def test_a_sign_that_the_font_lacks_is_replaced() -> None:
    """Two such signs look alike, and unlike a letter; umlauts and Cyrillic are there."""

    def pixels(text: str) -> Image:
        found = EventsFound((Event("a-001", "l", Segment(0, 1), 0.9, 0.8),), {})
        return drawn(0.5, found, {"l": text})

    assert (pixels("日") == pixels("本")).all()
    assert (pixels("日") == pixels("\N{REPLACEMENT CHARACTER}")).all()
    shapes = [pixels(text) for text in ("ä", "ß", "Ж", "é", "日", "a")]
    assert all((a.shape, a.tobytes()) != (b.shape, b.tobytes()) for k, a in enumerate(shapes) for b in shapes[:k])


def test_the_written_video_has_the_labels_where_they_are_on(tmp_path: Path) -> None:
    """The same frames at the same times as the source; below, pixels differ while an event is on, and only then."""
    video = write_video(tmp_path / "a.mp4", uneven(48), size=(320, 240), rate=1000)
    frames = [Shown(frame.pts_s, frame.until_s, frame.picture()) for frame in shown_frames(video, decode_all)]
    overlay = Overlay(recording(), [Panel(FOUND, NAMES)])
    write_mp4(
        tmp_path / "out.mp4", [frame._replace(picture=overlay.draw(frame.picture, frame.pts_s)) for frame in frames]
    )
    written = [(frame.pts_s, frame.picture()) for frame in shown_frames(tmp_path / "out.mp4", decode_all)]
    assert [time_s for time_s, _ in written] == pytest.approx([frame.pts_s for frame in frames], abs=1e-3)
    num_on = 0
    for (time_s, image), frame in zip(written, frames, strict=True):
        difference = np.abs(image[226:238, 8:120].astype(int) - frame.picture[226:238, 8:120]).mean()
        is_on = 1.0 <= frame.pts_s < 3.0
        num_on += is_on
        assert (difference > 30) if is_on else (difference < 6), time_s
    assert 0 < num_on < len(frames)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_command_compares_models_side_by_side(tmp_path: Path) -> None:
    """One model is one panel; with two, the picture stands there twice. Only its owner may read the file."""
    model = make_model_folder(tmp_path / "made of")
    video = write_video(tmp_path / "a.mp4", evenly(24, 12), size=(320, 240))
    for number, models in enumerate([[model], [model, model]], start=1):
        out = tmp_path / "made" / f"{number}.mp4"
        options = [part for folder in models for part in ("--model", str(folder))]
        done = CliRunner().invoke(main, ["overlay", str(video), *options, "-o", str(out)])
        assert (done.exit_code, done.exception) == (0, None), done.output
        frames = list(shown_frames(out, decode_all))
        assert [frame.pts_s for frame in frames] == pytest.approx(evenly(24, 12), abs=1e-3)
        image = frames[12].picture()
        assert image.shape == (240, 320 * number, 3)
        if os.name != "nt":
            assert stat.S_IMODE(out.stat().st_mode) == 0o600
        panels = np.split(image.astype(int), number, axis=1)
        assert all(np.abs(panel - panels[0]).mean() < 3 for panel in panels)
        source = list(shown_frames(video, decode_all))[12].picture()
        assert (
            np.abs(panels[0][228:238, 10:60] - source[228:238, 10:60]).mean() > 30
        )  # this model sees something always


def test_what_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    """In one line each; no file that is there is replaced, the video itself least of all."""
    video = write_video(tmp_path / "a.mp4", evenly(12, 12))
    before = video.read_bytes()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "link.mp4").symlink_to("nowhere")
    for name, out, told in [
        ("a.mp4", "a.mp4", "a.mp4 is there already"),
        ("a.mp4", "link.mp4", "link.mp4 is there already"),
        ("a.mp4", "b.mkv", "name it .mp4"),
        ("none.mp4", "b.mp4", "none.mp4: there is no such file"),
        ("text.mp4", "b.mp4", "text.mp4: cannot be read: not a video file"),
    ]:
        done = CliRunner().invoke(
            main, ["overlay", str(tmp_path / name), "--model", str(tmp_path), "-o", str(tmp_path / out)]
        )
        assert done.exit_code == 1
        assert isinstance(done.exception, SystemExit)
        assert told in done.output
        assert done.output.count("Error:") == 1
    assert video.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "text.mp4", "link.mp4"}

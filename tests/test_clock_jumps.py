"""Clocks that start anew, jump back, run over or bear a wrong stamp: frames are kept, and time goes on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from features.decode.clock import Stamped, on_one_clock
from features.decode.damage import Damage
from features.decode.grid import Decoder, frames_on_grid, frames_shown_at
from tests.videos import evenly, number_of, numbers, write_video

DECODERS: tuple[Decoder, ...] = ("pyav", "auto")
MPEG2: dict[str, Any] = {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}}


def joined(folder: Path, name: str, starts_s: Sequence[float], **settings: Any) -> Path:
    """A file of several files' bytes, as `cat` joins them: three seconds each, whose clocks begin at `starts_s`."""
    path = folder / f"joined-{name}"
    with path.open("wb") as file:
        for start_s in starts_s:
            file.write(write_video(folder / name, evenly(36, 12, start_s=start_s), **settings).read_bytes())
    return path


@pytest.mark.parametrize(
    "starts_s",
    [
        pytest.param((0.0, 0.0), id="both from 0"),
        pytest.param((0.0, 0.0, 0.0), id="three of them"),
        pytest.param((1000.0, 0.0), id="far back"),
        pytest.param((50_000.0, 3.0), id="back by hours"),
        pytest.param((5.0, 0.0, 7000.0, 6000.0), id="back, ahead, back"),
    ],
)
@pytest.mark.parametrize(("name", "settings"), [("a.ts", {}), ("a.mpg", MPEG2)])
@pytest.mark.parametrize("decoder", DECODERS)
def test_joined_files(
    decoder: Decoder,
    name: str,
    settings: dict[str, Any],
    starts_s: Sequence[float],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where files were joined the second follows where the first one ends; a clock that jumps ahead is a pause."""
    path = joined(tmp_path, name, starts_s, **settings)
    frames = frames_on_grid(path, sample_fps=12.0, decoder=decoder)
    given = list(frames)
    ahead_s = 7000.0 - 3.0 if 7000.0 in starts_s else 0.0
    assert numbers(given)[:72] == [*range(36), *range(36)]
    assert frames.end is not None
    assert frames.end.end_s == pytest.approx(3.0 * len(starts_s) + ahead_s, abs=1.0 if ahead_s else 0.001)
    assert frames.end.num_restarts == len(starts_s) - 1 - (ahead_s > 0)
    assert frames.end.faults == ()
    assert [frame.pts_s for frame in given[:72]] == pytest.approx([k / 12 for k in range(72)], abs=0.001)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * (1 + (ahead_s > 0))
    assert f"its clock starts anew {'1 time' if len(starts_s) == 2 else '2 times'}" in caplog.text
    assert [number_of(image) for image in frames_shown_at(path, [2.0, 2.95, 3.0, 5.0])] == [24, 35, 0, 24]


def test_a_clock_that_runs_over(tmp_path: Path) -> None:
    """The clock of MPEG-TS runs over after 26.5 hours: the video goes on."""
    path = write_video(tmp_path / "a.ts", evenly(60, 12, start_s=2**33 / 90_000 - 4.0))
    frames = frames_on_grid(path, sample_fps=12.0, decoder="pyav")
    given = list(frames)
    assert numbers(given) == list(range(60))
    assert [frame.pts_s for frame in given] == pytest.approx([k / 12 for k in range(60)], abs=0.001)
    assert frames.end is not None
    assert (frames.end.faults, frames.end.pauses) == ((), ())


def one_clock(times_s: Sequence[float | None]) -> tuple[list[tuple[int, float]], Damage]:
    """The numbers and times of frames that bear these stamps and last for a tenth of a second each."""
    damage = Damage()
    stamped = [Stamped(pts_s, 0.1, number) for number, pts_s in enumerate(times_s)]
    return [(timed.frame, round(timed.pts_s, 3)) for timed in on_one_clock(stamped, 0.1, damage)], damage


@pytest.mark.parametrize(
    ("times_s", "lost"),
    [
        pytest.param([0.0, 0.1, 0.2, 99.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], [3], id="one far ahead"),
        pytest.param([0.0, 0.1, 0.2, 1e12, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], [3], id="one in another age"),
        pytest.param([50.0, 50.1, 50.2, 3.0, 50.4, 50.5, 50.6, 50.7], [3], id="one far back"),
        pytest.param([50.0, 50.1, 50.2, 3.0, 3.1, 3.2, 50.6, 50.7], [3, 4, 5], id="three far back"),
        pytest.param([0.0, 0.1, 0.3, 0.2, 0.4, 0.5], [2], id="two in the wrong order"),
        pytest.param([0.3, 0.0, 0.1, 0.2, 0.3, 0.4], [0], id="the first one"),
    ],
)
def test_single_wrong_stamps(times_s: list[float], lost: list[int]) -> None:
    """A few frames whose stamps alone do not fit are left out and counted; all others keep their times."""
    given, damage = one_clock(times_s)
    kept = [number for number in range(len(times_s)) if number not in lost]
    assert given == [(number, round(times_s[number] - times_s[kept[0]], 3)) for number in kept]
    assert (damage.num_misplaced, damage.num_restarts) == (len(lost), 0)


@pytest.mark.parametrize(
    ("times_s", "shown_s", "num_restarts"),
    [
        ([0.0, 0.1, 0.2, 0.0, 0.1, 0.2], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5], 1),
        ([9.0, 9.1, 0.0], [0.0, 0.1, 0.2], 1),
        ([9.0, 0.0, 0.1, 0.2, 0.3, 0.4], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5], 1),
        ([0.0, 1e9, 1e9 + 0.1, 1e9 + 0.2], [0.0, 0.1, 0.2, 0.3], 1),
        ([0.0, 9000.0, 9000.1], [0.0, 9000.0, 9000.1], 0),
        ([0.0, 0.1, None, None, 0.4], [0.0, 0.1, 0.2, 0.3, 0.4], 0),
        ([None, None, None], [0.0, 0.1, 0.2], 0),
    ],
)
def test_a_clock_that_starts_anew(times_s: list[float | None], shown_s: list[float], num_restarts: int) -> None:
    """Frames on another clock follow the last one's end; a pause stays, and a frame without a stamp follows."""
    given, damage = one_clock(times_s)
    assert given == list(enumerate(shown_s))
    assert (damage.num_misplaced, damage.num_restarts) == (0, num_restarts)

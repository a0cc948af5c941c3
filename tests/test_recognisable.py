"""Stretches of which nothing can be said: with their reason, by majority, and without an event in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.pictures import WindowPictures
from features.sealed import DamagedFile
from features.video import Segment
from reports.decoding import Decoding
from reports.diary.recording import Unrecognisable
from reports.event_evaluation import evaluate_events
from reports.events import EventRule
from reports.metrics.matching import AnnotatedRecording, TrueEvent
from reports.recognisable import (
    ONE_COLOUR,
    STILL,
    TOO_DARK,
    UNLIKE,
    Limits,
    recognisable_events,
    unrecognisable,
)
from tests.model_folders import write_decoding

STRIDE_S = 0.75
LIMITS = Limits(max_distance=10.0)
ROOM = (0.4, 0.1, 0.01)  # brightness, contrast, motion


def windows(n: int) -> list[Segment]:
    """Of two seconds each: a window overlaps two on either side."""
    return [Segment(k * STRIDE_S, k * STRIDE_S + 2.0) for k in range(n)]


def found(
    n: int, pictures: dict[range, tuple[float, float, float]] | None = None, far: range = range(0)
) -> list[tuple[float, float, str]]:
    """The stretches of n windows of a room, of which some show other pictures and some are far from train."""
    distances, numbers = np.full(n, 5.0), np.tile(np.array(ROOM, dtype=np.float32), (n, 1))
    distances[list(far)] = 20.0
    for rows, values in (pictures or {}).items():
        numbers[list(rows)] = values
    stretches = unrecognisable(windows(n), distances, WindowPictures(*numbers.T), LIMITS, stride_s=STRIDE_S)
    return [(stretch.segment.start_s, stretch.segment.end_s, stretch.reason) for stretch in stretches]


def test_a_room_is_recognisable() -> None:
    """Lit or dim, with somebody who moves or a light that goes on; and so is a recording without windows."""
    assert found(40) == []
    assert found(40, {range(10, 20): (0.29, 0.062, 0.0), range(20, 21): (0.6, 0.1, 0.2)}) == []
    assert found(0) == []


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        ((0.0, 0.0, 0.0), TOO_DARK),
        ((0.02, 0.0024, 0.0015), TOO_DARK),  # the noise of a sensor in the dark
        ((0.5, 0.0, 0.0), ONE_COLOUR),
        ((0.5, 0.0102, 0.011), ONE_COLOUR),  # noise of 12 grey levels, made small
        ((1.0, 0.0, 0.0), ONE_COLOUR),
        ((0.02, 0.1, 0.01), None),  # a candle in a dark room
    ],
)
def test_plain_checks_tell_their_reason(picture: tuple[float, float, float], reason: str | None) -> None:
    """From cell to cell: the stretch begins and ends half a stride around the centres of its windows."""
    stretches = found(40, {range(10, 20): picture})
    assert stretches == ([] if reason is None else [(8.125, 15.625, reason)])


def test_what_is_far_from_train_is_told_and_a_plain_reason_comes_first() -> None:
    """A black stretch within an unlike one has its own reason; the two share a border."""
    assert found(40, far=range(10, 20)) == [(8.125, 15.625, UNLIKE)]
    black = {range(14, 20): (0.0, 0.0, 0.0)}
    assert found(40, black, far=range(10, 20)) == [(8.125, 11.125, UNLIKE), (11.125, 15.625, TOO_DARK)]


def test_a_whole_recording_is_one_stretch_from_its_first_to_its_last_window() -> None:
    """Also one of a single window."""
    assert found(40, far=range(0, 40)) == [(0.0, 31.25, UNLIKE)]
    assert found(1, far=range(0, 1)) == [(0.0, 2.0, UNLIKE)]


def test_a_blip_is_ignored_and_a_gap_filled() -> None:
    """Two odd windows are a minority of those that overlap them, and so are two that are not odd among odd ones."""
    assert found(40, far=range(10, 12)) == []
    assert found(40, {range(14, 16): (0.0, 0.0, 0.0)}, far=range(10, 20)) == [(8.125, 15.625, UNLIKE)]
    distances = np.full(40, 20.0)
    distances[14:16] = 5.0
    (whole,) = unrecognisable(windows(40), distances, None, LIMITS, stride_s=STRIDE_S)
    assert whole.segment == Segment(0.0, 31.25)


def test_a_picture_that_stands_still_for_a_minute_hangs() -> None:
    """Half a minute may be a quiet room. A refresh by the encoder, in all windows of one instant, does not end it."""
    still = (0.4, 0.1, 0.0)
    assert found(60, {range(5, 45): still}) == []
    assert [reason for _, _, reason in found(120, {range(5, 100): still})] == [STILL]
    refreshed = {range(5, 100): still, range(40, 43): (0.4, 0.1, 0.001)}
    assert found(120, refreshed) == found(120, {range(5, 100): still})
    moved = {range(5, 100): still, range(40, 50): ROOM}  # somebody comes and goes; neither side lasts a minute
    assert found(120, moved) == []


def test_time_that_nobody_observed_parts_stretches() -> None:
    """Half a minute still on each side of a gap is no minute; a far stretch is one on each side."""
    both = [*windows(50), *(Segment(window.start_s + 60, window.end_s + 60) for window in windows(50))]
    pictures = WindowPictures(*np.tile(np.array((0.4, 0.1, 0.0), dtype=np.float32), (100, 1)).T)
    assert unrecognisable(both, np.zeros(100), pictures, LIMITS, stride_s=STRIDE_S) == ()
    stretches = unrecognisable(both, np.full(100, 20.0), pictures, LIMITS, stride_s=STRIDE_S)
    assert [stretch.segment for stretch in stretches] == [Segment(0.0, 38.75), Segment(60.0, 98.75)]


@pytest.fixture
def decoding(tmp_path: Path) -> Decoding:
    """Events from 0.5 on; gaps of a minute are bridged, five windows are averaged."""
    plain = Decoding.load(write_decoding(tmp_path / "rules.json", ["sit"], EventRule(0.5, 0.5, 0.0, 60.0)))
    return replace(plain, smoothing_windows=5)


FAR = (Unrecognisable(Segment(8.125, 15.625), UNLIKE),)


def test_no_event_lies_in_a_stretch_or_crosses_one(decoding: Decoding) -> None:
    """Somebody sits all the time: two events, which end and begin with the stretch, though gaps are bridged."""

    def events(probabilities: np.ndarray, stretches: tuple[Unrecognisable, ...]) -> list[Segment]:
        events_found = recognisable_events(
            decoding, "a", windows(40), probabilities[:, None], stretches, stride_s=STRIDE_S
        )
        return [event.segment for event in events_found.events]

    always = np.ones(40)
    assert events(always, ()) == [Segment(0.0, 31.25)]
    assert events(always, FAR) == [Segment(0.0, 8.125), Segment(15.625, 31.25)]
    inside = np.zeros(40)
    inside[10:20] = 1.0
    assert events(inside, ()) == [Segment(8.125, 15.625)]
    assert events(inside, FAR) == []  # nor does smoothing carry it out of the stretch
    assert events(always, (Unrecognisable(Segment(0.0, 31.25), UNLIKE),)) == []


def test_what_is_measured_is_what_diaries_tell(decoding: Decoding) -> None:
    """A true event in a stretch is missed, and a false one there is not stated; without distances nothing changes."""
    probabilities = np.zeros((40, 1), dtype=np.float32)
    probabilities[10:20] = 1.0
    distances = np.full(40, 5.0)
    distances[10:20] = 20.0
    seen = AnnotatedRecording("a", "video", windows(40), probabilities, [TrueEvent("a", "sit", Segment(8, 16))])
    plain = evaluate_events(decoding, [seen], stride_s=STRIDE_S, limits=LIMITS).headline()
    assert (plain["recall"], plain["stated_per_hour"] > 0) == (1.0, True)
    limited = evaluate_events(
        decoding, [replace(seen, distances=distances)], stride_s=STRIDE_S, limits=LIMITS
    ).headline()
    assert (limited["recall"], limited["stated_per_hour"]) == (0.0, 0.0)


def test_the_limit_leaves_one_val_window_in_a_hundred_and_a_quarter_more(tmp_path: Path) -> None:
    """The limits are read as they were written; edited ones, and such of no window, are refused."""
    distances = np.random.default_rng(0).gamma(20.0, size=2000)
    limits = Limits.chosen(distances)
    assert np.mean(1.25 * distances > limits.max_distance) == pytest.approx(0.01, abs=0.001)
    limits.save(tmp_path / "limits.json")
    assert Limits.load(tmp_path / "limits.json") == limits
    text = (tmp_path / "limits.json").read_text()
    (tmp_path / "limits.json").write_text(text.replace('"still_s": 60.0', '"still_s": 6.0'))
    with pytest.raises(DamagedFile, match=r"limits\.json"):
        Limits.load(tmp_path / "limits.json")
    with pytest.raises(ValueError, match="no windows"):
        Limits.chosen(distances[:0])

"""Event metrics: cases by hand, a naive definition on random worlds with ties, and numbers of other libraries."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np
import pytest

from features.video import Segment
from reports.metrics.events import IOUS, Agreement, EventScores, event_scores
from reports.metrics.matching import StatedEvent, TrueEvent, event_truth, match

Row = tuple[str, str, float, float]
StatedRow = tuple[str, str, float, float, float]
DAY = {"day": [Segment(0, 100)]}


def true_events(rows: Iterable[Row]) -> list[TrueEvent]:
    return [TrueEvent(recording, label, Segment(start, end)) for recording, label, start, end in rows]


def stated_events(rows: Iterable[StatedRow]) -> list[StatedEvent]:
    return [StatedEvent(recording, label, Segment(start, end), p) for recording, label, start, end, p in rows]


def scored(
    true: Iterable[Row],
    stated: Iterable[StatedRow],
    *,
    observed: dict[str, list[Segment]] = DAY,
    labels: Sequence[str] = ("sit", "stand", "walk"),
    excluded: Sequence[tuple[str, str]] = (),
) -> EventScores:
    return event_scores(event_truth(true_events(true), observed, labels), stated_events(stated), excluded=excluded)


def counts(agreement: Agreement) -> tuple[float, float, float]:
    return agreement.both, agreement.stated, agreement.true


def test_counts_are_summed_over_labels_and_recordings_and_then_divided() -> None:
    """Two of three stated events are right, two of four true ones found: precision 2/3, recall 1/2, F1 4/7."""
    scores = scored(
        [("day", "sit", 0, 10), ("day", "stand", 10, 20), ("eve", "sit", 0, 10), ("eve", "sit", 20, 30)],
        [("day", "sit", 0, 10, 0.9), ("day", "stand", 60, 70, 0.9), ("eve", "sit", 20, 29, 0.6)],
        observed=DAY | {"eve": [Segment(0, 80)]},
    )
    total = scores.at_iou(0.5)
    assert counts(total) == (2, 3, 4)
    assert (total.precision, total.recall, total.f1) == pytest.approx((2 / 3, 1 / 2, 4 / 7))
    sit, stand, walk = scores.labels
    assert counts(sit.at_iou[0.5]) == (2, 2, 3)
    assert counts(stand.at_iou[0.5]) == (0, 1, 1)
    assert counts(scores.seconds) == (19, 29, 40)
    assert counts(walk.seconds) == (0, 0, 0)
    assert scores.observed_s == 180
    assert scores.per_hour(total.stated) == pytest.approx(60)
    assert scores.per_hour(total.true) == pytest.approx(80)


def test_each_iou_counts_for_itself() -> None:
    """IoU 0.2 is a match at 0.1 alone; exactly 0.3 is a match at 0.3, also where 0.1 + 0.2 is not 0.3."""
    scores = scored([("day", "sit", 0, 10)], [("day", "sit", 0, 2, 0.9)])
    assert [scores.at_iou(iou).both for iou in IOUS] == [1, 0, 0]
    exact = scored([("day", "sit", 0.1 + 0.2, 1.3)], [("day", "sit", 1.0, 1.3, 0.9)])
    assert [exact.at_iou(iou).both for iou in IOUS] == [1, 1, 0]


def test_the_most_probable_event_chooses_first_and_one_to_one() -> None:
    """0.9 takes the only true event although 0.8 fits better; the second is a false alarm."""
    scores = scored([("day", "sit", 10, 20)], [("day", "sit", 10, 20, 0.8), ("day", "sit", 8, 20, 0.9)])
    assert counts(scores.at_iou(0.5)) == (1, 2, 1)
    assert scores.onset_errors_s == (-2.0,)


def test_of_equal_probabilities_the_earlier_event_chooses_first_whatever_the_order() -> None:
    rows = [("day", "sit", 12.0, 20.0, 0.5), ("day", "sit", 9.0, 20.0, 0.5)]
    for order in (rows, rows[::-1]):
        assert scored([("day", "sit", 10, 20)], order).onset_errors_s == (-1.0,)


def test_of_two_true_events_that_fit_equally_the_earlier_one_is_taken() -> None:
    assert match([(0, 10), (20, 30)], [(5, 25)], min_iou=0.1) == [((0, 10), (5, 25))]
    assert match([(20, 30), (0, 10)], [(5, 25)], min_iou=0.1) == [((0, 10), (5, 25))]


def test_labels_and_recordings_never_match_across() -> None:
    scores = scored(
        [("day", "sit", 0, 10), ("eve", "stand", 0, 10)],
        [("day", "stand", 0, 10, 0.9), ("eve", "sit", 0, 10, 0.9)],
        observed=DAY | {"eve": [Segment(0, 10)]},
    )
    assert counts(scores.at_iou(0.1)) == (0, 2, 2)
    assert counts(scores.seconds) == (0, 20, 20)


def test_what_cannot_be_said_is_nan_and_listed() -> None:
    """Only stated: no recall, F1 0. Only true: no precision, F1 0. Neither: all nan, listed. JSON has None."""
    scores = scored([("day", "stand", 0, 10)], [("day", "sit", 0, 10, 0.9)])
    sit, stand, walk = (row.at_iou[0.3] for row in scores.labels)
    assert (sit.precision, sit.f1) == (0.0, 0.0)
    assert math.isnan(sit.recall)
    assert (stand.recall, stand.f1) == (0.0, 0.0)
    assert math.isnan(stand.precision)
    assert all(math.isnan(ratio) for ratio in (walk.precision, walk.recall, walk.f1))
    assert scores.labels_without_events == ("walk",)
    assert math.isnan(scores.median_onset_error_s)
    assert math.isnan(scores.median_abs_onset_error_s)
    written = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert written["labels_without_events"] == ["walk"]
    assert written["n_labels_without_events"] == 1
    assert written["labels"][2]["iou_30"] == dict.fromkeys(("precision", "recall", "f1")) | {
        "both": 0,
        "stated": 0,
        "true": 0,
    }
    assert written["onset"] == {"median_abs_error_s": None, "median_error_s": None, "n_matches": 0}


@pytest.mark.parametrize("observed", [{}, {"day": []}])
def test_nothing_observed_has_no_rates(observed: dict[str, list[Segment]]) -> None:
    scores = scored([("day", "sit", 0, 10)] if observed else [], [], observed=observed)
    assert counts(scores.at_iou(0.3)) == (0, 0, 0)
    assert math.isnan(scores.per_hour(0))
    written = scores.totals_to_json()
    assert written["observed_hours"] == 0
    assert written["stated_per_hour"] is written["contradictions"]["per_hour"] is None


def test_no_events_at_all_is_a_rate_of_zero() -> None:
    written = scored([], []).totals_to_json()
    assert written["stated_per_hour"] == written["true_per_hour"] == written["contradictions"]["per_hour"] == 0
    assert written["iou_30"]["f1"] is None


def test_true_intervals_of_one_label_that_overlap_or_touch_are_one_event() -> None:
    """[0, 6), [4, 10) and [10, 12) are one event of 12 s; a double is the same event; another label is its own."""
    true = [("day", "sit", 4, 10), ("day", "sit", 0, 6), ("day", "sit", 10, 12), ("day", "sit", 0, 6)]
    scores = scored([*true, ("day", "stand", 12, 20)], [("day", "sit", 0, 12, 0.9)])
    assert counts(scores.at_iou(0.5)) == (1, 1, 2)
    assert counts(scores.seconds) == (12, 12, 20)


def test_stated_events_that_touch_or_overlap_stay_what_the_diary_states() -> None:
    """Two halves of one true event are one match and one false alarm, but every second is right, and counts once."""
    halves = scored([("day", "sit", 0, 10)], [("day", "sit", 0, 5, 0.9), ("day", "sit", 5, 10, 0.8)])
    assert counts(halves.at_iou(0.5)) == (1, 2, 1)
    assert counts(halves.seconds) == (10, 10, 10)
    overlap = scored([("day", "sit", 0, 10)], [("day", "sit", 0, 8, 0.9), ("day", "sit", 6, 12, 0.8)])
    assert counts(overlap.seconds) == (10, 12, 10)


def test_truth_is_cut_to_what_was_observed() -> None:
    """One true event over a gap is one on each side; what was never observed is not missed; windows may overlap."""
    observed = {"day": [Segment(0, 4), Segment(2, 10), Segment(20, 30)]}
    scores = scored(
        [("day", "sit", 5, 25), ("day", "stand", 10, 20), ("day", "walk", 28, 50)],
        [("day", "sit", 20, 25, 0.9)],
        observed=observed,
    )
    assert scores.observed_s == 20
    assert counts(scores.at_iou(0.5)) == (1, 1, 3)
    assert counts(scores.seconds) == (5, 5, 12)
    assert scores.onset_errors_s == (0.0,)
    assert scores.labels_without_events == ("stand",)


def test_windows_that_touch_but_for_rounding_leave_no_gap() -> None:
    """Ends and starts are sums in binary floating point: 1.0004999999 and 1.0005000001 round to different ms."""
    observed = {"day": [Segment(0, 1.0004999999), Segment(1.0005000001, 2)]}
    scores = scored([("day", "sit", 0, 2)], [("day", "sit", 0, 2, 0.9)], observed=observed)
    assert counts(scores.at_iou(0.5)) == (1, 1, 1)


def test_onset_errors_are_of_matches_at_iou_30() -> None:
    """Errors -1, +2 and +4: median +2, of absolute values 2; a match at IoU 0.2 has no say."""
    scores = scored(
        [("day", "sit", 10, 20), ("day", "sit", 30, 40), ("day", "stand", 50, 60), ("day", "stand", 70, 80)],
        [
            ("day", "sit", 9, 20, 0.9),
            ("day", "sit", 32, 40, 0.9),
            ("day", "stand", 54, 60, 0.9),
            ("day", "stand", 78, 80, 0.9),
        ],
    )
    assert scores.onset_errors_s == (-1.0, 2.0, 4.0)
    assert (scores.median_onset_error_s, scores.median_abs_onset_error_s) == (2.0, 2.0)
    even = scored(
        [("day", "sit", 10, 20), ("day", "sit", 30, 40)], [("day", "sit", 7, 20, 0.9), ("day", "sit", 31, 40, 0.9)]
    )
    assert (even.median_onset_error_s, even.median_abs_onset_error_s) == (-1.0, 2.0)
    assert even.totals_to_json()["onset"] == {"median_abs_error_s": 2.0, "median_error_s": -1.0, "n_matches": 2}


def test_contradictions_are_stretches_in_which_an_excluded_pair_is_stated() -> None:
    """sit and stand share [8, 10) and [14, 16); walk may go with both; events that touch do not contradict."""
    stated = [
        ("day", "sit", 0, 10, 0.9),
        ("day", "stand", 8, 16, 0.8),
        ("day", "sit", 14, 20, 0.7),
        ("day", "stand", 20, 30, 0.7),
        ("day", "walk", 0, 30, 0.6),
    ]
    scores = scored([], stated, excluded=[("stand", "sit"), ("sit", "stand")])
    assert (scores.num_excluded_pairs, scores.num_contradictions, scores.contradictions_s) == (1, 2, 4.0)
    written = scores.totals_to_json()["contradictions"]
    assert written == {
        "per_hour": 72.0,
        "seconds_per_hour": 144.0,
        "n_stretches": 2,
        "seconds": 4.0,
        "n_excluded_pairs": 1,
    }
    assert scored([], stated).num_contradictions == 0
    every_pair = scored([], stated, excluded=list(itertools.combinations(("sit", "stand", "walk"), 2)))
    assert (every_pair.num_contradictions, every_pair.contradictions_s) == (6, 4 + 16 + 18)


def test_two_recordings_do_not_contradict_each_other() -> None:
    observed = DAY | {"eve": [Segment(0, 10)]}
    stated = [("day", "sit", 0, 10, 0.9), ("eve", "stand", 0, 10, 0.9)]
    assert scored([], stated, observed=observed, excluded=[("sit", "stand")]).num_contradictions == 0


def test_a_true_label_that_nobody_asks_for_is_ignored() -> None:
    assert scored([("day", "wave", 0, 10)], []).at_iou(0.3) == Agreement(0, 0, 0)


@pytest.mark.parametrize("row", [("eve", "sit", 0, 5, 0.9), ("day", "wave", 0, 5, 0.9), ("day", "sit", 95, 101, 0.9)])
def test_a_stated_event_of_nothing_known_raises(row: StatedRow) -> None:
    """Another recording, another label, and time that nobody observed are faults of whoever joins them."""
    with pytest.raises(ValueError, match=f"{row[0]}.*{row[1]}"):
        scored([], [row])


def test_what_cannot_be_compared_raises() -> None:
    with pytest.raises(ValueError, match="no entry"):
        scored([("eve", "sit", 0, 5)], [])
    with pytest.raises(ValueError, match="unique"):
        scored([], [], labels=["sit", "sit"])
    with pytest.raises(ValueError, match="probability"):
        StatedEvent("day", "sit", Segment(0, 1), math.nan)
    with pytest.raises(ValueError, match="excluded pair"):
        scored([], [], excluded=[("sit", "sit")])
    with pytest.raises(ValueError, match="excluded pair"):
        scored([], [], excluded=[("sit", "wave")])
    with pytest.raises(ValueError, match="intersection over union"):
        match([], [], min_iou=0)


# One world, three other implementations. Made once, with the true events below already cut and joined
# (sit 2-20, 55-60, 80-90; stand 20-31, 95-118; walk 31-40, 118-120; evening 0-22.5; 22.5-30; 30-41):
# seconds by pyannote.metrics 4.2.0 (IdentificationPrecision and IdentificationRecall, uem = the observed time) and by
# sed_eval 0.2.1 (SegmentBasedMetrics, time_resolution 0.5: 219 both, 288 stated and 238 true segments, and the labels'
# own rows); matches by the matching loop of ActivityNet's Evaluation/eval_detection.py, run for each label.
OBSERVED = {"morning": [Segment(0, 60), Segment(80, 120)], "evening": [Segment(0, 50)]}
TRUE: list[Row] = [
    ("morning", "sit", 2, 14.5),
    ("morning", "sit", 12, 20),
    ("morning", "sit", 55, 90),
    ("morning", "stand", 20, 31),
    ("morning", "stand", 95, 118),
    ("morning", "walk", 31, 40),
    ("morning", "walk", 118, 130),
    ("evening", "sit", 0, 22.5),
    ("evening", "stand", 22.5, 30),
    ("evening", "walk", 30, 36),
    ("evening", "walk", 36, 41),
]
STATED: list[StatedRow] = [
    ("morning", "sit", 2.5, 19.5, 0.9),
    ("morning", "sit", 50, 60, 0.6),
    ("morning", "sit", 80, 91, 0.7),
    ("morning", "stand", 18, 33, 0.8),
    ("morning", "stand", 96, 104, 0.6),
    ("morning", "stand", 105, 118, 0.65),
    ("morning", "walk", 32, 48, 0.5),
    ("morning", "walk", 110, 120, 0.4),
    ("evening", "sit", 1, 9, 0.55),
    ("evening", "sit", 11, 22, 0.5),
    ("evening", "stand", 22, 31, 0.9),
    ("evening", "walk", 38, 45, 0.7),
    ("evening", "walk", 30, 36, 0.45),
    ("evening", "eat", 5, 8, 0.35),
]


def test_other_libraries_agree() -> None:
    scores = scored(TRUE, STATED, observed=OBSERVED, labels=["sit", "stand", "walk", "eat"])
    seconds = scores.seconds
    assert counts(seconds) == (109.5, 144.0, 119.0)
    assert (seconds.precision, seconds.recall, seconds.f1) == pytest.approx(
        (0.7604166666666666, 0.9201680672268907, 0.832699619771863)
    )
    assert [[row.at_iou[iou].both for iou in IOUS] for row in scores.labels] == [
        [4, 4, 3],
        [3, 3, 3],
        [3, 2, 1],
        [0, 0, 0],
    ]
    assert [counts(scores.at_iou(iou)) for iou in IOUS] == [(10, 14, 10), (9, 14, 10), (7, 14, 10)]


# The definition, spelled out on sets of whole seconds.

LABELS = ("a", "b", "c")


def runs(seconds: set[int]) -> list[tuple[int, int]]:
    """Longest runs of consecutive seconds, [first, end)."""
    starts = sorted(second for second in seconds if second - 1 not in seconds)
    ends = sorted(second + 1 for second in seconds if second + 1 not in seconds)
    return list(zip(starts, ends, strict=True))


def naive_matches(
    true: list[tuple[int, int]], stated: list[tuple[int, int, float]], min_iou: Fraction
) -> list[tuple[int, int]]:
    """Starts of (true, stated): all pairs that reach `min_iou`, best first; a pair stands if both are still free."""
    pairs = []
    for i, (start, end, probability) in enumerate(stated):
        for j, (true_start, true_end) in enumerate(true):
            both = len(set(range(start, end)) & set(range(true_start, true_end)))
            iou = Fraction(both, len(set(range(start, end)) | set(range(true_start, true_end))))
            if iou >= min_iou:
                pairs.append(((-probability, start, end, i, -iou, true_start), i, j))
    used_stated: set[int] = set()
    used_true: set[int] = set()
    matches = []
    for _, i, j in sorted(pairs):
        if i not in used_stated and j not in used_true:
            used_stated.add(i)
            used_true.add(j)
            matches.append((true[j][0], stated[i][0]))
    return matches


def random_segment(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    start, end = sorted(rng.choice(np.arange(low, high + 1), size=2, replace=False).tolist())
    return start, end


@pytest.mark.parametrize("seed", range(30))
def test_random_worlds_agree_with_the_naive_definition(seed: int) -> None:
    """Whole seconds and probabilities of one digit, so that everything ties with everything."""
    rng = np.random.default_rng(seed)
    observed: dict[str, list[Segment]] = {}
    true: list[Row] = []
    stated: list[StatedRow] = []
    for recording in ("x", "y"):
        observed[recording] = [Segment(0, 24), Segment(30, 50)]
        for label in LABELS:
            true += [(recording, label, *random_segment(rng, 0, 60)) for _ in range(rng.integers(0, 5))]
            for low, high in ((0, 24), (30, 50)):
                stated += [
                    (recording, label, *random_segment(rng, low, high), rng.integers(1, 4) / 4)
                    for _ in range(rng.integers(0, 4))
                ]
    excluded = [("a", "b"), ("b", "c")]
    scores = scored(true, stated, observed=observed, labels=LABELS, excluded=excluded)

    seen = set(range(24)) | set(range(30, 50))
    on = {
        (recording, label): {
            s for r, k, start, end, *_ in rows if (r, k) == (recording, label) for s in range(int(start), int(end))
        }
        & seen
        for rows in (true,)
        for recording in observed
        for label in LABELS
    }
    said = {
        (recording, label): {
            s for r, k, start, end, _ in stated if (r, k) == (recording, label) for s in range(int(start), int(end))
        }
        for recording in observed
        for label in LABELS
    }
    errors: list[int] = []
    for label, row in zip(LABELS, scores.labels, strict=True):
        own = {
            recording: [(int(s), int(e), p) for r, k, s, e, p in stated if (r, k) == (recording, label)]
            for recording in observed
        }
        for iou, exact in zip(IOUS, (Fraction(1, 10), Fraction(3, 10), Fraction(1, 2)), strict=True):
            matches = [
                pair
                for recording in observed
                for pair in naive_matches(runs(on[recording, label]), own[recording], exact)
            ]
            num_true = sum(len(runs(on[recording, label])) for recording in observed)
            assert counts(row.at_iou[iou]) == (len(matches), sum(map(len, own.values())), num_true)
            if iou == 0.3:
                errors += [found - real for real, found in matches]
        both = sum(len(on[recording, label] & said[recording, label]) for recording in observed)
        assert counts(row.seconds) == pytest.approx(
            (both, sum(len(said[r, label]) for r in observed), sum(len(on[r, label]) for r in observed))
        )
    assert scores.onset_errors_s == pytest.approx(sorted(errors))
    clashes = [said[recording, one] & said[recording, other] for recording in observed for one, other in excluded]
    assert scores.contradictions_s == sum(map(len, clashes))
    assert scores.num_contradictions == sum(len(runs(clash)) for clash in clashes)

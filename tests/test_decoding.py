from __future__ import annotations

import dataclasses
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from features.sealed import DamagedFile
from features.video import Segment
from reports.calibration import Calibration
from reports.decoding import Decoding, PointScores
from reports.events import EventRule, find_events
from reports.exclusions import Exclusion
from reports.metrics.events import Agreement
from reports.metrics.matching import AnnotatedRecording, TrueEvent
from reports.thresholds import NoThresholds
from reports.tuning import own_onset, tune

PLAIN = EventRule(onset=0.5, offset=0.5, min_duration_s=0.0, merge_gap_s=0.0)
SIT_OR_STAND = Exclusion("sit", "stand", 9, 7.5)


def cells(count: int, start_s: float = 0.0) -> list[Segment]:
    """Windows of a second that touch: each is its own cell."""
    return [Segment(start_s + k, start_s + k + 1) for k in range(count)]


def decoding(
    labels: tuple[str, ...] = ("read", "sit", "stand"),
    rule: EventRule = PLAIN,
    exclusions: tuple[Exclusion, ...] = (SIT_OR_STAND,),
    smoothing_windows: int = 1,
) -> Decoding:
    return Decoding(
        labels=labels,
        calibration=Calibration.identity(len(labels)),
        smoothing_windows=smoothing_windows,
        rules=dict.fromkeys(labels, rule),
        careful_rules=dict.fromkeys(labels, dataclasses.replace(rule, onset=0.9)),
        exclusions=exclusions,
        min_precision=0.8,
        scores={"video": PointScores(Agreement(3, 5, 4), Agreement(3.5, 5, 4))},
        careful_scores={"video": PointScores(Agreement(90, 100, 200), Agreement(9, 9.5, 20))},
        model_sha256="ab" * 32,
    )


def stated(
    own: Decoding, probabilities: npt.ArrayLike, windows: list[Segment] | None = None, *, careful: bool = False
) -> list[tuple[str, float, float]]:
    """(label, start, end) of each event; `probabilities` (n, L)."""
    columns = np.array(probabilities, dtype=float)
    found = own.events("a", windows or cells(len(columns)), columns, stride_s=1.0, careful=careful)
    return [(event.label, event.segment.start_s, event.segment.end_s) for event in found.events]


def test_the_weaker_loses_the_stretch_that_both_have() -> None:
    """Standing is the surer one on average: sitting keeps what comes before, and reading is of no concern."""
    probabilities = [[0.9, 0.6, 0.0], [0.9, 0.6, 0.9], [0.9, 0.6, 0.9], [0.0, 0.0, 0.9]]
    assert stated(decoding(), probabilities) == [("read", 0, 3), ("sit", 0, 1), ("stand", 1, 4)]
    assert stated(decoding(exclusions=()), probabilities) == [("read", 0, 3), ("sit", 0, 3), ("stand", 1, 4)]


def test_what_is_left_is_an_event_only_by_its_own_rule() -> None:
    """What is shorter than `min_duration_s` goes, as does what never reaches the onset; both count as suppressed."""
    short = dataclasses.replace(PLAIN, min_duration_s=2.0)
    probabilities = np.array([[0, 0.6, 0], [0, 0.6, 0.9], [0, 0, 0.9]])
    found = decoding(rule=short).events("a", cells(3), probabilities, stride_s=1.0)
    assert [(event.id, event.label) for event in found.events] == [("a-001", "stand")]
    assert found.suppressed == {"read": 0, "sit": 1, "stand": 0}
    low_offset = EventRule(onset=0.6, offset=0.3, min_duration_s=0.0, merge_gap_s=0.0)
    tail = np.array([[0, 0.4, 0], [0, 0.7, 0.9], [0, 0.4, 0.9]])
    found = decoding(rule=low_offset).events("a", cells(3), tail, stride_s=1.0)
    assert [(event.label, event.segment) for event in found.events] == [("stand", Segment(1, 3))]
    assert found.suppressed["sit"] == 1


def test_what_is_left_has_its_own_mean_and_peak_and_ids_are_in_order() -> None:
    """An event that is cut speaks for what it keeps."""
    probabilities = np.array([[0, 0.5, 0], [0, 0.7, 0], [0, 0.8, 0.95]])
    found = decoding().events("a", cells(3), probabilities, stride_s=1.0)
    assert [(event.id, event.label, event.peak_probability) for event in found.events] == [
        ("a-001", "sit", 0.7),
        ("a-002", "stand", 0.95),
    ]
    assert found.events[0].mean_probability == pytest.approx(0.6)


@pytest.mark.parametrize("seed", range(20))
def test_no_two_labels_that_exclude_each_other_are_ever_on_at_once(seed: int) -> None:
    """On noise: no contradiction remains, nothing that was not found is stated, and other labels stay as they are."""
    random = np.random.default_rng(seed)
    labels = tuple("abcdef")
    pairs = [pair for pair in combinations(labels[:5], 2) if random.random() < 0.5]
    rule = EventRule(onset=0.6, offset=0.35, min_duration_s=1.5, merge_gap_s=1.5)
    own = decoding(labels, rule, tuple(Exclusion(*pair, 9, 7.5) for pair in pairs))
    windows = [Segment(k * 0.75, k * 0.75 + 2) for k in [*range(30), *range(40, 60)]]
    probabilities = random.random((50, 6))
    result = own.events("a", windows, probabilities, stride_s=0.75)
    events = [(event.label, event.segment) for event in result.events]
    overlaps = {
        tuple(sorted((one[0], other[0])))
        for one, other in combinations(events, 2)
        if one[1].overlap_s(other[1]) > 0 and one[0] != other[0]
    }
    assert not overlaps & set(pairs)
    before = find_events("a", windows, probabilities, labels, dict.fromkeys(labels, rule), stride_s=0.75)
    for label, segment in events:
        assert any(
            event.label == label
            and event.segment.start_s <= segment.start_s
            and segment.end_s <= event.segment.end_s
            and segment.duration_s >= 1.5 - 1e-6
            for event in before.events
        )
    assert [segment for label, segment in events if label == "f"] == [
        event.segment for event in before.events if event.label == "f"
    ]
    order = random.permutation(50)
    assert own.events("a", [windows[i] for i in order], probabilities[order], stride_s=0.75) == result


def test_smoothing_averages_neighbours_of_one_stretch() -> None:
    """The mean of three, or of two at an end; what lies beyond a pause has no say."""
    own = decoding(("sit",), exclusions=(), smoothing_windows=3)
    windows = [*cells(3), *cells(2, start_s=10)]
    column = np.array([[0.9], [0.3], [0.1], [0.8], [0.6]])
    smooth = own.probabilities(windows, column, stride_s=1.0)
    assert smooth[:, 0] == pytest.approx([0.6, 1.3 / 3, 0.2, 0.7, 0.7])
    assert stated(own, column, windows) == [("sit", 0, 1), ("sit", 10, 12)]


def test_rules_decide_on_calibrated_probabilities() -> None:
    """An offset of -1 lowers 0.6 below one half; events carry the calibrated probability."""
    own = dataclasses.replace(decoding(("sit",), exclusions=()), calibration=Calibration((1.0,), (-1.0,)))
    assert stated(own, [[0.6], [0.8]]) == [("sit", 1, 2)]
    (event,) = own.events("a", cells(2), np.array([[0.6], [0.8]]), stride_s=1.0).events
    assert event.peak_probability == pytest.approx(1 / (1 + np.exp(1) * 0.25))


def test_the_careful_point_has_rules_of_its_own() -> None:
    """What is likely and not sure is stated at the one point and not at the other."""
    assert stated(decoding(), [[0.7, 0, 0], [0, 0.95, 0]]) == [("read", 0, 1), ("sit", 1, 2)]
    assert stated(decoding(), [[0.7, 0, 0], [0, 0.95, 0]], careful=True) == [("sit", 1, 2)]


def test_the_careful_point_states_nothing_improbable() -> None:
    """One sure window makes no event of a stretch that is improbable on average; the less careful rules find it."""
    rule = EventRule(0.9, 0.4, 0.0, 0.0)
    own = decoding(rule=rule)
    careful = {label: dataclasses.replace(rule, min_mean=0.7) for label in own.labels}
    own = dataclasses.replace(own, careful_rules=careful)
    columns = np.array([[0.95, 0, 0], [0.45, 0, 0], [0.45, 0, 0], [0, 0.95, 0], [0, 0.9, 0]])
    found = own.events("a", cells(5), columns, stride_s=1.0, careful=True)
    assert [(event.label, event.mean_probability) for event in found.events] == [("sit", pytest.approx(0.925))]
    assert [(event.label, event.mean_probability) for event in found.less_certain] == [
        ("read", pytest.approx(0.6167, abs=1e-3))
    ]
    assert found.num_suppressed == 0, "it is less certain, and not too short"


def test_no_windows_no_events_and_bad_probabilities_raise() -> None:
    """What does not fit is an error that names the recording; no clipping hides it."""
    assert decoding().events("a", [], np.zeros((0, 3)), stride_s=1.0).events == ()
    for bad in (np.nan, 1.5, -0.1):
        with pytest.raises(ValueError, match="kitchen: probabilities must be"):
            decoding().events("kitchen", cells(1), np.full((1, 3), bad), stride_s=1.0)
    with pytest.raises(ValueError, match="kitchen: 2 windows and 3 labels do not fit"):
        decoding().events("kitchen", cells(2), np.zeros((1, 3)), stride_s=1.0)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    """All of it comes back; a changed file and one of another model are told."""
    path = tmp_path / "decoding.json"
    decoding().save(path)
    loaded = Decoding.load(path)
    assert loaded == decoding()
    loaded.require_model("ab" * 32, path)
    with pytest.raises(NoThresholds, match="another model"):
        loaded.require_model("cd" * 32, path)
    path.write_text(path.read_text().replace("0.9", "0.8"))
    with pytest.raises(DamagedFile, match=r"decoding\.json"):
        Decoding.load(path)


def test_a_decoding_checks_itself() -> None:
    """Rules, calibration and pairs are of its labels; an even number of windows has no middle."""
    for change, told in (
        ({"rules": {"sit": PLAIN}}, "needs a rule"),
        ({"calibration": Calibration.identity(2)}, "2 calibrations"),
        ({"smoothing_windows": 2}, "odd number"),
        ({"min_precision": 1.0}, "wished precision"),
        ({"exclusions": (Exclusion("sit", "wave", 9, 7.5),)}, "wave"),
    ):
        with pytest.raises(ValueError, match=told):
            dataclasses.replace(decoding(), **change)


@pytest.mark.parametrize(("both", "stated", "low"), [(80, 100, 0.7112), (8, 10, 0.4902), (10, 10, 0.7225), (0, 10, 0)])
def test_the_lower_bound_of_a_precision_by_hand(both: int, stated: int, low: float) -> None:
    """Wilson's interval: 80 of 100 may be 0.711; 8 of 10 only 0.490."""
    events, right = Agreement(both, stated, 0), Agreement(7, 7, 9)
    assert PointScores(events, right).precision_low == pytest.approx(low, abs=1e-4)


def test_the_lower_bound_is_that_of_the_worse_of_events_and_seconds() -> None:
    """Seconds count as many draws as there are events; nothing stated promises nothing."""
    assert PointScores(Agreement(10, 10, 0), Agreement(80, 100, 90)).precision_low == pytest.approx(0.4902, abs=1e-4)
    assert PointScores(Agreement(), Agreement()).precision_low == 0.0


def tuned_recording(
    name: str, columns: list[float], true: list[tuple[int, int]], kind: str = "recording"
) -> AnnotatedRecording:
    events = [TrueEvent(name, "sit", Segment(start, end)) for start, end in true]
    return AnnotatedRecording(name, kind, cells(len(columns)), np.array([columns]).T, events)  # type: ignore[arg-type]


def tuned(recordings: list[AnnotatedRecording], min_precision: float = 0.8) -> Decoding:
    return tune(recordings, ["sit"], stride_s=1.0, exclusions=(), min_precision=min_precision, model_sha256="ab")


def test_gaps_are_bridged_where_val_says_so() -> None:
    """Each true event of 7 s shows as two halves with a hole as deep as what is outside: only bridging makes it one."""
    halves = [0.1] * 4 + [0.8] * 3 + [0.1] + [0.8] * 3 + [0.1] * 4
    own = tuned([tuned_recording(f"r{k}", halves * 2, [(4, 11), (19, 26)]) for k in range(30)])
    assert own.rules["sit"].merge_gap_s == 1.5
    assert own.scores["recording"].events == Agreement(60, 60, 60)
    assert stated(own, [[value] for value in halves]) == [("sit", 4, 11)]


def test_flicker_is_dropped_where_val_says_so() -> None:
    """Single cells as high as true events are false: a minimum duration or smoothing gets rid of them."""
    pattern, true = [0.1, 0.8, 0.1, 0.1, 0.1, 0.8, 0.8, 0.8, 0.8, 0.1, 0.1, 0.1], (5, 9)
    own = tuned([tuned_recording(f"r{k}", pattern, [true]) for k in range(30)])
    assert own.rules["sit"].min_duration_s > 0 or own.smoothing_windows > 1
    assert stated(own, [[value] for value in pattern]) == [("sit", *true)]


def test_what_changes_nothing_stays_simple() -> None:
    """Events as clear as day need no bridging, no minimum, no smoothing and no second threshold."""
    pattern = [0.02] * 5 + [0.98] * 4 + [0.02] * 5
    own = tuned([tuned_recording(f"r{k}", pattern, [(5, 9)]) for k in range(20)])
    assert own.rules["sit"] == EventRule(0.5, 0.5, 0.0, 0.0)
    assert own.smoothing_windows == 1


def graded(count: int) -> list[AnnotatedRecording]:
    """Single cells, one in each recording: 0.9 is always true, 0.7 in every second, 0.3 never."""
    recordings = []
    for k in range(count):
        for value, is_true in ((0.9, True), (0.7, k % 2 == 0), (0.3, False)):
            name = f"{value}-{k}"
            column = [0.01, 0.01, value, 0.01, 0.01]
            recordings.append(tuned_recording(name, column, [(2, 3)] if is_true else []))
    return recordings


def test_the_careful_point_surely_reaches_the_wish_and_is_no_more_careful() -> None:
    """With 0.7 half true, half of F1's events may be wrong; a wish for 0.9 leaves only what is always true."""
    own = tuned(graded(40), min_precision=0.9)
    assert own.scores["recording"].events == Agreement(60, 80, 60)
    assert own.is_reached
    assert own.careful_basis.events == Agreement(40, 40, 60)
    assert stated(own, [[0.01], [0.9], [0.01], [0.7], [0.01]], careful=True) == [("sit", 1, 2)]
    lower = tuned(graded(40), min_precision=0.55)
    assert lower.careful_basis.events == Agreement(60, 80, 60), "60 of 80 are 0.645 or more"
    assert {
        label: dataclasses.replace(rule, min_mean=0.0) for label, rule in lower.careful_rules.items()
    } == lower.rules
    few = tuned(graded(15), min_precision=0.95)
    assert few.careful_rules["sit"].min_mean == 0.0, "15 events say nothing of a precision"
    assert own.careful_rules["sit"].min_mean == pytest.approx(0.8)


def test_a_wish_that_val_cannot_confirm_is_told() -> None:
    """30 of 30 right may still be 0.886: a wish for 0.95 is not reached, and the surest point is taken."""
    own = tuned(graded(30), min_precision=0.95)
    assert not own.is_reached
    assert own.careful_basis.events == Agreement(30, 30, 45)
    assert not own.to_json()["is_reached"]


def test_the_careful_point_is_judged_by_recordings() -> None:
    """Videos are easy here and recordings are not: only the latter count for the promise."""
    easy = [tuned_recording(f"v{k}", [0.01, 0.01, 0.7, 0.01, 0.01], [(2, 3)], kind="video") for k in range(60)]
    own = tuned([*easy, *graded(40)], min_precision=0.9)
    assert own.careful_basis.events == Agreement(40, 40, 60)
    assert set(own.scores) == {"recording", "video"}


def test_tuning_twice_gives_the_same_and_needs_truth() -> None:
    """No chance is in it; without a true event there is nothing to tune by."""
    assert tuned(graded(20)) == tuned(graded(20))
    with pytest.raises(NoThresholds, match="nothing happens in 1 val videos"):
        tuned([tuned_recording("a", [0.5, 0.5], [])])
    with pytest.raises(ValueError, match="twice"):
        tuned([tuned_recording("a", [0.5, 0.5], [(0, 1)])] * 2)


def test_a_label_with_many_events_gets_its_own_onset_and_a_rare_one_hardly() -> None:
    """From 0.5 towards 0.2: not at all without events, half of the way with thirty, nearly all with thousands."""
    f1 = {0.1: 0.2, 0.2: 0.8, 0.5: 0.4, 0.9: 0.3}
    onsets = [own_onset(f1, shared=0.5, num_true=count) for count in (0, 10, 30, 90, 100_000)]
    assert onsets == pytest.approx([0.5, 0.425, 0.35, 0.275, 0.2], abs=1e-3)
    level = {0.1: 0.8, 0.4: 0.8, 0.6: 0.8, 0.9: 0.3}
    assert own_onset(level, shared=0.5, num_true=100_000) == 0.4, "of equals the nearest, then the lower one"

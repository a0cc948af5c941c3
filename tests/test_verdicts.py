"""What people's verdicts tell of a diary, and `diary verdicts`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pipeline.cli.__main__ import main
from reports.corrections import Correction, append_correction
from reports.review.answers import all_answers, weighted
from reports.review.sampling import Chance, Item, draw
from reports.review.verdicts import Verdicts, verdicts

VIDEO, MODEL = "v" * 64, "m" * 64
CERTAIN = str(Chance("random", 1.0, 4, "ab12"))
UNTOLD = str(Chance("random", 1.0, 4, "ab12", is_told=False))
QUIET = str(Chance("quiet", 0.5, 2, "ab12"))


def said(kind: str, start_s: float, end_s: float, label: str = "cup", **other: object) -> Correction:
    """A correction of ann; what is stated has an event's id and a probability."""
    number = f"{kind} {label} {start_s} {other}"
    stated = {} if kind in ("add", "complete") else {"event_id": "e", "probability": 0.75, "model_sha256": MODEL}
    fields: dict[str, Any] = {"sampling": "" if kind == "add" else CERTAIN, **stated, **other}
    who = str(fields.pop("who", "ann"))
    return Correction(number, kind, VIDEO, who, "2026-03-14T08:00:00+01:00", label, start_s, end_s, **fields)  # type: ignore[arg-type]


def moved(start_s: float, end_s: float, to_s: tuple[float, float], label: str = "cup") -> Correction:
    return said("change", start_s, end_s, new_label=label, new_start_s=to_s[0], new_end_s=to_s[1])


def test_what_counts_as_right_and_what_as_missed() -> None:
    """Moved ends are right from an IoU of 0.3 on; another label is wrong, and one that was missed."""
    answers = all_answers(
        [
            said("right", 0, 2),
            said("wrong", 2, 4),
            moved(10, 12, (10, 13)),
            moved(20, 22, (21.5, 30)),
            moved(30, 32, (30, 32), label="book"),
            said("right", 40, 42, sampling=UNTOLD),
            said("wrong", 42, 44, sampling=UNTOLD),
            said("skip", 44, 46),
            said("note", 46, 48),
        ]
    )
    assert [(each.span[0] // 1000, each.is_right, each.num_missed) for each in answers] == [
        (0, True, 0),
        (2, False, 0),
        (10, True, 0),
        (20, False, 1),
        (30, False, 1),
        (40, True, 1),
        (42, False, 0),
    ]


def test_what_was_added_counts_in_the_stretch_of_its_middle() -> None:
    """So that an event across two stretches is missed once, and one in a stretch that nobody judged not at all."""
    answers = all_answers(
        [
            said("add", 8, 16, "book"),
            said("add", 30, 32, "book"),
            said("complete", 0, 10, "", sampling=QUIET),
            said("complete", 10, 20, "", sampling=QUIET),
            said("complete", 50, 60, ""),
        ]
    )
    assert [each.num_missed for each in answers] == [0, 1, 0]
    told = verdicts([*[said("right", 100 + n, 100.5 + n) for n in range(4)], *CORRECTIONS[-3:]])
    assert told.missed.value == pytest.approx(2)  # one, with a chance of a half
    assert told.recall.value == pytest.approx(4 / 6)


CORRECTIONS = [
    said("right", 0, 2),
    said("right", 4, 6),
    said("wrong", 8, 10, "book"),
    said("right", 12, 14),
    said("add", 25, 27, "book"),
    said("complete", 20, 30, "", sampling=QUIET),
    said("complete", 40, 50, "", sampling=QUIET),
]


def test_the_later_of_two_answers_of_one_person_holds() -> None:
    """Of two people, too, for the shares; both count for their agreement."""
    told = verdicts([*CORRECTIONS, said("wrong", 0, 2)])
    assert (told.precision.num, told.precision.num_right) == (4, 2)
    ben = [replace(each, id=f"ben {each.id}", who="ben") for each in CORRECTIONS[:4]]
    ben[1] = replace(ben[1], verdict="wrong")
    told = verdicts([*CORRECTIONS, *ben])
    assert (told.precision.num, told.precision.num_right) == (4, 2)
    (pair,) = told.agreements
    assert (pair.people, pair.num) == (("ann", "ben"), 4)
    assert pair.kappa.value == pytest.approx(0.5)


def test_answers_on_other_models_and_on_what_was_looked_up_are_left_out() -> None:
    """And counted. Where nothing was drawn, all answers count, and the result says so."""
    old = [replace(each, id=f"old {each.id}", model_sha256="o" * 64 if each.label else "") for each in CORRECTIONS]
    looked_up = said("wrong", 90, 91, sampling="amend")
    told = verdicts([*old, *CORRECTIONS, looked_up])
    assert told.is_sample
    assert (told.precision.num, told.num_stretches) == (4, 2)
    assert told.num_not_drawn == 1
    assert told.num_other_models == 0  # the later answers on the same items took their place
    other = replace(CORRECTIONS[0], id="earlier", start_s=70.0, end_s=71.0, model_sha256="o" * 64)
    assert verdicts([other, *CORRECTIONS]).num_other_models == 1
    in_order = verdicts([replace(each, sampling="in order") for each in CORRECTIONS])
    assert not in_order.is_sample
    assert (in_order.precision.num, in_order.num_stretches) == (4, 2)
    assert in_order.missed.value == 1


@pytest.mark.slow
@pytest.mark.parametrize("num_done", [60, 30])
def test_two_queues_one_after_the_other_give_one_estimate_without_bias(num_done: int) -> None:
    """The second queue is drawn from what the first one left; the second is stopped early in one case."""
    random = np.random.default_rng(2)
    probability = random.beta(4, 2, 200)
    is_right = random.random(200) < probability
    items = [Item("r", (10 * n, 10 * n + 9), "cup", f"e{n}", float(probability[n])) for n in range(200)]
    estimates = []
    for seed in range(100):
        first = draw(items, num=60, strategy="uncertainty", seed=seed)
        judged = {each.key for each in first}
        second = draw([e for e in items if e.key not in judged], num=60, strategy="uncertainty", seed=seed)
        answered = [*first, *second[:num_done]]
        corrections = [
            said("right" if is_right[each.span[0] // 10] else "wrong", each.span[0] / 1000, each.span[1] / 1000)
            for each in answered
        ]
        told = [
            replace(c, id=str(n), sampling=i.sampling)
            for n, (c, i) in enumerate(zip(corrections, answered, strict=True))
        ]
        estimates.append(verdicts(told).precision.interval.value)
        answers, _ = weighted(all_answers(told))
        assert sum(each.weight for each in answers) == pytest.approx(200, rel=0.2)
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - is_right.mean()) < 3 * error + 0.002


def test_a_reliability_bin_says_what_a_probability_is_worth_here() -> None:
    """By tenths of the event's mean probability; the lowest threshold is among them."""
    sure = [replace(said("right", n, n + 0.5), id=f"s{n}", probability=0.92) for n in range(60)]
    unsure = [
        replace(said("wrong" if n % 3 else "right", n, n + 0.5), id=f"u{n}", probability=1.0 if n == 100 else 0.55)
        for n in range(100, 160)
    ]
    told = verdicts([*sure, *unsure], wished=(0.9, 0.99))
    assert [(each.low, each.right.num) for each in told.bins] == [(0.5, 59), (0.9, 61)]
    assert told.bins[0].right.interval.value < 0.4
    assert told.bins[1].right.interval.value > 0.9
    assert told.thresholds == {0.9: 0.92, 0.99: None}


def write(folder: Path, corrections: Sequence[Correction]) -> None:
    for correction in corrections:
        append_correction(folder / "corrections.jsonl", correction)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["verdicts", *map(str, arguments)])


def test_the_command_prints_a_table_and_writes_the_same_numbers(tmp_path: Path) -> None:
    """Names come from the events files; the JSON holds no nan."""
    write(tmp_path, CORRECTIONS)
    (tmp_path / "kitchen").mkdir()
    event = {"type": "event", "label": "cup", "name": "Holding a \x1bcup"}
    (tmp_path / "kitchen" / "events.jsonl").write_text(f"{json.dumps({'type': 'recording'})}\n{json.dumps(event)}\n")
    result = run(tmp_path, "--json", tmp_path / "out" / "verdicts.json", "--precision", "0.3")
    assert result.exit_code == 0, result.output
    assert "3 of 4 judged events" in result.output
    assert "2 stretches without events" in result.output
    assert "\x1b" not in result.output
    assert "Holding a" in result.output
    assert "surely 30% right from a probability of 0.750 on" in result.output
    content = json.loads((tmp_path / "out" / "verdicts.json").read_text())
    assert content["precision"]["value"] == 0.75
    assert (content["precision"]["num"], content["precision"]["num_right"]) == (4, 3)
    assert content["labels"]["book"]["num_right"] == 0
    assert content["thresholds"] == {"0.3": 0.75}
    assert content["recall"]["num_stretches"] == 2


def test_without_verdicts_the_command_says_what_to_do(tmp_path: Path) -> None:
    """In a line, with exit status 1, and no file."""
    for folder, told in ((tmp_path / "none", "no such folder"), (tmp_path, "diary review")):
        result = run(folder, "--json", tmp_path / "verdicts.json")
        assert result.exit_code == 1
        assert told in result.output
        assert isinstance(result.exception, SystemExit)
    assert not (tmp_path / "verdicts.json").exists()
    empty = verdicts([])
    assert isinstance(empty, Verdicts)
    assert json.dumps(empty.to_json(), allow_nan=False)

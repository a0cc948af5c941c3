"""Tables of event scores and of calibration, as formatted cells. Knows what `EventScores.to_json` gives, no model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, groupby
from typing import Any, Literal

from reports.calibration import LabelCalibration, ReliabilityBin

Scores = Mapping[str, Any]
"""What `EventScores.to_json` gives."""

SCOPES = {"recordings": "Test recordings", "videos": "Test videos"}
"""What events are scored on, in the order of the tables."""


@dataclass(frozen=True)
class Reliability:
    """Reliability of one model's probabilities on test cells.

    `before` and `after` calibration, the bins of a reliability diagram and the expected calibration error (ECE), over
    all labels and for each of `labels`.
    """

    before: Sequence[ReliabilityBin]
    after: Sequence[ReliabilityBin]
    ece_before: float
    ece_after: float
    labels: Sequence[LabelCalibration] = ()

    def to_json(self) -> dict[str, Any]:
        """Six digits."""
        return _rounded(asdict(self))


@dataclass(frozen=True)
class Cell:
    """A number as text, the count it rests on as text, and whether it is the best of its column."""

    text: str
    count: str = ""
    is_best: bool = False


@dataclass(frozen=True)
class Column:
    """A column of an event table: its heading and the path of its number in the scores.

    `better` says which of two numbers is the better one. `count` makes the small print below the number.
    """

    group: str
    name: str
    path: tuple[str, ...]
    digits: int = 2
    better: Literal["higher", "lower"] | None = "higher"
    count: Callable[[Scores], str] = lambda _: ""

    def value(self, scores: Scores | None) -> float:
        """nan where the scores or the number are missing."""
        value: Any = scores
        for key in self.path if scores is not None else ():
            value = value[key]
        return math.nan if value is None else float(value)


@dataclass(frozen=True)
class Group:
    """The rows of one scope: its title, what was observed, and the cells of each model."""

    title: str
    observed: str
    rows: Sequence[tuple[str, Sequence[Cell]]]


@dataclass(frozen=True)
class EventTable:
    """Columns and groups of rows; `heads` are headings above the columns with how many they span.

    `edges` are the numbers of the columns that begin a new heading.
    """

    heads: Sequence[tuple[str, int]]
    names: Sequence[str]
    edges: frozenset[int]
    groups: Sequence[Group]

    @property
    def full_names(self) -> list[str]:
        """Each column's name with its heading, for where there is no room for two lines of headings."""
        heads = [head for head, span in self.heads for _ in range(span)]
        return [f"{head}: {name}" for head, name in zip(heads, self.names, strict=True)]


@dataclass(frozen=True)
class LabelTable:
    """One scope's event scores by label: rows of (name, id, true events, cells), a cell per column and model.

    `empty` are names and ids of the labels that neither happen nor are stated.
    """

    title: str
    models: Sequence[str]
    rows: Sequence[tuple[str, str, int, Sequence[Cell]]]
    empty: Sequence[tuple[str, str]]


def _matches(out_of: str, key: str = "iou_30", unit: str = "") -> Callable[[Scores], str]:
    def count(scores: Scores) -> str:
        agreement = scores[key]
        return f"{agreement['both']:,.0f} of {agreement[out_of]:,.0f}{unit}"

    return count


def _signed_onset(scores: Scores) -> str:
    error_s = scores["onset"]["median_error_s"]
    return "" if error_s is None else f"{error_s:+.2f}".replace("-", "−")


def _stretches(scores: Scores) -> str:
    return f"{scores['contradictions']['n_stretches']:,} in all"


_PRECISION = Column("IoU 0.3", "Precision", ("iou_30", "precision"), count=_matches("stated"))
_RECALL = Column("IoU 0.3", "Recall", ("iou_30", "recall"), count=_matches("true"))
_SECONDS = (
    Column("By seconds", "Precision", ("seconds", "precision"), count=_matches("stated", "seconds", " s")),
    Column("By seconds", "Recall", ("seconds", "recall"), count=_matches("true", "seconds", " s")),
)
_ONSET = Column("Onset error", "Median, s", ("onset", "median_abs_error_s"), better="lower", count=_signed_onset)
_RATES = (
    Column("Events per hour", "Stated", ("stated_per_hour",), digits=0, better=None),
    Column("Events per hour", "True", ("true_per_hour",), digits=0, better=None),
)
_CONTRADICTIONS = Column(
    "Contradictions", "Per hour", ("contradictions", "per_hour"), digits=1, better="lower", count=_stretches
)
BEST_F1 = (
    Column("F1 at IoU", "0.1", ("iou_10", "f1")),
    Column("F1 at IoU", "0.3", ("iou_30", "f1")),
    Column("F1 at IoU", "0.5", ("iou_50", "f1")),
    _PRECISION,
    _RECALL,
    *_SECONDS,
    *_RATES,
    _ONSET,
    _CONTRADICTIONS,
)
"""Columns of the table at the point of the best F1."""
CAREFUL = (
    _PRECISION,
    _RECALL,
    Column("IoU 0.3", "F1", ("iou_30", "f1")),
    *_SECONDS,
    *_RATES,
    _CONTRADICTIONS,
)
"""Columns of the table at the diary's point."""
_LABEL_COLUMNS = (
    Column("", "F1", ("iou_30", "f1"), better=None),
    Column("", "Precision", ("iou_30", "precision"), better=None, count=_matches("stated")),
    Column("", "Recall", ("iou_30", "recall"), better=None, count=_matches("true")),
)


def event_table(events: Mapping[str, Mapping[str, Scores]], columns: Sequence[Column]) -> EventTable:
    """A row for each model in the group of each scope that some model has scores of; others have dashes there."""
    groups = []
    for scope, title in SCOPES.items():
        by_model = {model: scores.get(scope) for model, scores in events.items()}
        known = [scores for scores in by_model.values() if scores is not None]
        if not known:
            continue
        by_column = [_cells(column, list(by_model.values())) for column in columns]
        rows = [(model, [cells[k] for cells in by_column]) for k, model in enumerate(by_model)]
        groups.append(Group(title, _observed(known[-1]), rows))
    spans = [(head, len(list(run))) for head, run in groupby(columns, key=lambda column: column.group)]
    edges = accumulate((span for _, span in spans), initial=0)
    return EventTable(spans, [column.name for column in columns], frozenset(edges), groups)


def label_tables(events: Mapping[str, Mapping[str, Scores]], names: Mapping[str, str]) -> list[LabelTable]:
    """A table for each scope, sorted by the last model's F1, the highest first; `names` by label id.

    Models whose labels differ raise ValueError.
    """
    tables = []
    for scope, title in SCOPES.items():
        by_model = {
            model: {row["label"]: row for row in scores[scope]["labels"]}
            for model, scores in events.items()
            if scope in scores
        }
        if not by_model:
            continue
        *_, last = by_model.values()
        for model, rows in by_model.items():
            if rows.keys() != last.keys():
                raise ValueError(f"{model}, {title.lower()}: labels differ: {sorted(rows.keys() ^ last.keys())}")
        empty = [label for label in last if all(_is_empty(rows[label]) for rows in by_model.values())]
        measured = sorted(last.keys() - empty, key=lambda label: (-(last[label]["iou_30"]["f1"] or 0), label))
        tables.append(
            LabelTable(
                title,
                list(by_model),
                [
                    (
                        names.get(label, label),
                        label,
                        int(last[label]["iou_30"]["true"]),
                        [
                            cell
                            for column in _LABEL_COLUMNS
                            for cell in _cells(column, [rows[label] for rows in by_model.values()])
                        ],
                    )
                    for label in measured
                ],
                [(names.get(label, label), label) for label in empty],
            )
        )
    return tables


def reliability_rows(
    reliability: Mapping[str, Reliability],
) -> tuple[list[str], list[tuple[str, str, list[Cell]]]]:
    """Headings of the bins, and rows of (model, "before" or "after", cells): the ECE, then the bins' shares."""
    states = [
        (model, state, ece, {each.low: each for each in bins})
        for model, result in reliability.items()
        for state, ece, bins in (
            ("before", result.ece_before, result.before),
            ("after", result.ece_after, result.after),
        )
    ]
    edges = sorted({(each.low, each.high) for *_, bins in states for each in bins.values()})
    rows = []
    for model, state, ece, bins in states:
        cells = [Cell(score(ece))]
        for low, _ in edges:
            each = bins.get(low)
            cells.append(Cell("–") if each is None else Cell(score(each.share_true, 2), f"{each.count:,}"))
        rows.append((model, state, cells))
    return [f"{low:g}–{high:g}" for low, high in edges], rows


def score(value: float | None, digits: int = 3) -> str:
    """The number as text; a dash for None and nan."""
    return "–" if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def _cells(column: Column, scores: Sequence[Scores | None]) -> list[Cell]:
    """One column's cells, a model each."""
    values = [column.value(each) for each in scores]
    if column is _CONTRADICTIONS:  # without excluded pairs there is nothing to contradict
        values = [
            math.nan if each is None or not each["contradictions"]["n_excluded_pairs"] else value
            for each, value in zip(scores, values, strict=True)
        ]
    known = [value for value in values if not math.isnan(value)]
    best = None
    if column.better is not None and len(set(known)) > 1:
        best = max(known) if column.better == "higher" else min(known)
    return [
        Cell("–")
        if each is None or math.isnan(value)
        else Cell(score(value, column.digits), column.count(each), value == best)
        for each, value in zip(scores, values, strict=True)
    ]


def _observed(scores: Scores) -> str:
    hours, events = scores["observed_hours"], int(scores["iou_30"]["true"])
    length = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
    return f"{length} with {events:,} true {'event' if events == 1 else 'events'}"


def _is_empty(row: Mapping[str, Any]) -> bool:
    return bool(row["iou_30"]["stated"] == row["iou_30"]["true"] == 0)


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(own) for own in value]
    return round(value, 6) if isinstance(value, float) else value

"""The report as Markdown, for git and pull requests: the page's numbers, and no video's name, picture or machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from features.files import write_text
from reports.diary.escaping import in_markdown
from reports.evaluation.event_tables import BEST_F1, CAREFUL, Cell, EventTable, event_table, score
from reports.evaluation.protocols import protocol_table
from reports.evaluation.results import ModelResult, Report
from reports.evaluation.rows import SCORES, choices, chosen_model, dropped_reasons, label_rows, metric_rows
from reports.metrics.intervals import Interval


def write_markdown(path: Path, report: Report) -> None:
    """Write the twin of the page. The same report gives the same bytes on every machine."""
    chosen = chosen_model(report.models)
    rows = label_rows(report.models, by=chosen)
    names = {row["label"]: in_markdown(row["name"]) for row in rows}
    parts = [
        _lead(report, chosen),
        _certainty(report),
        _events(report),
        _protocols(report),
        _seeds(report.seeds),
        _numbers(report.models),
        _labels(rows, chosen, report.models[chosen]),
        _pairs(report, names),
        _data(report),
    ]
    write_text(path, "\n".join(line for part in parts for line in part) + "\n")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> Iterator[str]:
    """A table whose first `texts` columns are text and whose others are numbers."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * texts}{'--:|' * (len(head) - texts)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _lead(report: Report, chosen: str) -> Iterator[str]:
    own = report.models[chosen].metrics
    yield f"# Label set “{in_markdown(report.label_set)}”, profile {in_markdown(report.profile)}"
    yield ""
    yield (
        f"{own['n_labels']} labels, scored on {own['n_windows']:,} windows of {own['n_videos']:,} test videos. No test "
        f"video had a part in training or in choosing thresholds. Diaries are written with `{chosen}`, which has the "
        "best events on validation."
    )
    yield ""


def _certainty(report: Report) -> Iterator[str]:
    if report.certainty is None:
        return
    yield from ("## Scores, with 95% intervals", "")
    shown = {key: name for key, name in SCORES.items() if key in report.certainty.num_drawn}
    drawn = [f"{name} ({report.certainty.num_drawn[key]} drawn)" for key, name in shown.items()]
    prior = score(next(iter(report.models.values())).metrics.get("micro_f1_prior"))
    rows = [["without looking", *[prior if key == "micro_f1" else "–" for key in shown]]]
    rows += [[f"`{name}`", *[_interval(own[key]) for key in shown]] for name, own in report.certainty.models.items()]
    rows += [
        [f"`{later}` − `{earlier}`", *[_interval(own[key], marks=True) for key in shown]]
        for (later, earlier), own in report.certainty.differences.items()
    ]
    yield from _table(["Model", *drawn], rows)
    yield "Bootstrapped by person, or by recording of one person each. A difference that leaves out 0 is bold."
    yield ""


def _interval(interval: Interval, *, marks: bool = False) -> str:
    text = f"{score(interval.value)} [{score(interval.low)}, {score(interval.high)}]"
    return f"**{text}**" if marks and (interval.low > 0 or interval.high < 0) else text


def _events(report: Report) -> Iterator[str]:
    tables: list[tuple[str, EventTable]] = [
        ("best F1 on validation", event_table({name: own.events for name, own in report.models.items()}, BEST_F1)),
        (
            "the diary’s careful point",
            event_table({name: own.events_careful for name, own in report.models.items()}, CAREFUL),
        ),
    ]
    for title, table in tables:
        for group in table.groups:
            yield from (f"## Events of {group.title.lower()}: {title}", "", f"{group.observed}.", "")
            rows = [[f"`{model}`", *map(_cell, cells)] for model, cells in group.rows]
            yield from _table(["Model", *table.full_names], rows)


def _cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.is_best else cell.text
    return f"{text} ({cell.count})" if cell.count else text


def _protocols(report: Report) -> Iterator[str]:
    models, rows = protocol_table(report.protocols)
    if not rows:
        return
    yield from ("## By named protocols", "")
    cells = [[f"`{row.name}`, {row.metric}", *map(_cell, row.cells)] for row in rows]
    yield from _table(["Protocol", *models], cells)
    yield from [f"- `{row.name}`: {in_markdown(row.sentence)} {row.counts}." for row in rows]
    yield ""


def _seeds(seeds: Mapping[str, Any]) -> Iterator[str]:
    if not seeds:
        return
    spreads = seeds["models"]
    yield from (f"## Seeds {', '.join(map(str, seeds['seeds']))}: mean and standard deviation", "")
    cells = [
        [SCORES.get(key, key), *(f"{score(own[key]['mean'])} ± {score(own[key]['std'])}" for own in spreads.values())]
        for key in next(iter(spreads.values()))
    ]
    yield from _table(["Score", *spreads], cells)


def _numbers(models: Mapping[str, ModelResult]) -> Iterator[str]:
    yield from ("## The numbers", "")
    head = ["Metric", *[f"{name}, {scope}" for scope in ("windows", "videos") for name in models]]
    rows = []
    for row in metric_rows(models):
        numbers = [(score(cell["value"], row["digits"]), cell["is_best"]) for cell in row["cells"]]
        rows.append([row["name"], *[f"**{text}**" if is_best else text for text, is_best in numbers]])
    yield from _table(head, rows)


def _labels(rows: Sequence[Mapping[str, Any]], chosen: str, model: ModelResult) -> Iterator[str]:
    yield from (f"## Every label, `{chosen}`", "")
    head = ["Label", "Windows", "Videos", "AP", "P", "R", "F1"]
    head += ["F1, own threshold", "Own threshold", "ECE", "calibrated", "Val windows"]
    cells = []
    for row in rows:
        own = row["models"][chosen]
        counts = [f"{row[key]:,}" if row[key] is not None else "–" for key in ("n_positives", "n_videos")]
        scores = [score(own.get(key)) for key in ("ap", "precision", "recall", "f1", "own_f1")]
        n_val = "–" if row["n_val"] is None else f"{row['n_val']:,}"
        errors = [score(own["ece_before"]), score(own["ece_after"])]
        cells.append([in_markdown(row["name"]), *counts, *scores, score(own.get("threshold"), 2), *errors, n_val])
    yield from _table(head, cells)
    yield (
        f"P, R and F1 at the one threshold, {score(model.metrics.get('threshold'), 2)}: the mean of that F1 is "
        f"macro-F1, {score(model.metrics.get('macro_f1'))}; at each label’s own threshold it is "
        f"{score(model.metrics.get('macro_f1_at_label_thresholds'))}. Val windows chose threshold and calibration."
    )
    yield ""


def _pairs(report: Report, names: Mapping[str, str]) -> Iterator[str]:
    if report.closer.confusions:
        yield from ("## Taken for something else", "")
        head = ["On, and not named", "Named, and not on", "Windows", "of those that miss it", "by chance", "Videos"]
        rows = [
            [names[own.missed], names[own.named], *_counts(own.count, own.num_missed, own.expected, own.num_videos)]
            for own in report.closer.confusions
        ]
        yield from _table(head, rows, texts=2)
    if report.closer.together:
        yield from ("## Found together", "")
        head = ["Label", "And", "Windows named together", "truly together", "by chance", "Videos"]
        rows = [
            [names[own.first], names[own.second], *_counts(own.named, own.true, own.expected, own.num_videos)]
            for own in report.closer.together
        ]
        yield from _table(head, rows, texts=2)


def _counts(*numbers: float) -> list[str]:
    return [score(number, 1) if isinstance(number, float) else f"{number}" for number in numbers]


def _data(report: Report) -> Iterator[str]:
    yield from ("## Which split chose what", "")
    own = choices(report.splits, num_val_recordings=report.num_val_recordings)
    yield from _table(["Chosen", "On", "Which is"], own, texts=3)
    yield from ("## The data", "")
    reasons = dropped_reasons(report.splits)
    rows = [
        [split.name, f"{split.num_videos:,}", f"{split.num_windows:,}", f"{split.num_subjects:,}"]
        + [f"{split.dropped.get(reason, 0):,}" for reason in reasons]
        for split in report.splits
    ]
    yield from _table(["Split", "Videos", "Windows", "People", *reasons], rows)
    yield f"{len(report.failed)} could not be read." if report.failed else "Every video could be read."
    yield ""
    if report.failed:
        reasons_failed = Counter(video.reason for video in report.failed)
        yield from _table(["Why", "Videos"], [[in_markdown(why), f"{n:,}"] for why, n in reasons_failed.most_common()])
    for key, value in report.provenance.items():
        yield f"- {in_markdown(key)}: {in_markdown(value)}"

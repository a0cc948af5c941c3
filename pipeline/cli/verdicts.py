"""`diary verdicts`: how often a diary is right, by what people said of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.stage import logging_to_stderr, one_line_errors

if TYPE_CHECKING:
    from reports.metrics.intervals import Interval
    from reports.review.verdicts import Verdicts

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


class NothingJudged(Exception):
    """Nobody has said anything of these diaries."""


@click.command()
@click.argument("diaries", type=_FOLDER)
@click.option("--json", "json_path", type=_FILE, help="A file for the same numbers, such as a metrics file of DVC.")
@click.option(
    "--precision",
    "wished",
    multiple=True,
    type=click.FloatRange(0, 1, min_open=True),
    default=(0.8, 0.9, 0.95),
    show_default=True,
    help="A wished share of right events, for which the lowest threshold is told; may be given several times.",
)
def verdicts(diaries: Path, json_path: Path | None, wished: tuple[float, ...]) -> None:
    """Say how often DIARIES are right and how much they miss, by the answers in DIARIES/corrections.jsonl.

    All numbers are of the model whose events were judged last, with 95% intervals.
    """
    with logging_to_stderr(), one_line_errors():
        from features.files import private_files, write_json
        from pipeline.diaries.failure import printable
        from pipeline.diaries.output import CORRECTIONS
        from reports.corrections import read_corrections
        from reports.review.verdicts import verdicts as verdicts_of

        if not diaries.is_dir():
            raise NothingJudged(f"{diaries}: there is no such folder; name the one of `diary write -o`")
        corrections = read_corrections(diaries / CORRECTIONS)
        result = verdicts_of(corrections, wished=wished)
        if not (result.precision.num or result.num_stretches or result.bins):
            raise NothingJudged(
                f"{diaries / CORRECTIONS}: wanted answers to what a diary states, found none; "
                f"judge some with `diary review {diaries}`"
            )
        for line in _lines(result, _names(diaries)):
            click.echo(printable(line))
        if json_path is not None:
            with private_files():
                write_json(json_path, result.to_json())


def _lines(result: Verdicts, names: Mapping[str, str]) -> Iterator[str]:
    if not result.is_sample:
        yield "nothing was drawn at random: the numbers are of the judged events alone"
    share = result.precision
    yield f"right       {_percent(share.interval)}  {share.num_right} of {share.num} judged events"
    if result.num_stretches:
        missed = result.missed
        yield f"recall      {_percent(result.recall)}  {result.num_stretches} stretches without events were judged"
        yield f"missed      {_whole(missed.value)} events ({_whole(missed.low)} to {_whole(missed.high)})"
    else:
        yield "recall      not known: no stretch without events was judged"
    if result.of_label:
        width = max(len(names.get(label, label)) for label in result.of_label)
        yield ""
        yield f"{'label':{width}}  right              judged"
        for label, own in sorted(result.of_label.items(), key=lambda each: -each[1].num):
            yield f"{names.get(label, label):{width}}  {_percent(own.interval)}  {own.num_right} of {own.num}"
    if result.bins:
        yield ""
        yield "probability  mean  right              judged"
        for each in result.bins:
            yield (
                f"{each.low:.1f} to {each.high:.1f}   {each.probability:.2f}  {_percent(each.right.interval)}  "
                f"{each.right.num_right} of {each.right.num}"
            )
        yield ""
        for precision, threshold in result.thresholds.items():
            reached = f"from a probability of {threshold:.3f} on" if threshold is not None else "at no threshold yet"
            yield f"surely {100 * precision:g}% right {reached}"
    for pair in result.agreements:
        kappa = pair.kappa
        told = "not known" if math.isnan(kappa.value) else f"{kappa.value:.2f} ({kappa.low:.2f} to {kappa.high:.2f})"
        yield f"{' and '.join(pair.people)} judged {pair.num} events both: Cohen’s kappa {told}"
    if result.num_other_models:
        yield f"{result.num_other_models} answers are left out: they are on what other models stated"
    if result.num_not_drawn:
        yield f"{result.num_not_drawn} answers are left out: their events were not drawn, but looked up"


def _percent(interval: Interval) -> str:
    if math.isnan(interval.value):
        return f"{'not known':17}"
    return f"{f'{100 * interval.value:.0f}% ({100 * interval.low:.0f} to {100 * interval.high:.0f})':17}"


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _names(diaries: Path) -> dict[str, str]:
    """Names of labels by id, from the events files of the recordings."""
    import json

    names: dict[str, str] = {}
    for path in sorted(diaries.glob("*/events.jsonl")):
        try:
            rows = [json.loads(line) for line in path.read_bytes().splitlines()]
            names |= {row["label"]: row["name"] for row in rows if row["type"] == "event"}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the label's id stands in for its name
    return names

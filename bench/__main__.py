"""`python -m bench [TOPIC…]` measures and writes results/bench, `python -m bench --table` docs/benchmarks.md."""

from __future__ import annotations

import importlib

import click

from bench.table import put_into, table, write
from bench.worlds import ROOT, NothingToMeasure

TOPICS = (
    "extraction",
    "recordings",
    "heads",
    "finetuning",
    "cluster",
    "real_size",
    "reporting",
    "precision",
    "gpu",
    "dvc",
)
RESULTS = ROOT / "results" / "bench"


@click.command()
@click.argument("topics", nargs=-1, type=click.Choice(TOPICS))
@click.option("--table", "only_table", is_flag=True, help="Measure nothing; rewrite the table of docs/benchmarks.md.")
def main(topics: tuple[str, ...], only_table: bool) -> None:
    """Measure TOPICS, or all of them if none is named. Nothing else may run on the machine meanwhile."""
    if only_table:
        if not list(RESULTS.glob("*.json")):
            raise click.ClickException(f"there are no measurements in {RESULTS}: run `python -m bench` first")
        page = ROOT / "docs" / "benchmarks.md"
        text = page.read_text(encoding="utf-8")
        page.write_text(put_into(text, table(RESULTS, TOPICS)), encoding="utf-8")
        return
    for topic in topics or TOPICS:
        try:
            rows = importlib.import_module(f"bench.{topic}").measure()
        except NothingToMeasure as error:
            raise click.ClickException(str(error)) from error
        write(RESULTS, topic, rows)
        for row in rows:
            click.echo(f"{topic}: {row.name}: " + ("not measured" if row.measured is None else f"{row.measured:.3g}"))


if __name__ == "__main__":
    main()

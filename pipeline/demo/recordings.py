"""Long videos of the demo's world with what truly happens in them: `python -m pipeline.demo.recordings`.

Beside each `<name>.mp4` lies `<name>.truth.csv`: start_s, end_s, label, a row for each action.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import click

from features.files import write_csv
from pipeline.demo.film import FPS, Film, render_films

_RECORDINGS = {
    "test/morning": "2026-03-14T08:02:11+01:00",
    "test/evening": "2026-03-14T19:30:00+01:00",
    "test/noon": "2026-03-15T12:10:40+01:00",
    "test/night": "2026-03-15T22:45:03+01:00",
    "val/breakfast": "2026-03-16T07:15:30+01:00",
    "val/lunch": "2026-03-16T13:05:00+01:00",
    "val/tea": "2026-03-17T16:20:12+01:00",
    "val/supper": "2026-03-17T18:40:55+01:00",
}
_AWAY_S = {"test/noon": 20.0, "val/tea": 20.0}
"""For how long the person leaves, and the room stays empty."""
_TRUTH_HEADER = ("start_s", "end_s", "label")


def make_recordings(folder: Path, *, seed: int, length_s: float, num_workers: int) -> None:
    """Make `val/` and `test/` under `folder`: four recordings each, each of another person in another room.

    Nobody of a split of the data set is in them. Rules are tuned on val; test is reported.
    """
    films = [
        replace(
            _film(folder / f"{name}.mp4", seed, kind=3, number=k, length_s=length_s),
            recorded_at=datetime.fromisoformat(start),
            away_s=_AWAY_S.get(name, 0.0),
        )
        for k, (name, start) in enumerate(_RECORDINGS.items())
    ]
    render_with_truth(films, num_workers)


def _film(path: Path, seed: int, *, kind: int, number: int, length_s: float) -> Film:
    """Number `number` of a `kind`, whose seeds no video of the data set has."""
    return Film(
        path,
        seed=(seed, kind, number),
        person_seed=(seed, kind + 1, number),
        length_s=round(length_s * FPS) / FPS,
    )


def render_with_truth(films: Sequence[Film], num_workers: int) -> None:
    for film in films:
        film.path.parent.mkdir(parents=True, exist_ok=True)
    stories = render_films(films, "rendering recordings", num_workers)
    for film, story in zip(films, stories, strict=True):
        rows = [
            (f"{start_s:.2f}", f"{min(end_s, film.length_s):.2f}", label)
            for label, start_s, end_s in sorted(story.actions, key=lambda action: action[1])
        ]
        write_csv(film.path.with_suffix(".truth.csv"), _TRUTH_HEADER, rows)


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", required=True, type=click.IntRange(0), help="Of people, rooms and what they do.")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1), help="Number of recordings.")
@click.option("--length-s", default=180.0, show_default=True, type=click.FloatRange(1), help="Seconds of each.")
def main(out: Path, seed: int, count: int, length_s: float) -> None:
    """Make COUNT recordings, each of another person in another room, and what is true of them, in OUT."""
    first = datetime.fromisoformat(_RECORDINGS["test/morning"])
    films = [
        replace(
            _film(out / f"{k + 1:02}.mp4", seed, kind=5, number=k, length_s=length_s),
            recorded_at=first + timedelta(hours=k),
        )
        for k in range(count)
    ]
    render_with_truth(films, os.cpu_count() or 1)


if __name__ == "__main__":
    main()

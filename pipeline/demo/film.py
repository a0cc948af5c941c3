"""One rendered video: its story, its pictures, its file."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from pipeline.demo.canvas import HEIGHT, WIDTH
from pipeline.demo.render import Renderer
from pipeline.demo.script import make_story
from pipeline.demo.story import Story
from pipeline.demo.world import Person, make_person, make_room

FPS = 10


@dataclass(frozen=True)
class Film:
    """One video to be made: everything that a worker needs to know. `nobody` and `away_s` are those of `make_story`.

    The same `room_seed` gives the same room and camera; without one each film has its own.
    """

    path: Path
    seed: tuple[int, ...]
    person_seed: tuple[int, ...]
    length_s: float
    nobody: bool = False
    away_s: float = 0.0
    room_seed: tuple[int, ...] | None = None
    recorded_at: datetime | None = None


def _story(film: Film) -> Story:
    rng = np.random.default_rng(film.seed)
    person: Person = make_person(np.random.default_rng(film.person_seed))
    room = None if film.room_seed is None else make_room(np.random.default_rng(film.room_seed))
    return make_story(rng, person, film.length_s, room=room, nobody=film.nobody, away_s=film.away_s)


def encode(path: Path, pictures: Iterator[np.ndarray], *, fps: int, recorded_at: datetime | None) -> None:
    """Write pictures (H, W, 3) uint8 as H.264 in MP4, with the recording's start in the metadata where it is known."""
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        if recorded_at is not None:
            # The container's own creation_time is in UTC; phones write the offset beside it under this name.
            container.metadata["com.apple.quicktime.creationdate"] = recorded_at.isoformat()
        stream = container.add_stream("libx264", rate=fps, options={"crf": "24", "preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, fps)
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _make(film: Film) -> Story:
    story = _story(film)
    renderer = Renderer(story, with_kinds=False)
    count = round(film.length_s * FPS)
    pictures: Iterator[np.ndarray]
    if film.nobody:
        pictures = itertools.repeat(renderer.render(0.0)[0], count)
    else:
        pictures = (renderer.render(k / FPS)[0] for k in range(count))
    encode(film.path, pictures, fps=FPS, recorded_at=film.recorded_at)
    return story


def render_films(films: Sequence[Film], description: str, num_workers: int) -> list[Story]:
    """Make each film's file; returns their stories in order.

    Each in a process of its own: what libx264 writes depends, by a grey level now and then, on what its process did
    before. Renderings differ less often so, but not never.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(num_workers, mp_context=context, max_tasks_per_child=1) as pool:
        return list(tqdm(pool.map(_make, films), total=len(films), desc=description, unit="video"))

"""The demo's files: annotations and videos in the official Charades layout, and recordings of a day.

Knows the layout and its quirks. The same arguments give the same annotations, byte for byte.
"""

from __future__ import annotations

import csv
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
from pipeline.demo.world import CLASSES, Person, make_person

FPS = 10
NAMES = {
    "c006": "Closing a door",
    "c008": "Opening a door",
    "c015": "Holding a phone/camera",
    "c016": "Playing with a phone/camera",
    "c017": "Putting a phone/camera somewhere",
    "c018": "Taking a phone/camera from somewhere",
    "c019": "Talking on a phone/camera",
    "c026": "Holding a book",
    "c028": "Putting a book somewhere",
    "c030": "Taking a book from somewhere",
    "c032": "Watching/Reading/Looking at a book",
    "c046": "Closing a laptop",
    "c048": "Opening a laptop",
    "c052": "Working/Playing on a laptop",
    "c059": "Sitting in a chair",
    "c097": "Walking through a doorway",
    "c098": "Holding a broom",
    "c099": "Putting a broom somewhere",
    "c100": "Taking a broom from somewhere",
    "c102": "Tidying up with a broom",
    "c104": "Turning on a light",
    "c105": "Turning off a light",
    "c106": "Drinking from a cup/glass/bottle",
    "c107": "Holding a cup/glass/bottle of something",
    "c109": "Putting a cup/glass/bottle somewhere",
    "c110": "Taking a cup/glass/bottle from somewhere",
    "c122": "Lying on a sofa/couch",
    "c123": "Sitting on sofa/couch",
    "c151": "Someone is going from standing to sitting",
    "c154": "Someone is standing up from somewhere",
}
COLUMNS = (
    "id",
    "subject",
    "scene",
    "quality",
    "relevance",
    "verified",
    "script",
    "objects",
    "descriptions",
    "actions",
    "length",
)
ID_LETTERS = np.array(list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


@dataclass(frozen=True)
class _Video:
    """One video to be made: everything a worker needs to know."""

    path: Path
    seed: tuple[int, ...]
    person_seed: tuple[int, ...]
    length_s: float
    nobody: bool = False
    recorded_at: datetime | None = None


def _story(video: _Video) -> Story:
    rng = np.random.default_rng(video.seed)
    person: Person = make_person(np.random.default_rng(video.person_seed))
    return make_story(rng, person, video.length_s, nobody=video.nobody)


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


def _make(video: _Video) -> Story:
    story = _story(video)
    renderer = Renderer(story, with_kinds=False)
    times = np.arange(round(video.length_s * FPS)) / FPS
    pictures = (renderer.render(float(time_s))[0] for time_s in times)
    encode(video.path, pictures, fps=FPS, recorded_at=video.recorded_at)
    return story


def _make_all(videos: Sequence[_Video], description: str, num_workers: int) -> list[Story]:
    with ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(tqdm(pool.map(_make, videos, chunksize=4), total=len(videos), desc=description, unit="video"))


def _actions_column(story: Story, *, reverse_first: bool) -> str:
    texts = []
    for k, (label, start_s, end_s) in enumerate(story.actions):
        pair = (end_s, start_s) if reverse_first and k == 0 else (start_s, min(end_s, story.length_s + 1.5))
        texts.append(f"{label} {pair[0]:.2f} {pair[1]:.2f}")
    return ";".join(texts)


def _row(video_id: str, subject: str, story: Story, rng: np.random.Generator, *, reverse_first: bool) -> list[str]:
    done = [NAMES[label].lower() for label, _, _ in sorted(story.actions, key=lambda action: action[1])]
    scene = "Home Office / Study (A room in a house used for work)" if story.room.kind == "study" else "Living room"
    objects = ";".join(sorted(story.room.things)) if story.room.kind == "study" else ""
    return [
        video_id,
        subject,
        scene,
        str(rng.integers(4, 8)) if rng.random() < 0.9 else "",
        str(rng.integers(5, 8)) if rng.random() < 0.9 else "",
        "Yes",
        f"A person in a {story.room.kind}.",
        objects,
        "; ".join(done) or "An empty room.",
        _actions_column(story, reverse_first=reverse_first),
        f"{story.length_s:.2f}",
    ]


def make_dataset(
    folder: Path,
    *,
    seed: int,
    num_videos: dict[str, int],
    num_subjects: dict[str, int],
    mean_length_s: float,
    num_workers: int,
) -> None:
    """Make `Charades/*.csv`, `Charades_v1_classes.txt` and `Charades_v1_480/*.mp4` under `folder`.

    `num_videos` and `num_subjects` have the keys "train" and "test"; no subject is in both. Among the training videos
    are the quirks of the real data set: one without anybody in it, two shorter than two seconds, one whose first
    interval is reversed, one file cut off in the middle, intervals that end after the video, empty columns.
    """
    annotations, videos_dir = folder / "Charades", folder / "Charades_v1_480"
    annotations.mkdir(parents=True, exist_ok=True)
    videos_dir.mkdir(exist_ok=True)
    classes = "".join(f"{label} {NAMES[label]}\n" for label in sorted(CLASSES.values()))
    (annotations / "Charades_v1_classes.txt").write_text(classes, encoding="utf-8")
    rng = np.random.default_rng([seed, 0])
    taken: set[str] = set()
    for split_number, split in enumerate(("train", "test")):
        videos, ids, subjects = [], [], []
        for k in range(num_videos[split]):
            while (video_id := "".join(rng.choice(ID_LETTERS, 5))) in taken:
                pass
            taken.add(video_id)
            subject = int(rng.integers(num_subjects[split])) if k >= num_subjects[split] else k
            length_s = float(rng.uniform(0.6, 1.4)) * mean_length_s
            if split == "train" and k in (1, 2):
                length_s = 1.2 + 0.3 * k
            ids.append(video_id)
            subjects.append(f"{split_number}{subject:03d}")
            videos.append(
                _Video(
                    videos_dir / f"{video_id}.mp4",
                    seed=(seed, 1, split_number, k),
                    person_seed=(seed, 2, split_number, subject),
                    length_s=round(length_s * FPS) / FPS,
                    nobody=split == "train" and k == 0,
                )
            )
        stories = _make_all(videos, f"rendering {split} videos", num_workers)
        with (annotations / f"Charades_v1_{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for k, story in enumerate(stories):
                reverse = split == "train" and k == 3
                writer.writerow(_row(ids[k], subjects[k], story, rng, reverse_first=reverse))
        if split == "train":
            cut_off = videos[4].path
            cut_off.write_bytes(cut_off.read_bytes()[: cut_off.stat().st_size * 6 // 10])


def make_recordings(folder: Path, *, seed: int, length_s: float, num_workers: int) -> None:
    """Make two longer videos of one day under `folder`, of somebody and rooms that no split has."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = {
        "morning": datetime.fromisoformat("2026-03-14T08:02:11+01:00"),
        "evening": datetime.fromisoformat("2026-03-14T19:30:00+01:00"),
    }
    videos = [
        _Video(
            folder / f"{name}.mp4",
            seed=(seed, 3, k),
            person_seed=(seed, 4),
            length_s=length_s * (1 + 0.15 * k),
            recorded_at=recorded_at,
        )
        for k, (name, recorded_at) in enumerate(starts.items())
    ]
    _make_all(videos, "rendering recordings", num_workers)

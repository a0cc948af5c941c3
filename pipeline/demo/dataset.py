"""The demo's data set: annotations and videos in the official Charades layout. Knows the layout and its quirks.

The same arguments give the same annotations, byte for byte.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from pipeline.demo.film import FPS, Film, render_films
from pipeline.demo.story import Story
from pipeline.demo.world import CLASSES

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
_AWAY_S = 5.0
ID_LETTERS = np.array(list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


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

    `num_videos` and `num_subjects` have the keys "train" and "test"; no subject is in both. In every tenth video
    nobody is in the room, and in every twentieth somebody leaves for a while. Among the training videos are the
    quirks of the real data set: one without anybody in it, two shorter than two seconds, one whose first interval is
    reversed, one file cut off in the middle, intervals that end after the video, empty columns.
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
                Film(
                    videos_dir / f"{video_id}.mp4",
                    seed=(seed, 1, split_number, k),
                    person_seed=(seed, 2, split_number, subject),
                    length_s=round(length_s * FPS) / FPS,
                    nobody=k % 10 == 8 or (split == "train" and k == 0),
                    away_s=_AWAY_S if k % 20 == 15 else 0.0,
                )
            )
        stories = render_films(videos, f"rendering {split} videos", num_workers)
        with (annotations / f"Charades_v1_{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for k, story in enumerate(stories):
                reverse = split == "train" and k == 3
                writer.writerow(_row(ids[k], subjects[k], story, rng, reverse_first=reverse))
        if split == "train":
            cut_off = videos[4].path
            cut_off.write_bytes(cut_off.read_bytes()[: cut_off.stat().st_size * 6 // 10])

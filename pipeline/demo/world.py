"""A person's day in a room, as numbers: who, where, and a script of actions. Knows no pixels and no files.

Lengths are in units of a 320 x 240 picture before the camera moves; times are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]
Colour = tuple[int, int, int]

GROUND_Y = 212.0
DOOR_X, SWITCH, LAMP = 86.0, (120.0, 124.0), (168.0, 34.0)
REACH = 34.0  # how far from a thing somebody stands who takes it

# Charades classes, by what the script calls them. Pairs that differ only in their order stand on one line.
CLASSES = {
    "close door": "c006",
    "open door": "c008",
    "take phone": "c018",
    "put phone": "c017",
    "take cup": "c110",
    "put cup": "c109",
    "take book": "c030",
    "put book": "c028",
    "take broom": "c100",
    "put broom": "c099",
    "open laptop": "c048",
    "close laptop": "c046",
    "light on": "c104",
    "light off": "c105",
    "sit down": "c151",
    "stand up": "c154",
    "hold phone": "c015",
    "talk on phone": "c019",
    "play with phone": "c016",
    "hold cup": "c107",
    "drink": "c106",
    "hold book": "c026",
    "read": "c032",
    "hold broom": "c098",
    "sweep": "c102",
    "work on laptop": "c052",
    "walk through doorway": "c097",
    "sit in chair": "c059",
    "sit on sofa": "c123",
    "lie on sofa": "c122",
}
USES = {"phone": ("talk on phone", "play with phone"), "cup": ("drink",), "book": ("read",), "broom": ("sweep",)}


@dataclass(frozen=True)
class Person:
    """How somebody looks; `size` scales their height, 1.0 is 140 units."""

    skin: Colour
    hair: Colour
    shirt: Colour
    trousers: Colour
    long_hair: bool
    size: float


@dataclass(frozen=True)
class Room:
    """A room and the camera in it. `things` says where each thing lies when nobody holds it."""

    kind: str  # "study" (chair, table, laptop) or "living room" (sofa)
    wall: Colour
    floor: Colour
    accent: Colour
    wood: Colour
    fabric: Colour
    mirrored: bool
    zoom: float
    pan: Point
    things: dict[str, Point]
    seat: Point
    facing: int  # where somebody on the seat looks: 1 right, -1 left


def hue(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    """A random colour of any hue, saturation and value (0 to 1) within the ranges."""
    h, s, v = rng.uniform(0, 6), rng.uniform(*saturation), rng.uniform(*value)
    return tuple(int(255 * (v - v * s * max(0.0, min(1.0, abs((h + k) % 6 - 3) - 1)))) for k in (3, 1, 5))  # type: ignore[return-value]


def make_person(rng: np.random.Generator) -> Person:
    skins = [(244, 208, 177), (224, 172, 125), (188, 128, 86), (140, 90, 60), (98, 62, 44)]
    hairs = [(40, 30, 28), (92, 58, 34), (190, 140, 70), (120, 120, 124), (150, 66, 36)]
    return Person(
        skin=skins[rng.integers(5)],
        hair=hairs[rng.integers(5)],
        shirt=hue(rng, (0.35, 0.8), (0.45, 0.95)),
        trousers=hue(rng, (0.1, 0.5), (0.2, 0.5)),
        long_hair=bool(rng.integers(2)),
        size=float(rng.uniform(0.93, 1.07)),
    )


def make_room(rng: np.random.Generator) -> Room:
    study = bool(rng.integers(2))
    jitter = rng.uniform(-4, 4, size=4)
    things: dict[str, Point]
    if study:
        things = {"phone": (206 + jitter[0], 149), "laptop": (229.0, 150), "cup": (252 + jitter[1], 149)}
        things |= {"book": (196 + jitter[2], 104), "broom": (143 + jitter[3], 205)}
    else:
        things = {"phone": (143 + jitter[0], 160), "cup": (155 + jitter[1], 160)}
        things |= {"book": (188 + jitter[2], 104), "broom": (256 + jitter[3], 205)}
    return Room(
        kind="study" if study else "living room",
        wall=hue(rng, (0.05, 0.3), (0.78, 0.95)),
        floor=hue(rng, (0.15, 0.4), (0.45, 0.7)),
        accent=hue(rng, (0.3, 0.7), (0.5, 0.9)),
        wood=[(150, 104, 66), (118, 80, 54), (186, 146, 104), (205, 200, 190)][rng.integers(4)],
        fabric=hue(rng, (0.25, 0.6), (0.4, 0.75)),
        mirrored=bool(rng.integers(2)),
        zoom=float(rng.uniform(0.97, 1.08)),
        pan=(float(rng.uniform(-6, 6)), float(rng.uniform(-5, 3))),
        things=things,
        seat=(172.0, 170.0) if study else (205.0, 174.0),
        facing=1 if study else -1,
    )

"""A person's day in a room, as numbers: who, where, and a script of actions. Knows no pixels and no files.

Lengths are in units of a 320 x 240 picture before the camera moves; times are in seconds.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

Point = tuple[float, float]
Colour = tuple[int, int, int]

GROUND_Y = 212.0
DOOR_X, SWITCH, LAMP = 86.0, (120.0, 124.0), (168.0, 34.0)
REACH = 34.0  # how far from a thing somebody stands who takes it

# Charades classes, by what the script calls them. Pairs that differ only in their order stand on one line.
CLASSES = {
    "close door": "c006", "open door": "c008",
    "take phone": "c018", "put phone": "c017",
    "take cup": "c110", "put cup": "c109",
    "take book": "c030", "put book": "c028",
    "take broom": "c100", "put broom": "c099",
    "open laptop": "c048", "close laptop": "c046",
    "light on": "c104", "light off": "c105",
    "sit down": "c151", "stand up": "c154",
    "hold phone": "c015", "talk on phone": "c019", "play with phone": "c016",
    "hold cup": "c107", "drink": "c106",
    "hold book": "c026", "read": "c032",
    "hold broom": "c098", "sweep": "c102",
    "work on laptop": "c052",
    "walk through doorway": "c097",
    "sit in chair": "c059", "sit on sofa": "c123", "lie on sofa": "c122",
}  # fmt: skip
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


class Track:
    """A number over time, moved by eased steps; constant before the first and after the last."""

    def __init__(self, value: float) -> None:
        self._starts: list[float] = []
        self._moves: list[tuple[float, float, float, float]] = []
        self._initial = self.value = value

    def move(self, start_s: float, end_s: float, value: float) -> None:
        self._starts.append(start_s)
        self._moves.append((start_s, end_s, self.value, value))
        self.value = value

    def at(self, time_s: float) -> float:
        k = bisect.bisect_right(self._starts, time_s) - 1
        if k < 0:
            return self._initial
        start_s, end_s, before, after = self._moves[k]
        if time_s >= end_s:
            return after
        share = (time_s - start_s) / (end_s - start_s)
        return before + (after - before) * share * share * (3 - 2 * share)


class Choice:
    """A word over time, with how far the change to it has come: ("rest", "reach", 0.3)."""

    def __init__(self, value: str) -> None:
        self._changes: list[tuple[float, float, str, str]] = [(-2.0, -1.0, value, value)]
        self.value = value

    def change(self, start_s: float, end_s: float, value: str) -> None:
        self._changes.append((start_s, end_s, self.value, value))
        self.value = value

    def at(self, time_s: float) -> tuple[str, str, float]:
        k = bisect.bisect_right(self._changes, (time_s, math.inf, "", "")) - 1
        start_s, end_s, before, after = self._changes[max(k, 0)]
        share = min(1.0, max(0.0, (time_s - start_s) / (end_s - start_s)))
        return before, after, share * share * (3 - 2 * share)


@dataclass
class Story:
    """What happens in one video: tracks to render it by, and `actions` as (class id, start_s, end_s)."""

    person: Person
    room: Room
    length_s: float
    actions: list[tuple[str, float, float]] = field(default_factory=list)
    x: Track = field(default_factory=lambda: Track(130.0))
    facing: Track = field(default_factory=lambda: Track(1.0))
    sit: Track = field(default_factory=lambda: Track(0.0))
    lie: Track = field(default_factory=lambda: Track(0.0))
    depth: Track = field(default_factory=lambda: Track(0.0))  # 1: behind the doorway
    door: Track = field(default_factory=lambda: Track(0.0))  # 1: open
    light: Track = field(default_factory=lambda: Track(1.0))  # 1: on
    lid: Track = field(default_factory=lambda: Track(0.0))  # 1: the laptop is open
    hand: Choice = field(default_factory=lambda: Choice("rest"))
    held: Choice = field(default_factory=lambda: Choice(""))


class _Script:
    """Writes a `Story` action by action; each method is one thing that a person does, and advances the clock."""

    def __init__(self, rng: np.random.Generator, story: Story) -> None:
        self.rng = rng
        self.story = story
        self.now_s = 0.0
        self.begun: dict[str, float] = {}

    def lasts(self, low_s: float, high_s: float) -> float:
        return float(self.rng.uniform(low_s, high_s))

    def begin(self, what: str) -> None:
        self.begun[what] = self.now_s

    def end(self, what: str) -> None:
        self.story.actions.append((CLASSES[what], self.begun.pop(what), self.now_s))

    def act(self, what: str, move: Callable[[float, float], None], seconds: tuple[float, float] = (1.2, 1.8)) -> None:
        """One short action: `move` lays its tracks between two times."""
        start_s, self.now_s = self.now_s, self.now_s + self.lasts(*seconds)
        move(start_s, self.now_s)
        self.story.actions.append((CLASSES[what], start_s, self.now_s))

    def wait(self, low_s: float = 0.2, high_s: float = 0.8) -> None:
        self.now_s += self.lasts(low_s, high_s)

    def carry_pose(self) -> str:
        return "carry" if self.story.held.value else "rest"

    def walk_to(self, x: float, look: int | None = None) -> None:
        story = self.story
        if abs(x - story.x.value) > 4:
            direction = math.copysign(1.0, x - story.x.value)
            story.facing.move(self.now_s, self.now_s + 0.15, direction)
            end_s = self.now_s + abs(x - story.x.value) / 85
            story.x.move(self.now_s, end_s, x)
            self.now_s = end_s
        if look is not None and story.facing.value != look:
            story.facing.move(self.now_s, self.now_s + 0.15, look)
            self.now_s += 0.15

    def reach(self, start_s: float, end_s: float, target: str, after: str) -> float:
        """The hand goes to `target` and comes back; returns when it touches."""
        touch_s = start_s + (end_s - start_s) * 0.5
        self.story.hand.change(start_s, touch_s, target)
        self.story.hand.change(touch_s, end_s, after)
        return touch_s

    def stand_at(self, place: Point) -> None:
        """Walk to where the hand reaches `place`; who sits stays and leans."""
        if self.story.sit.value > 0.5:
            return
        side = -1 if place[0] > 112 else 1
        self.walk_to(place[0] + side * REACH * 0.8, look=-side)

    def toggle_door(self) -> None:
        opened = self.story.door.value > 0.5
        self.stand_at((DOOR_X + 16, 0))

        def move(start_s: float, end_s: float) -> None:
            self.story.hand.change(start_s, start_s + 0.3, "door")
            self.story.door.move(start_s + 0.25, end_s - 0.2, 0.0 if opened else 1.0)
            self.story.hand.change(end_s - 0.25, end_s, self.carry_pose())

        self.act("close door" if opened else "open door", move)

    def toggle_light(self) -> None:
        lit = self.story.light.value > 0.5
        self.stand_at(SWITCH)

        def move(start_s: float, end_s: float) -> None:
            touch_s = self.reach(start_s, end_s, "switch", self.carry_pose())
            self.story.light.move(touch_s, touch_s + 0.08, 0.0 if lit else 1.0)

        self.act("light off" if lit else "light on", move, (1.1, 1.6))

    def take(self, thing: str) -> None:
        self.stand_at(self.story.room.things[thing])

        def move(start_s: float, end_s: float) -> None:
            touch_s = self.reach(start_s, end_s, thing, "carry")
            self.story.held.change(touch_s, touch_s + 1e-3, thing)
            self.begun[f"hold {thing}"] = touch_s

        self.act(f"take {thing}", move)

    def put(self) -> None:
        thing = self.story.held.value
        self.stand_at(self.story.room.things[thing])

        def move(start_s: float, end_s: float) -> None:
            touch_s = self.reach(start_s, end_s, thing, "rest")
            self.story.held.change(touch_s, touch_s + 1e-3, "")
            self.story.actions.append((CLASSES[f"hold {thing}"], self.begun.pop(f"hold {thing}"), touch_s))

        self.act(f"put {thing}", move)

    def use(self, what: str) -> None:
        def move(start_s: float, end_s: float) -> None:
            self.story.hand.change(start_s, start_s + 0.4, what)
            self.story.hand.change(end_s - 0.4, end_s, "carry")

        self.act(what, move, (2.5, 5.0))

    def sit_down(self) -> None:
        story = self.story
        self.walk_to(story.room.seat[0], look=story.room.facing)
        self.act("sit down", lambda start_s, end_s: story.sit.move(start_s, end_s, 1.0), (1.0, 1.5))
        self.begin("sit in chair" if story.room.kind == "study" else "sit on sofa")

    def stand_up(self) -> None:
        self.end("sit in chair" if self.story.room.kind == "study" else "sit on sofa")
        self.act("stand up", lambda start_s, end_s: self.story.sit.move(start_s, end_s, 0.0), (1.0, 1.5))

    def lie_and_rise(self) -> None:
        self.end("sit on sofa")
        self.story.lie.move(self.now_s, self.now_s + 1.2, 1.0)
        self.begin("lie on sofa")
        self.wait(3.5, 6.0)
        self.end("lie on sofa")
        self.story.lie.move(self.now_s, self.now_s + 1.2, 0.0)
        self.now_s += 1.2
        self.begin("sit on sofa")

    def toggle_laptop(self) -> None:
        opened = self.story.lid.value > 0.5

        def move(start_s: float, end_s: float) -> None:
            self.story.hand.change(start_s, start_s + 0.35, "lid")
            self.story.lid.move(start_s + 0.3, end_s - 0.3, 0.0 if opened else 1.0)
            self.story.hand.change(end_s - 0.35, end_s, self.carry_pose())

        self.act("close laptop" if opened else "open laptop", move)

    def work(self) -> None:
        def move(start_s: float, end_s: float) -> None:
            self.story.hand.change(start_s, start_s + 0.4, "keys")
            self.story.hand.change(end_s - 0.4, end_s, "rest")

        self.act("work on laptop", move, (2.5, 5.0))

    def pass_doorway(self) -> None:
        """Out through the open door, or back in."""
        leaves = self.story.depth.value < 0.5
        if leaves:
            self.walk_to(DOOR_X)
        self.act(
            "walk through doorway",
            lambda start_s, end_s: self.story.depth.move(start_s, end_s, 1.0 if leaves else 0.0),
            (1.3, 1.9),
        )
        self.wait(0.5, 1.5)

    def choices(self) -> list[tuple[float, Callable[[], None]]]:
        """What the person can do next, with weights."""
        story, things = self.story, self.story.room.things
        held, seated, study = story.held.value, story.sit.value > 0.5, story.room.kind == "study"
        if story.depth.value > 0.5:
            return [(1.0, self.pass_doorway)]
        options: list[tuple[float, Callable[[], None]]] = []
        if held:
            options += [(2.2, partial(self.use, what)) for what in USES[held] if what != "sweep" or not seated]
        if seated:
            options.append((1.4, self.stand_up))
            if study and not held:
                options.append((2.5, self.toggle_laptop))
                options.append((5.0 if story.lid.value > 0.5 else 0.0, self.work))
            if not study:
                options.append((0.9 if not held else 0.3, self.lie_and_rise))
        else:
            options.append((1.2 if held != "broom" else 0.0, self.sit_down))
            options += [(1.3, self.toggle_door), (1.3, self.toggle_light)]
            options.append((1.2 if story.door.value > 0.5 else 0.0, self.pass_doorway))
        near = [thing for thing in ("phone", "cup", "book", "broom") if not seated or self._within_reach(things[thing])]
        if not held:
            options += [(1.0, partial(self.take, thing)) for thing in near]
        elif held in near:
            options.append((1.6, self.put))
        return [(weight, do) for weight, do in options if weight > 0]

    def _within_reach(self, place: Point) -> bool:
        seat_x, seat_y = self.story.room.seat
        ahead = (place[0] - seat_x) * self.story.room.facing
        return 0 < ahead < 66 and abs(place[1] - seat_y) < 40


def make_story(rng: np.random.Generator, person: Person, length_s: float, *, nobody: bool = False) -> Story:
    """A new room and a script of about `length_s` for a person; every interval lies in [0, the story's own time).

    Intervals are not cut at `length_s`: what is still going on ends after it, as annotators' intervals do. With
    `nobody` the room stays empty and nothing happens.
    """
    story = Story(person, make_room(rng), length_s)
    story.door = Track(float(rng.integers(2)))
    story.light = Track(float(rng.random() < 0.65))
    story.lid = Track(float(rng.integers(2)))
    story.x = Track(float(rng.uniform(112, 232)))
    story.facing = Track(float(rng.choice([-1, 1])))
    if nobody:
        story.x, story.depth, story.door = Track(-400.0), Track(1.0), Track(0.0)
        return story
    script = _Script(rng, story)
    begins = rng.random()
    if begins < 0.3:  # already seated
        story.x, story.sit, story.facing = Track(story.room.seat[0]), Track(1.0), Track(float(story.room.facing))
        script.begin("sit in chair" if story.room.kind == "study" else "sit on sofa")
    elif begins < 0.45:  # about to come in
        story.x, story.depth, story.door = Track(DOOR_X), Track(1.0), Track(1.0)
    if (begins >= 0.15 and begins < 0.3) or begins > 0.75:  # something already in hand
        thing = str(rng.choice(["phone", "cup", "book"]))
        story.held, story.hand = Choice(thing), Choice("carry")
        script.begin(f"hold {thing}")
    script.wait()
    while script.now_s < length_s:
        options = script.choices()
        weights = np.array([weight for weight, _ in options])
        options[rng.choice(len(options), p=weights / weights.sum())][1]()
        script.wait()
    for what in list(script.begun):
        script.end(what)
    story.actions = sorted((c, s, e) for c, s, e in story.actions if s < length_s - 0.3)
    return story

"""A story, written action by action: what a person does in a room."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from pipeline.demo.story import Choice, Story, Track
from pipeline.demo.world import CLASSES, DOOR_X, REACH, SWITCH, USES, Person, Point, Room, make_room


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

    def stand_idle(self) -> None:
        """Nothing that has a label: who only stands there is told as nothing."""
        self.wait(2.0, 4.0)

    def leave_for(self, away_s: float) -> None:
        """Put down what is held, go out, and come back after `away_s`, in which the room is empty."""
        if self.story.sit.value > 0.5:
            self.stand_up()
        if self.story.held.value:
            self.put()
        if self.story.door.value < 0.5:
            self.toggle_door()
        self.pass_doorway()
        self.walk_to(DOOR_X - 80)  # behind the wall
        self.wait(away_s, away_s)
        self.walk_to(DOOR_X)
        self.pass_doorway()

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
            options.append((0.0 if seated else 0.6, self.stand_idle))
        elif held in near:
            options.append((1.6, self.put))
        return [(weight, do) for weight, do in options if weight > 0]

    def _within_reach(self, place: Point) -> bool:
        seat_x, seat_y = self.story.room.seat
        ahead = (place[0] - seat_x) * self.story.room.facing
        return 0 < ahead < 66 and abs(place[1] - seat_y) < 40


def make_story(
    rng: np.random.Generator,
    person: Person,
    length_s: float,
    *,
    room: Room | None = None,
    nobody: bool = False,
    away_s: float = 0.0,
) -> Story:
    """A script of about `length_s` for a person in a `room`, or in a new one.

    Every interval lies in [0, the story's own time). It is not cut at `length_s`: what is still going on ends after it,
    as annotators' intervals do. With `nobody` the room stays empty and nothing happens; after a third of the time it is
    empty for `away_s`.
    """
    story = Story(person, room or make_room(rng), length_s)
    story.door = Track(float(rng.integers(2)))
    story.light = Track(float(rng.random() < 0.65))
    story.lid = Track(float(rng.integers(2)))
    story.x = Track(float(rng.uniform(112, 232)))
    story.facing = Track(float(rng.choice([-1, 1])))
    if nobody:
        story.x, story.depth = Track(-400.0), Track(1.0)  # far from the doorway, which may be open
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
        if away_s and script.now_s >= length_s / 3 and story.depth.value < 0.5:
            script.leave_for(away_s)
            away_s = 0.0
        options = script.choices()
        weights = np.array([weight for weight, _ in options])
        options[rng.choice(len(options), p=weights / weights.sum())][1]()
        script.wait()
    for what in list(script.begun):
        script.end(what)
    story.actions = sorted((c, s, e) for c, s, e in story.actions if s < length_s - 0.3)
    return story

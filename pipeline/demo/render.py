"""From a `Story` to pictures, and to a map of what each pixel shows. Knows Pillow; knows no files and no labels.

Everything is drawn at twice the size and reduced, which is Pillow's way to smooth edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from pipeline.demo.canvas import HEIGHT, SCALE, WIDTH, Canvas, shade
from pipeline.demo.story import Story
from pipeline.demo.world import DOOR_X, GROUND_Y, LAMP, SWITCH, Point


def bend(start: Point, target: Point, upper: float, lower: float, side: float) -> tuple[Point, Point]:
    """Two-bone inverse kinematics: the joint and the end of a limb that reaches from `start` towards `target`."""
    dx, dy = target[0] - start[0], target[1] - start[1]
    distance = min(max(math.hypot(dx, dy), abs(upper - lower) + 1e-3, 1e-3), upper + lower - 1e-3)
    angle = math.atan2(dy, dx)
    cosine = (upper**2 + distance**2 - lower**2) / (2 * upper * distance)
    inner = math.acos(max(-1.0, min(1.0, cosine))) * side
    joint = (start[0] + upper * math.cos(angle + inner), start[1] + upper * math.sin(angle + inner))
    return joint, (start[0] + distance * math.cos(angle), start[1] + distance * math.sin(angle))


@dataclass(frozen=True)
class _Body:
    """A skeleton in room units: where each joint is."""

    hip: Point
    shoulder: Point
    head: Point
    feet: tuple[Point, Point]
    facing: float
    size: float


def _body(story: Story, time_s: float) -> _Body:
    x, sit, lie, depth = (track.at(time_s) for track in (story.x, story.sit, story.lie, story.depth))
    facing = story.facing.at(time_s)
    side = math.copysign(1.0, facing)
    size = story.person.size * (1 - 0.14 * depth)
    ground = GROUND_Y - 24 * depth
    speed = (story.x.at(time_s + 0.05) - story.x.at(time_s - 0.05)) / 0.1
    pace = min(1.0, abs(speed) / 60 + (2.0 if 0.02 < depth < 0.98 else 0.0))
    phase = 2 * math.pi * (x / 46 + time_s * (1.6 if 0.02 < depth < 0.98 else 0.0))
    swing = math.sin(phase) * 15 * pace
    hip_y = ground - 68 * size + abs(math.cos(phase)) * 3 * pace
    seat_x, seat_y = story.room.seat
    hip = (x + (seat_x - x) * sit, hip_y + (seat_y - hip_y) * sit)
    feet = []
    for sign in (1.0, -1.0):
        stand = (x + sign * swing + sign * 3, ground - max(0.0, sign * math.cos(phase)) * 6 * pace)
        seated = (seat_x + side * (27 + 5 * sign), GROUND_Y - 2)
        lying = (seat_x + side * (62 + 2 * sign), seat_y - 4 + 2 * sign)
        blend = (stand[0] + (seated[0] - stand[0]) * sit, stand[1] + (seated[1] - stand[1]) * sit)
        feet.append((blend[0] + (lying[0] - blend[0]) * lie, blend[1] + (lying[1] - blend[1]) * lie))
    # Whoever sits down or stands up leans forward on the way; whoever lies leans back flat.
    lean = side * (0.05 + 0.45 * math.sin(math.pi * sit) + 0.10 * sit) - side * 1.45 * lie
    hand_before, hand_after, share = story.hand.at(time_s)
    reaching = {"rest": 0.0, "carry": 0.0}
    lean += (
        side * 0.3 * (1 - lie) * (reaching.get(hand_before, 0.5) * (1 - share) + reaching.get(hand_after, 0.5) * share)
    )
    torso = 46 * size
    shoulder = (hip[0] + torso * math.sin(lean), hip[1] - torso * math.cos(lean))
    head = (hip[0] + (torso + 19 * size) * math.sin(lean), hip[1] - (torso + 19 * size) * math.cos(lean))
    return _Body(hip, shoulder, head, (feet[0], feet[1]), side, size)


def _hand_at(story: Story, body: _Body, name: str, time_s: float) -> Point:
    """Where the hand is that does `name`."""
    f, (sx, sy), (hx, hy) = body.facing, body.shoulder, body.head
    wiggle = math.sin(time_s * 11)
    match name:
        case "rest":
            speed = abs(story.x.at(time_s + 0.05) - story.x.at(time_s - 0.05)) / 0.1
            return (sx + f * (4 + 10 * math.sin(story.x.at(time_s) / 46 * 2 * math.pi) * min(1, speed / 60)), sy + 46)
        case "carry":
            return (sx + f * 24, sy + 26)
        case "talk on phone":
            return (hx + f * 3, hy + 3)
        case "play with phone":
            return (sx + f * 27, sy + 10 + wiggle)
        case "drink":
            return (hx + f * 13, hy + 5 + 1.5 * math.sin(time_s * 4))
        case "read":
            return (sx + f * 28, sy + 4)
        case "sweep":
            return (sx + f * (24 + 9 * math.sin(time_s * 5.5)), sy + 34)
        case "keys":
            lx, ly = story.room.things["laptop"]
            return (lx - 12 + 2.5 * wiggle, ly - 4 - abs(wiggle))
        case "lid":
            lx, ly = story.room.things["laptop"]
            lid = story.lid.at(time_s)
            return (lx + 6 - 14 * (1 - lid), ly - 6 - 20 * lid)
        case "door":
            return (DOOR_X + 16 - 24 * story.door.at(time_s), 132.0)
        case "switch":
            return SWITCH
        case _:
            x, y = story.room.things[name]
            return (x, y - (5 if name != "broom" else 70))


def _thing(canvas: Canvas, name: str, at: Point, story: Story, *, in_use: bool, held: bool, facing: float) -> None:
    x, y = at
    accent = story.room.accent
    kind = f"held {name}" if held else name
    match name:
        case "phone":
            canvas.box(x - 6, y - 12, x + 6, y + 6, (28, 30, 36), kind)
            canvas.box(x - 4.5, y - 10, x + 4.5, y + 4, (120, 200, 255), kind)
        case "cup":
            canvas.polygon([(x - 7, y - 10), (x + 7, y - 10), (x + 5, y + 6), (x - 5, y + 6)], (250, 250, 245), kind)
            canvas.box(x - 6.5, y - 6, x + 6.5, y - 1, shade(accent, 0.9), kind)
        case "book" if in_use:
            canvas.polygon([(x - 14, y - 12), (x, y - 8), (x, y + 9), (x - 14, y + 5)], (250, 244, 226), kind)
            canvas.polygon([(x + 14, y - 12), (x, y - 8), (x, y + 9), (x + 14, y + 5)], (232, 222, 196), kind)
            canvas.limb([(x - 14, y + 6), (x, y + 10), (x + 14, y + 6)], 2.5, (176, 52, 48), kind)
        case "book":
            canvas.box(x - 6, y - 12, x + 6, y + 6, (176, 52, 48), kind)
            canvas.box(x - 4, y - 9, x + 4, y - 6, (240, 214, 150), kind)
        case "broom":
            foot = (x + facing * 16, GROUND_Y - 3) if in_use else (x, 205.0)
            top = (x - facing * 8, y - 34) if in_use else (x + 2, 118.0)
            canvas.limb([top, foot], 4, (214, 170, 92), kind)
            fx, fy = foot
            canvas.polygon(
                [(fx - 4, fy - 12), (fx + 4, fy - 12), (fx + 11, fy + 3), (fx - 11, fy + 3)], (232, 196, 84), kind
            )


def _background(story: Story, canvas: Canvas, *, hallway: bool) -> None:
    """Everything that does not move. With `hallway`, what is seen through the doorway alone."""
    room = story.room
    if hallway:
        canvas.box(-80, -60, 400, 300, shade(room.wall, 0.62), "doorway")
        canvas.box(-80, 176, 400, 300, shade(room.floor, 0.7), "doorway")
        return
    for k in range(24):  # a wall that grows darker towards the ceiling
        top = -60 + k * 10
        canvas.box(-80, top, 400, top + 11, shade(room.wall, 0.86 + 0.006 * k), "wall")
    canvas.box(-80, 178, 400, 320, room.floor, "floor")
    for k in range(-3, 14):  # floor boards in perspective
        canvas.limb(
            [(160 + (k * 40 - 200) * 0.8, 180), (160 + (k * 40 - 200) * 1.5, 260)], 0.8, shade(room.floor, 0.9), "floor"
        )
    canvas.box(-80, 174, 400, 180, shade(room.wall, 0.7), "wall")
    canvas.disc((168, 216), 74, shade(room.accent, 0.8), "rug", flat=0.17)
    canvas.disc((168, 216), 64, shade(room.accent, 1.0), "rug", flat=0.16)
    # a window with a landscape
    canvas.box(126, 56, 172, 106, (252, 250, 244), "window")
    canvas.box(129, 59, 169, 103, (158, 206, 240), "window")
    canvas.polygon([(129, 103), (129, 90), (142, 80), (156, 92), (169, 84), (169, 103)], (120, 176, 112), "window")
    canvas.box(147.5, 58, 150.5, 104, (252, 250, 244), "window")
    for x in (122, 170):
        canvas.box(x, 52, x + 7, 112, shade(room.fabric, 1.1), "window")
    # the frame of the door; the doorway itself is drawn behind it
    canvas.box(DOOR_X - 23, 68, DOOR_X + 23, 180, shade(room.wood, 0.75), "wall")
    canvas.box(DOOR_X - 19, 72, DOOR_X + 19, 180, shade(room.wall, 0.62), "doorway")
    canvas.box(DOOR_X - 19, 166, DOOR_X + 19, 180, shade(room.floor, 0.7), "doorway")
    canvas.box(SWITCH[0] - 5, SWITCH[1] - 7, SWITCH[0] + 5, SWITCH[1] + 7, (246, 246, 242), "switch")
    canvas.box(SWITCH[0] - 2, SWITCH[1] - 4, SWITCH[0] + 2, SWITCH[1] + 3, (170, 170, 170), "switch")
    canvas.box(180, 112, 252, 116, room.wood, "shelf")
    for k, colour in enumerate([(92, 120, 150), (210, 170, 90), (110, 150, 110), (150, 100, 140)]):
        canvas.box(222 + 7 * k, 94 + 3 * (k % 2), 228 + 7 * k, 112, colour, "shelf")
    if room.kind == "study":
        canvas.box(192, 154, 268, 161, room.wood, "table")
        for x in (196, 260):
            canvas.box(x, 161, x + 5, 208, shade(room.wood, 0.8), "table")
        cx, cy = room.seat
        canvas.box(cx - 24, cy - 46, cx - 18, cy + 6, shade(room.fabric, 0.8), "chair")
        canvas.box(cx - 22, cy + 4, cx + 16, cy + 11, room.fabric, "chair")
        for leg_x in (cx - 20, cx + 12):
            canvas.box(leg_x, cy + 11, leg_x + 4, GROUND_Y - 2, shade(room.wood, 0.7), "chair")
    else:
        canvas.box(132, 165, 166, 170, room.wood, "table")
        for x in (135, 160):
            canvas.box(x, 170, x + 4, 206, shade(room.wood, 0.8), "table")
        sx, sy = room.seat
        canvas.box(sx - 38, sy - 34, sx + 62, sy + 12, shade(room.fabric, 0.85), "sofa")
        canvas.box(sx - 40, sy + 4, sx + 64, sy + 28, room.fabric, "sofa")
        canvas.box(sx + 52, sy - 16, sx + 66, sy + 30, shade(room.fabric, 0.75), "sofa")
        canvas.box(sx - 44, sy - 12, sx - 36, sy + 30, shade(room.fabric, 0.75), "sofa")


def _door(canvas: Canvas, story: Story, time_s: float) -> None:
    opened = story.door.at(time_s)
    left, right = DOOR_X - 19, DOOR_X - 19 + 38 * (1 - 0.8 * opened)
    skew = 9 * opened  # the free edge comes towards the camera
    panel = shade(story.room.wood, 1.12)
    canvas.polygon([(left, 72), (right, 72 - skew), (right, 180 + skew), (left, 180)], panel, "door")
    inset = (right - left) * 0.2
    for top in (82, 130):
        corners = [
            (left + inset, top),
            (right - inset, top - skew * 0.5),
            (right - inset, top + 38),
            (left + inset, top + 38),
        ]
        canvas.polygon(corners, shade(panel, 0.86), "door")
    canvas.disc((right - (right - left) * 0.12, 132), 2.6, (236, 200, 90), "door")


def _laptop(canvas: Canvas, story: Story, time_s: float) -> None:
    x, y = story.room.things["laptop"]
    lid = story.lid.at(time_s)
    canvas.polygon([(x - 18, y + 3), (x + 10, y + 3), (x + 12, y - 1), (x - 16, y - 1)], (150, 154, 162), "laptop base")
    hinge = (x + 10, y - 1)
    angle = math.pi - lid * 0.62 * math.pi
    top = (hinge[0] + 28 * math.cos(angle), hinge[1] - 28 * math.sin(angle) - 1)
    canvas.limb([hinge, top], 4 + 2 * lid, (96, 100, 110), "screen" if lid > 0.3 else "laptop base")
    if lid > 0.3:
        canvas.limb([(hinge[0] - 2.5, hinge[1] - 3), (top[0] - 2.5, top[1] + 2)], 3.5, (130, 214, 250), "screen")


def _figure(canvas: Canvas, story: Story, body: _Body) -> None:
    person, f, size = story.person, body.facing, body.size
    for k, foot in ((1, body.feet[1]), (0, body.feet[0])):
        tone = shade(person.trousers, 0.8 if k else 1.0)
        knee, ankle = bend(body.hip, foot, 35 * size, 35 * size, -f)
        canvas.limb([body.hip, knee, ankle], 13 * size, tone, "leg")
        canvas.limb([ankle, (ankle[0] + f * 8, ankle[1] + 1)], 7, (52, 44, 44), "leg")
    back_elbow, back_hand = bend(
        body.shoulder, (body.shoulder[0] - f * 5, body.shoulder[1] + 44), 23 * size, 23 * size, f
    )
    canvas.limb([body.shoulder, back_elbow, back_hand], 8 * size, shade(person.shirt, 0.7), "arm")
    canvas.limb([body.hip, body.shoulder], 23 * size, person.shirt, "torso")
    hx, hy = body.head
    if person.long_hair:
        canvas.limb([(hx - f * 6, hy - 2), (hx - f * 9, hy + 18)], 13 * size, person.hair, "head")
    canvas.limb([body.shoulder, body.head], 8 * size, shade(person.skin, 0.9), "head")
    canvas.disc((hx - f * 2, hy - 3), 13.5 * size, person.hair, "head")
    canvas.disc((hx + f * 2, hy + 1), 11.5 * size, person.skin, "head")
    canvas.disc((hx + f * 7, hy - 1), 1.4, (40, 34, 34), "head")


def _front_arm(canvas: Canvas, story: Story, body: _Body, hand: Point) -> Point:
    person, size = story.person, body.size
    elbow, reached = bend(body.shoulder, hand, 25 * size, 25 * size, body.facing)
    canvas.limb([body.shoulder, elbow], 9.5 * size, shade(person.shirt, 1.12), "arm")
    canvas.limb([elbow, reached], 7.5 * size, shade(person.shirt, 1.05), "arm")
    canvas.disc(reached, 5 * size, person.skin, "hand")
    return reached


class Renderer:
    """Draws one story. `picture(t)` is (240, 320, 3) uint8; `kinds(t)` (240, 320) uint8 indexes `KINDS`."""

    def __init__(self, story: Story, *, with_kinds: bool) -> None:
        self._story = story
        size = (WIDTH * SCALE, HEIGHT * SCALE)
        self._layers = {}
        for hallway in (False, True):
            picture, kinds = Image.new("RGB", size), Image.new("L", size) if with_kinds else None
            _background(story, Canvas(story.room, picture, kinds), hallway=hallway)
            self._layers[hallway] = (picture, kinds)
        self._hole = Image.new("L", size, 255)
        draw = Canvas(story.room, self._hole, None)
        draw.box(DOOR_X - 19, 72, DOOR_X + 19, 180, 0, "doorway")  # type: ignore[arg-type]
        self._lit, self._unlit = self._light_maps()

    def _light_maps(self) -> tuple[Image.Image, Image.Image]:
        """What the pictures are multiplied with when the lamp is on, and when it is off."""
        room = self._story.room
        lamp_x, lamp_y = Canvas(room, Image.new("L", (1, 1)), None).place(LAMP)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
        distance = np.hypot(x - lamp_x / SCALE, y - lamp_y / SCALE) / WIDTH
        glow = np.exp(-((distance / 0.62) ** 2))[..., None]
        lit = 0.82 + 0.18 * glow * np.array([1.0, 0.97, 0.86], np.float32)
        unlit = np.broadcast_to(np.array([0.50, 0.54, 0.66], np.float32), lit.shape)
        on, off = (Image.fromarray((255 * light).astype(np.uint8)) for light in (lit, unlit))
        return on, off

    def render(self, time_s: float) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
        """The picture at a time, and its map of kinds where the renderer was made with one."""
        story, room = self._story, self._story.room
        behind = story.depth.at(time_s) > 0.5
        picture, kinds = (layer.copy() if layer else None for layer in self._layers[behind])
        assert picture is not None
        canvas = Canvas(room, picture, kinds)
        body = _body(story, time_s)
        before, after, share = story.hand.at(time_s)
        a, b = _hand_at(story, body, before, time_s), _hand_at(story, body, after, time_s)
        hand = (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share)
        held, using = story.held.at(time_s)[1], share > 0.4 and after == "read"
        if not behind:
            self._furnish(canvas, time_s, held)
            canvas.disc((body.hip[0], GROUND_Y + 2), 20, shade(room.floor, 0.72), "floor", flat=0.2)
        _figure(canvas, story, body)
        if held == "broom":
            reached = _front_arm(canvas, story, body, hand)
            _thing(canvas, held, reached, story, in_use=True, held=True, facing=body.facing)
        elif held:
            _, reached = bend(body.shoulder, hand, 25 * body.size, 25 * body.size, body.facing)
            place = (reached[0] + body.facing * 5, reached[1] - 4)
            _thing(canvas, held, place, story, in_use=using, held=True, facing=body.facing)
        if held != "broom":
            _front_arm(canvas, story, body, hand)
        if behind:
            wall, wall_kinds = self._layers[False]
            picture.paste(wall, mask=self._hole)
            if kinds is not None and wall_kinds is not None:
                kinds.paste(wall_kinds, mask=self._hole)
            self._furnish(canvas, time_s, held)
        lit = story.light.at(time_s)
        light = self._lit if lit == 1 else self._unlit if lit == 0 else Image.blend(self._unlit, self._lit, lit)
        shown = np.asarray(ImageChops.multiply(picture.reduce(SCALE), light))
        return shown, None if kinds is None else np.asarray(kinds)[::SCALE, ::SCALE].copy()

    def _furnish(self, canvas: Canvas, time_s: float, held: str) -> None:
        story = self._story
        _door(canvas, story, time_s)
        lit = story.light.at(time_s) > 0.5
        canvas.limb([(LAMP[0], -60), (LAMP[0], LAMP[1] - 8)], 1.6, (60, 60, 64), "lamp off")
        x, y = LAMP
        colour = (255, 246, 190) if lit else (150, 150, 150)
        canvas.polygon(
            [(x - 16, y + 8), (x + 16, y + 8), (x + 8, y - 9), (x - 8, y - 9)], colour, "lamp on" if lit else "lamp off"
        )
        if "laptop" in story.room.things:
            _laptop(canvas, story, time_s)
        for thing, place in story.room.things.items():
            if thing not in ("laptop", held):
                _thing(canvas, thing, place, story, in_use=False, held=False, facing=1.0)

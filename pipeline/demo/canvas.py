"""A picture to draw shapes into through the room's camera, and a map of what each pixel shows.

Everything is drawn at twice the size and reduced, which is Pillow's way to smooth edges.
"""

from __future__ import annotations

from PIL import Image, ImageDraw

from pipeline.demo.world import Colour, Point, Room

WIDTH, HEIGHT = 320, 240
SCALE = 2
KINDS = (
    "wall",
    "floor",
    "window",
    "doorway",
    "door",
    "lamp on",
    "lamp off",
    "switch",
    "table",
    "chair",
    "sofa",
    "shelf",
    "head",
    "torso",
    "arm",
    "hand",
    "leg",
    "phone",
    "cup",
    "book",
    "broom",
    "screen",
    "laptop base",
    "rug",
    "held phone",
    "held cup",
    "held book",
    "held broom",
)
_KIND = {name: k for k, name in enumerate(KINDS)}


def shade(colour: Colour, factor: float) -> Colour:
    return tuple(max(0, min(255, int(c * factor))) for c in colour)  # type: ignore[return-value]


class Canvas:
    """Draws each shape into the picture and, where one is wanted, its kind into the map, through the room's camera."""

    def __init__(self, room: Room, picture: Image.Image, kinds: Image.Image | None) -> None:
        self.room = room
        self.picture = ImageDraw.Draw(picture)
        self.kinds = ImageDraw.Draw(kinds) if kinds else None

    def place(self, point: Point) -> Point:
        room = self.room
        x = (point[0] - 160) * room.zoom + 160 + room.pan[0]
        y = (point[1] - 150) * room.zoom + 150 + room.pan[1]
        return ((WIDTH - x if room.mirrored else x) * SCALE, y * SCALE)

    def polygon(self, points: list[Point], colour: Colour, kind: str) -> None:
        placed = [self.place(point) for point in points]
        self.picture.polygon(placed, fill=colour)
        if self.kinds:
            self.kinds.polygon(placed, fill=_KIND[kind])

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour, kind: str) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour, kind)

    def disc(self, centre: Point, radius: float, colour: Colour, kind: str, flat: float = 1.0) -> None:
        x, y = self.place(centre)
        r = radius * self.room.zoom * SCALE
        for draw, fill in self._layers(colour, kind):
            draw.ellipse([x - r, y - r * flat, x + r, y + r * flat], fill=fill)

    def limb(self, points: list[Point], width: float, colour: Colour, kind: str) -> None:
        placed = [self.place(point) for point in points]
        w = width * self.room.zoom * SCALE
        for draw, fill in self._layers(colour, kind):
            draw.line(placed, fill=fill, width=round(w), joint="curve")
            for x, y in placed:
                draw.ellipse([x - w / 2, y - w / 2, x + w / 2, y + w / 2], fill=fill)

    def _layers(self, colour: Colour, kind: str) -> list[tuple[ImageDraw.ImageDraw, Colour | int]]:
        layers: list[tuple[ImageDraw.ImageDraw, Colour | int]] = [(self.picture, colour)]
        if self.kinds:
            layers.append((self.kinds, _KIND[kind]))
        return layers

"""What scenes are drawn with: classes, colours and random draws."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

IGNORE = 255  # the label of pixels that count for nothing

# In the order of the class indices below.
SCENE_CLASSES: tuple[str, ...] = (
    "sky",
    "building",
    "road",
    "pavement",
    "grass",
    "tree",
    "bus",
    "truck",
    "car",
    "pole",
    "person",
)
SCENE_PALETTE: tuple[tuple[int, int, int], ...] = (
    (108, 172, 222),
    (112, 104, 112),
    (128, 64, 128),
    (236, 108, 220),
    (160, 216, 128),
    (66, 128, 50),
    (0, 148, 150),
    (30, 50, 160),
    (46, 96, 232),
    (248, 206, 60),
    (226, 42, 62),
)

# Numbered from back to front: where two classes meet, the higher number is the nearer one.
SKY, BUILDING, ROAD, PAVEMENT, GRASS, TREE, BUS, TRUCK, CAR, POLE, PERSON = range(11)


Color = tuple[float, float, float]  # RGB up to 255

LEAF = ((74, 104, 48), (88, 118, 54), (62, 92, 52), (104, 118, 52), (128, 112, 46))
BRICK = ((150, 84, 66), (166, 106, 80), (124, 74, 62), (186, 150, 112), (140, 116, 98))
PLASTER = ((214, 204, 184), (196, 188, 176), (222, 196, 150), (176, 186, 190), (206, 170, 150))
CONCRETE = ((150, 150, 148), (128, 132, 136), (172, 168, 160), (110, 118, 128))
FLEET = (
    (196, 58, 50),
    (214, 206, 196),
    (58, 104, 158),
    (228, 178, 60),
    (70, 128, 96),
    (120, 124, 132),
)
CARS = (
    (40, 42, 46),
    (200, 202, 206),
    (150, 32, 34),
    (40, 66, 116),
    (122, 126, 130),
    (86, 96, 84),
    (226, 226, 222),
)
CLOTHES = (
    (52, 54, 64),
    (126, 40, 44),
    (40, 66, 108),
    (188, 178, 164),
    (84, 88, 92),
    (196, 140, 52),
    (60, 92, 74),
)
SKIN = ((224, 180, 150), (180, 130, 98), (118, 82, 62))
GLASS: Color = (58, 70, 84)
LIT: Color = (255, 205, 130)


def between(one: Color, other: Color, share: float) -> Color:
    """A mixture of two colours: `share` of the other."""
    keep = 1 - share
    return (
        one[0] * keep + other[0] * share,
        one[1] * keep + other[1] * share,
        one[2] * keep + other[2] * share,
    )


def shaded(colour: Color, factor: float) -> Color:
    """The colour, so much darker."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


T = TypeVar("T")


class Draws:
    """Uniform draws from a generator, fetched in blocks: one by one they are slow."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._next = _numbers(generator).__next__

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self._next()

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._next() < probability

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._next() * (high - low + 1))

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self._next() * len(options))]

    def jitter(self, colour: Color, spread: float) -> Color:
        """The colour, brighter or darker by up to `spread` and a little off in hue."""
        gain, tint = 1 + self.uniform(-spread, spread), self.uniform(-spread, spread) / 2
        red, green, blue = colour
        return (red * (gain + tint), green * gain, blue * (gain - tint))


def _numbers(generator: np.random.Generator) -> Iterator[float]:
    """Endless numbers in [0, 1)."""
    while True:
        yield from reversed(generator.random(512).tolist())

"""What scenes are drawn with: classes, colors, random draws, light, camera and the canvas."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from struct import Struct
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

_CLASSES = {  # from back to front: where two classes meet, the higher index is the nearer one
    "sky": (108, 172, 222),
    "building": (112, 104, 112),
    "road": (128, 64, 128),
    "pavement": (236, 108, 220),
    "grass": (160, 216, 128),
    "tree": (66, 128, 50),
    "bus": (0, 148, 150),
    "truck": (30, 50, 160),
    "car": (46, 96, 232),
    "pole": (248, 206, 60),
    "person": (226, 42, 62),
}
SCENE_CLASSES, SCENE_PALETTE = tuple(_CLASSES), tuple(_CLASSES.values())


class Label:
    """Class indices."""

    SKY, BUILDING, ROAD, PAVEMENT, GRASS, TREE, BUS, TRUCK, CAR, POLE, PERSON = range(11)


Color = tuple[float, float, float]  # RGB up to 255
LabeledColor = tuple[float, float, float, int]  # RGB and label
Point = tuple[float, float]
Bytes = npt.NDArray[np.uint8]
T = TypeVar("T")

LEAF = ((74, 104, 48), (88, 118, 54), (62, 92, 52), (104, 118, 52), (128, 112, 46))
BRICK = ((150, 84, 66), (166, 106, 80), (124, 74, 62), (186, 150, 112), (140, 116, 98))
PLASTER = ((214, 204, 184), (196, 188, 176), (222, 196, 150), (176, 186, 190), (206, 170, 150))
CONCRETE = ((150, 150, 148), (128, 132, 136), (172, 168, 160), (110, 118, 128))
GLASS: Color = (58, 70, 84)
LIT: Color = (255, 205, 130)
# fmt: off
FLEET = ((196, 58, 50), (214, 206, 196), (58, 104, 158), (228, 178, 60), (70, 128, 96),
         (120, 124, 132))
CLOTHES = ((52, 54, 64), (126, 40, 44), (40, 66, 108), (188, 178, 164), (84, 88, 92),
           (196, 140, 52), (60, 92, 74))
# fmt: on

FAR = 120.0  # meters to the end of the street
OVERSAMPLING = 2  # canvas pixels along an image pixel's side
_QUAD = Struct("8i")  # an int32 array of four corners


def shaded(color: Color, factor: float) -> Color:
    """Darken a color by a factor."""
    return (color[0] * factor, color[1] * factor, color[2] * factor)


class Draws:
    """Uniform draws from a generator, fetched in blocks: one by one they are slow."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._next = _numbers(generator).__next__

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draw a number in [low, high)."""
        return low + (high - low) * self._next()

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._next() < probability

    def integer(self, low: int, high: int) -> int:
        """Draw a whole number from low to high, both included."""
        return low + int(self._next() * (high - low + 1))

    def choice(self, options: Sequence[T]) -> T:
        """Draw one of the options."""
        return options[int(self._next() * len(options))]

    def jitter(self, color: Color, spread: float) -> Color:
        """Make a color brighter or darker by up to `spread`, and a little off in hue."""
        gain, tint = 1 + self.uniform(-spread, spread), self.uniform(-spread, spread) / 2
        red, green, blue = color
        return (red * (gain + tint), green * gain, blue * (gain - tint))

    def color(self, options: Sequence[Color], spread: float) -> Color:
        """Draw one of some colors, and jitter it."""
        return self.jitter(self.choice(options), spread)


def _numbers(generator: np.random.Generator) -> Iterator[float]:
    """Yield numbers in [0, 1) without end."""
    while True:
        yield from reversed(generator.random(512).tolist())


@dataclass(frozen=True)
class Light:
    """Weather and hour of a scene; gains multiply surface colors."""

    sky_top: Color
    sky_low: Color
    gain: Color
    haze: float  # extinction per meter
    shadow: float  # 0: none, 1: black
    clouds: float
    dusk: float  # 0: day, 1: lamps and windows lit
    sun: float = 0.0  # -1: from the left, 1: from the right
    reach: float = 1.0  # meters of shadow per meter of height

    def facing(self, normal: float) -> float:
        """Return the shade of a wall whose normal points right (1), left (-1) or to us (0)."""
        return 0.86 + 0.42 * self.shadow * self.sun * normal


_WEATHER = (  # weight, light
    (0.34, Light((86, 142, 214), (190, 216, 238), (1.08, 1.06, 1.0), 0.004, 0.55, 0.8, 0.0)),
    (0.22, Light((168, 177, 188), (208, 212, 216), (0.86, 0.88, 0.92), 0.008, 0.12, 0.35, 0.0)),
    (0.16, Light((112, 148, 200), (250, 208, 152), (1.16, 0.98, 0.76), 0.008, 0.6, 0.7, 0.0)),
    (0.12, Light((40, 50, 96), (222, 138, 104), (0.44, 0.43, 0.56), 0.006, 0.1, 0.6, 1.0)),
    (0.08, Light((186, 191, 196), (204, 206, 208), (0.88, 0.89, 0.92), 0.034, 0.05, 0.1, 0.0)),
    (0.08, Light((104, 114, 128), (152, 158, 166), (0.6, 0.63, 0.68), 0.012, 0.08, 0.5, 0.4)),
)


def random_light(rng: Draws) -> Light:
    """Draw an hour and a weather."""
    lot, total = rng.uniform(), 0.0
    for weight, pick in _WEATHER:  # noqa: B007 - the last one stands, should rounding leave a gap
        total += weight
        if lot < total:
            break
    exposure = rng.uniform(0.85, 1.12)
    gain = rng.jitter(pick.gain, 0.06)
    return Light(
        sky_top=rng.jitter(pick.sky_top, 0.12),
        sky_low=rng.jitter(pick.sky_low, 0.06),
        gain=shaded(gain, exposure),
        haze=pick.haze * rng.uniform(0.6, 1.4),
        shadow=pick.shadow * rng.uniform(0.7, 1.1),
        clouds=pick.clouds * rng.uniform(),
        dusk=pick.dusk,
        sun=rng.choice((-1.0, 1.0)) * rng.uniform(0.35, 1.0),
        reach=rng.uniform(0.3, 1.1),
    )


class Stage:
    """A canvas of color and label, and the camera over a road.

    Places are (x, y, z): meters right of the road's center line, above the ground and ahead. Every
    stroke sets color and label at once, as the canvas's channels 0 to 2 and 3, so that the two
    cannot disagree.
    """

    def __init__(self, height: int, width: int, rng: Draws, light: Light) -> None:
        self.rng, self.light = rng, light
        self.rows, self.columns = height * OVERSAMPLING, width * OVERSAMPLING
        self.canvas: Bytes = np.empty((self.rows, self.columns, 4), np.uint8)
        self._quad = np.empty((4, 2), np.int32)  # takes the corners of each polygon of four
        self._quad_memory = self._quad.data
        self.shadows: Bytes = np.zeros((height, width), np.uint8)
        self.lamps: list[tuple[Point, int, float, Color]] = []
        self._waiting: list[tuple[float, Callable[[], None]]] = []
        self.unit = math.sqrt(self.columns * self.rows / 0.75)  # 256 for 96×128 pixels
        self.focal = self.unit * rng.uniform(0.72, 1.05)
        self.column = self.columns * (0.5 + rng.uniform(-0.2, 0.2))  # vanishing point
        self.row = self.rows * rng.uniform(0.36, 0.56)  # horizon
        self.camera_height = rng.choice((rng.uniform(1.2, 1.8), rng.uniform(1.8, 3.2)))
        self.camera_x = 0.0
        self.bend = rng.choice((0.0, rng.uniform(-0.006, 0.006)))  # x moves by bend · z²
        self.climb = rng.choice((0.0, rng.uniform(0.0, 0.0007)))  # y moves by climb · z²
        self.near = 0.8 * self.focal * self.camera_height / (self.rows - self.row)

    def at(self, x: float, y: float, z: float) -> Point:
        """Return canvas column and row of a place."""
        scale = self.focal / z
        return (
            self.column + (x - self.camera_x + self.bend * z * z) * scale,
            self.row + (self.camera_height - y - self.climb * z * z) * scale,
        )

    def hidden(self, x: float, z: float, reach: float) -> bool:
        """Return whether a thing this far from its middle lies outside the picture."""
        reach *= self.focal / z
        return not -reach < self.at(x, 0, z)[0] < self.columns + reach

    def as_seen(self, color: Color, label: int, z: float, shade: float = 1.0) -> LabeledColor:
        """Return a surface color as seen from afar: lit, then veiled by haze."""
        light = self.light
        clear = math.exp(-light.haze * z)
        lit, veil = clear * shade, 1 - clear
        gain, sky = light.gain, light.sky_low
        return (  # OpenCV saturates what exceeds 255
            color[0] * gain[0] * lit + sky[0] * veil,
            color[1] * gain[1] * lit + sky[1] * veil,
            color[2] * gain[2] * lit + sky[2] * veil,
            label,
        )

    def fill(self, points: Sequence[Point], surface: LabeledColor) -> None:
        """Fill a convex polygon given in canvas coordinates."""
        if len(points) == 4:  # the usual case, and twice as fast as making an array
            (a, b), (c, d), (e, f), (g, h) = points
            corners = (int(a), int(b), int(c), int(d), int(e), int(f), int(g), int(h))
            _QUAD.pack_into(self._quad_memory, 0, *corners)
            cv2.fillConvexPoly(self.canvas, self._quad, surface)
        else:
            cv2.fillConvexPoly(self.canvas, np.array(points, np.int32), surface)

    def fill_many(self, points: Any, surface: LabeledColor) -> None:
        """Fill N polygons that do not overlap: (N, corners, 2)."""
        cv2.fillPoly(self.canvas, list(points.astype(np.int32)), surface)

    def front(
        self, x: float, y0: float, y1: float, z0: float, z1: float, surface: LabeledColor
    ) -> None:
        """Fill an upright rectangle along the road."""
        at = self.at
        self.fill((at(x, y0, z0), at(x, y0, z1), at(x, y1, z1), at(x, y1, z0)), surface)

    def patch(self, x0: float, x1: float, z0: float, z1: float, surface: LabeledColor) -> None:
        """Fill a rectangle on the ground."""
        at = self.at
        self.fill((at(x0, 0, z0), at(x1, 0, z0), at(x1, 0, z1), at(x0, 0, z1)), surface)

    def disc(self, center: Point, radius: float, surface: LabeledColor) -> None:
        """Fill a disc."""
        place = (int(center[0]), int(center[1]))
        cv2.circle(self.canvas, place, max(1, int(radius + 0.5)), surface, -1)

    def post(self, foot: Point, top: Point, width: float, surface: LabeledColor) -> None:
        """Draw an upright (or leaning) bar, never thinner than an image pixel."""
        half = max(width, OVERSAMPLING) / 2
        foot_x, top_x = round(foot[0] - half), round(top[0] - half)
        wide = max(OVERSAMPLING, round(2 * half)) - 1
        left = (foot_x, foot[1]), (top_x, top[1])
        self.fill((*left, (top_x + wide, top[1]), (foot_x + wide, foot[1])), surface)

    def cast(self, x: float, z0: float, z1: float, width: float, height: float) -> None:
        """Cast the shadow of an upright thing; kept aside, as only the ground can take it."""
        light = self.light
        if light.shadow < 0.2 or z0 > 32:
            return
        dx = -light.sun * light.reach * height
        dz = 0.35 * abs(dx)
        z0, half = max(z0, self.near), width / 2
        corners = [self.at(x - half, 0, z0), self.at(x + half, 0, z0)]
        corners += [self.at(x + dx + half, 0, z0 + dz), self.at(x + dx - half, 0, z0 + dz)]
        if z1 > z0 + width:
            corners += [self.at(x, 0, z1), self.at(x + dx, 0, z1 + dz)]
        hull = cv2.convexHull((np.array(corners) / OVERSAMPLING).astype(np.int32))
        cv2.fillConvexPoly(self.shadows, hull, int(190 * light.shadow))

    def lamp(self, place: Point, label: int, radius: float, color: Color) -> None:
        """Add a light that glows when it is dark."""
        if self.light.dusk:
            self.lamps.append((place, label, radius, color))

    def later(self, z: float, draw: Callable[..., None], *args: Any) -> None:
        """Have `draw(stage, *args)` called at its turn: the farthest first."""
        self._waiting.append((z, partial(draw, self, *args)))

    def draw_waiting(self) -> None:
        """Draw what waits; of two things equally far, the one placed first."""
        for _, draw in sorted(self._waiting, key=lambda entry: -entry[0]):
            draw()

"""The stage of a scene: light, camera, the canvas, and what waits to be drawn on it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from struct import Struct
from typing import Any, Concatenate, ParamSpec

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.data.scenes.palette import Color, Draws


@dataclass(frozen=True)
class Light:
    """Weather and hour of a scene; colours are RGB up to 255, gains multiply surface colours."""

    sky_top: Color
    sky_low: Color
    gain: Color
    haze: float  # extinction per metre
    shadow: float  # 0: none, 1: black
    clouds: float
    dusk: float  # 0: day, 1: lamps and windows lit
    sun: float = 0.0  # -1: from the left, 1: from the right
    reach: float = 1.0  # metres of shadow per metre of height

    def facing(self, normal: float) -> float:
        """Shade of a wall whose normal points right (1), left (-1) or to the camera (0)."""
        return 0.86 + 0.42 * self.shadow * self.sun * normal


_WEATHER: tuple[tuple[float, Light], ...] = (  # weight, light
    (0.34, Light((86, 142, 214), (190, 216, 238), (1.08, 1.06, 1.0), 0.004, 0.55, 0.8, 0.0)),
    (0.22, Light((168, 177, 188), (208, 212, 216), (0.86, 0.88, 0.92), 0.008, 0.12, 0.35, 0.0)),
    (0.16, Light((112, 148, 200), (250, 208, 152), (1.16, 0.98, 0.76), 0.008, 0.6, 0.7, 0.0)),
    (0.12, Light((40, 50, 96), (222, 138, 104), (0.44, 0.43, 0.56), 0.006, 0.1, 0.6, 1.0)),
    (0.08, Light((186, 191, 196), (204, 206, 208), (0.88, 0.89, 0.92), 0.034, 0.05, 0.1, 0.0)),
    (0.08, Light((104, 114, 128), (152, 158, 166), (0.6, 0.63, 0.68), 0.012, 0.08, 0.5, 0.4)),
)


def random_light(rng: Draws) -> Light:
    """A random hour and weather."""
    lot, total = rng.uniform(), 0.0
    for weight, pick in _WEATHER:  # noqa: B007 - the last one stands, should rounding leave a gap
        total += weight
        if lot < total:
            break
    exposure = rng.uniform(0.85, 1.12)
    red, green, blue = rng.jitter(pick.gain, 0.06)
    return Light(
        sky_top=rng.jitter(pick.sky_top, 0.12),
        sky_low=rng.jitter(pick.sky_low, 0.06),
        gain=(red * exposure, green * exposure, blue * exposure),
        haze=pick.haze * rng.uniform(0.6, 1.4),
        shadow=pick.shadow * rng.uniform(0.7, 1.1),
        clouds=pick.clouds * rng.uniform(),
        dusk=pick.dusk,
        sun=rng.choice((-1.0, 1.0)) * rng.uniform(0.35, 1.0),
        reach=rng.uniform(0.3, 1.1),
    )


Bytes = npt.NDArray[np.uint8]
Point = tuple[float, float]
LabeledColor = tuple[float, float, float, int]  # RGB and label

FAR = 120.0  # metres to the end of the street
OVERSAMPLING = 2  # canvas pixels along an image pixel's side

_QUAD = Struct("8i")  # an int32 array of four corners


class Stage:
    """A canvas of colour and label, and the camera over a road.

    Places are (x, y, z): metres right of the road's centre line, above the ground and ahead. Every
    stroke sets colour and label at once, as the canvas's channels 0 to 2 and 3, so that the two
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
        """Canvas column and row of a place."""
        scale = self.focal / z
        return (
            self.column + (x - self.camera_x + self.bend * z * z) * scale,
            self.row + (self.camera_height - y - self.climb * z * z) * scale,
        )

    def hidden(self, x: float, z: float, reach: float) -> bool:
        """Whether a thing this far from its middle lies outside the picture."""
        scale = self.focal / z
        u = self.column + (x - self.camera_x + self.bend * z * z) * scale
        return not -reach * scale < u < self.columns + reach * scale

    def as_seen(self, colour: Color, label: int, z: float, shade: float = 1.0) -> LabeledColor:
        """A surface colour as seen from afar: lit, then veiled by haze."""
        light = self.light
        clear = math.exp(-light.haze * z)
        lit, veil = clear * shade, 1 - clear
        gain, sky = light.gain, light.sky_low
        return (  # OpenCV saturates what exceeds 255
            colour[0] * gain[0] * lit + sky[0] * veil,
            colour[1] * gain[1] * lit + sky[1] * veil,
            colour[2] * gain[2] * lit + sky[2] * veil,
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

    def disc(self, centre: Point, radius: float, surface: LabeledColor) -> None:
        """Fill a disc."""
        place = (int(centre[0]), int(centre[1]))
        cv2.circle(self.canvas, place, max(1, int(radius + 0.5)), surface, -1)

    def post(self, foot: Point, top: Point, width: float, surface: LabeledColor) -> None:
        """An upright (or leaning) bar, never thinner than an image pixel."""
        half = max(width, OVERSAMPLING) / 2
        left_foot, left_top = round(foot[0] - half), round(top[0] - half)
        wide = max(OVERSAMPLING, round(2 * half)) - 1
        self.fill(
            (
                (left_foot, foot[1]),
                (left_top, top[1]),
                (left_top + wide, top[1]),
                (left_foot + wide, foot[1]),
            ),
            surface,
        )

    def cast(self, x: float, z0: float, z1: float, width: float, height: float) -> None:
        """Shadow of an upright thing from z0 to z1 (kept aside: only the ground can take it)."""
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

    def lamp(self, place: Point, label: int, radius: float, colour: Color) -> None:
        """A light that glows when it is dark."""
        if self.light.dusk:
            self.lamps.append((place, label, radius, colour))


P = ParamSpec("P")


class DrawingQueue:
    """Things that wait until all are placed; the farthest is drawn first."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._waiting: list[tuple[float, Callable[[], None]]] = []

    def add(
        self,
        z: float,
        draw: Callable[Concatenate[Stage, P], None],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Have `draw(stage, ...)` called at its turn: z metres away."""
        self._waiting.append((z, partial(draw, self.stage, *args, **kwargs)))

    def draw(self) -> None:
        """Draw everything; of two things equally far, the one placed first."""
        for _, draw in sorted(self._waiting, key=lambda entry: -entry[0]):
            draw()

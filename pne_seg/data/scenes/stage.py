"""The stage of a scene: the camera over the road, and the canvas that takes the strokes."""

import math
from collections.abc import Sequence
from struct import Struct
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.data.scenes.colours import Colour
from pne_seg.data.scenes.dice import Dice
from pne_seg.data.scenes.light import Light

Bytes = npt.NDArray[np.uint8]
Point = tuple[float, float]
Ink = tuple[float, float, float, int]  # RGB and label

FAR = 120.0  # metres to the end of the street
OVERSAMPLING = 2  # canvas pixels along an image pixel's side

_QUAD = Struct("8i")  # an int32 array of four corners


class Stage:
    """A canvas of colour and label, and the camera over a road.

    Places are (x, y, z): metres right of the road's centre line, above the ground and ahead. Every
    stroke sets colour and label at once, as the canvas's channels 0 to 2 and 3, so that the two
    cannot disagree.
    """

    def __init__(self, height: int, width: int, dice: Dice, light: Light) -> None:
        self.dice, self.light = dice, light
        self.rows, self.columns = height * OVERSAMPLING, width * OVERSAMPLING
        self.canvas: Bytes = np.empty((self.rows, self.columns, 4), np.uint8)
        self._quad = np.empty((4, 2), np.int32)  # takes the corners of each polygon of four
        self._quad_memory = self._quad.data
        self.shadows: Bytes = np.zeros((height, width), np.uint8)
        self.lamps: list[tuple[Point, int, float, Colour]] = []
        self.unit = math.sqrt(self.columns * self.rows / 0.75)  # 256 for 96×128 pixels
        self.focal = self.unit * dice.uniform(0.72, 1.05)
        self.column = self.columns * (0.5 + dice.uniform(-0.2, 0.2))  # vanishing point
        self.row = self.rows * dice.uniform(0.36, 0.56)  # horizon
        self.camera_height = dice.choice((dice.uniform(1.2, 1.8), dice.uniform(1.8, 3.2)))
        self.camera_x = 0.0
        self.bend = dice.choice((0.0, dice.uniform(-0.006, 0.006)))  # x moves by bend · z²
        self.climb = dice.choice((0.0, dice.uniform(0.0, 0.0007)))  # y moves by climb · z²
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

    def ink(self, colour: Colour, label: int, z: float, shade: float = 1.0) -> Ink:
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

    def fill(self, points: Sequence[Point], ink: Ink) -> None:
        """Fill a convex polygon given in canvas coordinates."""
        if len(points) == 4:  # the usual case, and twice as fast as making an array
            (a, b), (c, d), (e, f), (g, h) = points
            corners = (int(a), int(b), int(c), int(d), int(e), int(f), int(g), int(h))
            _QUAD.pack_into(self._quad_memory, 0, *corners)
            cv2.fillConvexPoly(self.canvas, self._quad, ink)
        else:
            cv2.fillConvexPoly(self.canvas, np.array(points, np.int32), ink)

    def fill_many(self, points: Any, ink: Ink) -> None:
        """Fill N polygons that do not overlap: (N, corners, 2)."""
        cv2.fillPoly(self.canvas, list(points.astype(np.int32)), ink)

    def disc(self, centre: Point, radius: float, ink: Ink) -> None:
        """Fill a disc."""
        place = (int(centre[0]), int(centre[1]))
        cv2.circle(self.canvas, place, max(1, int(radius + 0.5)), ink, -1)

    def post(self, foot: Point, top: Point, width: float, ink: Ink) -> None:
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
            ink,
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

    def lamp(self, place: Point, label: int, radius: float, colour: Colour) -> None:
        """A light that glows when it is dark."""
        if self.light.dusk:
            self.lamps.append((place, label, radius, colour))

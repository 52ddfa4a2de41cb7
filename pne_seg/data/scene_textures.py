"""The stage of the procedural scenes: weather, camera, canvas, and what makes it a picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

Colour = tuple[float, float, float]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
T = TypeVar("T")

TILE = 256  # pixels along the side of a cached texture
TILE_METRES = 8.0  # what a ground texture's side stands for


class Dice:
    """Uniform draws from a generator, fetched in blocks: one by one they are slow."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._pool: list[float] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        if not self._pool:
            self._pool = self._generator.random(512).tolist()
        return low + (high - low) * self._pool.pop()

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform() < probability

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.uniform() * len(options))]

    def jitter(self, colour: Colour, spread: float) -> Colour:
        """The colour, brighter or darker by up to `spread` and a little off in hue."""
        gain, tint = 1 + self.uniform(-spread, spread), self.uniform(-spread, spread) / 2
        red, green, blue = colour
        return (red * (gain + tint), green * gain, blue * (gain - tint))


@dataclass(frozen=True)
class Light:
    """Weather and hour of a scene; colours are RGB up to 255, gains multiply surface colours."""

    sky_top: Colour
    sky_low: Colour
    gain: Colour
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


def draw_light(dice: Dice) -> Light:
    """A random hour and weather."""
    lot, total = dice.uniform(), 0.0
    for weight, pick in _WEATHER:  # noqa: B007 - the last one stands, should rounding leave a gap
        total += weight
        if lot < total:
            break
    exposure = dice.uniform(0.85, 1.12)
    red, green, blue = dice.jitter(pick.gain, 0.06)
    return Light(
        sky_top=dice.jitter(pick.sky_top, 0.12),
        sky_low=dice.jitter(pick.sky_low, 0.06),
        gain=(red * exposure, green * exposure, blue * exposure),
        haze=pick.haze * dice.uniform(0.6, 1.4),
        shadow=pick.shadow * dice.uniform(0.7, 1.1),
        clouds=pick.clouds * dice.uniform(),
        dusk=pick.dusk,
        sun=dice.choice((-1.0, 1.0)) * dice.uniform(0.35, 1.0),
        reach=dice.uniform(0.3, 1.1),
    )


def _fractal(seed: int, octaves: Sequence[tuple[int, float]]) -> Floats:
    """A tile that wraps round, mean 0 and deviation 1: octaves are (cells a side, weight)."""
    generator, total = np.random.default_rng(seed), np.zeros((TILE, TILE), np.float32)
    for cells, weight in octaves:
        grid = np.pad(generator.standard_normal((cells, cells), dtype=np.float32), 2, mode="wrap")
        step = TILE // cells
        whole = cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += weight * whole[2 * step : 2 * step + TILE, 2 * step : 2 * step + TILE]
    total -= total.mean()
    return np.asarray(total / total.std(), np.float32)


@cache
def foliage_noise() -> Floats:
    """Blotches a few pixels wide, over finer grain."""
    return _fractal(1, ((32, 0.7), (64, 1.0), (128, 0.8), (256, 0.5)))


@cache
def cloud_noise() -> Floats:
    """Broad soft shapes."""
    return _fractal(2, ((4, 1.0), (8, 0.8), (16, 0.45), (32, 0.25), (64, 0.12)))


@cache
def sensor_noise() -> Floats:
    """White noise, one plane a colour, partly shared between them: (TILE, TILE, 3)."""
    generator = np.random.default_rng(3)
    luma = generator.standard_normal((TILE, TILE, 1), dtype=np.float32)
    chroma = generator.standard_normal((TILE, TILE, 3), dtype=np.float32)
    return np.ascontiguousarray(0.8 * luma + 0.6 * chroma)


@cache
def ground_textures() -> Floats:
    """Asphalt, paving with joints and grass, as factors less one: (TILE, TILE, 3)."""
    asphalt = _fractal(4, ((4, 0.6), (8, 0.4), (128, 0.6), (256, 1.0))) * 0.055
    slabs = np.random.default_rng(5).standard_normal((8, 8), dtype=np.float32)
    paving = cv2.resize(slabs, (TILE, TILE), interpolation=cv2.INTER_NEAREST) * 0.05
    paving = paving + 0.025 * _fractal(6, ((64, 1.0), (256, 1.0)))
    slab = TILE // 8
    for line in range(3):  # joints 9 cm wide, or they would vanish between pixels
        paving[line::slab] = -0.3
        paving[:, line::slab] = -0.3
    grass = _fractal(7, ((8, 0.5), (32, 0.6), (128, 1.0), (256, 1.0))) * 0.13
    return np.ascontiguousarray(np.dstack((asphalt, paving, grass)).astype(np.float32))


def crop(texture: Floats, height: int, width: int, dice: Dice) -> Floats:
    """A random window of a wrapping texture, of any size."""
    if max(height, width) <= TILE:
        top, left = dice.integer(0, TILE - height), dice.integer(0, TILE - width)
        return texture[top : top + height, left : left + width]
    top, left = dice.integer(0, TILE - 1), dice.integer(0, TILE - 1)
    rows = np.arange(top, top + height) % TILE
    columns = np.arange(left, left + width) % TILE
    return np.asarray(texture[rows][:, columns])


def scaled_crop(texture: Floats, height: int, width: int, cell: float, dice: Dice) -> Floats:
    """The same, each texel drawn `cell` pixels wide."""
    rows, columns = math.ceil(height / cell), math.ceil(width / cell)
    window = crop(texture, rows, columns, dice)
    if (rows, columns) == (height, width):
        return window
    return _resized(window, height, width)


def _resized(window: Any, height: int, width: int) -> Floats:
    return np.asarray(cv2.resize(window, (width, height), interpolation=cv2.INTER_LINEAR))


# Numbered from back to front: where two classes meet, the higher number is the nearer one.
SKY, BUILDING, ROAD, PAVEMENT, GRASS, TREE, BUS, TRUCK, CAR, POLE, PERSON = range(11)

FAR = 120.0  # metres to the end of the street
OVERSAMPLING = 2  # canvas pixels along an image pixel's side
Point = tuple[float, float]
Ink = tuple[float, float, float, int]  # RGB and label


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

    def fill(self, points: Any, ink: Ink) -> None:
        """Fill a convex polygon given in canvas coordinates."""
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


# How much foliage noise each class shows.
GRAIN = np.array([0, 0.035, 0, 0, 0, 0.17, 0.02, 0.02, 0.02, 0.02, 0.03], np.float32)


def develop(stage: Stage) -> tuple[Bytes, Bytes]:
    """From the canvas to the image: texture, shadow, clouds, lamps, lens and sensor."""
    dice, light = stage.dice, stage.light
    height, width = stage.shadows.shape
    labels = _front_half(np.asarray(cv2.extractChannel(stage.canvas, 3), np.uint8))
    small = cv2.resize(stage.canvas, (width, height), interpolation=cv2.INTER_AREA)
    image: Floats = cv2.cvtColor(small, cv2.COLOR_RGBA2RGB).astype(np.float32)
    cell = max(1.0, stage.unit / 256)

    grain = scaled_crop(foliage_noise(), height, width, cell, dice)
    factor = GRAIN.take(labels) * grain
    factor += 1
    top = max(0, min(height - 1, int(stage.row / OVERSAMPLING)))
    factor[top:] += _ground_field(stage, labels[top:], top)

    ground = ((labels >= ROAD) & (labels <= GRASS)).view(np.uint8)
    shade = cv2.GaussianBlur(stage.shadows, (3, 3), 0) * ground
    factor *= 1 - shade * np.float32(1 / 255)
    across = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(0.09 * light.sun)
    down = 1 - 0.1 * np.linspace(-1, 1, height, dtype=np.float32) ** 2
    factor *= (1 + across) * down[:, None]
    cv2.multiply(image, cv2.merge((factor, factor, factor)), dst=image)

    if light.clouds > 0.05:
        clouds = scaled_crop(cloud_noise(), height, width, cell, dice)
        veil = np.clip(clouds, -0.2, 1.4) + np.float32(0.2)
        veil *= (labels == SKY) * np.float32(light.clouds * (60 if not light.dusk else 24))
        image += cv2.merge((veil, veil, veil))
    if stage.lamps:
        image += _glow(stage, labels)
    sigma = dice.uniform(0.0, 0.5) * cell**0.6
    if sigma > 0.35:
        cv2.GaussianBlur(image, (3, 3) if cell == 1 else (0, 0), sigma, dst=image)
    noise = crop(sensor_noise(), height, width, dice) * np.float32(dice.uniform(0.5, 3.5))
    return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), np.uint8), labels


def _front_half(fine: Bytes) -> Bytes:
    """The nearest class that, with what lies before it, covers half of each 2×2 canvas pixels."""
    low, high = np.minimum(fine[::2], fine[1::2]), np.maximum(fine[::2], fine[1::2])
    upper = np.minimum(high[:, ::2], high[:, 1::2])
    lower = np.maximum(low[:, ::2], low[:, 1::2])
    return np.maximum(upper, lower)


def _ground_field(stage: Stage, labels: Bytes, top: int) -> Floats:
    """Asphalt, paving and turf in perspective, for the rows from `top` on."""
    height, width = labels.shape
    rows = (np.arange(top, top + height, dtype=np.float32) + 0.5) * OVERSAMPLING
    z = stage.focal * stage.camera_height / np.maximum(rows - stage.row, 1)
    z = np.minimum(z, np.float32(FAR))
    columns = (np.arange(width, dtype=np.float32) + 0.5) * OVERSAMPLING - stage.column
    texels = np.float32(TILE / TILE_METRES)
    shift = (stage.camera_x - stage.bend * z * z)[:, None] * texels
    across = columns * (z[:, None] * (texels / np.float32(stage.focal))) + shift
    across -= TILE * np.floor(across / TILE)  # remap is slow where it has to wrap
    along = np.empty_like(across)
    along[:] = (z * texels % TILE)[:, None]
    field = cv2.remap(ground_textures(), across, along, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)
    asphalt, paving, turf = cv2.split(field)
    fade = (1 / (1 + (z * (256 / stage.unit) / 14) ** 2)).astype(np.float32)[:, None]
    picked = asphalt * (labels == ROAD)
    picked += paving * (labels == PAVEMENT)
    picked *= fade
    turf *= np.maximum(fade, np.float32(0.3))
    picked += turf * (labels == GRASS)
    return np.asarray(picked, np.float32)


def _glow(stage: Stage, labels: Bytes) -> Floats:
    """Light spilt around lamps that nothing hides, in the dark."""
    height, width = labels.shape
    glow = np.zeros((height, width, 3), np.float32)
    for (u, v), label, radius, colour in stage.lamps:
        column, row = int(u / OVERSAMPLING), int(v / OVERSAMPLING)
        if 0 <= column < width and 0 <= row < height and labels[row, column] == label:
            cv2.circle(glow, (column, row), max(1, int(radius / OVERSAMPLING)), colour, -1)
    spilt = cv2.GaussianBlur(glow, (0, 0), 1.8 * stage.unit / 256)
    return np.asarray(spilt * np.float32(0.9 * stage.light.dusk), np.float32)

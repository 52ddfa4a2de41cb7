"""Street scenes drawn on the fly, nothing on disk.

A scene is a function of a generator's state and a size. It is laid out in meters (road, pavements,
houses, traffic), drawn back to front through a pinhole camera, and then lit and blurred. Color and
label are drawn by the same strokes. Some classes are meant to be mistaken for each other: road and
pavement, grass and tree, bus and truck, pole and person.
"""

import math
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.data.scenes.stage import FAR, OVERSAMPLING, Bytes, Draws, Label, Stage, random_light
from pne_seg.data.scenes.street import lay_out

Floats = npt.NDArray[np.float32]

IGNORE = 255  # the label of the rim where two classes meet
_SMALLEST = 32  # pixels along a side; below that a person has no pixel of their own
_TILE = 256  # pixels along the side of a cached texture
_TILE_METERS = 8.0  # what a ground texture's side stands for
# Seed and octaves of noise: blotches a few pixels wide over finer grain, and broad soft shapes.
_FOLIAGE = (1, (32, 0.7), (64, 1.0), (128, 0.8), (256, 0.5))
_CLOUDS = (2, (4, 1.0), (8, 0.8), (16, 0.45), (32, 0.25), (64, 0.12))
# How much foliage noise each class shows; a look-up table has a place for every byte.
_GRAIN = np.zeros(256, np.float32)
_GRAIN[:11] = (0, 0.035, 0, 0, 0, 0.17, 0.02, 0.02, 0.02, 0.02, 0.03)


def render_scene(
    generator: np.random.Generator, height: int = 96, width: int = 128
) -> tuple[Bytes, Bytes]:
    """Draw one street scene: the image, (height, width, 3) RGB, and its labels, both uint8.

    Labels are class indices, and `IGNORE` on a rim one pixel wide where two classes meet.
    """
    image, labels = draw_scene(generator, height, width)
    return image, with_rim(labels)


def draw_scene(generator: np.random.Generator, height: int, width: int) -> tuple[Bytes, Bytes]:
    """Draw the same scene with every pixel labeled: no rim."""
    if min(height, width) < _SMALLEST:
        raise ValueError(
            f"a scene of {height}×{width} pixels is too small to show its poles and people: "
            f"ask for at least {_SMALLEST}×{_SMALLEST}"
        )
    rng = Draws(generator)
    stage = Stage(height, width, rng, random_light(rng))
    lay_out(stage)
    return _develop(stage)


def with_rim(labels: Bytes) -> Bytes:
    """Ignore each pixel with a nearer class above, below or beside it.

    The rim lies on the farther side only, so that it takes nothing from thin things.
    """
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    rimmed = labels.copy()
    rimmed[cv2.dilate(labels, cross) > labels] = IGNORE
    return rimmed


def _develop(stage: Stage) -> tuple[Bytes, Bytes]:
    """Make the image of the canvas: texture, shadow, clouds, lamps, lens and sensor."""
    rng, light = stage.rng, stage.light
    height, width = stage.shadows.shape
    labels = _front_half(np.asarray(cv2.extractChannel(stage.canvas, 3), np.uint8))
    small = cv2.resize(stage.canvas, (width, height), interpolation=cv2.INTER_AREA)
    image: Floats = cv2.cvtColor(small, cv2.COLOR_RGBA2RGB).astype(np.float32)
    cell = max(1.0, stage.unit / 256)

    grain = _scaled_crop(_fractal(*_FOLIAGE), height, width, cell, rng)
    factor = cv2.LUT(labels, _GRAIN) * grain
    factor += 1
    top = max(0, min(height - 1, int(stage.row / OVERSAMPLING)))
    factor[top:] += _ground_field(stage, labels[top:], top)

    ground = ((labels >= Label.ROAD) & (labels <= Label.GRASS)).view(np.uint8)
    shade = cv2.GaussianBlur(stage.shadows, (3, 3), 0) * ground
    factor *= 1 - shade * np.float32(1 / 255)
    across, down = (np.linspace(-1, 1, side, dtype=np.float32) for side in (width, height))
    across *= np.float32(0.09 * light.sun)
    factor *= (1 + across) * (1 - 0.1 * down**2)[:, None]
    cv2.multiply(image, cv2.merge((factor, factor, factor)), dst=image)

    if light.clouds > 0.05:
        clouds = _scaled_crop(_fractal(*_CLOUDS), height, width, cell, rng)
        veil = np.clip(clouds, -0.2, 1.4) + np.float32(0.2)
        veil *= (labels == Label.SKY) * np.float32(light.clouds * (60 if not light.dusk else 24))
        image += cv2.merge((veil, veil, veil))
    if stage.lamps:
        image += _glow(stage, labels)
    sigma = rng.uniform(0.0, 0.5) * cell**0.6
    if sigma > 0.35:
        cv2.GaussianBlur(image, (3, 3) if cell == 1 else (0, 0), sigma, dst=image)
    noise = _crop(_sensor_noise(), height, width, rng) * np.float32(rng.uniform(0.5, 3.5))
    return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), np.uint8), labels


def _front_half(fine: Bytes) -> Bytes:
    """Pick the nearest class that, with what lies before it, covers half of 2×2 canvas pixels."""
    low, high = np.minimum(fine[::2], fine[1::2]), np.maximum(fine[::2], fine[1::2])
    upper = np.minimum(high[:, ::2], high[:, 1::2])
    lower = np.maximum(low[:, ::2], low[:, 1::2])
    return np.maximum(upper, lower)


def _ground_field(stage: Stage, labels: Bytes, top: int) -> Floats:
    """Draw asphalt, paving and turf in perspective, for the rows from `top` on."""
    height, width = labels.shape
    rows = (np.arange(top, top + height, dtype=np.float32) + 0.5) * OVERSAMPLING
    z = stage.focal * stage.camera_height / np.maximum(rows - stage.row, 1)
    z = np.minimum(z, np.float32(FAR))
    columns = (np.arange(width, dtype=np.float32) + 0.5) * OVERSAMPLING - stage.column
    texels = np.float32(_TILE / _TILE_METERS)
    shift = (stage.camera_x - stage.bend * z * z)[:, None] * texels
    across = columns * (z[:, None] * (texels / np.float32(stage.focal))) + shift
    across -= _TILE * np.floor(across / _TILE)  # remap is slow where it has to wrap
    along = np.empty_like(across)
    along[:] = (z * texels % _TILE)[:, None]
    field = cv2.remap(_ground_textures(), across, along, cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)
    asphalt, paving, turf, _ = cv2.split(field)
    fade = (1 / (1 + (z * (256 / stage.unit) / 14) ** 2)).astype(np.float32)[:, None]
    picked = asphalt * (labels == Label.ROAD)
    picked += paving * (labels == Label.PAVEMENT)
    picked *= fade
    turf *= np.maximum(fade, np.float32(0.3))
    picked += turf * (labels == Label.GRASS)
    return np.asarray(picked, np.float32)


def _glow(stage: Stage, labels: Bytes) -> Floats:
    """Spill light around lamps that nothing hides, in the dark."""
    height, width = labels.shape
    glow = np.zeros((height, width, 3), np.float32)
    for (u, v), label, radius, color in stage.lamps:
        column, row = int(u / OVERSAMPLING), int(v / OVERSAMPLING)
        if 0 <= column < width and 0 <= row < height and labels[row, column] == label:
            cv2.circle(glow, (column, row), max(1, int(radius / OVERSAMPLING)), color, -1)
    spilt = cv2.GaussianBlur(glow, (0, 0), 1.8 * stage.unit / 256)
    return np.asarray(spilt * np.float32(0.9 * stage.light.dusk), np.float32)


def _crop(texture: Floats, height: int, width: int, rng: Draws) -> Floats:
    """Cut a random window of a wrapping texture, of any size."""
    if max(height, width) <= _TILE:
        top, left = rng.integer(0, _TILE - height), rng.integer(0, _TILE - width)
        return texture[top : top + height, left : left + width]
    top, left = rng.integer(0, _TILE - 1), rng.integer(0, _TILE - 1)
    rows = np.arange(top, top + height) % _TILE
    columns = np.arange(left, left + width) % _TILE
    return np.asarray(texture[rows][:, columns])


def _scaled_crop(texture: Floats, height: int, width: int, cell: float, rng: Draws) -> Floats:
    """Cut a window whose texels are `cell` pixels wide."""
    window = _crop(texture, math.ceil(height / cell), math.ceil(width / cell), rng)
    if window.shape == (height, width):
        return window
    return np.asarray(cv2.resize(window, (width, height), interpolation=cv2.INTER_LINEAR))


@cache
def _fractal(seed: int, *octaves: tuple[int, float]) -> Floats:
    """Make a tile that wraps round, mean 0 and deviation 1: octaves are (cells a side, weight)."""
    generator, total = np.random.default_rng(seed), np.zeros((_TILE, _TILE), np.float32)
    for cells, weight in octaves:
        grid = np.pad(generator.standard_normal((cells, cells), dtype=np.float32), 2, mode="wrap")
        step = _TILE // cells
        whole = cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += weight * whole[2 * step : 2 * step + _TILE, 2 * step : 2 * step + _TILE]
    total -= total.mean()
    return np.asarray(total / total.std(), np.float32)


@cache
def _sensor_noise() -> Floats:
    """Make white noise, one plane per color, partly shared between them."""
    generator = np.random.default_rng(3)
    luma = generator.standard_normal((_TILE, _TILE, 1), dtype=np.float32)
    chroma = generator.standard_normal((_TILE, _TILE, 3), dtype=np.float32)
    return np.ascontiguousarray(0.8 * luma + 0.6 * chroma)


@cache
def _ground_textures() -> Floats:
    """Make asphalt, paving with joints and grass, as factors less one: (_TILE, _TILE, 4).

    The last plane is empty: OpenCV maps four planes twice as fast as three.
    """
    asphalt = _fractal(4, (4, 0.6), (8, 0.4), (128, 0.6), (256, 1.0)) * 0.055
    slabs = np.random.default_rng(5).standard_normal((8, 8), dtype=np.float32)
    paving = cv2.resize(slabs, (_TILE, _TILE), interpolation=cv2.INTER_NEAREST) * 0.05
    paving = paving + 0.025 * _fractal(6, (64, 1.0), (256, 1.0))
    slab = _TILE // 8
    for line in range(3):  # joints 9 cm wide, or they would vanish between pixels
        paving[line::slab] = -0.3
        paving[:, line::slab] = -0.3
    grass = _fractal(7, (8, 0.5), (32, 0.6), (128, 1.0), (256, 1.0)) * 0.13
    return np.dstack((asphalt, paving, grass, np.zeros_like(grass))).astype(np.float32)

"""Textures, made once and cut to size for each scene: foliage, clouds, ground and sensor noise."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.data.scenes.dice import Dice

Floats = npt.NDArray[np.float32]

TILE = 256  # pixels along the side of a cached texture
TILE_METRES = 8.0  # what a ground texture's side stands for


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
    """Asphalt, paving with joints and grass, as factors less one: (TILE, TILE, 4).

    The last plane is empty: OpenCV maps four planes twice as fast as three.
    """
    asphalt = _fractal(4, ((4, 0.6), (8, 0.4), (128, 0.6), (256, 1.0))) * 0.055
    slabs = np.random.default_rng(5).standard_normal((8, 8), dtype=np.float32)
    paving = cv2.resize(slabs, (TILE, TILE), interpolation=cv2.INTER_NEAREST) * 0.05
    paving = paving + 0.025 * _fractal(6, ((64, 1.0), (256, 1.0)))
    slab = TILE // 8
    for line in range(3):  # joints 9 cm wide, or they would vanish between pixels
        paving[line::slab] = -0.3
        paving[:, line::slab] = -0.3
    grass = _fractal(7, ((8, 0.5), (32, 0.6), (128, 1.0), (256, 1.0))) * 0.13
    return np.dstack((asphalt, paving, grass, np.zeros_like(grass))).astype(np.float32)


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

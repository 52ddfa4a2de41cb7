"""From the canvas to the picture: texture, shadow, clouds, lamps, lens and sensor."""

from functools import cache

import cv2
import numpy as np

from pne_seg.data.scenes.classes import GRASS, PAVEMENT, ROAD, SKY
from pne_seg.data.scenes.stage import FAR, OVERSAMPLING, Bytes, Stage
from pne_seg.data.scenes.textures import (
    TILE,
    TILE_METRES,
    Floats,
    cloud_noise,
    crop,
    foliage_noise,
    ground_textures,
    scaled_crop,
    sensor_noise,
)

# How much foliage noise each class shows; a look-up table has a place for every byte.
GRAIN = np.zeros(256, np.float32)
GRAIN[:11] = (0, 0.035, 0, 0, 0, 0.17, 0.02, 0.02, 0.02, 0.02, 0.03)


def develop(stage: Stage) -> tuple[Bytes, Bytes]:
    """From the canvas to the image: texture, shadow, clouds, lamps, lens and sensor."""
    dice, light = stage.dice, stage.light
    height, width = stage.shadows.shape
    labels = _front_half(np.asarray(cv2.extractChannel(stage.canvas, 3), np.uint8))
    small = cv2.resize(stage.canvas, (width, height), interpolation=cv2.INTER_AREA)
    image: Floats = cv2.cvtColor(small, cv2.COLOR_RGBA2RGB).astype(np.float32)
    cell = max(1.0, stage.unit / 256)

    grain = scaled_crop(foliage_noise(), height, width, cell, dice)
    factor = cv2.LUT(labels, GRAIN) * grain
    factor += 1
    top = max(0, min(height - 1, int(stage.row / OVERSAMPLING)))
    factor[top:] += _ground_field(stage, labels[top:], top)

    ground = ((labels >= ROAD) & (labels <= GRASS)).view(np.uint8)
    shade = cv2.GaussianBlur(stage.shadows, (3, 3), 0) * ground
    factor *= 1 - shade * np.float32(1 / 255)
    across = _ramp(width) * np.float32(0.09 * light.sun)
    down = 1 - 0.1 * _ramp(height) ** 2
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


@cache
def _ramp(length: int) -> Floats:
    """From -1 to 1."""
    return np.linspace(-1, 1, length, dtype=np.float32)


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
    asphalt, paving, turf, _ = cv2.split(field)
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

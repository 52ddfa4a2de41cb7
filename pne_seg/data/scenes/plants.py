"""Trees and bushes."""

import math
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.data.scenes.classes import TREE
from pne_seg.data.scenes.colours import Colour
from pne_seg.data.scenes.stage import Stage


def draw_tree(stage: Stage, x: float, z: float, height: float, leaf: Colour) -> None:
    """A trunk and a crown of overlapping blobs, lit from the sun's side."""
    dice, at = stage.dice, stage.at
    if stage.hidden(x, z, 0.4 * height):
        return
    scale = stage.focal / z
    leaf = dice.jitter(leaf, 0.14)
    slender = dice.chance(0.25)
    radius = height * (0.17 if slender else dice.uniform(0.26, 0.36))
    crown = height - radius * (2.1 if slender else 1.0)
    stage.cast(x, z, z, radius * 1.4, height * 0.8)
    bark = stage.ink(dice.jitter((92, 78, 64), 0.15), TREE, z, 0.9)
    stage.post(at(x, 0, z), at(x, max(crown, 0.3), z), 0.035 * height * scale, bark)
    centre = at(x, crown, z)
    tall = 2.1 if slender else dice.uniform(0.85, 1.1)
    lumps = dice.choice(_crowns()) * (radius * scale, radius * scale * tall) + centre
    cv2.fillPoly(stage.canvas, [lumps.astype(np.int32)], stage.ink(leaf, TREE, z, 0.78))
    if radius * scale < 5:
        return
    lean = stage.light.sun * (0.3 if stage.light.shadow > 0.2 else 0.05)
    shades = (0.62, 0.7, 0.9, 0.98, 1.08, 1.2) if radius * scale > 14 else (0.66, 0.94, 1.12)
    for shade in shades:
        drop = (0.95 - shade) * 1.1
        spot = (
            centre[0] + radius * scale * (dice.uniform(-0.45, 0.45) + (shade - 0.85) * lean * 2),
            centre[1] + radius * scale * tall * (dice.uniform(-0.2, 0.2) + drop),
        )
        stage.disc(spot, radius * scale * dice.uniform(0.2, 0.36), stage.ink(leaf, TREE, z, shade))


@cache
def _crowns() -> Sequence[npt.NDArray[np.float64]]:
    """Outlines of crowns of radius 1."""
    angles = np.linspace(0, 2 * math.pi, 18, endpoint=False)
    lumps = np.random.default_rng(8).uniform(0.78, 1.12, (64, 18))
    return list(np.stack((np.cos(angles) * lumps, np.sin(angles) * lumps), axis=-1))


def draw_bush(stage: Stage, x: float, z: float, width: float, leaf: Colour) -> None:
    """A low shrub: grass's colour, a tree's texture."""
    if stage.hidden(x, z, width):
        return
    scale = stage.focal / z
    for k in range(3):
        spot = stage.at(x + (k - 1) * width / 3, 0.45, z)
        ink = stage.ink(leaf, TREE, z, (0.75, 0.95, 0.85)[k])
        stage.disc(spot, width * scale * stage.dice.uniform(0.24, 0.32), ink)

"""What lies farthest off: the sky, and a skyline or trees where the street ends."""

import numpy as np

from pne_seg.data.scenes.classes import BUILDING, SKY, TREE
from pne_seg.data.scenes.colours import BRICK, CONCRETE
from pne_seg.data.scenes.stage import FAR, Stage
from pne_seg.data.scenes.street import Street


def draw_sky(stage: Stage) -> None:
    """A gradient down to the horizon."""
    light = stage.light
    share = np.minimum(np.arange(stage.rows) / max(stage.row, 1.0), 1)[:, None] ** 1.2
    ramp = np.full((stage.rows, 4), SKY, np.uint8)
    ramp[:, :3] = np.minimum(share * light.sky_low + (1 - share) * light.sky_top, 255)
    stage.canvas.view(np.uint32)[..., 0] = ramp.view(np.uint32)  # a pixel is one word


def draw_backdrop(stage: Stage, street: Street) -> None:
    """A skyline or a line of trees."""
    dice, unit = stage.dice, stage.unit
    base = stage.at(0, 0, FAR)[1] + 3
    u = 0.0
    if street.town == "green" or dice.chance(0.35):
        ink = stage.ink(street.leaf, TREE, FAR * 0.7, 0.75)
        while u < stage.columns + 10:
            radius = unit * dice.uniform(0.015, 0.04)
            stage.disc((u, base - radius * 0.6), radius, ink)
            u += radius
    else:
        while u < stage.columns:
            wide = unit * dice.uniform(0.05, 0.12)
            top = base - unit * dice.uniform(0.03, 0.13)
            wall = dice.jitter(dice.choice(CONCRETE + BRICK), 0.15)
            ink = stage.ink(wall, BUILDING, FAR * 0.8)
            stage.fill(((u, base), (u, top), (u + wide, top), (u + wide, base)), ink)
            u += wide

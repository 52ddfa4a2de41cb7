"""Houses: terraces, shops and offices with their roofs and windows."""

import numpy as np

from pne_seg.data.scenes.classes import BUILDING
from pne_seg.data.scenes.colours import (
    BRICK,
    CLOTHES,
    CONCRETE,
    FLEET,
    GLASS,
    LIT,
    PLASTER,
    Colour,
    between,
)
from pne_seg.data.scenes.stage import Ink, Stage


def draw_building(
    stage: Stage, side: int, x: float, z0: float, z1: float, height: float, kind: str
) -> None:
    """A house whose front follows the road on one side (-1 left, 1 right) from z0 to z1."""
    dice, light, at = stage.dice, stage.light, stage.at
    z0 = max(z0, stage.near)
    if z1 - z0 < 1 or (stage.hidden(x, z1, 0) and stage.hidden(x, z0, 0)):
        return
    if side * light.sun > 0:
        stage.cast(x, z0, z1, 0.0, 0.6 * height)
    middle = (z0 + z1) / 2
    walls = {
        "terrace": BRICK + PLASTER[:3],
        "shop": PLASTER + BRICK,
        "office": CONCRETE + PLASTER[3:],
    }
    wall = dice.jitter(dice.choice(walls[kind]), 0.12)
    front, end = light.facing(-side), light.facing(0)
    depth = dice.uniform(8, 12)
    pitch = dice.uniform(1.6, 3.2) if kind == "terrace" or dice.chance(0.25) else 0.0
    gabled = pitch > 0 and dice.chance(0.4)
    far_x = x + side * depth
    # The wall towards the camera, seen over a lower neighbour or across a gap.
    end_ink = stage.ink(wall, BUILDING, z0, end * 0.95)
    stage.fill((at(x, 0, z0), at(far_x, 0, z0), at(far_x, height, z0), at(x, height, z0)), end_ink)
    if 4 < z0 < 25:
        panes = []
        for k in range(min(3, int(height / 3.2))):
            low, high = at(x, 1 + 3.1 * k, z0)[1], at(x, 2.5 + 3.1 * k, z0)[1]
            for s in (0.18, 0.62):
                left, right = (
                    at(x + side * depth * s, 0, z0)[0],
                    at(x + side * depth * (s + 0.2), 0, z0)[0],
                )
                panes.append(((left, low), (right, low), (right, high), (left, high)))
        if panes:
            stage.fill_many(np.array(panes), stage.ink(GLASS, BUILDING, z0, end))
    roof = dice.jitter(dice.choice(((92, 70, 62), (78, 80, 88), (120, 72, 56))), 0.1)
    if pitch and not gabled:
        ridge = x + side * depth / 2
        stage.fill(
            (at(x, height, z0), at(far_x, height, z0), at(ridge, height + pitch, z0)), end_ink
        )
        eaves, top = at(x, height, z1), at(ridge, height + pitch, z1)
        if top[1] < eaves[1]:
            slope = (at(x, height, z0), eaves, top, at(ridge, height + pitch, z0))
            stage.fill(slope, stage.ink(roof, BUILDING, middle, front))
            if dice.chance(0.6):
                foot, tip = (
                    at(ridge, height + pitch - 0.6, middle),
                    at(ridge, height + pitch + 1.1, middle),
                )
                stage.post(foot, tip, stage.focal / middle, stage.ink(wall, BUILDING, middle, 0.8))
    ink = stage.ink(wall, BUILDING, middle, front)
    outline = [at(x, 0, z0), at(x, 0, z1), at(x, height, z1), at(x, height, z0)]
    if gabled:
        outline.insert(3, at(x, height + pitch, middle))
    stage.fill(outline, ink)
    _windows(stage, x, z0, z1, height, kind, wall, front)
    if not gabled and z0 < 35:
        y = height - 0.35
        trim = stage.ink(wall, BUILDING, middle, front * 1.18)
        stage.fill((at(x, y, z0), at(x, y, z1), at(x, height, z1), at(x, height, z0)), trim)


def _windows(
    stage: Stage,
    x: float,
    z0: float,
    z1: float,
    height: float,
    kind: str,
    wall: Colour,
    shade: float,
) -> None:
    """Storeys of windows on a front, and a shop window or doors below."""
    dice, light = stage.dice, stage.light
    middle = (z0 + z1) / 2
    storey = dice.uniform(2.8, 3.4)
    first = dice.uniform(3.4, 4.2) if kind != "terrace" else 0.0
    floors = max(1, min(7, int((height - first - 0.2) / storey)))
    pitch = dice.uniform(1.6, 2.2) if kind == "office" else dice.uniform(2.2, 3.2)
    bays = max(1, min(8, int((z1 - z0) / pitch)))
    wide = dice.uniform(0.74, 0.94) if kind == "office" else dice.uniform(0.36, 0.5)
    tall = dice.uniform(0.5, 0.62)
    glass = dice.jitter(GLASS, 0.35)
    span = abs(stage.at(x, 0, z0)[0] - stage.at(x, 0, z1)[0])
    if span < 9:
        return
    if span < 6 * bays:  # from afar the windows of a storey run together
        glass, bays, wide = between(wall, glass, wide), 1, 0.96
    bay = (z1 - z0) / bays
    z_edges = z0 + bay * (np.arange(bays)[:, None] + (0.5 - wide / 2, 0.5 + wide / 2))
    y_edges = first + storey * (np.arange(floors)[:, None] + (0.28, 0.28 + tall))
    scale = stage.focal / z_edges
    squared = z_edges * z_edges
    u = stage.column + (x - stage.camera_x + stage.bend * squared) * scale
    v = stage.row + (stage.camera_height - stage.climb * squared) * scale
    grid = np.empty((floors, bays, 4, 2))
    grid[:, :, ::3, 0] = u[:, :1]
    grid[:, :, 1:3, 0] = u[:, 1:]
    grid[:, :, :2, 1] = v - y_edges[:, :1, None] * scale
    grid[:, :, 3:1:-1, 1] = v - y_edges[:, 1:, None] * scale
    corners = grid.reshape(-1, 4, 2)
    if bays > 1 and kind != "office" and z0 < 22:  # frames show only near by
        frame = corners + 0.14 * (corners - corners[:, (2, 3, 0, 1)])
        tone = dice.choice(((226, 222, 214), wall))
        stage.fill_many(frame, stage.ink(tone, BUILDING, middle, shade * 1.1))
    stage.fill_many(corners, stage.ink(glass, BUILDING, middle, shade))
    if light.dusk and bays > 1:
        lit = [i for i in range(len(corners)) if dice.chance(0.3 * light.dusk)]
        if lit:
            stage.fill_many(corners[lit], (*LIT, BUILDING))
    if first:
        sign = dice.jitter(dice.choice(FLEET + CLOTHES), 0.2)
        pane = stage.ink(GLASS, BUILDING, middle, shade) if not light.dusk else (*LIT, BUILDING)
        _front_band(stage, x, z0, z1, 0.45, first - 1.0, pane)
        _front_band(
            stage, x, z0, z1, first - 0.95, first - 0.25, stage.ink(sign, BUILDING, middle, shade)
        )


def _front_band(
    stage: Stage, x: float, z0: float, z1: float, y0: float, y1: float, ink: Ink
) -> None:
    at, inset = stage.at, 0.06 * (z1 - z0)
    z0, z1 = z0 + inset, z1 - inset
    stage.fill((at(x, y0, z0), at(x, y0, z1), at(x, y1, z1), at(x, y1, z0)), ink)

"""What stands beside the road: houses, trees and bushes, poles, people."""

import math
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.data.scenes.stage import (
    BRICK,
    CLOTHES,
    CONCRETE,
    FLEET,
    GLASS,
    LIT,
    OVERSAMPLING,
    PLASTER,
    Color,
    Label,
    LabeledColor,
    Stage,
)

_WALLS = {"terrace": BRICK + PLASTER[:3], "shop": PLASTER + BRICK, "office": CONCRETE + PLASTER[3:]}
_ROOFS = ((92, 70, 62), (78, 80, 88), (120, 72, 56))
_POLES = ((84, 88, 90), (58, 62, 62), (128, 130, 130))
_SKIN = ((224, 180, 150), (180, 130, 98), (118, 82, 62))


def draw_building(
    stage: Stage, side: int, x: float, z0: float, z1: float, height: float, kind: str
) -> None:
    """Draw a house whose front follows the road on one side (-1 left, 1 right) from z0 to z1."""
    rng, light, at = stage.rng, stage.light, stage.at
    z0 = max(z0, stage.near)
    if z1 - z0 < 1 or (stage.hidden(x, z1, 0) and stage.hidden(x, z0, 0)):
        return
    if side * light.sun > 0:
        stage.cast(x, z0, z1, 0.0, 0.6 * height)
    middle = (z0 + z1) / 2
    wall = rng.color(_WALLS[kind], 0.12)
    front, end = light.facing(-side), light.facing(0)
    depth = rng.uniform(8, 12)
    pitch = rng.uniform(1.6, 3.2) if kind == "terrace" or rng.chance(0.25) else 0.0
    gabled = pitch > 0 and rng.chance(0.4)
    far_x = x + side * depth

    def seen(color: Color, shade: float, z: float = middle) -> LabeledColor:
        return stage.as_seen(color, Label.BUILDING, z, shade)

    # The wall towards the camera, seen over a lower neighbor or across a gap.
    surface = seen(wall, end * 0.95, z0)
    stage.fill((at(x, 0, z0), at(far_x, 0, z0), at(far_x, height, z0), at(x, height, z0)), surface)
    if 4 < z0 < 25:
        panes = []
        for k in range(min(3, int(height / 3.2))):
            low, high = at(x, 1 + 3.1 * k, z0)[1], at(x, 2.5 + 3.1 * k, z0)[1]
            for s in (0.18, 0.62):
                left = at(x + side * depth * s, 0, z0)[0]
                right = at(x + side * depth * (s + 0.2), 0, z0)[0]
                panes.append(((left, low), (right, low), (right, high), (left, high)))
        if panes:
            stage.fill_many(np.array(panes), seen(GLASS, end, z0))
    roof = rng.color(_ROOFS, 0.1)
    if pitch and not gabled:
        ridge, top = x + side * depth / 2, height + pitch
        stage.fill((at(x, height, z0), at(far_x, height, z0), at(ridge, top, z0)), surface)
        if at(ridge, top, z1)[1] < at(x, height, z1)[1]:
            slope = (at(x, height, z0), at(x, height, z1), at(ridge, top, z1), at(ridge, top, z0))
            stage.fill(slope, seen(roof, front))
            if rng.chance(0.6):
                foot, tip = at(ridge, top - 0.6, middle), at(ridge, top + 1.1, middle)
                stage.post(foot, tip, stage.focal / middle, seen(wall, 0.8))
    outline = [at(x, 0, z0), at(x, 0, z1), at(x, height, z1), at(x, height, z0)]
    if gabled:
        outline.insert(3, at(x, height + pitch, middle))
    stage.fill(outline, seen(wall, front))
    _draw_windows(stage, x, z0, z1, height, kind, wall, front)
    if not gabled and z0 < 35:
        stage.front(x, height - 0.35, height, z0, z1, seen(wall, front * 1.18))


def _draw_windows(
    stage: Stage,
    x: float,
    z0: float,
    z1: float,
    height: float,
    kind: str,
    wall: Color,
    shade: float,
) -> None:
    """Draw storeys of windows on a front, and a shop window or doors below."""
    rng, light = stage.rng, stage.light
    office = kind == "office"
    middle = (z0 + z1) / 2
    storey = rng.uniform(2.8, 3.4)
    first = rng.uniform(3.4, 4.2) if kind != "terrace" else 0.0
    floors = max(1, min(7, int((height - first - 0.2) / storey)))
    pitch = rng.uniform(1.6, 2.2) if office else rng.uniform(2.2, 3.2)
    bays = max(1, min(8, int((z1 - z0) / pitch)))
    wide = rng.uniform(0.74, 0.94) if office else rng.uniform(0.36, 0.5)
    tall = rng.uniform(0.5, 0.62)
    glass = rng.jitter(GLASS, 0.35)
    span = abs(stage.at(x, 0, z0)[0] - stage.at(x, 0, z1)[0])
    if span < 9:
        return
    if span < 6 * bays:  # from afar the windows of a storey run together
        red, green, blue = (w * (1 - wide) + g * wide for w, g in zip(wall, glass, strict=True))
        glass, bays, wide = (red, green, blue), 1, 0.96
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
    if bays > 1 and not office and z0 < 22:  # frames show only near by
        frame = corners + 0.14 * (corners - corners[:, (2, 3, 0, 1)])
        tone = rng.choice(((226, 222, 214), wall))
        stage.fill_many(frame, stage.as_seen(tone, Label.BUILDING, middle, shade * 1.1))
    stage.fill_many(corners, stage.as_seen(glass, Label.BUILDING, middle, shade))
    if light.dusk and bays > 1:
        lit = [i for i in range(len(corners)) if rng.chance(0.3 * light.dusk)]
        if lit:
            stage.fill_many(corners[lit], (*LIT, Label.BUILDING))
    if first:
        sign = stage.as_seen(rng.color(FLEET + CLOTHES, 0.2), Label.BUILDING, middle, shade)
        pane = (
            stage.as_seen(GLASS, Label.BUILDING, middle, shade)
            if not light.dusk
            else (*LIT, Label.BUILDING)
        )
        inset = 0.06 * (z1 - z0)
        for y0, y1, surface in ((0.45, first - 1.0, pane), (first - 0.95, first - 0.25, sign)):
            stage.front(x, y0, y1, z0 + inset, z1 - inset, surface)


def draw_tree(stage: Stage, x: float, z: float, height: float, leaf: Color) -> None:
    """Draw a trunk and a crown of overlapping blobs, lit from the sun's side."""
    rng, at = stage.rng, stage.at
    if stage.hidden(x, z, 0.4 * height):
        return
    scale = stage.focal / z
    leaf = rng.jitter(leaf, 0.14)
    slender = rng.chance(0.25)
    radius = height * (0.17 if slender else rng.uniform(0.26, 0.36))
    crown = height - radius * (2.1 if slender else 1.0)
    stage.cast(x, z, z, radius * 1.4, height * 0.8)
    bark = stage.as_seen(rng.jitter((92, 78, 64), 0.15), Label.TREE, z, 0.9)
    stage.post(at(x, 0, z), at(x, max(crown, 0.3), z), 0.035 * height * scale, bark)
    u, v = at(x, crown, z)
    tall = 2.1 if slender else rng.uniform(0.85, 1.1)
    wide = radius * scale
    lumps = rng.choice(_crowns()) * (wide, wide * tall) + (u, v)
    cv2.fillPoly(stage.canvas, [lumps.astype(np.int32)], stage.as_seen(leaf, Label.TREE, z, 0.78))
    if wide < 5:
        return
    lean = stage.light.sun * (0.3 if stage.light.shadow > 0.2 else 0.05)
    shades = (0.62, 0.7, 0.9, 0.98, 1.08, 1.2) if wide > 14 else (0.66, 0.94, 1.12)
    for shade in shades:
        drop = (0.95 - shade) * 1.1
        spot = (
            u + wide * (rng.uniform(-0.45, 0.45) + (shade - 0.85) * lean * 2),
            v + wide * tall * (rng.uniform(-0.2, 0.2) + drop),
        )
        stage.disc(spot, wide * rng.uniform(0.2, 0.36), stage.as_seen(leaf, Label.TREE, z, shade))


@cache
def _crowns() -> Sequence[npt.NDArray[np.float64]]:
    """Make outlines of crowns of radius 1."""
    angles = np.linspace(0, 2 * math.pi, 18, endpoint=False)
    lumps = np.random.default_rng(8).uniform(0.78, 1.12, (64, 18))
    return list(np.stack((np.cos(angles) * lumps, np.sin(angles) * lumps), axis=-1))


def draw_bush(stage: Stage, x: float, z: float, width: float, leaf: Color) -> None:
    """Draw a low shrub: grass's color, a tree's texture."""
    if stage.hidden(x, z, width):
        return
    scale = stage.focal / z
    for k, shade in ((-1, 0.75), (0, 0.95), (1, 0.85)):
        spot, surface = (
            stage.at(x + k * width / 3, 0.45, z),
            stage.as_seen(leaf, Label.TREE, z, shade),
        )
        stage.disc(spot, width * scale * stage.rng.uniform(0.24, 0.32), surface)


def draw_pole(stage: Stage, x: float, z: float, kind: str) -> None:
    """Draw a lamp post, a traffic light, a road sign or a bollard."""
    if stage.hidden(x, z, 2.0):
        return
    rng, at = stage.rng, stage.at
    scale = stage.focal / z
    gray = stage.as_seen(rng.color(_POLES, 0.1), Label.POLE, z)
    least, most, wide = {
        "lamp": (5, 8, 0.19),
        "signal": (2.6, 3.4, 0.17),
        "sign": (2.1, 2.8, 0.11),
        "bollard": (0.8, 1.1, 0.18),
    }[kind]
    high = rng.uniform(least, most)
    stage.post(at(x, 0, z), at(x, high, z), wide * scale, gray)
    if kind == "lamp":
        reach = x + (-1 if x > 0 else 1) * rng.uniform(0.9, 1.6)
        thick = max(0.12 * scale, OVERSAMPLING)
        (u0, v0), (u1, v1) = at(x, high, z), at(reach, high + 0.25, z)
        stage.fill(((u0, v0), (u1, v1), (u1, v1 + thick - 1), (u0, v0 + thick - 1)), gray)
        stage.lamp((u1, v1), Label.POLE, 0.55 * scale, LIT)
    elif kind == "signal":
        case = stage.as_seen((34, 36, 36), Label.POLE, z)
        stage.post(at(x, high - 0.3, z), at(x, high + 0.8, z), 0.42 * scale, case)
        lit = rng.integer(0, 2)
        color = ((60, 220, 120), (250, 180, 40), (240, 50, 40))[lit]
        spot = at(x, high + 0.32 * lit - 0.08, z)
        stage.disc(spot, 0.12 * scale, (*color, Label.POLE))
        stage.lamp(spot, Label.POLE, 0.3 * scale, color)
    elif kind == "sign":
        rim = stage.as_seen(rng.choice(((200, 40, 40), (40, 84, 170))), Label.POLE, z)
        center, radius = at(x, high + 0.25, z), 0.36 * scale
        stage.disc(center, radius, rim)
        if radius > 3:
            stage.disc(center, radius * 0.62, stage.as_seen((232, 232, 228), Label.POLE, z))
    stage.cast(x, z, z, 0.15, 3.0)


def draw_person(stage: Stage, x: float, z: float) -> None:
    """Draw someone standing or walking: legs, coat, arms and head."""
    if stage.hidden(x, z, 0.5):
        return
    rng, at = stage.rng, stage.at
    scale = stage.focal / z
    tall = rng.uniform(1.5, 1.9)
    coat = rng.color(CLOTHES, 0.2)
    legs = stage.as_seen(rng.color(CLOTHES[:5], 0.2), Label.PERSON, z, 0.8)
    upper = stage.as_seen(coat, Label.PERSON, z, 1.0)
    stride = rng.uniform(0.02, 0.26)
    stage.cast(x, z, z, 0.4, tall)
    hip = tall * 0.48
    for sign in (-1, 1):
        foot, top = at(x + sign * stride, 0, z), at(x + sign * 0.07, hip, z)
        stage.post(foot, top, 0.17 * scale, legs)
    broad = rng.uniform(0.2, 0.25)
    left, right = at(x - broad, tall * 0.82, z), at(x + broad, tall * 0.82, z)
    if right[0] - left[0] < OVERSAMPLING:
        stage.post(at(x, 0, z), at(x, tall, z), 0.4 * scale, upper)
    else:
        low = at(x + broad * 0.8, hip * 0.9, z)
        stage.fill((left, right, low, (2 * at(x, 0, z)[0] - low[0], low[1])), upper)
        if scale > 12:
            arm = stage.as_seen(coat, Label.PERSON, z, 0.82)
            for sign in (-1, 1):
                shoulder = at(x + sign * broad, tall * 0.8, z)
                hand = at(x + sign * (broad + 0.08 + stride / 3), tall * 0.47, z)
                stage.post(hand, shoulder, 0.1 * scale, arm)
    stage.disc(
        at(x, tall * 0.92, z), 0.125 * scale, stage.as_seen(rng.choice(_SKIN), Label.PERSON, z)
    )

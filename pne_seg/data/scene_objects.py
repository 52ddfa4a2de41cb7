"""What stands in a procedural scene: houses, trees, vehicles, poles and people."""

import math
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.data.scene_textures import (
    BUILDING,
    BUS,
    CAR,
    OVERSAMPLING,
    PERSON,
    POLE,
    TREE,
    TRUCK,
    Colour,
    Ink,
    Point,
    Stage,
)

Paint = tuple[Sequence[Point], Colour]  # polygon in face coordinates (0..1 each), its colour

LEAF = ((74, 104, 48), (88, 118, 54), (62, 92, 52), (104, 118, 52), (128, 112, 46))
BRICK = ((150, 84, 66), (166, 106, 80), (124, 74, 62), (186, 150, 112), (140, 116, 98))
PLASTER = ((214, 204, 184), (196, 188, 176), (222, 196, 150), (176, 186, 190), (206, 170, 150))
CONCRETE = ((150, 150, 148), (128, 132, 136), (172, 168, 160), (110, 118, 128))
FLEET = (
    (196, 58, 50),
    (214, 206, 196),
    (58, 104, 158),
    (228, 178, 60),
    (70, 128, 96),
    (120, 124, 132),
)
CARS = (
    (40, 42, 46),
    (200, 202, 206),
    (150, 32, 34),
    (40, 66, 116),
    (122, 126, 130),
    (86, 96, 84),
    (226, 226, 222),
)
CLOTHES = (
    (52, 54, 64),
    (126, 40, 44),
    (40, 66, 108),
    (188, 178, 164),
    (84, 88, 92),
    (196, 140, 52),
    (60, 92, 74),
)
SKIN = ((224, 180, 150), (180, 130, 98), (118, 82, 62))
GLASS: Colour = (58, 70, 84)
LIT: Colour = (255, 205, 130)


def box_rect(s0: float, t0: float, s1: float, t1: float) -> tuple[Point, ...]:
    """A rectangle in face coordinates."""
    return ((s0, t0), (s1, t0), (s1, t1), (s0, t1))


def building(
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
    grid[:, :, (0, 3), 0] = u[:, :1]
    grid[:, :, (1, 2), 0] = u[:, 1:]
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


@cache
def _crowns() -> Sequence[npt.NDArray[np.float64]]:
    """Outlines of crowns of radius 1."""
    angles = np.linspace(0, 2 * math.pi, 18, endpoint=False)
    lumps = np.random.default_rng(8).uniform(0.78, 1.12, (64, 18))
    return list(np.stack((np.cos(angles) * lumps, np.sin(angles) * lumps), axis=-1))


def tree(stage: Stage, x: float, z: float, height: float, leaf: Colour) -> None:
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


def bush(stage: Stage, x: float, z: float, width: float, leaf: Colour) -> None:
    """A low shrub: grass's colour, a tree's texture."""
    if stage.hidden(x, z, width):
        return
    scale = stage.focal / z
    for k in range(3):
        spot = stage.at(x + (k - 1) * width / 3, 0.45, z)
        ink = stage.ink(leaf, TREE, z, (0.75, 0.95, 0.85)[k])
        stage.disc(spot, width * scale * stage.dice.uniform(0.24, 0.32), ink)


class Pose:
    """Where a vehicle stands and which way it heads (0: away from the camera, radians)."""

    def __init__(self, stage: Stage, x: float, z: float, heading: float) -> None:
        self.stage, self.x, self.z = stage, x, z
        self.sine, self.cosine = math.sin(heading), math.cos(heading)

    def at(self, along: float, across: float, y: float) -> tuple[float, float, float]:
        """Canvas column and row of a point of the vehicle, and its distance."""
        stage = self.stage
        x = self.x + along * self.sine + across * self.cosine - stage.camera_x
        z = max(self.z + along * self.cosine - across * self.sine, stage.near)
        scale, squared = stage.focal / z, z * z
        u = stage.column + (x + stage.bend * squared) * scale
        return u, stage.row + (stage.camera_height - y - stage.climb * squared) * scale, z

    def body(
        self,
        label: int,
        colour: Colour,
        bottom: tuple[float, float, float],
        top: tuple[float, float, float],
        y0: float,
        y1: float,
        paints: dict[str, Sequence[Paint]],
    ) -> None:
        """A tapering box: `bottom` and `top` are (rear, front, half width); paints go by face."""
        stage = self.stage
        (a0, a1, b0), (c0, c1, d0) = bottom, top
        at = self.at
        low = (at(a0, -b0, y0), at(a0, b0, y0), at(a1, b0, y0), at(a1, -b0, y0))
        high = (at(c0, -d0, y1), at(c0, d0, y1), at(c1, d0, y1), at(c1, -d0, y1))
        spots = low + high
        turns = {"right": self.cosine, "left": -self.cosine, "front": self.sine, "rear": -self.sine}
        for face, (i, j, k, n) in FACES.items():
            (u0, v0, near), (u1, v1, far) = spots[i], spots[j]
            (u2, v2, _), (u3, v3, _) = spots[k], spots[n]
            if (u2 - u0) * (v3 - v1) - (v2 - v0) * (u3 - u1) >= 0:  # seen from behind
                continue
            shade = 1.12 if face == "top" else stage.light.facing(turns[face])
            quad = ((u0, v0), (u1, v1), (u2, v2), (u3, v3))
            stage.fill(quad, stage.ink(colour, label, self.z, shade))
            if v0 - v3 < 7:
                continue
            for polygon, tone in paints.get(face, ()):
                points = []
                for s, t in polygon:
                    s *= far / (near + s * (far - near))  # perspective along the face
                    p, q = 1 - s, 1 - t
                    points.append(
                        (
                            (u0 * p + u1 * s) * q + (u3 * p + u2 * s) * t,
                            (v0 * p + v1 * s) * q + (v3 * p + v2 * s) * t,
                        )
                    )
                shines = stage.light.dusk and tone in SHINING
                stage.fill(points, stage.ink(tone, label, self.z, 2.2 if shines else shade))


FACES = {  # corners at (s, t) = (0, 0), (1, 0), (1, 1), (0, 1); 0–3 below, 4–7 above
    "top": (4, 5, 6, 7),
    "rear": (0, 1, 5, 4),
    "front": (2, 3, 7, 6),
    "left": (3, 0, 4, 7),
    "right": (1, 2, 6, 5),
}
TYRE: Colour = (26, 26, 28)
REAR_LAMP: Colour = (214, 36, 30)
HEADLAMP: Colour = (250, 246, 226)
PLATE: Colour = (230, 220, 170)
SHINING = (REAR_LAMP, HEADLAMP, LIT)


def _wheels(y0: float, y1: float, radius: float, length: float, *places: float) -> list[Paint]:
    """Wheels on a side face of this height and length, at places from 0 to 1."""
    wheels: list[Paint] = []
    for place in places:
        ring = [k * math.pi / 4 for k in range(8)]
        height, wide = y1 - y0, radius / length
        middle = (radius - y0) / height
        outline = [
            (place + wide * math.cos(k), middle + radius / height * math.sin(k)) for k in ring
        ]
        wheels.append((outline, TYRE))
    return wheels


def between(one: Colour, other: Colour, share: float) -> Colour:
    """A mixture of two colours: `share` of the other."""
    keep = 1 - share
    return (
        one[0] * keep + other[0] * share,
        one[1] * keep + other[1] * share,
        one[2] * keep + other[2] * share,
    )


def shaded(colour: Colour, factor: float) -> Colour:
    """The colour, so much darker."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def _lamps(pose: Pose, label: int, half: float, across: float, y: float) -> None:
    """The glow, in the dark, of a vehicle's lamps at the end that faces the camera."""
    stage = pose.stage
    if not stage.light.dusk:
        return
    away = pose.cosine > 0
    for side in (-across, across):
        place = pose.at(-half if away else half, side, y)[:2]
        stage.lamp(place, label, 0.22 * stage.focal / pose.z, REAR_LAMP if away else HEADLAMP)


def car(stage: Stage, x: float, z: float, heading: float) -> None:
    """A car: a body, and a cabin of glass with a roof."""
    dice = stage.dice
    pose = Pose(stage, x, z, heading)
    paint = dice.jitter(dice.choice(CARS), 0.12)
    high, length = dice.uniform(1.4, 1.75), dice.uniform(1.9, 2.3)
    rear_lamps = [
        (box_rect(0.02, 0.45, 0.2, 0.75), REAR_LAMP),
        (box_rect(0.8, 0.45, 0.98, 0.75), REAR_LAMP),
    ]
    lamps = [(box_rect(0.04, 0.5, 0.24, 0.8), HEADLAMP), (box_rect(0.76, 0.5, 0.96, 0.8), HEADLAMP)]
    sides = _wheels(0.25, 0.9, 0.33, 2 * length, 0.2, 0.8)
    dark = shaded(paint, 0.45)
    glass = (48, 56, 66)
    pose.body(
        CAR,
        paint,
        (-length, length, 0.88),
        (-length, length, 0.85),
        0.25,
        0.9,
        {
            "rear": [
                (box_rect(0, 0, 1, 0.25), dark),
                *rear_lamps,
                (box_rect(0.36, 0.3, 0.64, 0.5), PLATE),
            ],
            "front": [(box_rect(0.1, 0, 0.9, 0.35), dark), *lamps],
            "left": sides,
            "right": sides,
        },
    )
    window = [(box_rect(0.06, 0.12, 0.48, 0.86), glass), (box_rect(0.53, 0.12, 0.94, 0.86), glass)]
    screen = [(box_rect(0.08, 0.12, 0.92, 0.88), glass)]
    pose.body(
        CAR,
        paint,
        (-0.92 * length, 0.5 * length, 0.82),
        (-0.66 * length, 0.12 * length, 0.66),
        0.9,
        high,
        {"rear": screen, "front": screen, "left": window, "right": window},
    )
    _tyres(pose, CAR, length, 0.8)
    _lamps(pose, CAR, length, 0.7, 0.65)


def _tyres(pose: Pose, label: int, length: float, half: float) -> None:
    """Tyres below the end that faces the camera."""
    if pose.z > 35:
        return
    end = -length + 0.4 if pose.cosine > 0 else length - 0.4
    for side in (-half, half):
        quad = (
            pose.at(end, side - 0.12, 0)[:2],
            pose.at(end, side + 0.12, 0)[:2],
            pose.at(end, side + 0.12, 0.3)[:2],
            pose.at(end, side - 0.12, 0.3)[:2],
        )
        pose.stage.fill(quad, pose.stage.ink(TYRE, label, pose.z))


def bus(stage: Stage, x: float, z: float, heading: float) -> None:
    """A bus: one box, a row of windows along its sides, a wide pane at each end."""
    dice = stage.dice
    pose = Pose(stage, x, z, heading)
    paint = dice.jitter(dice.choice(FLEET), 0.14)
    half, high = dice.uniform(4.6, 6.0), dice.uniform(2.9, 3.3)
    double = dice.chance(0.15)
    glass = LIT if stage.light.dusk > 0.5 else dice.jitter((52, 60, 70), 0.15)
    high += 1.2 * double
    skirt = shaded(dice.choice((paint, (212, 206, 198))), 0.8)
    panes = 6
    rows = ((0.26, 0.48), (0.66, 0.88)) if double else ((0.42, 0.8),)
    sides: list[Paint] = [(box_rect(0, 0, 1, 0.2), skirt)]
    for low, top in rows:
        if z > 30:
            sides.append((box_rect(0.03, low, 0.97, top), glass))
            continue
        for k in range(panes):
            sides.append((box_rect((k + 0.12) / panes, low, (k + 0.9) / panes, top), glass))
    sides += _wheels(0.35, high, 0.5, 2 * half, 0.2, 0.76)
    board = (255, 170, 60)
    pose.body(
        BUS,
        paint,
        (-half, half, 1.25),
        (-half, half, 1.22),
        0.35,
        high,
        {
            "left": sides,
            "right": sides,
            "rear": [
                *((box_rect(0.12, low + 0.06, 0.88, top + 0.04), glass) for low, top in rows),
                (box_rect(0, 0, 1, 0.12), skirt),
                (box_rect(0.02, 0.18, 0.12, 0.32), REAR_LAMP),
                (box_rect(0.88, 0.18, 0.98, 0.32), REAR_LAMP),
            ],
            "front": [
                *((box_rect(0.06, low - 0.06, 0.94, top), glass) for low, top in rows),
                (box_rect(0.2, 0.87, 0.8, 0.96), board),
                (box_rect(0.04, 0.1, 0.2, 0.2), HEADLAMP),
                (box_rect(0.8, 0.1, 0.96, 0.2), HEADLAMP),
            ],
        },
    )
    _tyres(pose, BUS, half, 1.0)
    _lamps(pose, BUS, half, 1.05, 0.8)


def truck(stage: Stage, x: float, z: float, heading: float) -> None:
    """A truck: a closed cargo box behind a lower cab, with a gap between."""
    dice = stage.dice
    pose = Pose(stage, x, z, heading)
    paint = dice.jitter(dice.choice(FLEET), 0.14)
    half, high = dice.uniform(3.4, 5.2), dice.uniform(2.9, 3.7)
    cargo = dice.choice((paint, dice.jitter(dice.choice(FLEET), 0.14), (206, 204, 200)))
    stripe = dice.choice(FLEET)
    seam = shaded(cargo, 0.6)
    glass = (48, 56, 66)
    bed = half - 2.0  # where the cargo box ends and the gap begins
    cab_sides: list[Paint] = [(box_rect(0.2, 0.5, 0.8, 0.84), glass)]
    sides: list[Paint] = []
    if dice.chance(0.6):
        sides = [(box_rect(0.08, 0.4, 0.92, 0.62), stripe)]
    elif z < 30:
        sides = [(box_rect(k / 6, 0, k / 6 + 0.012, 1), seam) for k in range(1, 6)]
    wheels = _wheels(0.4, 0.9, 0.48, 2 * half, 0.14, 0.3, 0.86)
    mirrored = _wheels(0.4, 0.9, 0.48, 2 * half, 0.86, 0.7, 0.14)
    chassis = (46, 46, 48)

    def cab() -> None:
        pose.body(
            TRUCK,
            paint,
            (half - 1.8, half, 1.15),
            (half - 1.8, half - 0.2, 1.1),
            0.5,
            min(2.7, high - 0.3),
            {
                "left": cab_sides,
                "right": cab_sides,
                "front": [
                    (box_rect(0.08, 0.5, 0.92, 0.88), glass),
                    (box_rect(0.2, 0.08, 0.8, 0.36), shaded(paint, 0.4)),
                    (box_rect(0.03, 0.08, 0.17, 0.2), HEADLAMP),
                    (box_rect(0.83, 0.08, 0.97, 0.2), HEADLAMP),
                ],
            },
        )

    def box() -> None:
        pose.body(
            TRUCK,
            cargo,
            (-half, bed, 1.25),
            (-half, bed, 1.25),
            0.85,
            high,
            {
                "left": sides,
                "right": sides,
                "rear": [
                    (box_rect(0.485, 0, 0.515, 1), seam),
                    (box_rect(0, 0, 1, 0.05), (70, 70, 72)),
                    (box_rect(0.3, 0.1, 0.34, 0.95), seam),
                    (box_rect(0.66, 0.1, 0.7, 0.95), seam),
                ],
            },
        )

    tail: list[Paint] = [
        (box_rect(0.04, 0.3, 0.2, 0.8), REAR_LAMP),
        (box_rect(0.8, 0.3, 0.96, 0.8), REAR_LAMP),
    ]
    pose.body(
        TRUCK,
        chassis,
        (-half, half - 0.3, 1.1),
        (-half, half - 0.3, 1.1),
        0.4,
        0.9,
        {"left": mirrored, "right": wheels, "rear": tail},
    )
    _tyres(pose, TRUCK, half, 0.95)
    for part in (cab, box) if pose.cosine > 0 else (box, cab):
        part()
    _lamps(pose, TRUCK, half, 0.95, 0.75)


def pole(stage: Stage, x: float, z: float, kind: str) -> None:
    """A lamp post, a traffic light, a road sign or a bollard."""
    if stage.hidden(x, z, 2.0):
        return
    dice, at = stage.dice, stage.at
    scale = stage.focal / z
    grey = stage.ink(
        dice.jitter(dice.choice(((84, 88, 90), (58, 62, 62), (128, 130, 130))), 0.1), POLE, z
    )
    inward = -1 if x > 0 else 1
    if kind == "lamp":
        high = dice.uniform(5, 8)
        stage.post(at(x, 0, z), at(x, high, z), 0.19 * scale, grey)
        reach = x + inward * dice.uniform(0.9, 1.6)
        thick = max(0.12 * scale, OVERSAMPLING)
        (u0, v0), (u1, v1) = at(x, high, z), at(reach, high + 0.25, z)
        stage.fill(((u0, v0), (u1, v1), (u1, v1 + thick - 1), (u0, v0 + thick - 1)), grey)
        stage.lamp((u1, v1), POLE, 0.55 * scale, LIT)
    elif kind == "signal":
        high = dice.uniform(2.6, 3.4)
        stage.post(at(x, 0, z), at(x, high, z), 0.17 * scale, grey)
        stage.post(
            at(x, high - 0.3, z),
            at(x, high + 0.8, z),
            0.42 * scale,
            stage.ink((34, 36, 36), POLE, z),
        )
        lit = dice.integer(0, 2)
        colour = ((60, 220, 120), (250, 180, 40), (240, 50, 40))[lit]
        spot = at(x, high + 0.32 * lit - 0.08, z)
        stage.disc(spot, 0.12 * scale, (*colour, POLE))
        stage.lamp(spot, POLE, 0.3 * scale, colour)
    elif kind == "sign":
        high = dice.uniform(2.1, 2.8)
        stage.post(at(x, 0, z), at(x, high, z), 0.11 * scale, grey)
        rim = stage.ink(dice.choice(((200, 40, 40), (40, 84, 170))), POLE, z)
        centre, radius = at(x, high + 0.25, z), 0.36 * scale
        stage.disc(centre, radius, rim)
        if radius > 3:
            stage.disc(centre, radius * 0.62, stage.ink((232, 232, 228), POLE, z))
    else:
        stage.post(at(x, 0, z), at(x, dice.uniform(0.8, 1.1), z), 0.18 * scale, grey)
    stage.cast(x, z, z, 0.15, 3.0)


def person(stage: Stage, x: float, z: float) -> None:
    """Someone standing or walking: legs, coat, arms and head."""
    if stage.hidden(x, z, 0.5):
        return
    dice, at = stage.dice, stage.at
    scale = stage.focal / z
    tall = dice.uniform(1.5, 1.9)
    coat = dice.jitter(dice.choice(CLOTHES), 0.2)
    legs = stage.ink(dice.jitter(dice.choice(CLOTHES[:5]), 0.2), PERSON, z, 0.8)
    upper = stage.ink(coat, PERSON, z, 1.0)
    stride = dice.uniform(0.02, 0.26)
    stage.cast(x, z, z, 0.4, tall)
    hip = tall * 0.48
    thick = 0.17 * scale
    for sign in (-1, 1):
        stage.post(at(x + sign * stride, 0, z), at(x + sign * 0.07, hip, z), thick, legs)
    broad = dice.uniform(0.2, 0.25)
    left, right = at(x - broad, tall * 0.82, z), at(x + broad, tall * 0.82, z)
    if right[0] - left[0] < OVERSAMPLING:
        stage.post(at(x, 0, z), at(x, tall, z), 0.4 * scale, upper)
    else:
        low = at(x + broad * 0.8, hip * 0.9, z)
        stage.fill((left, right, low, (2 * at(x, 0, z)[0] - low[0], low[1])), upper)
        if scale > 12:
            arm = stage.ink(coat, PERSON, z, 0.82)
            for sign in (-1, 1):
                shoulder = at(x + sign * broad, tall * 0.8, z)
                hand = at(x + sign * (broad + 0.08 + stride / 3), tall * 0.47, z)
                stage.post(hand, shoulder, 0.1 * scale, arm)
    stage.disc(at(x, tall * 0.92, z), 0.125 * scale, stage.ink(dice.choice(SKIN), PERSON, z))

"""Cars, buses and trucks: painted boxes in perspective, with wheels and lamps."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from pne_seg.data.scenes.stage import FLEET, LIT, OVERSAMPLING, Color, Label, Point, Stage, shaded

Paints = Sequence[tuple[Sequence[Point], Color]]  # polygons on a face, 0 to 1 along each side

_FACES = {  # corners at (s, t) = (0, 0), (1, 0), (1, 1), (0, 1); 0–3 below, 4–7 above
    "top": (4, 5, 6, 7),
    "rear": (0, 1, 5, 4),
    "front": (2, 3, 7, 6),
    "left": (3, 0, 4, 7),
    "right": (1, 2, 6, 5),
}
# fmt: off
_CARS = ((40, 42, 46), (200, 202, 206), (150, 32, 34), (40, 66, 116), (122, 126, 130),
         (86, 96, 84), (226, 226, 222))
# fmt: on
_TYRE, _GLASS = (26, 26, 28), (48, 56, 66)
_REAR_LAMP, _HEADLAMP, _PLATE = (214, 36, 30), (250, 246, 226), (230, 220, 170)
_SHINING = (_REAR_LAMP, _HEADLAMP, LIT)
_RING = [(math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)) for k in range(8)]


def _panes(color: Color, *panes: tuple[float, float, float, float]) -> Paints:
    """Paint rectangles (s0, t0, s1, t1)."""
    return [(((s0, t0), (s1, t0), (s1, t1), (s0, t1)), color) for s0, t0, s1, t1 in panes]


def _wheels(y0: float, y1: float, radius: float, length: float, *places: float) -> Paints:
    """Paint wheels on a side face of this height and length, at places from 0 to 1."""
    wide, high, middle = radius / length, radius / (y1 - y0), (radius - y0) / (y1 - y0)
    return [
        ([(place + wide * cosine, middle + high * sine) for cosine, sine in _RING], _TYRE)
        for place in places
    ]


class _Vehicle:
    """A vehicle at a place, and which way it heads (0: away from the camera, radians)."""

    def __init__(self, stage: Stage, label: int, x: float, z: float, heading: float) -> None:
        self.stage, self.label, self.x, self.z = stage, label, x, z
        self.sine, self.cosine = math.sin(heading), math.cos(heading)

    def at(self, along: float, across: float, y: float) -> tuple[float, float, float]:
        """Return canvas column and row of a point of the vehicle, and its distance."""
        stage = self.stage
        x = self.x + along * self.sine + across * self.cosine - stage.camera_x
        z = max(self.z + along * self.cosine - across * self.sine, stage.near)
        scale, squared = stage.focal / z, z * z
        u = stage.column + (x + stage.bend * squared) * scale
        return u, stage.row + (stage.camera_height - y - stage.climb * squared) * scale, z

    def box(
        self,
        color: Color,
        bottom: tuple[float, float, float],
        top: tuple[float, float, float],
        y0: float,
        y1: float,
        **paints: Paints,
    ) -> None:
        """Draw a tapering box: `bottom` and `top` are (rear, front, half width)."""
        stage, at = self.stage, self.at
        spots = [
            at(along, across, y)
            for (rear, front, half), y in ((bottom, y0), (top, y1))
            for along, across in ((rear, -half), (rear, half), (front, half), (front, -half))
        ]
        turns = {"right": self.cosine, "left": -self.cosine, "front": self.sine, "rear": -self.sine}
        for face, (i, j, k, n) in _FACES.items():
            (u0, v0, near), (u1, v1, far) = spots[i], spots[j]
            (u2, v2, _), (u3, v3, _) = spots[k], spots[n]
            if (u2 - u0) * (v3 - v1) - (v2 - v0) * (u3 - u1) >= 0:  # seen from behind
                continue
            shade = 1.12 if face == "top" else stage.light.facing(turns[face])
            quad = ((u0, v0), (u1, v1), (u2, v2), (u3, v3))
            stage.fill(quad, stage.as_seen(color, self.label, self.z, shade))
            if v0 - v3 < 7:
                continue
            for polygon, tone in paints.get(face, ()):
                points = []
                for s, t in polygon:
                    s *= far / (near + s * (far - near))  # perspective along the face
                    p, q = 1 - s, 1 - t
                    u = (u0 * p + u1 * s) * q + (u3 * p + u2 * s) * t
                    points.append((u, (v0 * p + v1 * s) * q + (v3 * p + v2 * s) * t))
                shines = stage.light.dusk and tone in _SHINING
                painted = stage.as_seen(tone, self.label, self.z, 2.2 if shines else shade)
                stage.fill(points, painted)

    def draw_tyres(self, length: float, half: float) -> None:
        """Draw the tyres below the end that faces the camera."""
        if self.z > 35:
            return
        end = -length + 0.4 if self.cosine > 0 else length - 0.4
        for side in (-half, half):
            corners = ((side - 0.12, 0), (side + 0.12, 0), (side + 0.12, 0.3), (side - 0.12, 0.3))
            quad = [self.at(end, across, y)[:2] for across, y in corners]
            self.stage.fill(quad, self.stage.as_seen(_TYRE, self.label, self.z))

    def add_glow(self, half: float, across: float, y: float) -> None:
        """Add the glow of the lamps at the end that faces the camera, in the dark."""
        away = self.cosine > 0
        for side in (-across, across):
            place = self.at(-half if away else half, side, y)[:2]
            color = _REAR_LAMP if away else _HEADLAMP
            self.stage.lamp(place, self.label, 0.22 * self.stage.focal / self.z, color)


def draw_car(stage: Stage, x: float, z: float, heading: float) -> None:
    """Draw a body, and a cabin of glass with a roof."""
    rng, car = stage.rng, _Vehicle(stage, Label.CAR, x, z, heading)
    paint = rng.color(_CARS, 0.12)
    high, length = rng.uniform(1.4, 1.75), rng.uniform(1.9, 2.3)
    dark = shaded(paint, 0.45)
    wheels = _wheels(0.25, 0.9, 0.33, 2 * length, 0.2, 0.8)
    rear = [
        *_panes(dark, (0, 0, 1, 0.25)),
        *_panes(_REAR_LAMP, (0.02, 0.45, 0.2, 0.75), (0.8, 0.45, 0.98, 0.75)),
        *_panes(_PLATE, (0.36, 0.3, 0.64, 0.5)),
    ]
    front = [
        *_panes(dark, (0.1, 0, 0.9, 0.35)),
        *_panes(_HEADLAMP, (0.04, 0.5, 0.24, 0.8), (0.76, 0.5, 0.96, 0.8)),
    ]
    bottom, top = (-length, length, 0.88), (-length, length, 0.85)
    car.box(paint, bottom, top, 0.25, 0.9, rear=rear, front=front, left=wheels, right=wheels)
    side = _panes(_GLASS, (0.06, 0.12, 0.48, 0.86), (0.53, 0.12, 0.94, 0.86))
    screen = _panes(_GLASS, (0.08, 0.12, 0.92, 0.88))
    bottom, top = (-0.92 * length, 0.5 * length, 0.82), (-0.66 * length, 0.12 * length, 0.66)
    car.box(paint, bottom, top, 0.9, high, rear=screen, front=screen, left=side, right=side)
    car.draw_tyres(length, 0.8)
    car.add_glow(length, 0.7, 0.65)


def draw_bus(stage: Stage, x: float, z: float, heading: float) -> None:
    """Draw one box, a row of windows along its sides, a wide pane at each end."""
    rng, bus = stage.rng, _Vehicle(stage, Label.BUS, x, z, heading)
    paint = rng.color(FLEET, 0.14)
    half, high = rng.uniform(4.6, 6.0), rng.uniform(2.9, 3.3)
    double = rng.chance(0.15)
    glass = LIT if stage.light.dusk > 0.5 else rng.jitter((52, 60, 70), 0.15)
    high += 1.2 * double
    skirt = shaded(rng.choice((paint, (212, 206, 198))), 0.8)
    rows = ((0.26, 0.48), (0.66, 0.88)) if double else ((0.42, 0.8),)
    if z > 30:  # from afar the windows of a row run together
        windows = [(0.03, low, 0.97, top) for low, top in rows]
    else:
        spans = [((k + 0.12) / 6, (k + 0.9) / 6) for k in range(6)]
        windows = [(s0, low, s1, top) for low, top in rows for s0, s1 in spans]
    wheels = _wheels(0.35, high, 0.5, 2 * half, 0.2, 0.76)
    sides = [*_panes(skirt, (0, 0, 1, 0.2)), *_panes(glass, *windows), *wheels]
    rear = [
        *_panes(glass, *((0.12, low + 0.06, 0.88, top + 0.04) for low, top in rows)),
        *_panes(skirt, (0, 0, 1, 0.12)),
        *_panes(_REAR_LAMP, (0.02, 0.18, 0.12, 0.32), (0.88, 0.18, 0.98, 0.32)),
    ]
    front = [
        *_panes(glass, *((0.06, low - 0.06, 0.94, top) for low, top in rows)),
        *_panes((255, 170, 60), (0.2, 0.87, 0.8, 0.96)),  # where it goes
        *_panes(_HEADLAMP, (0.04, 0.1, 0.2, 0.2), (0.8, 0.1, 0.96, 0.2)),
    ]
    bottom, top = (-half, half, 1.25), (-half, half, 1.22)
    bus.box(paint, bottom, top, 0.35, high, left=sides, right=sides, rear=rear, front=front)
    bus.draw_tyres(half, 1.0)
    bus.add_glow(half, 1.05, 0.8)


def draw_truck(stage: Stage, x: float, z: float, heading: float) -> None:
    """Draw a closed cargo box behind a lower cab, with a gap between."""
    rng, truck = stage.rng, _Vehicle(stage, Label.TRUCK, x, z, heading)
    paint = rng.color(FLEET, 0.14)
    half, high = rng.uniform(3.4, 5.2), rng.uniform(2.9, 3.7)
    cargo = rng.choice((paint, rng.color(FLEET, 0.14), (206, 204, 200)))
    stripe = rng.choice(FLEET)
    seam = shaded(cargo, 0.6)
    sides: Paints = []
    if rng.chance(0.6):
        sides = _panes(stripe, (0.08, 0.4, 0.92, 0.62))
    elif z < 30:
        sides = _panes(seam, *((k / 6, 0, k / 6 + 0.012, 1) for k in range(1, 6)))
    rear = [
        *_panes(seam, (0.485, 0, 0.515, 1)),
        *_panes((70, 70, 72), (0, 0, 1, 0.05)),
        *_panes(seam, (0.3, 0.1, 0.34, 0.95), (0.66, 0.1, 0.7, 0.95)),
    ]
    front = [
        *_panes(_GLASS, (0.08, 0.5, 0.92, 0.88)),
        *_panes(shaded(paint, 0.4), (0.2, 0.08, 0.8, 0.36)),
        *_panes(_HEADLAMP, (0.03, 0.08, 0.17, 0.2), (0.83, 0.08, 0.97, 0.2)),
    ]
    window = _panes(_GLASS, (0.2, 0.5, 0.8, 0.84))
    lamps = _panes(_REAR_LAMP, (0.04, 0.3, 0.2, 0.8), (0.8, 0.3, 0.96, 0.8))
    left = _wheels(0.4, 0.9, 0.48, 2 * half, 0.86, 0.7, 0.14)
    right = _wheels(0.4, 0.9, 0.48, 2 * half, 0.14, 0.3, 0.86)
    chassis = (-half, half - 0.3, 1.1)
    truck.box((46, 46, 48), chassis, chassis, 0.4, 0.9, left=left, right=right, rear=lamps)
    truck.draw_tyres(half, 0.95)
    for part in ("cab", "cargo") if truck.cosine > 0 else ("cargo", "cab"):
        if part == "cab":
            bottom, top = (half - 1.8, half, 1.15), (half - 1.8, half - 0.2, 1.1)
            roof = min(2.7, high - 0.3)
            truck.box(paint, bottom, top, 0.5, roof, left=window, right=window, front=front)
        else:
            body = (-half, half - 2.0, 1.25)
            truck.box(cargo, body, body, 0.85, high, left=sides, right=sides, rear=rear)
    truck.add_glow(half, 0.95, 0.75)


def draw_contact(stage: Stage, x: float, z: float, wide: float, deep: float) -> None:
    """Draw the dark below a vehicle, and its shadow where the sun shines."""
    shift = -stage.light.sun * stage.light.reach * 1.2 if stage.light.shadow > 0.2 else 0.0
    x0, x1 = min(x - wide, x - wide + shift), max(x + wide, x + wide + shift)
    z0, z1 = max(z - deep - 0.3, stage.near), z + deep
    corners = (stage.at(x0, 0, z0), stage.at(x1, 0, z0), stage.at(x1, 0, z1), stage.at(x0, 0, z1))
    cv2.fillConvexPoly(stage.shadows, (np.array(corners) / OVERSAMPLING).astype(np.int32), 140)

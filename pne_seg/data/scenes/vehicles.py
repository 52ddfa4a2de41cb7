"""Cars, buses and trucks: painted boxes in perspective, with wheels and lamps."""

import math
from collections.abc import Sequence

from pne_seg.data.scenes.palette import BUS, CAR, CARS, FLEET, LIT, TRUCK, Color, shaded
from pne_seg.data.scenes.stage import Point, Stage

Paint = tuple[Sequence[Point], Color]  # polygon in face coordinates (0..1 each), its colour

FACES = {  # corners at (s, t) = (0, 0), (1, 0), (1, 1), (0, 1); 0–3 below, 4–7 above
    "top": (4, 5, 6, 7),
    "rear": (0, 1, 5, 4),
    "front": (2, 3, 7, 6),
    "left": (3, 0, 4, 7),
    "right": (1, 2, 6, 5),
}
TYRE: Color = (26, 26, 28)
REAR_LAMP: Color = (214, 36, 30)
PLATE: Color = (230, 220, 170)
HEADLAMP: Color = (250, 246, 226)
SHINING = (REAR_LAMP, HEADLAMP, LIT)
_RING = [(math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)) for k in range(8)]


def box_rect(s0: float, t0: float, s1: float, t1: float) -> tuple[Point, ...]:
    """A rectangle in face coordinates."""
    return ((s0, t0), (s1, t0), (s1, t1), (s0, t1))


def painted_wheels(
    y0: float, y1: float, radius: float, length: float, *places: float
) -> list[Paint]:
    """Wheels on a side face of this height and length, at places from 0 to 1."""
    wide, high, middle = radius / length, radius / (y1 - y0), (radius - y0) / (y1 - y0)
    return [
        ([(place + wide * cosine, middle + high * sine) for cosine, sine in _RING], TYRE)
        for place in places
    ]


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
        colour: Color,
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
            stage.fill(quad, stage.as_seen(colour, label, self.z, shade))
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
                stage.fill(points, stage.as_seen(tone, label, self.z, 2.2 if shines else shade))


def draw_tyres(pose: Pose, label: int, length: float, half: float) -> None:
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
        pose.stage.fill(quad, pose.stage.as_seen(TYRE, label, pose.z))


def add_lamp_glow(pose: Pose, label: int, half: float, across: float, y: float) -> None:
    """The glow, in the dark, of a vehicle's lamps at the end that faces the camera."""
    stage = pose.stage
    if not stage.light.dusk:
        return
    away = pose.cosine > 0
    for side in (-across, across):
        place = pose.at(-half if away else half, side, y)[:2]
        stage.lamp(place, label, 0.22 * stage.focal / pose.z, REAR_LAMP if away else HEADLAMP)


def draw_car(stage: Stage, x: float, z: float, heading: float) -> None:
    """A car: a body, and a cabin of glass with a roof."""
    rng = stage.rng
    pose = Pose(stage, x, z, heading)
    paint = rng.jitter(rng.choice(CARS), 0.12)
    high, length = rng.uniform(1.4, 1.75), rng.uniform(1.9, 2.3)
    rear_lamps = [
        (box_rect(0.02, 0.45, 0.2, 0.75), REAR_LAMP),
        (box_rect(0.8, 0.45, 0.98, 0.75), REAR_LAMP),
    ]
    lamps = [(box_rect(0.04, 0.5, 0.24, 0.8), HEADLAMP), (box_rect(0.76, 0.5, 0.96, 0.8), HEADLAMP)]
    sides = painted_wheels(0.25, 0.9, 0.33, 2 * length, 0.2, 0.8)
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
    draw_tyres(pose, CAR, length, 0.8)
    add_lamp_glow(pose, CAR, length, 0.7, 0.65)


def draw_bus(stage: Stage, x: float, z: float, heading: float) -> None:
    """A bus: one box, a row of windows along its sides, a wide pane at each end."""
    rng = stage.rng
    pose = Pose(stage, x, z, heading)
    paint = rng.jitter(rng.choice(FLEET), 0.14)
    half, high = rng.uniform(4.6, 6.0), rng.uniform(2.9, 3.3)
    double = rng.chance(0.15)
    glass = LIT if stage.light.dusk > 0.5 else rng.jitter((52, 60, 70), 0.15)
    high += 1.2 * double
    skirt = shaded(rng.choice((paint, (212, 206, 198))), 0.8)
    panes = 6
    rows = ((0.26, 0.48), (0.66, 0.88)) if double else ((0.42, 0.8),)
    sides: list[Paint] = [(box_rect(0, 0, 1, 0.2), skirt)]
    for low, top in rows:
        if z > 30:
            sides.append((box_rect(0.03, low, 0.97, top), glass))
            continue
        for k in range(panes):
            sides.append((box_rect((k + 0.12) / panes, low, (k + 0.9) / panes, top), glass))
    sides += painted_wheels(0.35, high, 0.5, 2 * half, 0.2, 0.76)
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
    draw_tyres(pose, BUS, half, 1.0)
    add_lamp_glow(pose, BUS, half, 1.05, 0.8)


def draw_truck(stage: Stage, x: float, z: float, heading: float) -> None:
    """A truck: a closed cargo box behind a lower cab, with a gap between."""
    rng = stage.rng
    pose = Pose(stage, x, z, heading)
    paint = rng.jitter(rng.choice(FLEET), 0.14)
    half, high = rng.uniform(3.4, 5.2), rng.uniform(2.9, 3.7)
    cargo = rng.choice((paint, rng.jitter(rng.choice(FLEET), 0.14), (206, 204, 200)))
    stripe = rng.choice(FLEET)
    seam = shaded(cargo, 0.6)
    glass = (48, 56, 66)
    bed = half - 2.0  # where the cargo box ends and the gap begins
    cab_sides: list[Paint] = [(box_rect(0.2, 0.5, 0.8, 0.84), glass)]
    sides: list[Paint] = []
    if rng.chance(0.6):
        sides = [(box_rect(0.08, 0.4, 0.92, 0.62), stripe)]
    elif z < 30:
        sides = [(box_rect(k / 6, 0, k / 6 + 0.012, 1), seam) for k in range(1, 6)]
    wheels = painted_wheels(0.4, 0.9, 0.48, 2 * half, 0.14, 0.3, 0.86)
    mirrored = painted_wheels(0.4, 0.9, 0.48, 2 * half, 0.86, 0.7, 0.14)
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
    draw_tyres(pose, TRUCK, half, 0.95)
    for part in (cab, box) if pose.cosine > 0 else (box, cab):
        part()
    add_lamp_glow(pose, TRUCK, half, 0.95, 0.75)

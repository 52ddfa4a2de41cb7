"""What vehicles are made of: painted boxes in perspective, wheels and lamps."""

import math
from collections.abc import Sequence

from pne_seg.data.scenes.colours import LIT, Colour
from pne_seg.data.scenes.stage import Point, Stage

Paint = tuple[Sequence[Point], Colour]  # polygon in face coordinates (0..1 each), its colour

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
        pose.stage.fill(quad, pose.stage.ink(TYRE, label, pose.z))


def add_lamp_glow(pose: Pose, label: int, half: float, across: float, y: float) -> None:
    """The glow, in the dark, of a vehicle's lamps at the end that faces the camera."""
    stage = pose.stage
    if not stage.light.dusk:
        return
    away = pose.cosine > 0
    for side in (-across, across):
        place = pose.at(-half if away else half, side, y)[:2]
        stage.lamp(place, label, 0.22 * stage.focal / pose.z, REAR_LAMP if away else HEADLAMP)

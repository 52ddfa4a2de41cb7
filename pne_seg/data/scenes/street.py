"""The street itself: its plan, the sky and skyline behind it, the ground with its markings."""

from dataclasses import dataclass

import cv2
import numpy as np

from pne_seg.data.scenes.stage import BRICK, CONCRETE, FAR, LEAF, Color, Draws, Label, Stage, shaded

SIDES = (-1, 1)  # left and right of the road; x counts from its center line
_SAMPLES = 19  # places along the street where a strip's edges may turn


@dataclass(frozen=True)
class Street:
    """Widths and distances in meters; those of a side go by its sign."""

    town: str  # "city", "suburb" or "green"
    half: float  # of the road's width
    camera_x: float  # where the camera stands
    walks: dict[int, float]  # pavements
    verges: dict[int, float]  # grass between road and pavement; 0: none
    gardens: dict[int, float]  # between pavement and houses; 0: none
    leaf: Color
    turf: Color
    crossing: float  # how far ahead another road crosses; 0: none does

    def front(self, side: int) -> float:
        """Return the distance from the center line to the houses."""
        return self.half + self.walks[side] + self.verges[side] + self.gardens[side]


def random_street(rng: Draws) -> Street:
    """Draw a street."""
    town = rng.choice(("city", "city", "suburb", "suburb", "green"))
    half = rng.uniform(2.8, 4.2) if town != "city" else rng.uniform(3.2, 6.5)
    lane = rng.choice((0.45, 0.45, -0.4, 1.35 if rng.chance(0.4) else 0.2))
    walks = {side: rng.uniform(1.6, 3.8) for side in SIDES}
    verges = {side: rng.uniform(1.0, 3.0) * rng.chance(0.3) for side in SIDES}
    gardens = {side: rng.uniform(2, 6) * (town != "city" or rng.chance(0.15)) for side in SIDES}
    leaf = rng.choice(LEAF)
    turf = rng.jitter(leaf, 0.1)
    crossing = rng.uniform(16, 45) if rng.chance(0.35) else 0.0
    return Street(town, half, half * lane, walks, verges, gardens, leaf, turf, crossing)


def draw_sky(stage: Stage) -> None:
    """Draw a gradient down to the horizon."""
    light = stage.light
    share = np.minimum(np.arange(stage.rows) / max(stage.row, 1.0), 1)[:, None] ** 1.2
    ramp = np.full((stage.rows, 4), Label.SKY, np.uint8)
    ramp[:, :3] = np.minimum(share * light.sky_low + (1 - share) * light.sky_top, 255)
    stage.canvas.view(np.uint32)[..., 0] = ramp.view(np.uint32)  # a pixel is one word


def draw_backdrop(stage: Stage, street: Street) -> None:
    """Draw a skyline or a line of trees."""
    rng, unit = stage.rng, stage.unit
    base = stage.at(0, 0, FAR)[1] + 3
    u = 0.0
    if street.town == "green" or rng.chance(0.35):
        surface = stage.as_seen(street.leaf, Label.TREE, FAR * 0.7, 0.75)
        while u < stage.columns + 10:
            radius = unit * rng.uniform(0.015, 0.04)
            stage.disc((u, base - radius * 0.6), radius, surface)
            u += radius
    else:
        while u < stage.columns:
            wide = unit * rng.uniform(0.05, 0.12)
            top = base - unit * rng.uniform(0.03, 0.13)
            surface = stage.as_seen(rng.color(CONCRETE + BRICK, 0.15), Label.BUILDING, FAR * 0.8)
            stage.fill(((u, base), (u, top), (u + wide, top), (u + wide, base)), surface)
            u += wide


def draw_ground(stage: Stage, street: Street) -> None:
    """Draw strips along the road: garden, pavement, verge, kerb, road and its markings."""
    rng, half, crossing = stage.rng, street.half, street.crossing
    gray = rng.uniform(78, 128)
    asphalt = rng.jitter((gray, gray * 1.0, gray * 1.03), 0.04)
    pale = gray * rng.uniform(0.95, 1.5)
    warm = rng.uniform(0.93, 1.02)
    paving = rng.jitter((pale, pale * (1 + warm) / 2, pale * warm), 0.04)
    strips = _Strips(stage)
    for side in SIDES:
        walk_in = half + street.verges[side]
        walk_out = walk_in + street.walks[side]
        lawn, pavement = (street.turf, Label.GRASS), (paving, Label.PAVEMENT)
        strips.draw(side * walk_out, side * 400, *(lawn if street.gardens[side] else pavement))
        if street.verges[side]:
            strips.draw(side * half, side * walk_in, *lawn)
        strips.draw(side * walk_in, side * walk_out, *pavement)
    if crossing:
        surface = stage.as_seen(paving, Label.PAVEMENT, crossing)
        for side in SIDES:
            stage.patch(side * half * 0.9, side * 60, crossing - 1, crossing + 9, surface)
    strips.draw(-half, half, asphalt, Label.ROAD)
    kerb = rng.jitter((pale * 1.12, pale * 1.12, pale * 1.1), 0.04)
    for side in SIDES:
        strips.draw(side * (half - 0.3), side * half, shaded(asphalt, 0.86), Label.ROAD, 40.0)
        strips.draw(side * half, side * (half + 0.18), kerb, Label.PAVEMENT, 40.0)
    if crossing:
        surface = stage.as_seen(asphalt, Label.ROAD, crossing)
        stage.patch(-60, 60, crossing + 1, crossing + 7, surface)
    _draw_markings(stage, street, asphalt)


class _Strips:
    """Draws strips of ground that follow the road, veiled in steps of distance."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        z = np.geomspace(stage.near, FAR, _SAMPLES)
        self._scale = scale = stage.focal / z
        self._center = stage.column + (stage.bend * z * z - stage.camera_x) * scale
        self._edge = np.empty((_SAMPLES, 2))
        self._edge[:, 1] = stage.row + (stage.camera_height - stage.climb * z * z) * scale
        step = 6 if stage.light.haze < 0.015 else 2  # coarse steps would show in fog
        starts = range(0, _SAMPLES - 1, step)
        self._bands = [(k, k + step + 1, float(z[k + step // 2])) for k in starts]

    def draw(self, x0: float, x1: float, color: Color, label: int, reach: float = FAR) -> None:
        """Draw between two distances from the center line, up to `reach` meters ahead."""
        lines = []
        for x in (x0, x1):
            self._edge[:, 0] = self._center + x * self._scale
            lines.append(self._edge.astype(np.int32))
        left, right = lines[0], lines[1][::-1]
        for low, high, away in self._bands:
            if away > reach:
                break
            outline = np.concatenate((left[low:high], right[_SAMPLES - high : _SAMPLES - low]))
            surface = self._stage.as_seen(color, label, away)
            cv2.fillPoly(self._stage.canvas, [outline], surface)


def _draw_markings(stage: Stage, street: Street, asphalt: Color) -> None:
    """Draw the center line, a zebra crossing, repaired asphalt."""
    rng, half, crossing = stage.rng, street.half, street.crossing
    white = rng.jitter((212, 210, 200), 0.08)
    for _ in range(rng.integer(0, 3)):
        x, z = rng.uniform(-half, half * 0.6), rng.uniform(stage.near, 22)
        repaired = stage.as_seen(asphalt, Label.ROAD, z, rng.choice((0.8, 0.88, 1.1)))
        end = min(x + rng.uniform(0.8, 2.5), half - 0.3)
        stage.patch(x, end, z, z + rng.uniform(1, 6), repaired)
    style = rng.choice(("dashes", "dashes", "solid", "none"))
    yellow = rng.chance(0.2)
    dash, gap = (3.0, 4.0) if style == "dashes" else (6.0, 0.0)
    z = stage.near + rng.uniform(0, 3)
    while style != "none" and z < 60:
        if not crossing or not crossing - 4 < z < crossing + 7:
            tone = stage.as_seen((222, 178, 60) if yellow else white, Label.ROAD, z)
            stage.patch(-0.08, 0.08, z, z + dash, tone)
        z += dash + gap
    if crossing or rng.chance(0.12):
        z = crossing - 4.5 if crossing else rng.uniform(7, 18)
        tone = stage.as_seen(white, Label.ROAD, z)
        x = -half + 0.4
        while x < half - 0.6:
            stage.patch(x, x + 0.5, z, z + 3, tone)
            x += 1.05

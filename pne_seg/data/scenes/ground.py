"""The ground: strips along the road, the crossing road, and what is painted on them."""

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.data.scenes.classes import GRASS, PAVEMENT, ROAD
from pne_seg.data.scenes.colours import Colour, shaded
from pne_seg.data.scenes.stage import FAR, Ink, Stage
from pne_seg.data.scenes.street import SIDES, Street

Ints = npt.NDArray[np.int32]

_SAMPLES = 19  # places along the street where a strip's edges may turn


def draw_ground(stage: Stage, street: Street) -> None:
    """Strips along the road: garden, pavement, verge, kerb, road and its markings."""
    dice, half, crossing = stage.dice, street.half, street.crossing
    grey = dice.uniform(78, 128)
    asphalt = dice.jitter((grey, grey * 1.0, grey * 1.03), 0.04)
    pale = grey * dice.uniform(0.95, 1.5)
    warm = dice.uniform(0.93, 1.02)
    paving = dice.jitter((pale, pale * (1 + warm) / 2, pale * warm), 0.04)
    strips = _Strips(stage)
    for side in SIDES:
        walk_in = half + street.verges[side]
        walk_out = walk_in + street.walks[side]
        outside, label = (street.turf, GRASS) if street.gardens[side] else (paving, PAVEMENT)
        strips.draw(side * walk_out, side * 400, outside, label)
        if street.verges[side]:
            strips.draw(side * half, side * walk_in, street.turf, GRASS)
        strips.draw(side * walk_in, side * walk_out, paving, PAVEMENT)
    if crossing:
        ink = stage.ink(paving, PAVEMENT, crossing)
        for side in SIDES:
            _patch(stage, side * half * 0.9, side * 60, crossing - 1, crossing + 9, ink)
    strips.draw(-half, half, asphalt, ROAD)
    kerb_tone = dice.jitter((pale * 1.12, pale * 1.12, pale * 1.1), 0.04)
    for side in SIDES:
        strips.draw(side * (half - 0.3), side * half, shaded(asphalt, 0.86), ROAD, 40.0)
        strips.draw(side * half, side * (half + 0.18), kerb_tone, PAVEMENT, 40.0)
    if crossing:
        _patch(stage, -60, 60, crossing + 1, crossing + 7, stage.ink(asphalt, ROAD, crossing))
    _draw_markings(stage, street, asphalt)


class _Strips:
    """Draws strips of ground that follow the road, veiled in steps of distance."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        z = np.geomspace(stage.near, FAR, _SAMPLES)
        self._scale = scale = stage.focal / z
        self._centre = stage.column + (stage.bend * z * z - stage.camera_x) * scale
        self._edge = np.empty((_SAMPLES, 2))
        self._edge[:, 1] = stage.row + (stage.camera_height - stage.climb * z * z) * scale
        step = 6 if stage.light.haze < 0.015 else 2  # coarse steps would show in fog
        starts = range(0, _SAMPLES - 1, step)
        self._bands = [(k, k + step + 1, float(z[k + step // 2])) for k in starts]
        self._lines: dict[float, Ints] = {}

    def draw(self, x0: float, x1: float, colour: Colour, label: int, reach: float = FAR) -> None:
        """Between two distances from the centre line, up to `reach` metres ahead."""
        stage, left, right = self._stage, self._line(x0), self._line(x1)[::-1]
        for low, high, away in self._bands:
            if away > reach:
                break
            outline = np.concatenate((left[low:high], right[_SAMPLES - high : _SAMPLES - low]))
            cv2.fillPoly(stage.canvas, [outline], stage.ink(colour, label, away))

    def _line(self, x: float) -> Ints:
        """The line this far from the centre line, on the canvas."""
        line = self._lines.get(x)
        if line is None:
            self._edge[:, 0] = self._centre + x * self._scale
            line = self._lines[x] = self._edge.astype(np.int32)
        return line


def _patch(stage: Stage, x0: float, x1: float, z0: float, z1: float, ink: Ink) -> None:
    """A rectangle on the ground."""
    at = stage.at
    stage.fill((at(x0, 0, z0), at(x1, 0, z0), at(x1, 0, z1), at(x0, 0, z1)), ink)


def _draw_markings(stage: Stage, street: Street, asphalt: Colour) -> None:
    """Centre line, zebra crossing, mended asphalt."""
    dice, half, crossing = stage.dice, street.half, street.crossing
    white = dice.jitter((212, 210, 200), 0.08)
    for _ in range(dice.integer(0, 3)):
        x, z = dice.uniform(-half, half * 0.6), dice.uniform(stage.near, 22)
        mended = stage.ink(asphalt, ROAD, z, dice.choice((0.8, 0.88, 1.1)))
        _patch(
            stage, x, min(x + dice.uniform(0.8, 2.5), half - 0.3), z, z + dice.uniform(1, 6), mended
        )
    style = dice.choice(("dashes", "dashes", "solid", "none"))
    yellow = dice.chance(0.2)
    dash, gap = (3.0, 4.0) if style == "dashes" else (6.0, 0.0)
    z = stage.near + dice.uniform(0, 3)
    while style != "none" and z < 60:
        if not crossing or not crossing - 4 < z < crossing + 7:
            tone = stage.ink((222, 178, 60) if yellow else white, ROAD, z)
            _patch(stage, -0.08, 0.08, z, z + dash, tone)
        z += dash + gap
    if crossing or dice.chance(0.12):
        z = crossing - 4.5 if crossing else dice.uniform(7, 18)
        tone = stage.ink(white, ROAD, z)
        x = -half + 0.4
        while x < half - 0.6:
            _patch(stage, x, x + 0.5, z, z + 3, tone)
            x += 1.05

"""A street: its plan, the sky behind it, the ground, and what stands where."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pne_seg.data.scenes.roadside import draw_building, draw_bush, draw_person, draw_pole, draw_tree
from pne_seg.data.scenes.stage import BRICK, CONCRETE, FAR, LEAF, Color, Draws, Label, Stage, shaded
from pne_seg.data.scenes.vehicles import draw_bus, draw_car, draw_contact, draw_truck

_SIDES = (-1, 1)  # left and right of the road; x counts from its center line
_SAMPLES = 19  # places along the street where a strip's edges may turn
_TOWNS = {  # share of the plots with a house, and the range of the houses' height
    "city": (0.94, 8, 18),
    "suburb": (0.72, 5, 8),
    "green": (0.25, 5, 9),
}


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


def _random_street(rng: Draws) -> Street:
    town = rng.choice(("city", "city", "suburb", "suburb", "green"))
    half = rng.uniform(2.8, 4.2) if town != "city" else rng.uniform(3.2, 6.5)
    lane = rng.choice((0.45, 0.45, -0.4, 1.35 if rng.chance(0.4) else 0.2))
    walks = {side: rng.uniform(1.6, 3.8) for side in _SIDES}
    verges = {side: rng.uniform(1.0, 3.0) * rng.chance(0.3) for side in _SIDES}
    gardens = {side: rng.uniform(2, 6) * (town != "city" or rng.chance(0.15)) for side in _SIDES}
    leaf = rng.choice(LEAF)
    turf = rng.jitter(leaf, 0.1)
    crossing = rng.uniform(16, 45) if rng.chance(0.35) else 0.0
    return Street(town, half, half * lane, walks, verges, gardens, leaf, turf, crossing)


def _draw_sky(stage: Stage) -> None:
    """Draw a gradient down to the horizon."""
    light = stage.light
    share = np.minimum(np.arange(stage.rows) / max(stage.row, 1.0), 1)[:, None] ** 1.2
    ramp = np.full((stage.rows, 4), Label.SKY, np.uint8)
    ramp[:, :3] = np.minimum(share * light.sky_low + (1 - share) * light.sky_top, 255)
    stage.canvas.view(np.uint32)[..., 0] = ramp.view(np.uint32)  # a pixel is one word


def _draw_backdrop(stage: Stage, street: Street) -> None:
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


def _draw_ground(stage: Stage, street: Street) -> None:
    """Draw strips along the road: garden, pavement, verge, kerb, road and its markings."""
    rng, half, crossing = stage.rng, street.half, street.crossing
    gray = rng.uniform(78, 128)
    asphalt = rng.jitter((gray, gray * 1.0, gray * 1.03), 0.04)
    pale = gray * rng.uniform(0.95, 1.5)
    warm = rng.uniform(0.93, 1.02)
    paving = rng.jitter((pale, pale * (1 + warm) / 2, pale * warm), 0.04)
    draw_strip = _strip_drawer(stage)
    for side in _SIDES:
        walk_in = half + street.verges[side]
        walk_out = walk_in + street.walks[side]
        lawn, pavement = (street.turf, Label.GRASS), (paving, Label.PAVEMENT)
        draw_strip(side * walk_out, side * 400, *(lawn if street.gardens[side] else pavement))
        if street.verges[side]:
            draw_strip(side * half, side * walk_in, *lawn)
        draw_strip(side * walk_in, side * walk_out, *pavement)
    if crossing:
        surface = stage.as_seen(paving, Label.PAVEMENT, crossing)
        for side in _SIDES:
            stage.patch(side * half * 0.9, side * 60, crossing - 1, crossing + 9, surface)
    draw_strip(-half, half, asphalt, Label.ROAD)
    kerb = rng.jitter((pale * 1.12, pale * 1.12, pale * 1.1), 0.04)
    for side in _SIDES:
        draw_strip(side * (half - 0.3), side * half, shaded(asphalt, 0.86), Label.ROAD, 40.0)
        draw_strip(side * half, side * (half + 0.18), kerb, Label.PAVEMENT, 40.0)
    if crossing:
        surface = stage.as_seen(asphalt, Label.ROAD, crossing)
        stage.patch(-60, 60, crossing + 1, crossing + 7, surface)
    _draw_markings(stage, street, asphalt)


def _strip_drawer(stage: Stage) -> Callable[..., None]:
    """Return a function that draws strips of ground along the road, veiled in steps of distance."""
    z = np.geomspace(stage.near, FAR, _SAMPLES)
    scale = stage.focal / z
    center = stage.column + (stage.bend * z * z - stage.camera_x) * scale
    rows = stage.row + (stage.camera_height - stage.climb * z * z) * scale
    step = 6 if stage.light.haze < 0.015 else 2  # coarse steps would show in fog
    bands = [(k, k + step + 1, float(z[k + step // 2])) for k in range(0, _SAMPLES - 1, step)]

    def draw(x0: float, x1: float, color: Color, label: int, reach: float = FAR) -> None:
        left, right = (np.column_stack((center + x * scale, rows)) for x in (x0, x1))
        for low, high, away in bands:
            if away > reach:
                break
            outline = np.concatenate((left[low:high], right[low:high][::-1])).astype(np.int32)
            cv2.fillPoly(stage.canvas, [outline], stage.as_seen(color, label, away))

    return draw


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


def lay_out(stage: Stage) -> None:
    """Place and draw everything."""
    rng = stage.rng
    street = _random_street(rng)
    stage.camera_x = street.camera_x
    _draw_sky(stage)
    _draw_backdrop(stage, street)
    _draw_ground(stage, street)
    for side in _SIDES:
        _place_frontage(stage, street, side)
        _place_tree_row(stage, street, side)
        _place_poles(stage, street, side)
        for _ in range(rng.integer(0, 5 if street.town == "city" else 3)):
            z = 4.5 + 32 * rng.uniform() ** 1.5
            x = side * (street.half + rng.uniform(0.5, street.walks[side]))
            stage.later(z, draw_person, x, z)
    if rng.chance(0.25):  # someone on the road
        z = rng.uniform(9, 35)
        stage.later(z, draw_person, rng.uniform(-street.half, street.half), z)
    _place_traffic(stage, street)
    stage.draw_waiting()


def _place_frontage(stage: Stage, street: Street, side: int) -> None:
    """Place houses, gaps and greenery."""
    rng, crossing, front = stage.rng, street.crossing, street.front(side)
    city = street.town == "city"
    built = _TOWNS[street.town][0]
    # One draw for each kind of town, whichever it is.
    base = {town: rng.uniform(low, high) for town, (_, low, high) in _TOWNS.items()}[street.town]
    z = stage.near
    while z < 80:
        length = rng.uniform(8, 16) * (1 if z < 35 else 1.6)
        if crossing and z < crossing + 9 and z + length > crossing - 1:
            if crossing - 1 - z > 5:
                length = crossing - 1 - z
            else:
                z = crossing + 9
                continue
        if rng.chance(built):
            kind = rng.choice(
                ("office", "shop", "terrace") if city else ("terrace", "terrace", "shop")
            )
            high = base * rng.uniform(0.75, 1.4)
            stage.later(z + length, draw_building, side, side * front, z, z + length, high, kind)
            if not city:
                length += rng.uniform(0, 4)
        else:
            for _ in range(rng.integer(1, 3 if z < 35 else 2)):
                place = z + rng.uniform(0, length)
                if place > 4:
                    x = side * (front + rng.uniform(0.5, 9))
                    stage.later(place + 6, draw_tree, x, place, rng.uniform(5, 11), street.leaf)
        if street.gardens[side] and rng.chance(0.5) and z > 4:
            x = side * (front - 0.6)
            stage.later(z, draw_bush, x, z + 2, rng.uniform(1.2, 2.4), street.leaf)
        z += length


def _place_tree_row(stage: Stage, street: Street, side: int) -> None:
    """Place, perhaps, a row of trees: at the kerb, or in the front gardens if there are any."""
    rng, crossing, garden = stage.rng, street.crossing, street.gardens[side]
    if not rng.chance(0.5):
        return
    step = rng.uniform(9, 18)
    z = rng.uniform(5, 5 + step)
    x = street.half + rng.uniform(0.5, 0.9)
    if garden:
        x = street.half + street.walks[side] + street.verges[side] + 0.4 * garden
    while z < 55:
        if rng.chance(0.8) and not crossing - 2 < z < crossing + 10:
            stage.later(z, draw_tree, side * x, z, rng.uniform(5, 9), street.leaf)
        z += step


def _place_poles(stage: Stage, street: Street, side: int) -> None:
    """Place lamp posts, signs, traffic lights and bollards at the kerb."""
    rng, crossing = stage.rng, street.crossing
    step = rng.uniform(14, 26)
    z = rng.uniform(6, 20)
    kind = rng.choice(("lamp", "lamp", "signal", "sign", "bollard"))
    while z < 65:
        if not crossing < z < crossing + 8:
            stage.later(z, draw_pole, side * (street.half + 0.35), z, kind)
        z += step * (0.35 if kind == "bollard" else 1)
        kind = rng.choice((kind, kind, "sign", "signal"))


def _place_traffic(stage: Stage, street: Street) -> None:
    """Place vehicles in both lanes, at the kerb and on the crossing road."""
    rng, half, crossing = stage.rng, street.half, street.crossing
    straight, oncoming = 0.0, math.pi
    jam = rng.chance(0.15)
    parking = half > 4.6 and rng.chance(0.6)
    lane_x = half * 0.5 if not parking else half - 3.4
    for lane, heading in ((lane_x, straight), (-lane_x, oncoming)):
        mine = abs(stage.camera_x - lane) < 1.6
        z = rng.uniform(9 if mine else 6, 26)
        while z < 70:
            z += _place_vehicle(stage, lane, z, heading, 0.36)
            z += rng.uniform(2, 6) if jam else rng.uniform(8, 60)
    for side in _SIDES:
        if parking and rng.chance(0.8):
            z = rng.uniform(7, 20)
            heading = straight if side > 0 else oncoming
            for _ in range(rng.integer(1, 4)):
                if crossing and crossing - 6 < z < crossing + 8:
                    break
                z += _place_vehicle(stage, side * (half - 1.1), z, heading, 0.08) + 1.2
    if crossing and rng.chance(0.6):
        heading = rng.choice((math.pi / 2, -math.pi / 2))
        x, z = rng.uniform(-10, 10), crossing + (2 if heading > 0 else 4.5)
        _place_vehicle(stage, x, z, heading, 0.6)


def _place_vehicle(stage: Stage, x: float, z: float, heading: float, large: float) -> float:
    """Put a vehicle with its near end at z, and return its length.

    It is a bus or a truck with probability `large`, else a car.
    """
    rng, draw, length = stage.rng, draw_car, 4.2
    if rng.chance(large):
        draw, length = rng.choice((draw_bus, draw_truck)), 10.0
    along = abs(math.cos(heading)) > 0.5
    center = z + (length / 2 if along else 1.2)
    stage.later(z, draw, x, center, heading)
    wide, deep = (1.0, length / 2) if along else (length / 2, 1.0)
    if z < 45:
        stage.later(200.0 + z, draw_contact, x, center, wide, deep)  # before all that stands
    return length

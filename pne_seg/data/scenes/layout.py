"""What stands where: lays a street out and draws it from back to front."""

import math

import cv2
import numpy as np

from pne_seg.data.scenes.roadside import draw_building, draw_bush, draw_person, draw_pole, draw_tree
from pne_seg.data.scenes.stage import OVERSAMPLING, Stage
from pne_seg.data.scenes.street import (
    SIDES,
    Street,
    draw_backdrop,
    draw_ground,
    draw_sky,
    random_street,
)
from pne_seg.data.scenes.vehicles import draw_bus, draw_car, draw_truck

_TOWNS = {  # share of the plots with a house, and the range of the houses' height
    "city": (0.94, 8, 18),
    "suburb": (0.72, 5, 8),
    "green": (0.25, 5, 9),
}


def lay_out(stage: Stage) -> None:
    """Place and draw everything."""
    rng = stage.rng
    street = random_street(rng)
    stage.camera_x = street.camera_x
    draw_sky(stage)
    draw_backdrop(stage, street)
    draw_ground(stage, street)
    for side in SIDES:
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
    for side in SIDES:
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
        stage.later(200.0 + z, _draw_contact, x, center, wide, deep)  # before all that stands
    return length


def _draw_contact(stage: Stage, x: float, z: float, wide: float, deep: float) -> None:
    """Draw the dark below a vehicle, and its shadow where the sun shines."""
    shift = -stage.light.sun * stage.light.reach * 1.2 if stage.light.shadow > 0.2 else 0.0
    x0, x1 = min(x - wide, x - wide + shift), max(x + wide, x + wide + shift)
    z0, z1 = max(z - deep - 0.3, stage.near), z + deep
    corners = (stage.at(x0, 0, z0), stage.at(x1, 0, z0), stage.at(x1, 0, z1), stage.at(x0, 0, z1))
    cv2.fillConvexPoly(stage.shadows, (np.array(corners) / OVERSAMPLING).astype(np.int32), 140)

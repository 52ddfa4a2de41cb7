"""Traffic: vehicles in both lanes, at the kerb and on the crossing road."""

import math

import cv2
import numpy as np

from pne_seg.data.scenes.drawing_queue import DrawingQueue
from pne_seg.data.scenes.stage import OVERSAMPLING, Stage
from pne_seg.data.scenes.street import SIDES, Street
from pne_seg.data.scenes.vehicles import draw_bus, draw_car, draw_truck


def place_traffic(queue: DrawingQueue, street: Street) -> None:
    """Vehicles in both lanes, at the kerb and on the crossing road."""
    stage, dice = queue.stage, queue.stage.dice
    half, crossing = street.half, street.crossing
    straight, oncoming = 0.0, math.pi
    jam = dice.chance(0.15)
    parking = half > 4.6 and dice.chance(0.6)
    lane_x = half * 0.5 if not parking else half - 3.4
    for lane, heading in ((lane_x, straight), (-lane_x, oncoming)):
        mine = abs(stage.camera_x - lane) < 1.6
        z = dice.uniform(9 if mine else 6, 26)
        while z < 70:
            z += _place_vehicle(queue, lane, z, heading, 0.36)
            z += dice.uniform(2, 6) if jam else dice.uniform(8, 60)
    for side in SIDES:
        if parking and dice.chance(0.8):
            z = dice.uniform(7, 20)
            heading = straight if side > 0 else oncoming
            for _ in range(dice.integer(1, 4)):
                if crossing and crossing - 6 < z < crossing + 8:
                    break
                z += _place_vehicle(queue, side * (half - 1.1), z, heading, 0.08) + 1.2
    if crossing and dice.chance(0.6):
        heading = dice.choice((math.pi / 2, -math.pi / 2))
        x, z = dice.uniform(-10, 10), crossing + (2 if heading > 0 else 4.5)
        _place_vehicle(queue, x, z, heading, 0.6)


def _place_vehicle(queue: DrawingQueue, x: float, z: float, heading: float, large: float) -> float:
    """Put a vehicle with its near end at z; returns its length.

    It is a bus or a truck with probability `large`, else a car.
    """
    dice = queue.stage.dice
    if dice.chance(large):
        draw, length = dice.choice((draw_bus, draw_truck)), 10.0
    else:
        draw, length = draw_car, 4.2
    along = abs(math.cos(heading)) > 0.5
    centre = z + (length / 2 if along else 1.2)
    queue.add(z, draw, x, centre, heading)
    wide, deep = (1.0, length / 2) if along else (length / 2, 1.0)
    if z < 45:
        queue.add(200.0 + z, _contact_shadow, x, centre, wide, deep)  # before all that stands
    return length


def _contact_shadow(stage: Stage, x: float, z: float, wide: float, deep: float) -> None:
    """The dark below a vehicle, and its shadow where the sun shines."""
    shift = -stage.light.sun * stage.light.reach * 1.2 if stage.light.shadow > 0.2 else 0.0
    x0, x1 = min(x - wide, x - wide + shift), max(x + wide, x + wide + shift)
    z0, z1 = max(z - deep - 0.3, stage.near), z + deep
    corners = (stage.at(x0, 0, z0), stage.at(x1, 0, z0), stage.at(x1, 0, z1), stage.at(x0, 0, z1))
    cv2.fillConvexPoly(stage.shadows, (np.array(corners) / OVERSAMPLING).astype(np.int32), 140)

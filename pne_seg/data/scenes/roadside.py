"""What stands along one side of the road: houses, trees, poles and people."""

from pne_seg.data.scenes.buildings import draw_building
from pne_seg.data.scenes.drawing_queue import DrawingQueue
from pne_seg.data.scenes.people import draw_person
from pne_seg.data.scenes.plants import draw_bush, draw_tree
from pne_seg.data.scenes.street import Street
from pne_seg.data.scenes.street_furniture import draw_pole

_BUILT = {"city": 0.94, "suburb": 0.72, "green": 0.25}  # share of the plots with a house


def place_frontage(queue: DrawingQueue, street: Street, side: int) -> None:
    """Houses, gaps and greenery."""
    stage, dice = queue.stage, queue.stage.dice
    town, crossing, front = street.town, street.crossing, street.front(side)
    z = stage.near
    built = _BUILT[town]
    base = {"city": dice.uniform(8, 18), "suburb": dice.uniform(5, 8), "green": dice.uniform(5, 9)}[
        town
    ]
    while z < 80:
        length = dice.uniform(8, 16) * (1 if z < 35 else 1.6)
        if crossing and z < crossing + 9 and z + length > crossing - 1:
            if crossing - 1 - z > 5:
                length = crossing - 1 - z
            else:
                z = crossing + 9
                continue
        if dice.chance(built):
            kind = dice.choice(
                ("office", "shop", "terrace") if town == "city" else ("terrace", "terrace", "shop")
            )
            high = base * dice.uniform(0.75, 1.4)
            queue.add(z + length, draw_building, side, side * front, z, z + length, high, kind)
            if town != "city":
                length += dice.uniform(0, 4)
        else:
            for _ in range(dice.integer(1, 3 if z < 35 else 2)):
                place = z + dice.uniform(0, length)
                if place > 4:
                    x = side * (front + dice.uniform(0.5, 9))
                    queue.add(place + 6, draw_tree, x, place, dice.uniform(5, 11), street.leaf)
        if street.gardens[side] and dice.chance(0.5) and z > 4:
            queue.add(
                z, draw_bush, side * (front - 0.6), z + 2, dice.uniform(1.2, 2.4), street.leaf
            )
        z += length


def place_tree_row(queue: DrawingQueue, street: Street, side: int) -> None:
    """Perhaps a row of trees: at the kerb, or in the front gardens where there are any."""
    dice, crossing, garden = queue.stage.dice, street.crossing, street.gardens[side]
    if not dice.chance(0.5):
        return
    step = dice.uniform(9, 18)
    z = dice.uniform(5, 5 + step)
    kerbside = street.half + dice.uniform(0.5, 0.9)
    x = street.half + street.walks[side] + street.verges[side] + 0.4 * garden
    if not garden:
        x = kerbside
    while z < 55:
        if dice.chance(0.8) and not crossing - 2 < z < crossing + 10:
            queue.add(z, draw_tree, side * x, z, dice.uniform(5, 9), street.leaf)
        z += step


def place_poles(queue: DrawingQueue, street: Street, side: int) -> None:
    """Lamp posts, signs, traffic lights and bollards at the kerb."""
    dice, crossing = queue.stage.dice, street.crossing
    step = dice.uniform(14, 26)
    z = dice.uniform(6, 20)
    kind = dice.choice(("lamp", "lamp", "signal", "sign", "bollard"))
    while z < 65:
        if not crossing < z < crossing + 8:
            queue.add(z, draw_pole, side * (street.half + 0.35), z, kind)
        z += step * (0.35 if kind == "bollard" else 1)
        kind = dice.choice((kind, kind, "sign", "signal"))


def place_people(queue: DrawingQueue, street: Street, side: int) -> None:
    """People on the pavement, more of them in a city."""
    dice = queue.stage.dice
    for _ in range(dice.integer(0, 5 if street.town == "city" else 3)):
        z = 4.5 + 32 * dice.uniform() ** 1.5
        queue.add(z, draw_person, side * (street.half + dice.uniform(0.5, street.walks[side])), z)

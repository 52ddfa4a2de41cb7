"""What stands where: lays a street out and draws it from back to front."""

from pne_seg.data.scenes.backdrop import draw_backdrop, draw_sky
from pne_seg.data.scenes.drawing_queue import DrawingQueue
from pne_seg.data.scenes.ground import draw_ground
from pne_seg.data.scenes.people import draw_person
from pne_seg.data.scenes.roadside import place_frontage, place_people, place_poles, place_tree_row
from pne_seg.data.scenes.stage import Stage
from pne_seg.data.scenes.street import SIDES, random_street
from pne_seg.data.scenes.traffic import place_traffic


def lay_out(stage: Stage) -> None:
    """Place and draw everything."""
    dice = stage.dice
    street = random_street(dice)
    stage.camera_x = street.camera_x
    draw_sky(stage)
    draw_backdrop(stage, street)
    draw_ground(stage, street)

    queue = DrawingQueue(stage)
    for side in SIDES:
        place_frontage(queue, street, side)
        place_tree_row(queue, street, side)
        place_poles(queue, street, side)
        place_people(queue, street, side)
    if dice.chance(0.25):  # someone on the road
        z = dice.uniform(9, 35)
        queue.add(z, draw_person, dice.uniform(-street.half, street.half), z)
    place_traffic(queue, street)
    queue.draw()

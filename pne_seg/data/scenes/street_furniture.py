"""Poles: lamp posts, traffic lights, road signs and bollards."""

from pne_seg.data.scenes.classes import POLE
from pne_seg.data.scenes.colours import LIT
from pne_seg.data.scenes.stage import OVERSAMPLING, Stage


def draw_pole(stage: Stage, x: float, z: float, kind: str) -> None:
    """A lamp post, a traffic light, a road sign or a bollard."""
    if stage.hidden(x, z, 2.0):
        return
    dice, at = stage.dice, stage.at
    scale = stage.focal / z
    grey = stage.ink(
        dice.jitter(dice.choice(((84, 88, 90), (58, 62, 62), (128, 130, 130))), 0.1), POLE, z
    )
    inward = -1 if x > 0 else 1
    if kind == "lamp":
        high = dice.uniform(5, 8)
        stage.post(at(x, 0, z), at(x, high, z), 0.19 * scale, grey)
        reach = x + inward * dice.uniform(0.9, 1.6)
        thick = max(0.12 * scale, OVERSAMPLING)
        (u0, v0), (u1, v1) = at(x, high, z), at(reach, high + 0.25, z)
        stage.fill(((u0, v0), (u1, v1), (u1, v1 + thick - 1), (u0, v0 + thick - 1)), grey)
        stage.lamp((u1, v1), POLE, 0.55 * scale, LIT)
    elif kind == "signal":
        high = dice.uniform(2.6, 3.4)
        stage.post(at(x, 0, z), at(x, high, z), 0.17 * scale, grey)
        stage.post(
            at(x, high - 0.3, z),
            at(x, high + 0.8, z),
            0.42 * scale,
            stage.ink((34, 36, 36), POLE, z),
        )
        lit = dice.integer(0, 2)
        colour = ((60, 220, 120), (250, 180, 40), (240, 50, 40))[lit]
        spot = at(x, high + 0.32 * lit - 0.08, z)
        stage.disc(spot, 0.12 * scale, (*colour, POLE))
        stage.lamp(spot, POLE, 0.3 * scale, colour)
    elif kind == "sign":
        high = dice.uniform(2.1, 2.8)
        stage.post(at(x, 0, z), at(x, high, z), 0.11 * scale, grey)
        rim = stage.ink(dice.choice(((200, 40, 40), (40, 84, 170))), POLE, z)
        centre, radius = at(x, high + 0.25, z), 0.36 * scale
        stage.disc(centre, radius, rim)
        if radius > 3:
            stage.disc(centre, radius * 0.62, stage.ink((232, 232, 228), POLE, z))
    else:
        stage.post(at(x, 0, z), at(x, dice.uniform(0.8, 1.1), z), 0.18 * scale, grey)
    stage.cast(x, z, z, 0.15, 3.0)

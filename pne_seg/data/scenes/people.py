"""People, standing or walking."""

from pne_seg.data.scenes.classes import PERSON
from pne_seg.data.scenes.colours import CLOTHES, SKIN
from pne_seg.data.scenes.stage import OVERSAMPLING, Stage


def draw_person(stage: Stage, x: float, z: float) -> None:
    """Someone standing or walking: legs, coat, arms and head."""
    if stage.hidden(x, z, 0.5):
        return
    dice, at = stage.dice, stage.at
    scale = stage.focal / z
    tall = dice.uniform(1.5, 1.9)
    coat = dice.jitter(dice.choice(CLOTHES), 0.2)
    legs = stage.ink(dice.jitter(dice.choice(CLOTHES[:5]), 0.2), PERSON, z, 0.8)
    upper = stage.ink(coat, PERSON, z, 1.0)
    stride = dice.uniform(0.02, 0.26)
    stage.cast(x, z, z, 0.4, tall)
    hip = tall * 0.48
    thick = 0.17 * scale
    for sign in (-1, 1):
        stage.post(at(x + sign * stride, 0, z), at(x + sign * 0.07, hip, z), thick, legs)
    broad = dice.uniform(0.2, 0.25)
    left, right = at(x - broad, tall * 0.82, z), at(x + broad, tall * 0.82, z)
    if right[0] - left[0] < OVERSAMPLING:
        stage.post(at(x, 0, z), at(x, tall, z), 0.4 * scale, upper)
    else:
        low = at(x + broad * 0.8, hip * 0.9, z)
        stage.fill((left, right, low, (2 * at(x, 0, z)[0] - low[0], low[1])), upper)
        if scale > 12:
            arm = stage.ink(coat, PERSON, z, 0.82)
            for sign in (-1, 1):
                shoulder = at(x + sign * broad, tall * 0.8, z)
                hand = at(x + sign * (broad + 0.08 + stride / 3), tall * 0.47, z)
                stage.post(hand, shoulder, 0.1 * scale, arm)
    stage.disc(at(x, tall * 0.92, z), 0.125 * scale, stage.ink(dice.choice(SKIN), PERSON, z))

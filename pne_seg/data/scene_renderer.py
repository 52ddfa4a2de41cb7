"""Scenes, the embedded data set: street scenes drawn on the fly, nothing on disk.

A scene is a function of a generator's state and a size. It is laid out in metres (road, pavements,
houses, traffic), drawn back to front through a pinhole camera, and then lit and blurred. Colour and
label are drawn by the same strokes. Some classes are meant to be mistaken for each other: road and
pavement, grass and tree, bus and truck, pole and person.
"""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

from pne_seg.data import scene_objects as objects
from pne_seg.data.scene_textures import (
    BUILDING,
    FAR,
    GRASS,
    OVERSAMPLING,
    PAVEMENT,
    ROAD,
    SKY,
    TREE,
    Bytes,
    Colour,
    Dice,
    Ink,
    Ints,
    Stage,
    develop,
    draw_light,
)

IGNORE = 255
SMALLEST = 32  # pixels along a side; below that a person has no pixel of their own

# In the order of the class indices, which is also from back to front.
SCENE_CLASSES: tuple[str, ...] = (
    "sky",
    "building",
    "road",
    "pavement",
    "grass",
    "tree",
    "bus",
    "truck",
    "car",
    "pole",
    "person",
)
SCENE_PALETTE: tuple[tuple[int, int, int], ...] = (
    (108, 172, 222),
    (112, 104, 112),
    (128, 64, 128),
    (236, 108, 220),
    (160, 216, 128),
    (66, 128, 50),
    (0, 148, 150),
    (30, 50, 160),
    (46, 96, 232),
    (248, 206, 60),
    (226, 42, 62),
)


def render_scene(
    generator: np.random.Generator, height: int = 96, width: int = 128
) -> tuple[Bytes, Bytes]:
    """Draw one street scene.

    Returns the image, (height, width, 3) RGB, and its labels, (height, width): class indices, and
    `IGNORE` on a rim one pixel wide where two classes meet. Both are uint8.

    Raises:
        ValueError: where a side is shorter than 32 pixels.
    """
    image, labels = draw_scene(generator, height, width)
    return image, with_rim(labels)


def draw_scene(generator: np.random.Generator, height: int, width: int) -> tuple[Bytes, Bytes]:
    """The same scene with every pixel labelled: no rim."""
    if min(height, width) < SMALLEST:
        raise ValueError(
            f"a scene of {height}×{width} pixels is too small to show its poles and people: "
            f"ask for at least {SMALLEST}×{SMALLEST}"
        )
    dice = Dice(generator)
    stage = Stage(height, width, dice, draw_light(dice))
    _lay_out(stage)
    return develop(stage)


def with_rim(labels: Bytes) -> Bytes:
    """Ignore each pixel with a nearer class above, below or beside it.

    The rim lies on the farther side alone, so that it takes nothing from thin things.
    """
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    rimmed = labels.copy()
    rimmed[cv2.dilate(labels, cross) > labels] = IGNORE
    return rimmed


def _lay_out(stage: Stage) -> None:
    """Place and draw everything, from back to front."""
    dice = stage.dice
    town = dice.choice(("city", "city", "suburb", "suburb", "green"))
    half = dice.uniform(2.8, 4.2) if town != "city" else dice.uniform(3.2, 6.5)
    lane = dice.choice((0.45, 0.45, -0.4, 1.35 if dice.chance(0.4) else 0.2))
    stage.camera_x = half * lane
    walks = {side: dice.uniform(1.6, 3.8) for side in (-1, 1)}
    verges = {side: dice.uniform(1.0, 3.0) * dice.chance(0.3) for side in (-1, 1)}
    gardens = {side: dice.uniform(2, 6) * (town != "city" or dice.chance(0.15)) for side in (-1, 1)}
    fronts = {s: half + walks[s] + verges[s] + gardens[s] for s in (-1, 1)}
    leaf = dice.choice(objects.LEAF)
    turf = dice.jitter(leaf, 0.1)
    crossing = dice.uniform(16, 45) if dice.chance(0.35) else 0.0

    _sky(stage)
    _backdrop(stage, town, leaf)
    _ground(stage, half, walks, verges, gardens, turf, crossing)

    drawings: list[tuple[float, Callable[[], None]]] = []

    def later(z: float, draw: Callable[..., None], *arguments: object) -> None:
        drawings.append((z, lambda: draw(stage, *arguments)))

    for side in (-1, 1):
        _frontage(stage, later, side, fronts[side], town, leaf, crossing, gardens[side])
        row = half + walks[side] + verges[side] + 0.4 * gardens[side]
        if dice.chance(0.5):  # a row of street trees or lamps
            step = dice.uniform(9, 18)
            z = dice.uniform(5, 5 + step)
            kerbside = half + dice.uniform(0.5, 0.9)
            while z < 55:
                if dice.chance(0.8) and not crossing - 2 < z < crossing + 10:
                    later(
                        z,
                        objects.tree,
                        side * (kerbside if not gardens[side] else row),
                        z,
                        dice.uniform(5, 9),
                        leaf,
                    )
                z += step
        step = dice.uniform(14, 26)
        z = dice.uniform(6, 20)
        kind = dice.choice(("lamp", "lamp", "signal", "sign", "bollard"))
        while z < 65:
            if not crossing < z < crossing + 8:
                later(z, objects.pole, side * (half + 0.35), z, kind)
            z += step * (0.35 if kind == "bollard" else 1)
            kind = dice.choice((kind, kind, "sign", "signal"))
        for _ in range(dice.integer(0, 5 if town == "city" else 3)):
            z = 4.5 + 32 * dice.uniform() ** 1.5
            later(z, objects.person, side * (half + dice.uniform(0.5, walks[side])), z)
    if dice.chance(0.25):
        z = dice.uniform(9, 35)
        later(z, objects.person, dice.uniform(-half, half), z)
    _traffic(stage, later, half, crossing)

    drawings.sort(key=lambda entry: -entry[0])
    for _, draw in drawings:
        draw()


def _sky(stage: Stage) -> None:
    """A gradient down to the horizon."""
    light = stage.light
    share = np.minimum(np.arange(stage.rows) / max(stage.row, 1.0), 1)[:, None] ** 1.2
    ramp = np.full((stage.rows, 4), SKY, np.uint8)
    ramp[:, :3] = np.minimum(share * light.sky_low + (1 - share) * light.sky_top, 255)
    stage.canvas.view(np.uint32)[..., 0] = ramp.view(np.uint32)  # a pixel is one word


def _backdrop(stage: Stage, town: str, leaf: Colour) -> None:
    """A skyline or a line of trees where the street ends."""
    dice, unit = stage.dice, stage.unit
    base = stage.at(0, 0, FAR)[1] + 3
    u = 0.0
    if town == "green" or dice.chance(0.35):
        ink = stage.ink(leaf, TREE, FAR * 0.7, 0.75)
        while u < stage.columns + 10:
            radius = unit * dice.uniform(0.015, 0.04)
            stage.disc((u, base - radius * 0.6), radius, ink)
            u += radius
    else:
        while u < stage.columns:
            wide = unit * dice.uniform(0.05, 0.12)
            top = base - unit * dice.uniform(0.03, 0.13)
            wall = dice.jitter(dice.choice(objects.CONCRETE + objects.BRICK), 0.15)
            ink = stage.ink(wall, BUILDING, FAR * 0.8)
            stage.fill(((u, base), (u, top), (u + wide, top), (u + wide, base)), ink)
            u += wide


def _ground(
    stage: Stage,
    half: float,
    walks: dict[int, float],
    verges: dict[int, float],
    gardens: dict[int, float],
    turf: Colour,
    crossing: float,
) -> None:
    """Strips along the road: garden, pavement, verge, kerb, road and its markings."""
    dice = stage.dice
    grey = dice.uniform(78, 128)
    asphalt = dice.jitter((grey, grey * 1.0, grey * 1.03), 0.04)
    pale = grey * dice.uniform(0.95, 1.5)
    warm = dice.uniform(0.93, 1.02)
    paving = dice.jitter((pale, pale * (1 + warm) / 2, pale * warm), 0.04)
    samples = 19
    z = np.geomspace(stage.near, FAR, samples)
    scale = stage.focal / z
    base_u = stage.column + (stage.bend * z * z - stage.camera_x) * scale
    edge = np.empty((samples, 2))
    edge[:, 1] = stage.row + (stage.camera_height - stage.climb * z * z) * scale
    step = 6 if stage.light.haze < 0.015 else 2  # coarse steps would show in fog
    bands = [(k, k + step + 1, float(z[k + step // 2])) for k in range(0, samples - 1, step)]

    @cache
    def line(x: float) -> Ints:
        """The line this far from the centre line, on the canvas."""
        edge[:, 0] = base_u + x * scale
        return edge.astype(np.int32)

    def strip(x0: float, x1: float, colour: Colour, label: int, reach: float = FAR) -> None:
        """Between two distances from the centre line, veiled in steps of distance."""
        left, right = line(x0), line(x1)[::-1]
        for low, high, away in bands:
            if away > reach:
                break
            outline = np.concatenate((left[low:high], right[samples - high : samples - low]))
            cv2.fillPoly(stage.canvas, [outline], stage.ink(colour, label, away))

    def patch(x0: float, x1: float, z0: float, z1: float, ink: Ink) -> None:
        stage.fill(
            (stage.at(x0, 0, z0), stage.at(x1, 0, z0), stage.at(x1, 0, z1), stage.at(x0, 0, z1)),
            ink,
        )

    for side in (-1, 1):
        walk_in = half + verges[side]
        walk_out = walk_in + walks[side]
        outside, label = (turf, GRASS) if gardens[side] else (paving, PAVEMENT)
        strip(side * walk_out, side * 400, outside, label)
        if verges[side]:
            strip(side * half, side * walk_in, turf, GRASS)
        strip(side * walk_in, side * walk_out, paving, PAVEMENT)
    if crossing:
        for side in (-1, 1):
            far_x = side * 60
            patch(
                side * half * 0.9,
                far_x,
                crossing - 1,
                crossing + 9,
                stage.ink(paving, PAVEMENT, crossing),
            )
    strip(-half, half, asphalt, ROAD)
    kerb_tone = dice.jitter((pale * 1.12, pale * 1.12, pale * 1.1), 0.04)
    for side in (-1, 1):
        strip(side * (half - 0.3), side * half, objects.shaded(asphalt, 0.86), ROAD, 40.0)
        strip(side * half, side * (half + 0.18), kerb_tone, PAVEMENT, 40.0)
    if crossing:
        patch(-60, 60, crossing + 1, crossing + 7, stage.ink(asphalt, ROAD, crossing))
    _markings(stage, half, asphalt, patch, crossing)


def _markings(
    stage: Stage,
    half: float,
    asphalt: Colour,
    patch: Callable[[float, float, float, float, Ink], None],
    crossing: float,
) -> None:
    """Centre line, edge lines, zebra crossing, mended asphalt."""
    dice = stage.dice
    white = dice.jitter((212, 210, 200), 0.08)
    for _ in range(dice.integer(0, 3)):
        x, z = dice.uniform(-half, half * 0.6), dice.uniform(stage.near, 22)
        mended = stage.ink(asphalt, ROAD, z, dice.choice((0.8, 0.88, 1.1)))
        patch(x, min(x + dice.uniform(0.8, 2.5), half - 0.3), z, z + dice.uniform(1, 6), mended)
    style = dice.choice(("dashes", "dashes", "solid", "none"))
    yellow = dice.chance(0.2)
    dash, gap = (3.0, 4.0) if style == "dashes" else (6.0, 0.0)
    z = stage.near + dice.uniform(0, 3)
    while style != "none" and z < 60:
        if not crossing or not crossing - 4 < z < crossing + 7:
            tone = stage.ink((222, 178, 60) if yellow else white, ROAD, z)
            patch(-0.08, 0.08, z, z + dash, tone)
        z += dash + gap
    if crossing or dice.chance(0.12):
        z = crossing - 4.5 if crossing else dice.uniform(7, 18)
        tone = stage.ink(white, ROAD, z)
        x = -half + 0.4
        while x < half - 0.6:
            patch(x, x + 0.5, z, z + 3, tone)
            x += 1.05


def _frontage(
    stage: Stage,
    later: Callable[..., None],
    side: int,
    front: float,
    town: str,
    leaf: Colour,
    crossing: float,
    garden: float,
) -> None:
    """Houses, gaps and greenery along one side."""
    dice = stage.dice
    z = stage.near
    built = {"city": 0.94, "suburb": 0.72, "green": 0.25}[town]
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
            later(z + length, objects.building, side, side * front, z, z + length, high, kind)
            if town != "city":
                length += dice.uniform(0, 4)
        else:
            for _ in range(dice.integer(1, 3 if z < 35 else 2)):
                place = z + dice.uniform(0, length)
                if place > 4:
                    x = side * (front + dice.uniform(0.5, 9))
                    later(place + 6, objects.tree, x, place, dice.uniform(5, 11), leaf)
        if garden and dice.chance(0.5) and z > 4:
            later(z, objects.bush, side * (front - 0.6), z + 2, dice.uniform(1.2, 2.4), leaf)
        z += length


def _traffic(stage: Stage, later: Callable[..., None], half: float, crossing: float) -> None:
    """Vehicles in both lanes, at the kerb and on the crossing road."""
    dice = stage.dice
    straight, oncoming = 0.0, np.pi
    jam = dice.chance(0.15)

    def add(x: float, z: float, heading: float, large: float) -> float:
        """Put a vehicle with its near end at z; returns its length."""
        if dice.chance(large):
            draw, length = dice.choice((objects.bus, objects.truck)), 10.0
        else:
            draw, length = objects.car, 4.2
        along = abs(np.cos(heading)) > 0.5
        centre = z + (length / 2 if along else 1.2)
        later(z, draw, x, centre, heading)
        wide, deep = (1.0, length / 2) if along else (length / 2, 1.0)
        if z < 45:
            later(200.0 + z, _contact, x, centre, wide, deep)
        return length

    parking = half > 4.6 and dice.chance(0.6)
    lane_x = half * 0.5 if not parking else half - 3.4
    for lane, heading in ((lane_x, straight), (-lane_x, oncoming)):
        mine = abs(stage.camera_x - lane) < 1.6
        z = dice.uniform(9 if mine else 6, 26)
        while z < 70:
            z += add(lane, z, heading, 0.36)
            z += dice.uniform(2, 6) if jam else dice.uniform(8, 60)
    for side in (-1, 1):
        if parking and dice.chance(0.8):
            z = dice.uniform(7, 20)
            for _ in range(dice.integer(1, 4)):
                if crossing and crossing - 6 < z < crossing + 8:
                    break
                z += add(side * (half - 1.1), z, straight if side > 0 else oncoming, 0.08) + 1.2
    if crossing and dice.chance(0.6):
        heading = dice.choice((np.pi / 2, -np.pi / 2))
        add(dice.uniform(-10, 10), crossing + (2 if heading > 0 else 4.5), heading, 0.6)


def _contact(stage: Stage, x: float, z: float, wide: float, deep: float) -> None:
    """The dark below a vehicle, and its shadow where the sun shines."""
    shift = -stage.light.sun * stage.light.reach * 1.2 if stage.light.shadow > 0.2 else 0.0
    x0, x1 = min(x - wide, x - wide + shift), max(x + wide, x + wide + shift)
    z0, z1 = max(z - deep - 0.3, stage.near), z + deep
    corners = (stage.at(x0, 0, z0), stage.at(x1, 0, z0), stage.at(x1, 0, z1), stage.at(x0, 0, z1))
    cv2.fillConvexPoly(stage.shadows, (np.array(corners) / OVERSAMPLING).astype(np.int32), 140)

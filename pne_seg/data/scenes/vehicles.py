"""Cars, buses and trucks."""

from pne_seg.data.scenes.classes import BUS, CAR, TRUCK
from pne_seg.data.scenes.colours import CARS, FLEET, LIT, Colour, shaded
from pne_seg.data.scenes.stage import Stage
from pne_seg.data.scenes.vehicle_parts import (
    HEADLAMP,
    REAR_LAMP,
    Paint,
    Pose,
    add_lamp_glow,
    box_rect,
    draw_tyres,
    painted_wheels,
)

PLATE: Colour = (230, 220, 170)


def draw_car(stage: Stage, x: float, z: float, heading: float) -> None:
    """A car: a body, and a cabin of glass with a roof."""
    dice = stage.dice
    pose = Pose(stage, x, z, heading)
    paint = dice.jitter(dice.choice(CARS), 0.12)
    high, length = dice.uniform(1.4, 1.75), dice.uniform(1.9, 2.3)
    rear_lamps = [
        (box_rect(0.02, 0.45, 0.2, 0.75), REAR_LAMP),
        (box_rect(0.8, 0.45, 0.98, 0.75), REAR_LAMP),
    ]
    lamps = [(box_rect(0.04, 0.5, 0.24, 0.8), HEADLAMP), (box_rect(0.76, 0.5, 0.96, 0.8), HEADLAMP)]
    sides = painted_wheels(0.25, 0.9, 0.33, 2 * length, 0.2, 0.8)
    dark = shaded(paint, 0.45)
    glass = (48, 56, 66)
    pose.body(
        CAR,
        paint,
        (-length, length, 0.88),
        (-length, length, 0.85),
        0.25,
        0.9,
        {
            "rear": [
                (box_rect(0, 0, 1, 0.25), dark),
                *rear_lamps,
                (box_rect(0.36, 0.3, 0.64, 0.5), PLATE),
            ],
            "front": [(box_rect(0.1, 0, 0.9, 0.35), dark), *lamps],
            "left": sides,
            "right": sides,
        },
    )
    window = [(box_rect(0.06, 0.12, 0.48, 0.86), glass), (box_rect(0.53, 0.12, 0.94, 0.86), glass)]
    screen = [(box_rect(0.08, 0.12, 0.92, 0.88), glass)]
    pose.body(
        CAR,
        paint,
        (-0.92 * length, 0.5 * length, 0.82),
        (-0.66 * length, 0.12 * length, 0.66),
        0.9,
        high,
        {"rear": screen, "front": screen, "left": window, "right": window},
    )
    draw_tyres(pose, CAR, length, 0.8)
    add_lamp_glow(pose, CAR, length, 0.7, 0.65)


def draw_bus(stage: Stage, x: float, z: float, heading: float) -> None:
    """A bus: one box, a row of windows along its sides, a wide pane at each end."""
    dice = stage.dice
    pose = Pose(stage, x, z, heading)
    paint = dice.jitter(dice.choice(FLEET), 0.14)
    half, high = dice.uniform(4.6, 6.0), dice.uniform(2.9, 3.3)
    double = dice.chance(0.15)
    glass = LIT if stage.light.dusk > 0.5 else dice.jitter((52, 60, 70), 0.15)
    high += 1.2 * double
    skirt = shaded(dice.choice((paint, (212, 206, 198))), 0.8)
    panes = 6
    rows = ((0.26, 0.48), (0.66, 0.88)) if double else ((0.42, 0.8),)
    sides: list[Paint] = [(box_rect(0, 0, 1, 0.2), skirt)]
    for low, top in rows:
        if z > 30:
            sides.append((box_rect(0.03, low, 0.97, top), glass))
            continue
        for k in range(panes):
            sides.append((box_rect((k + 0.12) / panes, low, (k + 0.9) / panes, top), glass))
    sides += painted_wheels(0.35, high, 0.5, 2 * half, 0.2, 0.76)
    board = (255, 170, 60)
    pose.body(
        BUS,
        paint,
        (-half, half, 1.25),
        (-half, half, 1.22),
        0.35,
        high,
        {
            "left": sides,
            "right": sides,
            "rear": [
                *((box_rect(0.12, low + 0.06, 0.88, top + 0.04), glass) for low, top in rows),
                (box_rect(0, 0, 1, 0.12), skirt),
                (box_rect(0.02, 0.18, 0.12, 0.32), REAR_LAMP),
                (box_rect(0.88, 0.18, 0.98, 0.32), REAR_LAMP),
            ],
            "front": [
                *((box_rect(0.06, low - 0.06, 0.94, top), glass) for low, top in rows),
                (box_rect(0.2, 0.87, 0.8, 0.96), board),
                (box_rect(0.04, 0.1, 0.2, 0.2), HEADLAMP),
                (box_rect(0.8, 0.1, 0.96, 0.2), HEADLAMP),
            ],
        },
    )
    draw_tyres(pose, BUS, half, 1.0)
    add_lamp_glow(pose, BUS, half, 1.05, 0.8)


def draw_truck(stage: Stage, x: float, z: float, heading: float) -> None:
    """A truck: a closed cargo box behind a lower cab, with a gap between."""
    dice = stage.dice
    pose = Pose(stage, x, z, heading)
    paint = dice.jitter(dice.choice(FLEET), 0.14)
    half, high = dice.uniform(3.4, 5.2), dice.uniform(2.9, 3.7)
    cargo = dice.choice((paint, dice.jitter(dice.choice(FLEET), 0.14), (206, 204, 200)))
    stripe = dice.choice(FLEET)
    seam = shaded(cargo, 0.6)
    glass = (48, 56, 66)
    bed = half - 2.0  # where the cargo box ends and the gap begins
    cab_sides: list[Paint] = [(box_rect(0.2, 0.5, 0.8, 0.84), glass)]
    sides: list[Paint] = []
    if dice.chance(0.6):
        sides = [(box_rect(0.08, 0.4, 0.92, 0.62), stripe)]
    elif z < 30:
        sides = [(box_rect(k / 6, 0, k / 6 + 0.012, 1), seam) for k in range(1, 6)]
    wheels = painted_wheels(0.4, 0.9, 0.48, 2 * half, 0.14, 0.3, 0.86)
    mirrored = painted_wheels(0.4, 0.9, 0.48, 2 * half, 0.86, 0.7, 0.14)
    chassis = (46, 46, 48)

    def cab() -> None:
        pose.body(
            TRUCK,
            paint,
            (half - 1.8, half, 1.15),
            (half - 1.8, half - 0.2, 1.1),
            0.5,
            min(2.7, high - 0.3),
            {
                "left": cab_sides,
                "right": cab_sides,
                "front": [
                    (box_rect(0.08, 0.5, 0.92, 0.88), glass),
                    (box_rect(0.2, 0.08, 0.8, 0.36), shaded(paint, 0.4)),
                    (box_rect(0.03, 0.08, 0.17, 0.2), HEADLAMP),
                    (box_rect(0.83, 0.08, 0.97, 0.2), HEADLAMP),
                ],
            },
        )

    def box() -> None:
        pose.body(
            TRUCK,
            cargo,
            (-half, bed, 1.25),
            (-half, bed, 1.25),
            0.85,
            high,
            {
                "left": sides,
                "right": sides,
                "rear": [
                    (box_rect(0.485, 0, 0.515, 1), seam),
                    (box_rect(0, 0, 1, 0.05), (70, 70, 72)),
                    (box_rect(0.3, 0.1, 0.34, 0.95), seam),
                    (box_rect(0.66, 0.1, 0.7, 0.95), seam),
                ],
            },
        )

    tail: list[Paint] = [
        (box_rect(0.04, 0.3, 0.2, 0.8), REAR_LAMP),
        (box_rect(0.8, 0.3, 0.96, 0.8), REAR_LAMP),
    ]
    pose.body(
        TRUCK,
        chassis,
        (-half, half - 0.3, 1.1),
        (-half, half - 0.3, 1.1),
        0.4,
        0.9,
        {"left": mirrored, "right": wheels, "rear": tail},
    )
    draw_tyres(pose, TRUCK, half, 0.95)
    for part in (cab, box) if pose.cosine > 0 else (box, cab):
        part()
    add_lamp_glow(pose, TRUCK, half, 0.95, 0.75)

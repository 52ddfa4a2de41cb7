"""Colours, and what the things of a scene are painted with."""

Colour = tuple[float, float, float]  # RGB up to 255

LEAF = ((74, 104, 48), (88, 118, 54), (62, 92, 52), (104, 118, 52), (128, 112, 46))
BRICK = ((150, 84, 66), (166, 106, 80), (124, 74, 62), (186, 150, 112), (140, 116, 98))
PLASTER = ((214, 204, 184), (196, 188, 176), (222, 196, 150), (176, 186, 190), (206, 170, 150))
CONCRETE = ((150, 150, 148), (128, 132, 136), (172, 168, 160), (110, 118, 128))
FLEET = (
    (196, 58, 50),
    (214, 206, 196),
    (58, 104, 158),
    (228, 178, 60),
    (70, 128, 96),
    (120, 124, 132),
)
CARS = (
    (40, 42, 46),
    (200, 202, 206),
    (150, 32, 34),
    (40, 66, 116),
    (122, 126, 130),
    (86, 96, 84),
    (226, 226, 222),
)
CLOTHES = (
    (52, 54, 64),
    (126, 40, 44),
    (40, 66, 108),
    (188, 178, 164),
    (84, 88, 92),
    (196, 140, 52),
    (60, 92, 74),
)
SKIN = ((224, 180, 150), (180, 130, 98), (118, 82, 62))
GLASS: Colour = (58, 70, 84)
LIT: Colour = (255, 205, 130)


def between(one: Colour, other: Colour, share: float) -> Colour:
    """A mixture of two colours: `share` of the other."""
    keep = 1 - share
    return (
        one[0] * keep + other[0] * share,
        one[1] * keep + other[1] * share,
        one[2] * keep + other[2] * share,
    )


def shaded(colour: Colour, factor: float) -> Colour:
    """The colour, so much darker."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)

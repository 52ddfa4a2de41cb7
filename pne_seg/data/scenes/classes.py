"""The classes of the scenes, their colours in figures, and the order they are drawn in."""

IGNORE = 255  # the label of pixels that count for nothing

# In the order of the class indices below.
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

# Numbered from back to front: where two classes meet, the higher number is the nearer one.
SKY, BUILDING, ROAD, PAVEMENT, GRASS, TREE, BUS, TRUCK, CAR, POLE, PERSON = range(11)

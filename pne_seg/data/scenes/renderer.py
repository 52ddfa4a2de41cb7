"""Scenes, the embedded data set: street scenes drawn on the fly, nothing on disk.

A scene is a function of a generator's state and a size. It is laid out in metres (road, pavements,
houses, traffic), drawn back to front through a pinhole camera, and then lit and blurred. Colour and
label are drawn by the same strokes. Some classes are meant to be mistaken for each other: road and
pavement, grass and tree, bus and truck, pole and person.
"""

import cv2
import numpy as np

from pne_seg.data.scenes.classes import IGNORE
from pne_seg.data.scenes.developing import develop
from pne_seg.data.scenes.dice import Dice
from pne_seg.data.scenes.layout import lay_out
from pne_seg.data.scenes.light import random_light
from pne_seg.data.scenes.stage import Bytes, Stage

SMALLEST = 32  # pixels along a side; below that a person has no pixel of their own


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
    stage = Stage(height, width, dice, random_light(dice))
    lay_out(stage)
    return develop(stage)


def with_rim(labels: Bytes) -> Bytes:
    """Ignore each pixel with a nearer class above, below or beside it.

    The rim lies on the farther side alone, so that it takes nothing from thin things.
    """
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    rimmed = labels.copy()
    rimmed[cv2.dilate(labels, cross) > labels] = IGNORE
    return rimmed

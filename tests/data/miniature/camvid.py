"""CamVid: the tree of `camvid_tree`, read back with Pillow."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.camvid_tree import SIZES, write_tree
from tests.data.miniature.drawing import Expected, Item


def write_camvid(root: Path) -> Expected:
    """`train/`, `trainannot/`, … of small PNGs.

    Returns:
        Labels as they lie in the files, 0 to 10: unlike elsewhere, 11 is where there is none.
    """
    write_tree(root)
    expected: Expected = {}
    for split, size in SIZES.items():
        for name in (f"{split}_{index}" for index in range(size)):
            with (
                Image.open(root / split / f"{name}.png") as image,
                Image.open(root / f"{split}annot" / f"{name}.png") as labels,
            ):
                expected[split, name] = Item(np.array(labels), np.array(image))
    return expected

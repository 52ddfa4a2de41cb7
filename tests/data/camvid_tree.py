"""A CamVid tree of a few small random images, in the layout of its public home."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

NUM_CLASSES, IGNORE = 11, 11
SIZES = {"train": 4, "val": 2, "test": 3}


def write_tree(
    root: Path,
    sizes: Mapping[str, int] = SIZES,
    shape: tuple[int, int] = (48, 64),
    extension: str = ".png",
) -> Path:
    """`train/train_0.png` with `trainannot/train_0.png`, …; returns `root`."""
    generator = np.random.default_rng(0)
    for split, size in sizes.items():
        for folder in (root / split, root / f"{split}annot"):
            folder.mkdir(parents=True, exist_ok=True)
        for index in range(size):
            image = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
            labels = generator.integers(0, NUM_CLASSES + 1, shape, dtype=np.uint8)
            write(root / split / f"{split}_{index}{extension}", image)
            write(root / f"{split}annot" / f"{split}_{index}.png", labels)
    return root


def write(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write RGB or one channel, by the extension; with Pillow, as the code reads with OpenCV."""
    Image.fromarray(pixels).save(path)

"""Pictures and labels that a wrong channel, turn, shift or table would show in."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]  # height, width

IGNORE = 255
JPEG_TOLERANCE = 12  # Pillow's and OpenCV's decoders stay within 8 on these smooth pictures


@dataclass(frozen=True, slots=True)
class Item:
    """What a loader should give for one image.

    Attributes:
        labels: (H, W) uint8 class indices, 255 where there is none.
        image: (H, W, 3) uint8 RGB as drawn.
        tolerance: how far a decoded channel may be off at any pixel; 0 for lossless files.
    """

    labels: Pixels
    image: Pixels
    tolerance: int = 0


Expected = dict[tuple[str, str], Item]


def picture(name: str, size: Size) -> Pixels:
    """Smooth (H, W, 3): red rises to the right, green falls downwards, blue is the name's own."""
    height, width = size
    image = np.empty((height, width, 3))
    image[..., 0] = np.linspace(30, 220, width)[None, :]
    image[..., 1] = np.linspace(225, 25, height)[:, None]
    image[..., 2] = 30 + _seed(name) % 190 + image[..., 0] / 20
    return image.astype(np.uint8)


def grain(name: str, image: Pixels) -> Pixels:
    """The picture with noise, for lossless files: no smoothing goes unseen."""
    noise = np.random.default_rng(_seed(name)).integers(-20, 21, image.shape)
    noisy: Pixels = np.clip(image + noise, 0, 255).astype(np.uint8)
    return noisy


def scatter(name: str, size: Size, values: Sequence[int]) -> Pixels:
    """(H, W) of 2×2 pixels of one value each, all values in it, in the name's own order."""
    rows, columns = -(-size[0] // 2), -(-size[1] // 2)
    assert len(values) <= rows * columns, f"{name}: {size} has no room for {len(values)} values"
    cells = np.random.default_rng(_seed(name)).permutation(np.resize(values, rows * columns))
    blocks = cells.reshape(rows, columns).repeat(2, 0).repeat(2, 1)
    return blocks[: size[0], : size[1]].astype(np.uint8)


def by_table(values: Pixels, table: Mapping[int, int], other: int = IGNORE) -> Pixels:
    """Each value looked up in a dictionary, `other` for those it lacks."""
    rows = [[table.get(value, other) for value in row] for row in values.tolist()]
    return np.array(rows, np.uint8)


def save(path: Path, pixels: npt.NDArray[np.generic] | Image.Image, **options: Any) -> None:
    """Write one file with the folders above it, its format by the extension's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    if path.suffix.lower() in (".jpg", ".jpeg"):
        options = {"quality": 95, **options}
    image.save(path, **options)


def write_text(path: Path, text: str) -> None:
    """Write a text file with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def with_palette(values: Pixels, colors: Sequence[Sequence[int]]) -> Image.Image:
    """A palette image whose indices are the values; its colors say something else."""
    image = Image.fromarray(values)
    image.putpalette([part for color in colors for part in color])
    return image


def misleading_palette() -> list[tuple[int, int, int]]:
    """256 grays in reverse: read as a gray picture, index 3 becomes 252."""
    return [(255 - index,) * 3 for index in range(256)]


def gaudy_palette() -> list[tuple[int, int, int]]:
    """256 different colors."""
    return [(index * 37 % 256, index * 91 % 256, index * 151 % 256) for index in range(256)]


def _seed(name: str) -> int:
    return zlib.crc32(name.encode())

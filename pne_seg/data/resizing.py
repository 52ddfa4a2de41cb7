"""The sizes that images are brought to."""

from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np
import torch

from pne_seg.data.images import Pixels


def fitted_size(size: Sequence[int], base: tuple[int, int], factor: float = 1.0) -> tuple[int, int]:
    """Size of an image that keeps its ratio and fits a box as closely as it can.

    As the field's codebases have it: the long side of the image goes with the long side of the box,
    so that a box of 2048×512 brings the short side to 512 unless the long one would pass 2048.

    Args:
        size: height and width of the image, in pixels.
        base: width and height of the box, in either order.
        factor: of the box, whose sides are then cut to whole pixels.

    Returns:
        Height and width, 1 or more.
    """
    longest, shortest = (int(side * factor) for side in (max(base), min(base)))
    scale = min(longest / max(size[:2]), shortest / min(size[:2]))
    height, width = (max(1, int(side * scale + 0.5)) for side in size[:2])
    return height, width


def as_input(image: Pixels, resize_base: tuple[int, int] | None) -> torch.Tensor:
    """An image as the network takes it: fitted to the box where there is one, channels first.

    Args:
        image: (H, W, 3) uint8.
        resize_base: width and height, see `fitted_size`.

    Returns:
        (3, h, w) uint8.
    """
    if resize_base is not None:
        height, width = fitted_size(image.shape[:2], resize_base)
        image = resized(image, height, width)
    return torch.from_numpy(_channels_first(image))


def resized(image: Pixels, height: int, width: int) -> Pixels:
    """Bilinear resize of an (H, W, 3) image."""
    return cast(Pixels, cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))


def _channels_first(image: Pixels) -> Pixels:
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    cv2.split(image, list(planes))  # several times as fast as transposing
    return planes

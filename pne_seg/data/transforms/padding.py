"""Padding to a crop's size, below and to the right."""

from typing import Any

import albumentations as A
import cv2
import numpy as np
from albumentations.core.type_definitions import Targets

from pne_seg.data.images import Pixels

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # red, green and blue; images are normalized by it

_LARGEST_SIDE = 16_384


def check_size(size: tuple[int, int]) -> None:
    """Refuse a size that no crop has.

    Raises:
        ValueError: a side is below 1, or above 16,384 pixels.
    """
    if not 1 <= min(size) <= max(size) <= _LARGEST_SIDE:
        raise ValueError(f"size must be 1 to {_LARGEST_SIDE} pixels a side, got {size}.")


class PadTo(A.DualTransform):  # type: ignore[misc]  # untyped
    """Fill what is smaller than a size up to it; the image is at the top left.

    What is large enough passes as it is, without the copy that `albumentations.PadIfNeeded` makes.

    Args:
        size: height and width, in pixels.
        fill: red, green and blue of the border; rounded.
        ignore_index: label of the border.
        p: how often the transform is applied.

    Raises:
        ValueError: a size below 1, or a fill that is no colour.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(
        self,
        size: tuple[int, int],
        fill: tuple[float, float, float] = IMAGENET_MEAN,
        ignore_index: int = 255,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        check_size(size)
        if not 0 <= min(fill) <= max(fill) <= 255:
            raise ValueError(f"fill must be a colour, 0 to 255, got {fill}.")
        self.size = size
        self.fill = fill
        self.ignore_index = ignore_index

    def apply(self, img: Pixels, **params: Any) -> Pixels:
        """The image with a border."""
        return self._filled(img, tuple(round(value) for value in self.fill))

    def apply_to_mask(self, mask: Pixels, **params: Any) -> Pixels:
        """The labels with a border."""
        return self._filled(mask, (self.ignore_index,))

    def _filled(self, pixels: Pixels, value: tuple[int, ...]) -> Pixels:
        below, right = (
            max(0, wanted - side) for wanted, side in zip(self.size, pixels.shape, strict=False)
        )
        if not (below or right):
            return pixels
        filled = cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_CONSTANT, value=value)
        return np.asarray(filled, np.uint8)

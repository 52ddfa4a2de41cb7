"""Values and colors that a lossy file has changed a little: the nearest class is taken."""

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np

from pne_seg.data.decoding import Pixels
from pne_seg.errors import UserError

_AREA = 9  # pixels on a side; borders in JPEG files are narrower


class Nearest:
    """Looks up the nearest of some values or colors, within a tolerance.

    Args:
        listed: values, or red, green and blue; all as far apart that a pixel is near to one only.
        outputs: what each becomes.
        ignore_index: what pixels become that are near to none.
        tolerance: what each part may differ by.
    """

    def __init__(
        self,
        listed: Sequence[tuple[int, ...]],
        outputs: Sequence[int],
        ignore_index: int,
        tolerance: int,
    ) -> None:
        self.listed = listed
        self.outputs = outputs
        self.ignore_index = ignore_index
        self.tolerance = tolerance
        if tolerance < 0:
            raise ValueError(f"mask_tolerance must be 0 or more, got {tolerance}.")
        if tolerance and len(listed) > 1:
            apart, first, second = min(
                (max(abs(a - b) for a, b in zip(*pair, strict=True)), *pair)
                for pair in combinations(listed, 2)
            )
            if apart <= 2 * tolerance:
                one, other = (item[0] if len(item) == 1 else [*item] for item in (first, second))
                raise ValueError(
                    f"mask_tolerance {tolerance} does not tell {one} and {other} apart, which "
                    f"differ by {apart}: it can be {(apart - 1) // 2} at most."
                )

    def read(self, image: Pixels, file: object) -> Pixels:
        """Return (H, W) outputs for an (H, W, channels) image."""
        labels = np.full(image.shape[:2], self.ignore_index, np.uint8)
        far = np.ones(image.shape[:2], np.uint8)
        for parts, output in zip(self.listed, self.outputs, strict=True):
            center = np.array(parts * (image.shape[2] // len(parts)))
            low, high = (tuple((center + side * self.tolerance).tolist()) for side in (-1, 1))
            near = cv2.inRange(image, low, high) > 0
            labels[near] = output
            far[near] = 0
        # Borders between classes blend over a few pixels; an area is something else.
        inner = cv2.erode(far, np.ones((_AREA, _AREA), np.uint8), borderValue=0)
        if inner.any():
            y, x = (int(side[0]) for side in inner.nonzero())
            raise UserError(
                f"{file}: around row {y}, column {x} is an area of {image[y, x].tolist()}, which "
                f"is farther than mask_tolerance={self.tolerance} from every class. Add it to "
                "classes or to what is ignored, or raise mask_tolerance."
            )
        return labels

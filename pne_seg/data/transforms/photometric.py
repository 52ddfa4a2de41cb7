"""Random brightness, contrast, saturation and hue, by tables."""

import math
from typing import Any, cast

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.data.images import Pixels

_HUES = 180  # OpenCV's 8-bit hues count in steps of two degrees


class PhotometricDistortion(A.ImageOnlyTransform):  # type: ignore[misc]  # untyped
    """Brightness, contrast, saturation and hue, each by chance and by a random amount.

    The published recipe: contrast comes before or after the colours, with even odds; each part
    gives whole numbers from 0 to 255. All of it is done by tables of 256 entries.

    Args:
        brightness: the most that is added or taken, on 0–255.
        contrast: range of the factor on all channels.
        saturation: range of the factor on the saturation.
        hue: the most that the hue turns, in steps of two degrees (OpenCV's 0–179).
        p_part: how often each of the four is applied.
        p: how often the transform is applied at all.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self,
        brightness: float = 32,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: int = 18,
        p_part: float = 0.5,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        if not 0 <= brightness <= 255:
            raise ValueError(f"brightness must be 0 to 255, got {brightness}.")
        for name, (low, high) in (("contrast", contrast), ("saturation", saturation)):
            if not 0 <= low <= high < math.inf:
                raise ValueError(f"{name} must be two rising factors, got {(low, high)}.")
        if not 0 <= hue < _HUES / 2:
            raise ValueError(f"hue must be 0 to {_HUES // 2 - 1}, got {hue}.")
        if not 0 <= p_part <= 1:
            raise ValueError(f"p_part must be 0 to 1, got {p_part}.")
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.p_part = p_part

    def get_params(self) -> dict[str, Any]:
        """Draw the parts; None for one that is left out."""
        draw = self.py_random
        parts = {
            "added": draw.uniform(-self.brightness, self.brightness),
            "contrast": draw.uniform(*self.contrast),
            "saturation": draw.uniform(*self.saturation),
            "turn": draw.randint(-self.hue, self.hue),
        }
        chosen = {
            name: value if draw.random() < self.p_part else None for name, value in parts.items()
        }
        return {**chosen, "contrast_first": draw.random() < 0.5}

    def apply(
        self,
        img: Pixels,
        added: float | None,
        contrast: float | None,
        saturation: float | None,
        turn: int | None,
        contrast_first: bool,
        **params: Any,
    ) -> Pixels:
        """The image through the tables."""
        coloured = bool(turn) or saturation is not None
        before, after = _IDENTITY, _IDENTITY
        if added is not None:
            before = _table(before + added)
        if contrast is not None:
            if contrast_first or not coloured:
                before = _table(before * contrast)
            else:
                after = _table(after * contrast)
        image = img if before is _IDENTITY else cv2.LUT(img, before.astype(np.uint8))
        if coloured:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
            hues = (_IDENTITY + (turn or 0)) % _HUES
            saturations = _table(_IDENTITY * (1 if saturation is None else saturation))
            tables = np.stack([hues, saturations, _IDENTITY], axis=1).astype(np.uint8)
            hsv = cv2.LUT(hsv, tables.reshape(1, 256, 3))
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        if after is not _IDENTITY:
            image = cv2.LUT(image, after.astype(np.uint8))
        return cast(Pixels, image)


_IDENTITY = np.arange(256, dtype=np.float64)


def _table(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Values as whole numbers from 0 to 255; fractions are cut off, as the recipe's code does."""
    return np.asarray(np.floor(values.clip(0, 255)), np.float64)


def mild_colours() -> PhotometricDistortion:
    """Half of the recipe's ranges, for images that bring variety of their own."""
    return PhotometricDistortion(16, (0.75, 1.25), (0.75, 1.25), 9)

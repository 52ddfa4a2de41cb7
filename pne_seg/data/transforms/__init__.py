"""The augmentation of the published baselines, as albumentations.

Images are (H, W, 3) uint8 RGB, masks (H, W) uint8, in and out.
"""

import math
from typing import Any, cast

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt
from albumentations.core.type_definitions import Targets

from pne_seg.data.images import Pixels
from pne_seg.data.transforms.scale_crop import RandomScaleCrop, check_size

__all__ = ["PadTo", "PhotometricDistortion", "RandomScaleCrop", "mild_colors", "train_transforms"]

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # red, green and blue; images are normalized by it
_HUES = 180  # OpenCV's 8-bit hues count in steps of two degrees
_IDENTITY = np.arange(256, dtype=np.float64)


def train_transforms(
    size: tuple[int, int],
    base: tuple[int, int] | None = None,
    scale: tuple[float, float] = (0.5, 2.0),
    cat_max_ratio: float = 0.75,
    ignore_index: int = 255,
) -> list[A.BasicTransform]:
    """Return the augmentation of the published baselines: scale, crop, flip, colors, padding.

    `RandomScaleCrop` describes the settings.
    """
    return [
        RandomScaleCrop(size, base, scale, cat_max_ratio, ignore_index=ignore_index),
        A.HorizontalFlip(p=0.5),
        PhotometricDistortion(),
        # Last, so that the border keeps the mean color.
        PadTo(size, ignore_index=ignore_index),
    ]


class PadTo(A.DualTransform):  # type: ignore[misc]  # untyped
    """Fill what is smaller than a size up to it; the image is at the top left.

    What is large enough passes as it is, without the copy that `albumentations.PadIfNeeded` makes.

    Args:
        size: height and width, in pixels.
        fill: red, green and blue of the border; rounded.
        ignore_index: label of the border.
        p: how often the transform is applied.
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
            raise ValueError(f"fill must be a color, 0 to 255, got {fill}.")
        self.size = size
        self.fill = fill
        self.ignore_index = ignore_index

    def apply(self, img: Pixels, **params: Any) -> Pixels:
        """Add a border to the image."""
        return self._filled(img, tuple(round(value) for value in self.fill))

    def apply_to_mask(self, mask: Pixels, **params: Any) -> Pixels:
        """Add a border to the labels."""
        return self._filled(mask, (self.ignore_index,))

    def _filled(self, pixels: Pixels, value: tuple[int, ...]) -> Pixels:
        below, right = (max(0, self.size[axis] - pixels.shape[axis]) for axis in (0, 1))
        if not (below or right):
            return pixels
        filled = cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_CONSTANT, value=value)
        return np.asarray(filled, np.uint8)


class PhotometricDistortion(A.ImageOnlyTransform):  # type: ignore[misc]  # untyped
    """Brightness, contrast, saturation and hue, each by chance and by a random amount.

    As published, contrast comes before or after the colors, with even odds, and each part gives
    whole numbers from 0 to 255. All of it is done by tables of 256 entries.

    Args:
        brightness: the most that is added or taken, on 0–255.
        contrast: range of the factor on all channels.
        saturation: range of the factor on the saturation.
        hue: the most that the hue turns, in steps of two degrees (OpenCV's 0–179).
        p_part: how often each of the four is applied.
        p: how often the transform is applied at all.
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
        most = {
            "brightness": (brightness, 255),
            "hue": (hue, _HUES // 2 - 1),
            "p_part": (p_part, 1),
        }
        for name, (value, limit) in most.items():
            if not 0 <= value <= limit:
                raise ValueError(f"{name} must be 0 to {limit}, got {value}.")
        for name, (low, high) in (("contrast", contrast), ("saturation", saturation)):
            if not 0 <= low <= high < math.inf:
                raise ValueError(f"{name} must be two rising factors, got {(low, high)}.")
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
        """Look the image's values up in the tables."""
        colored = bool(turn) or saturation is not None
        before, after = _IDENTITY, _IDENTITY
        if added is not None:
            before = _table(before + added)
        if contrast is not None:
            if contrast_first or not colored:
                before = _table(before * contrast)
            else:
                after = _table(after * contrast)
        image = img if before is _IDENTITY else cv2.LUT(img, before.astype(np.uint8))
        if colored:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
            hues = (_IDENTITY + (turn or 0)) % _HUES
            saturations = _table(_IDENTITY * (1 if saturation is None else saturation))
            tables = np.stack([hues, saturations, _IDENTITY], axis=1).astype(np.uint8)
            hsv = cv2.LUT(hsv, tables.reshape(1, 256, 3))
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        if after is not _IDENTITY:
            image = cv2.LUT(image, after.astype(np.uint8))
        return cast(Pixels, image)


def _table(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Clip to 0–255 and cut fractions off, as the published code does."""
    return np.asarray(np.floor(values.clip(0, 255)), np.float64)


def mild_colors() -> PhotometricDistortion:
    """Return half of the published ranges, for images that vary enough by themselves."""
    return PhotometricDistortion(16, (0.75, 1.25), (0.75, 1.25), 9)

"""Augmentations that the data sets share."""

from collections.abc import Sequence

import albumentations as A
import cv2

from pne_seg.inference import IMAGENET_MEAN


def scale_crop_flip(
    size: tuple[int, int], scale: tuple[float, float] = (0.5, 2.0), ignore_index: int = 255
) -> list[A.BasicTransform]:
    """The field's usual recipe: random scale, random crop, horizontal flip, photometric distortion.

    Args:
        size: height and width of the crop, in pixels.
        scale: range of the factor on both sides, drawn evenly.
        ignore_index: label of pixels beyond the image's border, which take the mean colour.
    """
    return [
        A.RandomScale(
            # albumentations counts from the unscaled size: 0 leaves it.
            scale_limit=(scale[0] - 1, scale[1] - 1),
            interpolation=cv2.INTER_LINEAR,
            mask_interpolation=cv2.INTER_NEAREST,
            p=1.0,
        ),
        A.PadIfNeeded(
            min_height=size[0],
            min_width=size[1],
            position="random",
            border_mode=cv2.BORDER_CONSTANT,
            fill=IMAGENET_MEAN,
            fill_mask=ignore_index,
        ),
        A.RandomCrop(height=size[0], width=size[1]),
        A.HorizontalFlip(p=0.5),
        *photometric(),
    ]


def photometric(strength: float = 1.0) -> Sequence[A.BasicTransform]:
    """Brightness ±32/255, contrast and saturation ×0.5–1.5, hue ±36°, each half of the time.

    Args:
        strength: scales every range; 1 is the recipe's.
    """
    return [
        A.ColorJitter(brightness=0.125 * strength, contrast=0, saturation=0, hue=0, p=0.5),
        A.ColorJitter(brightness=0, contrast=0.5 * strength, saturation=0, hue=0, p=0.5),
        A.ColorJitter(brightness=0, contrast=0, saturation=0.5 * strength, hue=0, p=0.5),
        A.ColorJitter(brightness=0, contrast=0, saturation=0, hue=0.1 * strength, p=0.5),
    ]
